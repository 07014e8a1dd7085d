#include "train/job.h"

#include <ATen/DeviceAccelerator.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/tanh.h>
#include <ATen/record_function.h>

#include <algorithm>
#include <limits>
#include <memory>

#include "agents/forward.h"
#include "evaluation/metrics.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/log.h"
#include "platform/process.h"
#include "platform/text.h"
#include "train/device.h"
#include "train/pretrain.h"

namespace ristretto::train {
namespace {

constexpr std::int64_t kFewIterations = 20;  // updates below which a policy has hardly left its start

}  // namespace

Data load_data(const Settings& settings) { return load_data(settings, layout_of(settings), rules_of(settings)); }

Data load_data(const Settings& settings, const env::Layout& layout, const env::Rules& rules) {
  RECORD_USER_SCOPE("set-up");
  Data data;
  data.layout = layout;
  data.rules = rules;
  data.market = env::Market::of(env::read_bars(settings.run.bars, data.layout.assets), data.layout.features);
  evaluation::SplitSettings split;
  if (!settings.run.holdout_from.empty()) split.holdout_from = parse_utc(settings.run.holdout_from);
  data.splits = evaluation::split_by_time(data.market, data.layout.lookback, split);
  if (!settings.run.pretrained.empty()) {
    const std::int64_t seen_until = read_pretrained(settings.run.pretrained).seen_until;
    if (seen_until >= data.splits.holdout.first_time) {
      throw Error(Fault::usage,
                  str("--pretrained ", settings.run.pretrained, " has seen bars until ", iso_utc(seen_until),
                      ", the hold-out begins at ", iso_utc(data.splits.holdout.first_time)),
                  "pretrain again with the same --holdout-from");
    }
  }
  return data;
}

void prepare_machine(const Settings& settings) {
  if (settings.run.threads > 0) {
    // More would wait for each other: a thousand on two cores do nothing else for minutes.
    const std::int64_t cores = usable_cores();
    if (settings.run.threads > cores) {
      log::warning("train", str("--threads is ", settings.run.threads, ", and this process may use ", cores,
                                cores == 1 ? " core: 1 is used" : str(" cores: ", cores, " are used")));
    }
    at::set_num_threads(static_cast<int>(std::min(settings.run.threads, cores)));
  }
  const c10::Device device = device_of(settings.run.device);
  if (device.index() > 0) at::accelerator::setDeviceIndex(device.index());  // kernels go to the thread's own
  log::info("train", str("device: ", describe(device), ", ", settings.run.precision));
}

evaluation::Actor actor_of(const Snapshot& snapshot, const env::Market& market, bool bf16) {
  const c10::Device device = snapshot.policy.actor.begin()->second.device();
  const auto normalizer = std::make_shared<agents::Normalizer>(
      snapshot.normalizer.for_market(market.to(device, market.price.scalar_type())));
  const agents::Policy& policy = snapshot.policy;
  return [actor = agents::FrozenNetwork(policy.actor, policy.architecture, agents::Part::actor, bf16), normalizer,
          device](const env::Observation& seen) {
    const env::Observation there{seen.account.to(device), seen.bar.to(device)};
    return at::tanh(actor(normalizer->input(there))).to(seen.account.device());
  };
}

std::string summary_of(const evaluation::Backtest& backtest) {
  const evaluation::Metrics metrics = evaluation::metrics_of(backtest);
  return str("return ", metrics.total_return < 0 ? "" : "+", fixed(100 * metrics.total_return, 2), " %, Sharpe ",
             fixed(metrics.sharpe_annual, 2), ", drawdown ", fixed(100 * metrics.max_drawdown, 1), " %, ",
             metrics.orders, " orders");
}

Validate validation_on(const Data& data, bool bf16) {
  return [&data, bf16](const agents::Policy& policy, const agents::Normalizer& normalizer) {
    const env::Market& market = data.splits.validation.market;
    const evaluation::Backtest backtest =
        evaluation::backtest(market, data.layout, data.rules, actor_of({policy, normalizer, 0, 0}, market, bf16));
    const evaluation::Metrics metrics = evaluation::metrics_of(backtest);
    const double score = metrics.orders > 0 ? metrics.sharpe : -std::numeric_limits<double>::infinity();
    return Validation{score, summary_of(backtest)};
  };
}

void report_plan(const Plan& plan, const Settings& settings, double used_seconds) {
  const agents::Hyperparameters& hp = settings.hyperparameters;
  // What market_context shares among the samples of a bar depends on the rollout; the plan counts it for each sample.
  const bool shares = architecture_of(settings).network == agents::Network::market_context;
  const char* const predicted = shares ? ", predicted at most " : ", predicted ";
  log::info("train", str("an iteration: ", plan.portfolios, " portfolios x ", plan.horizon,
                         " bars = ", with_thousands(plan.samples), " steps, ", plan.optimizer_steps,
                         " optimiser steps of ", hp.batch_size, " samples (", plan.micro_batch, " at once); ",
                         fixed(plan.flops * 1e-12, 2), " Tflop", predicted, duration_text(plan.predicted_seconds),
                         " at the measured ", fixed(plan.rate * 1e-9, 0), " Gflop/s"));
  const double whole = plan.predicted_seconds * static_cast<double>(plan.iterations);
  log::info("train", str("the whole run: ", with_thousands(plan.steps), " steps in ", plan.iterations, " iterations",
                         predicted, duration_text(whole)));
  const std::int64_t affordable = plan.affordable_iterations(used_seconds);
  if (plan.budget_seconds <= 0 || affordable >= plan.iterations) return;
  const std::string holds = str("the time budget of ", duration_text(plan.budget_seconds),
                                affordable == 0 ? " holds less than "
                                : shares        ? " holds at least "
                                                : " holds about ",
                                std::max<std::int64_t>(1, affordable), " of ", plan.iterations, " iterations");
  if (affordable >= kFewIterations) {
    log::info("train", holds);
    return;
  }
  // What would fit: work goes with the samples of an iteration, and above a certain width with its square.
  const double left = std::max(1.0, plan.budget_seconds - used_seconds);
  const double share = left / (static_cast<double>(kFewIterations) * plan.predicted_seconds);
  const auto width = static_cast<std::int64_t>(static_cast<double>(hp.net_dimension) * std::min(1.0, share)) / 64 * 64;
  log::warning(
      "train",
      str(holds, ", fewer than the ", kFewIterations, " that change a policy much: its result will say little. ",
          "What would fit: --time-budget ",
          std::ceil((used_seconds + plan.predicted_seconds * kFewIterations * 1.1) / 60), "m", ", or --net-dimension ",
          std::max<std::int64_t>(64, width), ", or --batch-size ",
          std::max<std::int64_t>(64, static_cast<std::int64_t>(static_cast<double>(hp.batch_size) * share) / 64 * 64),
          " with as many fewer --portfolios"));
}

}  // namespace ristretto::train
