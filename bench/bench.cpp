// What this project's side of docs/design/performance.md takes; scripts/bench runs it beside the scripts of
// bench/peers.
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <fstream>

#include "agents/ppo.h"
#include "bench/learner.h"
#include "bench/measure.h"
#include "bench/training.h"
#include "env/environment.h"
#include "env/large_blocks.h"
#include "env/observation_rows.h"
#include "env/random.h"
#include "formats/safetensors.h"
#include "ft_transformer/product.h"
#include "platform/error.h"
#include "platform/process.h"
#include "platform/text.h"

namespace ristretto::bench {
namespace {

using agents::Rollout;
using ft_transformer::MarketTokens;

at::Tensor actions_of(const World& world, std::int64_t count, std::int64_t step, std::int64_t first = 0) {
  return env::uniform(count, world.rules.assets, kSeed, step, world.market->price.device(), first) * 2 - 1;
}

// A training sums the reward's terms in its first rollout only.
std::shared_ptr<env::Portfolios> as_in_training(std::shared_ptr<env::Portfolios> portfolios, const at::Tensor& action) {
  portfolios->step(action);
  portfolios->take_reward_terms();
  return portfolios;
}

// Batches below a vector's width are stepped one by one: `few` of them at either end of a wide batch are its reference.
void require_same_steps(const World& world, std::int64_t count) {
  constexpr std::int64_t kFew = 7, kSteps = 200;
  const auto all = portfolios_of(world, count);
  const std::int64_t last = count - count % 16 - kFew;
  const auto head = portfolios_of(world, kFew), tail = portfolios_of(world, kFew, last);
  for (std::int64_t step = 0; step < kSteps; ++step) {
    const at::Tensor action = actions_of(world, count, step);
    const env::Transition wide = all->step(action);
    for (const auto& [some, begin] : {std::pair{head, std::int64_t{0}}, {tail, last}}) {
      const env::Transition narrow = some->step(action.narrow(0, begin, kFew));
      require(at::equal(wide.reward.narrow(0, begin, kFew), narrow.reward) &&
                  at::equal(wide.last.account.narrow(0, begin, kFew), narrow.last.account) &&
                  at::equal(wide.last.bar.narrow(0, begin, kFew), narrow.last.bar) &&
                  at::equal(wide.truncated.narrow(0, begin, kFew), narrow.truncated),
              str("at step ", step, " portfolios ", begin, " to ", begin + kFew, " of ", count,
                  " differ from the same ones stepped one by one"));
    }
  }
}

// Observations of all portfolios, as a plain network reads them.
struct Observed {
  Observed(const World& world, std::int64_t count)
      : portfolios(as_in_training(portfolios_of(world, count), actions_of(world, count, 0))),
        rows(world.market->tech * std::ldexp(1.0, world.layout.scales.tech_exp), world.layout.lookback) {
    const std::vector<double> scales = world.layout.column_scales();
    scale = at::tensor(at::ArrayRef<double>(scales).slice(0, static_cast<std::size_t>(portfolios->account_size())),
                       at::kFloat)
                .to(world.market->price.device());
    shift = at::zeros_like(scale);
  }
  // In new memory, or in the last call's.
  at::Tensor matrix(bool keep) {
    const env::Observation seen = portfolios->observe();
    if (!keep) return rows.gather(seen.account, shift, scale, seen.bar);
    if (!kept.defined()) kept = rows.gather(seen.account, shift, scale, seen.bar);
    rows.gather_into(kept, seen.account, shift, scale, seen.bar);
    return kept;
  }

  std::shared_ptr<env::Portfolios> portfolios;
  env::ObservationRows rows;
  at::Tensor shift, scale, kept;
};

void add_environment(std::vector<Case>& cases, const Options& options, const std::vector<std::int64_t>& counts) {
  const World world = world_of(options, "alpaca-11", 3);
  require_same_steps(world, 4096);
  for (const std::int64_t count : counts) {
    const std::string bare = str("bare, ", with_thousands(count));
    std::vector<at::Tensor> actions;
    for (std::int64_t step = 0; step < 4; ++step) actions.push_back(actions_of(world, count, step));
    const auto turn = std::make_shared<std::size_t>(0);
    if (wanted(options, bare)) {
      const auto portfolios = as_in_training(portfolios_of(world, count), actions[0]);
      cases.push_back({bare, "steps", static_cast<double>(count), [=] { portfolios->step(actions[(*turn)++ % 4]); }});
    }
    for (const bool keep : {false, true}) {
      const std::string observed = str("observations, ", keep ? "kept" : "new", " memory, ", with_thousands(count));
      if (!wanted(options, observed)) continue;
      const auto seen = std::make_shared<Observed>(world, count);
      const std::int64_t few = std::min<std::int64_t>(count, 65536);
      const env::Observation now = seen->portfolios->observe();
      require(at::equal(seen->matrix(keep).narrow(0, 0, few),
                        env::materialize({now.account.narrow(0, 0, few), now.bar.narrow(0, 0, few)}, world.market->tech,
                                         world.layout)),
              "gathered observations differ from materialize()");
      cases.push_back({observed, "steps", static_cast<double>(count), [=] {
                         seen->portfolios->step(actions[(*turn)++ % 4]);
                         seen->matrix(keep);
                       }});
    }
  }
}

void add_rollout(std::vector<Case>& cases, const Options& options) {
  constexpr std::int64_t kCount = 1024, kHorizon = 16;
  constexpr double kRounding = 1e-4;  // of values near 1, products summed in another order
  const World world = world_of(options, "alpaca-14", 3);
  for (const std::int64_t width : {256, 1024}) {
    const auto learner = std::make_shared<Learner>(world, kCount, architecture_of(world, width), agents::PpoSettings{});
    const Rollout rollout = learner->collect(kHorizon);
    const at::NoGradGuard no_grad;
    const at::Tensor x =
        learner->normalizer.matrix({rollout.account.flatten(0, 1), rollout.bar.flatten()}).contiguous();
    const at::Tensor value = agents::critic_value(learner->policy.critic, learner->policy.architecture, x);
    require((value - rollout.value.flatten()).abs().max().item<double>() < kRounding,
            "the rollout's values are not the critic's");
    cases.push_back({str("W=", width), "steps", static_cast<double>(kCount * kHorizon), [=] {
                       learner->collect(kHorizon);
                       ++learner->iteration;
                     }});
  }
}

void add_update(std::vector<Case>& cases, const Options& options, const std::string& name, const World& world,
                std::int64_t count, std::int64_t horizon, const agents::Architecture& architecture,
                const agents::PpoSettings& settings, double flops = 0) {
  constexpr double kRounding = 1e-3;  // of a ratio: minibatches are summed in another order than the rollout's batch
  if (!wanted(options, name)) return;
  const auto learner = std::make_shared<Learner>(world, count, architecture, settings);
  const auto rollout = std::make_shared<Rollout>(learner->collect(horizon));
  const agents::UpdateMetrics first = learner->update(*rollout);
  require(first.finite && (settings.bf16 || first.first_ratio_error < kRounding),
          str(name, ": the first minibatch's ratio is off 1 by ", first.first_ratio_error));
  cases.push_back({name, "samples", static_cast<double>(rollout->samples() * settings.epochs),
                   [=] { learner->update(*rollout); }, flops});
}

void add_update_small(std::vector<Case>& cases, const Options& options) {
  const World world = world_of(options, "alpaca-14", 3);
  agents::PpoSettings settings;
  settings.batch_size = 64;
  settings.epochs = 10;
  add_update(cases, options, "302-256-256-7, batch 64", world, 8, 256, architecture_of(world, 256), settings);
}

// Floating-point operations of one sample's products in both networks, forward and backward; the first layer needs no
// gradient of its input.
double mlp_flops(const agents::Architecture& a) {
  const auto product = [](std::int64_t in, std::int64_t out) { return 2.0 * static_cast<double>(in * out); };
  double sum = 0;
  for (const std::int64_t outputs : {a.actions, std::int64_t{1}}) {
    sum += 2 * product(a.observation, a.width) + 3 * (product(a.width, a.width) + product(a.width, outputs));
  }
  return sum;
}

// The update's own products, without anything around them: what a perfect update of that batch would take.
void add_products(std::vector<Case>& cases, const agents::Architecture& a, std::int64_t batch,
                  const at::Device device) {
  const auto random = [device](std::int64_t r, std::int64_t c) { return env::standard_normal(r, c, 1, 0, device); };
  std::vector<std::pair<at::Tensor, at::Tensor>> factors;
  for (const std::int64_t outputs : {a.actions, std::int64_t{1}}) {
    const std::int64_t sizes[] = {a.observation, a.width, a.width, outputs};
    for (int layer = 0; layer < 3; ++layer) {
      const at::Tensor x = random(batch, sizes[layer]), w = random(sizes[layer + 1], sizes[layer]);
      const at::Tensor dy = random(batch, sizes[layer + 1]);
      factors.emplace_back(x, w.t());
      factors.emplace_back(dy.t(), x);
      if (layer > 0) factors.emplace_back(dy, w);
    }
  }
  cases.push_back(
      {str("matrix products, batch ", with_thousands(batch)), "flops", mlp_flops(a) * static_cast<double>(batch), [=] {
         for (const auto& [left, right] : factors) at::mm(left, right);
       }});
}

void add_update_wide(std::vector<Case>& cases, const Options& options) {
  const World world = world_of(options, "alpaca-14", 3);
  const agents::Architecture architecture = architecture_of(world, 1024);
  const std::int64_t side = options.device.is_cpu() ? 4096 : 8192;
  const at::Tensor square = env::standard_normal(side, side, 1, 0, options.device);
  cases.push_back({str("matrix peak, ", side), "flops", 2 * std::pow(static_cast<double>(side), 3),
                   [=] { at::mm(square, square); }, 1});
  if (options.device.is_cpu() && ft_transformer::on_tiles(side, side, side)) {
    cases.push_back({str("product on tiles, ", side), "flops", 2 * std::pow(static_cast<double>(side), 3),
                     [=] { ft_transformer::product(square, square); }, 1});
  }
  const auto add = [&](const World& where, std::int64_t batch, const char* what, std::int64_t portfolios,
                       std::int64_t horizon) {
    for (const bool bf16 : {false, true}) {
      agents::PpoSettings settings;
      settings.batch_size = batch;
      settings.epochs = 1;
      settings.bf16 = bf16;
      if (options.device.is_cpu()) settings.micro_batch = 1024 * options.threads;  // as the program does
      add_update(cases, options,
                 str("302-1024-1024-7, batch ", with_thousands(batch), what, bf16 ? ", bf16" : ", fp32"), where,
                 portfolios, horizon, architecture, settings, mlp_flops(architecture));
    }
  };
  for (const std::int64_t batch : {4096, 16384}) {
    add(world, batch, "", 1024, 16);
    add_products(cases, architecture, batch, options.device);
  }
  add(dense_world(world, 4096 * 8), 4096 * 8, ", 6.5 samples a bar", 4096, 8);
}

void add_update_transformer(std::vector<Case>& cases, const Options& options) {
  const World world = world_of(options, "alpaca-14", 1);
  agents::Architecture architecture = architecture_of(world, 1024);
  architecture.network = agents::Network::ft_transformer;
  for (const std::int64_t micro_batch : {0, 128}) {
    agents::PpoSettings settings;
    settings.batch_size = 512;
    settings.micro_batch = micro_batch;
    settings.epochs = 1;
    add_update(cases, options,
               str("106 tokens, d=32, 2 blocks, W=1024, batch 512, ", micro_batch ? micro_batch : 512, " at once"),
               world, 64, 8, architecture, settings);
  }
}

// The peer's side of each case is the deployed FT-Transformer over the same observation.
void add_update_context(std::vector<Case>& cases, const Options& options) {
  constexpr std::int64_t kPortfolios = 1024, kHorizon = 8;
  for (const int lookback : {1, 2}) {
    const World world = dense_world(world_of(options, "alpaca-14", lookback), kPortfolios * kHorizon);
    for (const bool asset_tokens : {true, false}) {
      const agents::Architecture architecture =
          context_architecture(world, 1024, asset_tokens ? MarketTokens::asset : MarketTokens::feature);
      for (const bool bf16 : {false, true}) {
        agents::PpoSettings settings;
        settings.batch_size = 4096;
        settings.micro_batch = options.device.is_cpu() ? 1024 : 0;
        settings.epochs = 1;
        settings.bf16 = bf16;
        add_update(cases, options,
                   str("S=", world.layout.size(), ", d=32, 2 blocks, W=1024, ", asset_tokens ? "asset" : "feature",
                       " tokens", bf16 ? ", bf16" : ", fp32"),
                   world, kPortfolios, kHorizon, architecture, settings);
      }
    }
  }
}

// The tables that the peers work on, so that both sides see the same data.
void export_market(const Options& options) {
  formats::NamedArrays arrays;
  for (const std::string features : {"alpaca-11", "alpaca-14"}) {
    const World world = world_of(options, features, 3);
    const auto add = [&](const std::string& name, const at::Tensor& tensor) {
      const at::Tensor floats = tensor.contiguous();
      const float* data = floats.const_data_ptr<float>();
      arrays.emplace_back(features + "/" + name,
                          formats::Array::of_floats(tensor.sizes().vec(), {data, data + floats.numel()}));
    };
    add("price", world.market->price);
    add("tech", world.market->tech);
    std::vector<std::int64_t> segments;
    for (const env::Segment& segment : world.market->segments) {
      segments.insert(segments.end(), {segment.begin, segment.end});
    }
    arrays.emplace_back(features + "/segments",
                        formats::Array::of_int64s({static_cast<std::int64_t>(segments.size()) / 2, 2}, segments));
  }
  std::ofstream file(options.out, std::ios::binary);
  file << formats::write_safetensors(arrays);
  if (!file.flush()) throw Error(Fault::failed, str("cannot write '", options.out, "'"), "give --out a writable file");
}

void require_threads(const Options& options) {
  at::set_num_threads(options.threads);
  std::atomic<int> used{0};
  at::parallel_for(0, options.threads, 1, [&](std::int64_t, std::int64_t) { ++used; });
  if (used != options.threads) {
    throw Error(Fault::failed, str("at::parallel_for used ", used.load(), " threads of ", options.threads),
                "it is serial in files compiled without -fopenmp");
  }
}

void run(const Options& options) {
  if (options.bench == "export") return export_market(options);
  require_threads(options);
  std::vector<Case> cases;
  if (options.bench == "environment") {
    add_environment(cases, options, {1024, 65536, 1048576});
  } else if (options.bench == "growth") {
    add_environment(cases, options, {16384, 1048576});
  } else if (options.bench == "rollout") {
    add_rollout(cases, options);
  } else if (options.bench == "update-small") {
    add_update_small(cases, options);
  } else if (options.bench == "update-wide") {
    add_update_wide(cases, options);
  } else if (options.bench == "update-transformer") {
    add_update_transformer(cases, options);
  } else if (options.bench == "update-context") {
    add_update_context(cases, options);
  } else if (options.bench == "training") {
    add_training(cases, options);
  } else if (options.bench == "training-existing") {
    add_training_existing(cases, options);
  } else {
    throw Error(
        Fault::usage, str("there is no bench '", options.bench, "'"),
        "environment, growth, rollout, update-small, update-wide, update-transformer, update-context, training, "
        "training-existing or export");
  }
  std::erase_if(cases, [&](const Case& one) { return !wanted(options, one.name); });
  if (cases.empty())
    throw Error(Fault::usage, str("no case of ", options.bench, " has '", options.only, "' in its name"));
  measure(options, cases);
}

}  // namespace
}  // namespace ristretto::bench

int main(int argc, char** argv) {
  ristretto::prepare_to_compute(argv);  // as the program is
  ristretto::env::keep_large_blocks();
  try {
    ristretto::bench::run(ristretto::bench::parse_options(argc, argv));
    return 0;
  } catch (const ristretto::Error& error) {
    std::fprintf(stderr, "bench: error: %s\n", error.what());
    if (!error.hint().empty()) std::fprintf(stderr, "hint: %s\n", error.hint().c_str());
    return static_cast<int>(error.fault());
  }
}
