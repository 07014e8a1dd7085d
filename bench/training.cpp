#include "bench/training.h"

#include <cstdint>
#include <memory>

#include "bench/learner.h"
#include "platform/text.h"

namespace ristretto::bench {
namespace {

using agents::Network;
using ft_transformer::MarketTokens;

// One iteration: each of count * horizon steps is learned from `passes` times, `batch` at once.
struct Iteration {
  std::int64_t count, horizon, batch, passes;
};

// A learner whose first iteration did the work that its case is named for.
std::shared_ptr<Learner> proved_learner(const std::string& name, const World& world, const Iteration& work,
                                        const agents::Architecture& architecture, agents::PpoSettings settings) {
  constexpr double kRounding = 1e-3;  // of a ratio: minibatches are summed in another order than the rollout's batch
  settings.batch_size = work.batch;
  settings.epochs = work.passes;
  const auto learner = std::make_shared<Learner>(world, work.count, architecture, settings);
  const agents::UpdateMetrics first = learner->iterate(work.horizon);
  require(settings.bf16 || first.first_ratio_error < kRounding,
          str(name, ": the first minibatch's ratio is off 1 by ", first.first_ratio_error));
  const std::int64_t steps = work.passes * ((work.count * work.horizon + work.batch - 1) / work.batch);
  require(first.optimizer_steps == steps,
          str(name, ": an iteration made ", first.optimizer_steps, " optimizer steps, not ", steps));
  return learner;
}

}  // namespace

void add_training(std::vector<Case>& cases, const Options& options) {
  const World world = world_of(options, "alpaca-14", 3);
  for (const Iteration& work : {Iteration{8, 256, 64, 10}, {128, 16, 64, 10}, {8, 256, 2048, 5}, {128, 16, 2048, 5}}) {
    const std::string name =
        str("W=256, batch ", with_thousands(work.batch), ", ", work.passes, " epochs, ", work.count, " environments");
    if (!wanted(options, name)) continue;
    const auto learner = proved_learner(name, world, work, architecture_of(world, 256), {});
    cases.push_back(
        {name, "steps", static_cast<double>(work.count * work.horizon), [=] { learner->iterate(work.horizon); }});
  }
}

void add_training_existing(std::vector<Case>& cases, const Options& options) {
  // The peer steps 8 environments at a time; so does this side where sharing by bar is not what a case is about.
  constexpr Iteration kMlp{8, 256, 1024, 8}, kTransformer{8, 32, 128, 4}, kDense{1024, 8, 4096, 4};
  constexpr std::int64_t kWidth = 1024;
  constexpr double kEntropyCoef = 0.01;  // as the peer's default: its gradient is computed on both sides
  const auto add = [&](const std::string& what, const World& world, const Iteration& work,
                       const agents::Architecture& architecture, bool bf16) {
    const std::string name = str(what, ", ", with_thousands(work.count * work.horizon), " steps, batch ",
                                 with_thousands(work.batch), ", ", work.passes, " passes", bf16 ? ", bf16" : ", fp32");
    if (!wanted(options, name)) return;
    agents::PpoSettings settings;
    settings.bf16 = bf16;
    settings.entropy_coef = kEntropyCoef;
    if (options.device.is_cpu() && architecture.network != Network::mlp) settings.micro_batch = 1024;
    const auto learner = proved_learner(name, world, work, architecture, settings);
    cases.push_back(
        {name, "steps", static_cast<double>(work.count * work.horizon), [=] { learner->iterate(work.horizon); }});
  };
  const World mlp_world = world_of(options, "alpaca-14", 3), world = world_of(options, "alpaca-14", 1);
  for (const bool bf16 : {false, true}) {
    add("302-1024-1024-7", mlp_world, kMlp, architecture_of(mlp_world, kWidth), bf16);
  }
  agents::Architecture transformer = architecture_of(world, kWidth);
  transformer.network = Network::ft_transformer;
  add("FT-Transformer, 106 tokens", world, kTransformer, transformer, false);
  const World dense = dense_world(world, kDense.count * kDense.horizon);
  for (const bool bf16 : {false, true}) {
    add("market_context", world, kTransformer, context_architecture(world, kWidth, MarketTokens::asset), bf16);
    add("market_context, bars shared", dense, kDense, context_architecture(dense, kWidth, MarketTokens::asset), bf16);
  }
}

}  // namespace ristretto::bench
