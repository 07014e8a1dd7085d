// Do the gates of evidence let through what has no edge, and hold back what has one? Trains small policies on synthetic
// markets and asks the gates (scripts/null-test; not a test of ctest, for it takes hours).
//
//   null_test MARKETS EDGE [FIRST [STEPS]]
//
// EDGE 0: driftless martingales. Otherwise the markets have a feature that looks ahead through noise, and drifts for
// which the best threshold policy on it has that Sharpe ratio per bar after costs. Each market is trained on with two
// sets of hyperparameters from five seeds; the champion is equal weight, bought once and held.
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>

#include "env/counter_random.h"
#include "evaluation/backtest.h"
#include "evaluation/metrics.h"
#include "platform/clock.h"
#include "platform/log.h"
#include "platform/text.h"
#include "release/evidence.h"
#include "train/contenders.h"
#include "train/job.h"
#include "train/trainer.h"

namespace ristretto::train {
namespace {

constexpr std::int64_t kTrainBars = 6000, kValidationBars = 2000, kHoldoutBars = 4000, kAssets = 3, kAhead = 24;
constexpr std::int64_t kBars = kTrainBars + kValidationBars + kHoldoutBars;
constexpr double kVolatility = 0.004, kFeatureNoise = 0.5;
constexpr double kLargestDrift = 0.004;
constexpr int kHalvings = 8;  // of the drift's interval: to about 2 % of it
constexpr std::int64_t kSeeds = 5;
// The second trial takes few and small steps and hardly learns: PBO needs trials that differ.
struct Trial {
  double learning_rate;
  std::int64_t share;  // of the steps: one in so many
};
constexpr Trial kTrials[] = {{1e-3, 1}, {1e-6, 10}};

class Numbers {
 public:
  explicit Numbers(std::uint64_t seed) : seed_(seed) {}
  double unit() { return env::random4(seed_, env::Stream::uniform, 0, next_++, 0).word[0] / 4294967296.0; }
  double normal() { return std::sqrt(-2 * std::log(1 - unit())) * std::cos(2 * M_PI * unit()); }

 private:
  std::uint64_t seed_, next_ = 0;
};

Settings small_settings(double learning_rate, std::int64_t seed, std::int64_t steps) {
  Settings settings;
  settings.run.assets = "AAVE/USD,AVAX/USD,BTC/USD";
  settings.run.features = "alpaca-11";
  settings.run.serving = "ristretto";
  settings.run.portfolios = 128;
  settings.run.seed = seed;
  settings.run.device = "cpu";
  settings.run.steps = steps;
  settings.hyperparameters.net_dimension = 64;
  settings.hyperparameters.learning_rate = learning_rate;
  return settings;
}

struct Synthetic {
  env::Market market;
  at::Tensor signal;  // [T, n] float32: the first feature of each asset
};

// Regimes of 24 to 48 bars with drift up and down, equally long; increments are independent, and without a drift the
// prices are martingales. The feature shows the mean drift of the next 24 bars through noise, or noise alone.
Synthetic market_of(const Settings& settings, double drift, std::uint64_t seed) {
  const env::Layout layout = layout_of(settings);
  const auto features = static_cast<std::int64_t>(layout.features.size());
  Synthetic out;
  out.market.assets = layout.assets;
  out.market.features = layout.features;
  out.market.price = at::zeros({kBars, kAssets}, at::TensorOptions().dtype(at::kDouble));
  out.market.tech = at::zeros({kBars, kAssets * features}, at::TensorOptions().dtype(at::kFloat));
  out.signal = at::zeros({kBars, kAssets}, at::TensorOptions().dtype(at::kFloat));
  for (std::int64_t t = 0; t < kBars; ++t) out.market.time.push_back(1600000000 + 3600 * t);
  const double first_price[kAssets] = {100, 20, 30000};
  double* price = out.market.price.data_ptr<double>();
  float* tech = out.market.tech.data_ptr<float>();
  float* signal = out.signal.data_ptr<float>();
  for (std::int64_t i = 0; i < kAssets; ++i) {
    Numbers numbers(seed * 100 + static_cast<std::uint64_t>(i));
    std::vector<double> drifts;
    const double sign = numbers.unit() < 0.5 ? 1 : -1;
    while (drifts.size() < kBars + kAhead + 1) {
      const auto bars = static_cast<std::size_t>(24 + 25 * numbers.unit());
      drifts.insert(drifts.end(), bars, sign);
      drifts.insert(drifts.end(), bars, -sign);
    }
    double level = std::log(first_price[i]);
    for (std::int64_t t = 0; t < kBars; ++t) {
      if (t > 0) {
        level += drift * drifts[static_cast<std::size_t>(t)] + kVolatility * numbers.normal() -
                 kVolatility * kVolatility / 2;
      }
      price[t * kAssets + i] = std::exp(level);
      double ahead = 0;
      for (std::int64_t j = 1; j <= kAhead; ++j) ahead += drifts[static_cast<std::size_t>(t + j)] / kAhead;
      const double shown = (drift > 0 ? ahead : 0) + kFeatureNoise * numbers.normal();
      signal[t * kAssets + i] = static_cast<float>(shown);
      tech[(t * kAssets + i) * features] = static_cast<float>(shown);
    }
  }
  return out;
}

env::Market part(const env::Market& market, std::int64_t begin, std::int64_t bars) {
  return market.with_segments({{begin, begin + bars}});
}

// Of the policies "buy above a threshold, sell below minus it", on the hold-out.
double best_sharpe(const Synthetic& synthetic, const Settings& settings) {
  double best = 0;
  for (const double threshold : {0.0, 0.2, 0.4, 0.6}) {
    const auto backtest =
        evaluation::backtest(part(synthetic.market, kTrainBars + kValidationBars, kHoldoutBars), layout_of(settings),
                             rules_of(settings), [&](const env::Observation& observation) {
                               const at::Tensor shown = synthetic.signal.index_select(0, observation.bar);
                               return shown.gt(threshold).to(at::kFloat) - shown.lt(-threshold).to(at::kFloat);
                             });
    best = std::max(best, evaluation::metrics_of(backtest).sharpe);
  }
  return best;
}

Synthetic market_with_edge(const Settings& settings, double edge, std::uint64_t seed) {
  if (edge <= 0) return market_of(settings, 0, seed);
  double low = 0, high = kLargestDrift;
  for (int k = 0; k < kHalvings; ++k) {
    const double middle = (low + high) / 2;
    (best_sharpe(market_of(settings, middle, seed), settings) < edge ? low : high) = middle;
  }
  return market_of(settings, high, seed);
}

evaluation::Backtest run(const Outcome& outcome, const env::Market& market, const Settings& settings, double costs) {
  env::Rules rules = rules_of(settings);
  rules.fee_fraction *= costs;
  return evaluation::backtest(market, layout_of(settings), rules, actor_of(outcome.best, market, false));
}

evaluation::Series equal_weight(const env::Market& market, const Settings& settings, double costs) {
  env::Rules rules = rules_of(settings);
  rules.fee_fraction *= costs;
  return evaluation::hold(market, layout_of(settings), rules, std::vector<double>(kAssets, 1.0 / kAssets))
      .simple_returns;
}

std::vector<release::GateResult> judge_market(double edge, std::uint64_t seed, std::int64_t steps) {
  const Synthetic synthetic = market_with_edge(small_settings(1e-3, 0, steps), edge, seed);
  const env::Market train = part(synthetic.market, 0, kTrainBars);
  const env::Market validation = part(synthetic.market, kTrainBars, kValidationBars);
  const env::Market holdout = part(synthetic.market, kTrainBars + kValidationBars, kHoldoutBars);
  std::vector<Outcome> outcomes;
  std::vector<Settings> all;
  std::vector<double> scores;
  std::vector<std::size_t> trials;
  release::Evidence evidence;
  for (std::size_t trial = 0; trial < std::size(kTrials); ++trial) {
    evaluation::Series mean;
    for (std::int64_t k = 0; k < kSeeds; ++k) {
      all.push_back(small_settings(kTrials[trial].learning_rate, static_cast<std::int64_t>(seed) * 1000 + k,
                                   steps / kTrials[trial].share));
      const Settings& settings = all.back();
      Profile profile;
      Trainer trainer(settings, train, {}, {}, profile, Trainer::Manner::background);
      outcomes.push_back(trainer.run(0));
      const evaluation::Series returns = run(outcomes.back(), validation, settings, 1).simple_returns;
      mean.resize(returns.size());
      for (std::size_t t = 0; t < returns.size(); ++t) mean[t] += returns[t] / kSeeds;
      scores.push_back(evaluation::sharpe_of(returns));
      trials.push_back(trial);
      evidence.trial_sharpes.push_back(scores.back());
    }
    evidence.trials.push_back(std::move(mean));
  }
  const std::size_t chosen = choose(scores, trials);
  const Settings& settings = all[chosen];
  evidence.candidate = run(outcomes[chosen], holdout, settings, 1).simple_returns;
  evidence.equal_weight = evidence.champion = equal_weight(holdout, settings, 1);
  evidence.costs_2x = {run(outcomes[chosen], holdout, settings, 2).simple_returns, equal_weight(holdout, settings, 2)};
  evidence.costs_3x = {run(outcomes[chosen], holdout, settings, 3).simple_returns, equal_weight(holdout, settings, 3)};
  for (std::size_t k = 0; k < outcomes.size(); ++k) {
    if (trials[k] == trials[chosen]) evidence.seeds.push_back(run(outcomes[k], holdout, settings, 1).simple_returns);
  }
  evidence.trial_count = static_cast<std::int64_t>(outcomes.size());
  evidence.last_bar = evidence.judged_at = synthetic.market.time.back();
  evidence.looks = 1;
  return release::evidence_gates(evidence);
}

int main_of(int argc, char** argv) {
  const auto argument = [&](int k, double otherwise) {
    return k < argc ? parse_number<double>(argv[k]).value_or(-1) : otherwise;
  };
  const auto markets = static_cast<std::int64_t>(argument(1, -1));
  const double edge = argument(2, -1);
  const auto first = static_cast<std::int64_t>(argument(3, 1)), steps = static_cast<std::int64_t>(argument(4, 1e6));
  if (markets < 1 || edge < 0 || first < 1 || steps < 1) {
    std::fprintf(stderr, "usage: null_test MARKETS EDGE [FIRST [STEPS]]\n");
    return 2;
  }
  log::configure(log::Level::error, log::Format::text);
  at::set_num_threads(1);  // networks this small gain nothing from a second one
  std::int64_t passed = 0;
  std::map<std::string, std::int64_t> refused;
  const Stopwatch watch;
  for (std::int64_t k = 0; k < markets; ++k) {
    std::vector<std::string> refusals;
    for (const release::GateResult& gate : judge_market(edge, static_cast<std::uint64_t>(first + k), steps)) {
      if (gate.passed) continue;
      refusals.push_back(str(gate.name, " ", gate.value));
      ++refused[gate.name];
    }
    passed += refusals.empty();
    std::printf("market %lld: %s\n", static_cast<long long>(first + k),
                refusals.empty() ? "passed" : ("refused by " + join(refusals, "; ")).c_str());
    std::fflush(stdout);
  }
  std::printf("%lld of %lld markets with an edge of %s passed, %s s a market\n", static_cast<long long>(passed),
              static_cast<long long>(markets), str(edge).c_str(),
              fixed(watch.seconds() / static_cast<double>(markets), 1).c_str());
  for (const auto& [gate, count] : refused) {
    std::printf("  %-21s refused %lld\n", gate.c_str(), static_cast<long long>(count));
  }
  constexpr double kLargestShareOfNull = 0.05, kSmallestShareOfEdge = 0.90;
  const double share = static_cast<double>(passed) / static_cast<double>(markets);
  return (edge > 0 ? share >= kSmallestShareOfEdge : share <= kLargestShareOfNull) ? 0 : 1;
}

}  // namespace
}  // namespace ristretto::train

int main(int argc, char** argv) { return ristretto::train::main_of(argc, argv); }
