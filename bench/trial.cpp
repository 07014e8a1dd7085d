// One whole objective: trainings on the 6 combinatorial purged splits with a study's best parameters, each judged on
// the bars it did not see. `bench_trial export FILE` writes what bench/peers/sb3_trial.py does the same with;
// `bench_trial measure THREADS` times this side.
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/index_select.h>

#include <cmath>
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include "env/large_blocks.h"
#include "env/random.h"
#include "env/step_batch.h"
#include "formats/safetensors.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/process.h"
#include "platform/text.h"
#include "train/objective.h"
#include "train/resolve.h"

namespace ristretto::bench {
namespace {

using train::Objective;
using train::Part;
using train::Settings;

constexpr std::int64_t kSteps = 20000;        // of a training, rounded up to whole iterations
constexpr std::int64_t kLargestLookback = 5;  // of the study's space
constexpr double kRounding = 1e-9;            // of a Sharpe ratio: windows alone are summed in another order
constexpr std::uint64_t kSeed = 1;

Settings best_settings() {
  const std::string data = RISTRETTO_SOURCE "/data";
  return train::resolve(train::StudySource{data + "/studies/swept.db", "ristretto-robust", std::nullopt}, std::nullopt,
                        {{"bars", data + "/crypto_1h", "bench"},
                         {"steps", str(kSteps), "bench"},
                         {"seed", str(kSeed), "bench"},
                         {"device", "cpu", "bench"}})
      .settings;
}

std::int64_t iteration_steps(const Settings& settings) {
  return train::portfolios_of(settings) * settings.hyperparameters.base_target_step;
}

// Random orders, the same for every account at a bar.
at::Tensor scripted_actions(const env::Market& market) {
  const auto assets = static_cast<std::int64_t>(market.assets.size());
  return env::uniform(market.rows(), assets, kSeed, 0, at::kCPU) * 2 - 1;
}

evaluation::Actor scripted_actor(const env::Market& market) {
  return [actions = scripted_actions(market)](const env::Observation& seen) {
    return at::index_select(actions, 0, seen.bar);
  };
}

std::int64_t bars_decided(const env::Market& test, const Settings& settings) {
  const auto lookback = static_cast<int>(settings.hyperparameters.lookback);
  std::int64_t bars = 0;
  for (const env::Segment& window : test.segments) {
    bars += env::last_step(static_cast<std::int32_t>(window.size()), lookback) - env::first_step(lookback);
  }
  return bars;
}

// Windows are stepped together; each alone is the reference.
void require_same_alone(const Objective& objective, const Settings& settings, std::int64_t part) {
  const env::Market test = objective.test_bars(settings, part);
  const evaluation::Actor actor = scripted_actor(test);
  std::vector<double> returns;
  for (const env::Segment& window : test.segments) {
    const evaluation::Backtest alone = evaluation::backtest(test.with_segments({window}), train::layout_of(settings),
                                                            train::rules_of(settings), actor);
    returns.insert(returns.end(), alone.log_returns.begin(), alone.log_returns.end());
  }
  const double expected =
      std::sqrt(8760 / static_cast<double>(returns.size())) * train::mean_of(returns) / train::deviation_of(returns, 1);
  const double found = objective.judge(settings, part, actor).agent;
  if (static_cast<std::int64_t>(returns.size()) != bars_decided(test, settings) ||
      std::abs(found - expected) > kRounding * std::abs(expected)) {
    throw Error(Fault::failed, str("not timed: scripted orders have a Sharpe ratio of ", found, " on split ", part,
                                   ", and of ", expected, " window by window"));
  }
}

void export_trial(const Objective& objective, const Settings& settings, const std::string& path) {
  formats::NamedArrays arrays;
  const auto add_segments = [&](const std::string& name, const env::Market& market) {
    std::vector<std::int64_t> rows;
    for (const env::Segment& segment : market.segments) rows.insert(rows.end(), {segment.begin, segment.end});
    arrays.emplace_back(name, formats::Array::of_int64s({static_cast<std::int64_t>(rows.size()) / 2, 2}, rows));
  };
  const auto add_floats = [&](const std::string& name, const at::Tensor& tensor) {
    const at::Tensor floats = tensor.to(at::kFloat).contiguous();
    const float* data = floats.const_data_ptr<float>();
    arrays.emplace_back(name, formats::Array::of_floats(tensor.sizes().vec(), {data, data + floats.numel()}));
  };
  const auto add_number = [&](const std::string& name, double value) {
    arrays.emplace_back("trial/" + name, formats::Array::of_doubles({}, {value}));
  };
  std::vector<double> references, scripted;
  std::vector<std::int64_t> bars;
  for (std::int64_t part = 0; part < objective.parts(); ++part) {
    const env::Market test = objective.test_bars(settings, part);
    add_segments(str("trial/train_", part), objective.training_bars(part));
    add_segments(str("trial/test_", part), test);
    const Part judged = objective.judge(settings, part, scripted_actor(test));
    references.push_back(judged.reference);
    scripted.push_back(judged.agent);
    bars.push_back(bars_decided(test, settings));
  }
  const env::Market& market = objective.training_bars(0);
  const at::Tensor price = market.price.contiguous();
  const double* prices = price.const_data_ptr<double>();
  arrays.emplace_back("trial/price", formats::Array::of_doubles(price.sizes().vec(), {prices, prices + price.numel()}));
  add_floats("trial/tech", market.tech);
  add_floats("trial/scripted_actions", scripted_actions(market));
  arrays.emplace_back("trial/references", formats::Array::of_doubles({objective.parts()}, references));
  arrays.emplace_back("trial/scripted", formats::Array::of_doubles({objective.parts()}, scripted));
  arrays.emplace_back("trial/bars", formats::Array::of_int64s({objective.parts()}, bars));

  const agents::Hyperparameters& hp = settings.hyperparameters;
  add_number("iteration_steps", static_cast<double>(iteration_steps(settings)));
  add_number("steps", static_cast<double>(settings.run.steps));
  add_number("initial_capital", settings.run.initial_capital);
  add_number("episode_bars", static_cast<double>(settings.run.episode_bars));
  for (const agents::Row& row : agents::table()) {
    const agents::Value value = agents::get(hp, row);
    if (const auto* real = std::get_if<double>(&value)) add_number(row.name, *real);
    if (const auto* whole = std::get_if<std::int64_t>(&value)) add_number(row.name, static_cast<double>(*whole));
    if (const auto* flag = std::get_if<bool>(&value)) add_number(row.name, *flag ? 1 : 0);
  }
  std::ofstream file(path, std::ios::binary);
  file << formats::write_safetensors(arrays);
  if (!file.flush()) throw Error(Fault::failed, str("cannot write '", path, "'"));
}

void measure(const Objective& objective, const Settings& settings) {
  for (std::int64_t part = 0; part < objective.parts(); ++part) require_same_alone(objective, settings, part);
  const agents::Hyperparameters& hp = settings.hyperparameters;
  const std::int64_t iteration = iteration_steps(settings);
  const std::int64_t steps = (kSteps + iteration - 1) / iteration * iteration;
  const Stopwatch watch;
  std::vector<Part> parts;
  for (std::int64_t part = 0; part < objective.parts(); ++part) parts.push_back(objective.measure(settings, part));
  const double value = train::value_of(objective.kind(), parts);
  const double seconds = watch.seconds();
  for (const Part& part : parts) {
    if (part.environment_steps != steps) {
      throw Error(Fault::failed, str("a training made ", part.environment_steps, " steps, expected ", steps));
    }
  }
  std::printf(
      "{\"case\": \"%lld splits, %s steps each, W=%lld, batch %s, %lld epochs\", \"unit\": \"trials\", \"samples\": "
      "[%.6g], \"value\": %.6g}\n",
      static_cast<long long>(objective.parts()), with_thousands(steps).c_str(),
      static_cast<long long>(hp.net_dimension), with_thousands(hp.batch_size).c_str(),
      static_cast<long long>(hp.ppo_epochs), 1 / seconds, value);
}

void run(const std::vector<std::string>& arguments) {
  const std::optional<int> threads =
      arguments.size() == 2 && arguments[0] == "measure" ? parse_number<int>(arguments[1]) : std::nullopt;
  if (arguments.size() != 2 || (arguments[0] != "export" && threads.value_or(0) < 1)) {
    throw Error(Fault::usage, "expected one of two modes", "usage: bench_trial export FILE | measure THREADS");
  }
  if (threads) at::set_num_threads(*threads);
  const Settings settings = best_settings();
  const Objective objective(train::ObjectiveKind::cappuccino, settings, kLargestLookback);
  if (threads) {
    measure(objective, settings);
  } else {
    export_trial(objective, settings, arguments[1]);
  }
}

}  // namespace
}  // namespace ristretto::bench

int main(int argc, char** argv) {
  ristretto::prepare_to_compute(argv);  // as the program is
  ristretto::env::keep_large_blocks();
  try {
    ristretto::bench::run({argv + 1, argv + argc});
    return 0;
  } catch (const ristretto::Error& error) {
    std::fprintf(stderr, "bench_trial: error: %s\n", error.what());
    if (!error.hint().empty()) std::fprintf(stderr, "hint: %s\n", error.hint().c_str());
    return static_cast<int>(error.fault());
  }
}
