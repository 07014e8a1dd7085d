// Does the agent learn to trade? Planted signals and pure noise (algorithms.md 2.7).
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "agents/forward.h"
#include "env/counter_random.h"
#include "evaluation/backtest.h"
#include "platform/log.h"
#include "platform/text.h"
#include "train/trainer.h"

namespace ristretto::train {
namespace {

constexpr std::int64_t kBars = 12000, kTrainBars = 9000, kAssets = 3, kAhead = 24;
constexpr std::int64_t kWindowBars = 980;
constexpr double kDrift = 0.003, kVolatility = 0.004;  // a bar, in a regime of 24 to 48 bars
constexpr std::int64_t kTrainSteps = 3000000;  // about 30 s on one core; steps, so that a busy machine changes nothing
constexpr double kEverySeed = 0.85, kMeanOfSeeds = 0.90;  // of the best threshold policy's log gain
constexpr double kTurnoverOnNoise = 1.0 / 3.0;            // of the signal run's

// Numbers in [0, 1) of one stream of the test.
class Numbers {
 public:
  explicit Numbers(std::uint64_t seed) : seed_(seed) {}
  double unit() { return env::random4(seed_, env::Stream::uniform, 0, next_++, 0).word[0] / 4294967296.0; }
  double normal() { return std::sqrt(-2 * std::log(1 - unit())) * std::cos(2 * M_PI * unit()); }

 private:
  std::uint64_t seed_, next_ = 0;
};

struct Planted {
  env::Market market;
  at::Tensor signal;  // [T, n] float32: the planted feature
};

// Prices with regimes of drift, and one feature an asset that shows the mean drift of the next 24 bars through noise.
// The other features are constant. drift 0: pure noise.
Planted planted_market(const Settings& settings, double drift, std::uint64_t seed) {
  const env::Layout layout = layout_of(settings);
  Planted out;
  out.market.assets = layout.assets;
  out.market.features = layout.features;
  const auto features = static_cast<std::int64_t>(layout.features.size());
  out.market.price = at::zeros({kBars, kAssets}, at::TensorOptions().dtype(at::kDouble));
  out.market.tech = at::zeros({kBars, kAssets * features}, at::TensorOptions().dtype(at::kFloat));
  out.signal = at::zeros({kBars, kAssets}, at::TensorOptions().dtype(at::kFloat));
  for (std::int64_t t = 0; t < kBars; ++t) out.market.time.push_back(1600000000 + 3600 * t);
  const double first_price[kAssets] = {100, 20, 30000};
  for (std::int64_t i = 0; i < kAssets; ++i) {
    Numbers numbers(seed * 100 + static_cast<std::uint64_t>(i));
    std::vector<double> drifts;
    // Up and down in turn and equally long, with noise that returns to 0: prices stay near their start, where positions
    // are as large as in the training and the exchange's minimum quantities are small orders.
    bool first_up = numbers.unit() < 0.5;
    while (drifts.size() < kBars + kAhead + 1) {
      const auto bars = static_cast<std::size_t>(24 + 25 * numbers.unit());
      drifts.insert(drifts.end(), bars, first_up ? drift : -drift);
      drifts.insert(drifts.end(), bars, first_up ? -drift : drift);
    }
    double* price = out.market.price.data_ptr<double>();
    float* tech = out.market.tech.data_ptr<float>();
    float* signal = out.signal.data_ptr<float>();
    double trend = 0, noise = 0;
    for (std::int64_t t = 0; t < kBars; ++t) {
      if (t > 0) trend += drifts[static_cast<std::size_t>(t)];
      noise = 0.98 * noise + kVolatility * numbers.normal();
      const double p = first_price[i] * std::exp(trend + noise);
      price[t * kAssets + i] = p;
      double ahead = 0;
      for (std::int64_t j = 1; j <= kAhead; ++j) ahead += drifts[static_cast<std::size_t>(t + j)];
      const double shown = ahead / kAhead / kDrift + 0.5 * numbers.normal();
      signal[t * kAssets + i] = static_cast<float>(shown);
      tech[(t * kAssets + i) * features] = static_cast<float>(shown);
    }
  }
  return out;
}

// As long as the episodes of the training: an account that has grown tenfold is none that the agent has met.
std::vector<env::Segment> test_windows() {
  std::vector<env::Segment> windows;
  for (std::int64_t begin = kTrainBars; begin + kWindowBars <= kBars - kAhead; begin += kWindowBars) {
    windows.push_back({begin, begin + kWindowBars});
  }
  return windows;
}

Settings signal_settings(std::int64_t seed) {
  Settings settings;
  settings.run.assets = "AAVE/USD,AVAX/USD,BTC/USD";
  settings.run.features = "alpaca-11";
  settings.run.serving = "ristretto";
  settings.run.portfolios = 128;
  settings.run.seed = seed;
  settings.run.device = "cpu";
  settings.run.steps = kTrainSteps;
  settings.hyperparameters.net_dimension = 64;
  return settings;
}

double log_gain(const evaluation::Backtest& backtest) {
  double sum = 0;
  for (const double r : backtest.log_returns) sum += r;
  return sum;
}

evaluation::Backtest test_agent(const Outcome& outcome, const env::Market& test, const Settings& settings) {
  const agents::Normalizer normalizer = outcome.best.normalizer.for_market(test);
  return evaluation::backtest(test, layout_of(settings), rules_of(settings), [&](const env::Observation& observation) {
    const at::NoGradGuard no_gradients;
    return at::tanh(agents::forward(outcome.best.policy, normalizer.matrix(observation), false).mean);
  });
}

// The best of the policies "buy above a threshold, sell below minus it" on the same bars.
double best_threshold_gain(const env::Market& test, const at::Tensor& signal, const Settings& settings) {
  double best = -1e9;
  for (const double threshold : {0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8}) {
    const auto backtest =
        evaluation::backtest(test, layout_of(settings), rules_of(settings), [&](const env::Observation& observation) {
          const at::Tensor shown = signal.index_select(0, observation.bar);
          return shown.gt(threshold).to(at::kFloat) - shown.lt(-threshold).to(at::kFloat);
        });
    best = std::max(best, log_gain(backtest));
  }
  return best;
}

Outcome train_on(const Planted& planted, const Settings& settings) {
  at::set_num_threads(1);  // networks this small gain nothing from a second one
  Profile profile;
  Trainer trainer(settings, planted.market.with_segments({{0, kTrainBars}}), {}, {}, profile);
  return trainer.run(0);
}

// Log gain as a share of the best threshold policy's, and turnover, of one seed on a planted signal.
struct SignalRun {
  double share = 0, turnover = 0;
};

SignalRun run_on_signal(std::int64_t seed) {
  const Settings settings = signal_settings(seed);
  const Planted planted = planted_market(settings, kDrift, static_cast<std::uint64_t>(seed));
  const env::Market test = planted.market.with_segments(test_windows());
  const Outcome outcome = train_on(planted, settings);
  const evaluation::Backtest agent = test_agent(outcome, test, settings);
  const double reference = best_threshold_gain(test, planted.signal, settings);
  const SignalRun run{log_gain(agent) / reference, agent.turnover};
  MESSAGE("seed ", seed, ": log gain ", log_gain(agent), " of ", reference, " (", 100 * run.share, " %), turnover ",
          run.turnover, ", ", outcome.environment_steps, " steps in ", outcome.seconds, " s");
  CHECK(reference > 0);
  return run;
}

}  // namespace

TEST_SUITE("slow") {
  TEST_CASE("trading: a planted signal is found by every seed") {
    log::configure(log::Level::error, log::Format::text);
    double sum = 0;
    for (std::int64_t seed = 1; seed <= 3; ++seed) {
      const SignalRun run = run_on_signal(seed);
      CHECK(run.share >= kEverySeed);
      sum += run.share / 3;
    }
    MESSAGE("mean ", 100 * sum, " % of the best threshold policy");
    CHECK(sum >= kMeanOfSeeds);
  }

  TEST_CASE("trading: noise is left alone") {
    log::configure(log::Level::error, log::Format::text);
    const double signal_turnover = run_on_signal(1).turnover;
    double noise_turnover = 0;
    for (std::int64_t seed = 1; seed <= 3; ++seed) {
      const Settings settings = signal_settings(seed);
      const Planted planted = planted_market(settings, 0, static_cast<std::uint64_t>(seed));
      const env::Market test = planted.market.with_segments(test_windows());
      const evaluation::Backtest agent = test_agent(train_on(planted, settings), test, settings);
      // Standard error of the summed log gain by blocks of 48 bars, drawn anew 2,000 times.
      const std::vector<double>& returns = agent.log_returns;
      Numbers numbers(99);
      const std::size_t block = 48, blocks = returns.size() / block;
      double mean = 0, square = 0;
      constexpr int kReplicates = 2000;
      for (int r = 0; r < kReplicates; ++r) {
        double gain = 0;
        for (std::size_t b = 0; b < blocks; ++b) {
          const auto from = static_cast<std::size_t>(numbers.unit() * static_cast<double>(returns.size() - block));
          for (std::size_t j = 0; j < block; ++j) gain += returns[from + j];
        }
        mean += gain / kReplicates;
        square += gain * gain / kReplicates;
      }
      const double error = std::sqrt(std::max(0.0, square - mean * mean));
      MESSAGE("noise, seed ", seed, ": log gain ", log_gain(agent), " +- ", error, ", turnover ", agent.turnover);
      CHECK(log_gain(agent) <= 2 * error);
      noise_turnover += agent.turnover / 3;
    }
    MESSAGE("turnover on noise ", noise_turnover, ", with a signal ", signal_turnover);
    CHECK(noise_turnover <= kTurnoverOnNoise * signal_turnover);
  }
}

}  // namespace ristretto::train
