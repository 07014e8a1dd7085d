// Do the gates of evidence let through what has no edge, and hold back what has one? Trains small policies on synthetic
// markets and asks the gates (scripts/null-test; ctest asks of 20 markets of each kind).
//
//   null_test MARKETS [FIRST [WORKERS]]
//
// Half of the markets are driftless martingales. The others have a feature that looks ahead through noise, and drifts
// for which the best threshold policy on it has a Sharpe ratio of 0.10 per bar after costs on the hold-out. Each market
// is trained on with two sets of hyperparameters from five seeds, one look at the hold-out judges the median seed of
// the better trial; the champion is equal weight, bought once and held.
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/zeros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <map>
#include <string>
#include <thread>
#include <vector>

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

constexpr std::int64_t kTrainBars = 6000, kValidationBars = 3000, kHoldoutBars = 6000, kAhead = 24;
constexpr std::int64_t kBars = kTrainBars + kValidationBars + kHoldoutBars;
// Backtests are of windows as long as the episodes of the training: an account that has grown severalfold is none that
// the agent has met. Policies with 0.96 of the best threshold's Sharpe ratio have 0.6 of it in one window of 6,000
// bars.
constexpr std::int64_t kWindowBars = 1000;
// One asset: of several, each has a share of the edge only, and what is to be learned drowns in the others' noise.
constexpr std::int64_t kAssets = 1;
// Regimes last 96 to 192 bars. In shorter ones fees are a third of the gain, and the gate of threefold costs refuses
// the best policy too.
constexpr std::int64_t kShortestRegime = 96;
constexpr double kFirstPrice = 30000;
constexpr double kVolatility = 0.004, kFeatureNoise = 0.3;
constexpr double kEdge = 0.10;
constexpr double kLargestDrift = 0.0016;
constexpr int kHalvings = 7;  // of the drift's interval: to about 2 % of the drift
constexpr std::int64_t kSeeds = 5;
// PBO needs trials that differ, and the more they differ, the more luck the deflated Sharpe ratio sees in the best: the
// second sells on a fall that is noise, which costs every seed a third of the edge. One that merely learns too little
// will not do: a seed of it learns nothing or nearly all.
struct Trial {
  double trailing_stop;
  std::int64_t steps;
};
constexpr Trial kTrials[] = {{0, 250000}, {0.015, 131072}};
constexpr std::int64_t kMarketsOfTheAim = 200;
constexpr double kLargestShareOfNull = 0.05, kSmallestShareOfEdge = 0.90;
// How often a sample of fewer markets may miss what the shares allow by chance alone: 20 markets fail with 4 of null
// (1.6 % of the samples), or 14 of edge (1.1 %).
constexpr double kSampleError = 0.02;

class Numbers {
 public:
  explicit Numbers(std::uint64_t seed) : seed_(seed) {}
  double unit() { return env::random4(seed_, env::Stream::uniform, 0, next_++, 0).word[0] / 4294967296.0; }
  double normal() { return std::sqrt(-2 * std::log(1 - unit())) * std::cos(2 * M_PI * unit()); }

 private:
  std::uint64_t seed_, next_ = 0;
};

Settings small_settings(const Trial& trial, std::int64_t seed) {
  Settings settings;
  settings.run.assets = "BTC/USD";
  settings.run.features = "alpaca-11";
  settings.run.serving = "ristretto";
  settings.run.portfolios = 256;
  settings.run.seed = seed;
  settings.run.device = "cpu";
  settings.run.steps = trial.steps;
  settings.hyperparameters.net_dimension = 32;
  settings.hyperparameters.minibatches = 8;
  // A full position takes 10 bars: the larger an order, the more of an advantage is its own doing.
  settings.hyperparameters.norm_action = 10;
  settings.hyperparameters.max_position_fraction = 1;
  settings.hyperparameters.trailing_stop_pct = trial.trailing_stop;
  return settings;
}

struct Synthetic {
  env::Market market;
  at::Tensor signal;  // [T, n] float32: the first feature of each asset
};

// Regimes with drift up and down, equally long; increments are independent, and without a drift the prices are
// martingales. The feature shows the mean drift of the next 24 bars through noise, or noise alone.
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
  double* price = out.market.price.data_ptr<double>();
  float* tech = out.market.tech.data_ptr<float>();
  float* signal = out.signal.data_ptr<float>();
  for (std::int64_t i = 0; i < kAssets; ++i) {
    Numbers numbers(seed * 100 + static_cast<std::uint64_t>(i));
    std::vector<double> drifts;
    const double sign = numbers.unit() < 0.5 ? 1 : -1;
    while (drifts.size() < kBars + kAhead + 1) {
      const auto bars = static_cast<std::size_t>(kShortestRegime * (1 + numbers.unit()));
      drifts.insert(drifts.end(), bars, sign);
      drifts.insert(drifts.end(), bars, -sign);
    }
    double level = std::log(kFirstPrice);
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

env::Market windows_of(const env::Market& market, std::int64_t begin, std::int64_t bars) {
  std::vector<env::Segment> windows;
  for (std::int64_t k = begin; k + kWindowBars <= begin + bars; k += kWindowBars)
    windows.push_back({k, k + kWindowBars});
  return market.with_segments(windows);
}
env::Market training_of(const Synthetic& synthetic) { return synthetic.market.with_segments({{0, kTrainBars}}); }
env::Market validation_of(const Synthetic& synthetic) {
  return windows_of(synthetic.market, kTrainBars, kValidationBars);
}
env::Market holdout_of(const Synthetic& synthetic) {
  return windows_of(synthetic.market, kTrainBars + kValidationBars, kHoldoutBars);
}

// Of the policies "buy above a threshold, sell below minus it", on the hold-out.
double best_sharpe(const Synthetic& synthetic, const Settings& settings) {
  double best = 0;
  for (const double threshold : {0.0, 0.2, 0.4, 0.6}) {
    const auto backtest = evaluation::backtest(
        holdout_of(synthetic), layout_of(settings), rules_of(settings), [&](const env::Observation& observation) {
          const at::Tensor shown = synthetic.signal.index_select(0, observation.bar);
          return shown.gt(threshold).to(at::kFloat) - shown.lt(-threshold).to(at::kFloat);
        });
    best = std::max(best, evaluation::metrics_of(backtest).sharpe);
  }
  return best;
}

Synthetic market_with_edge(const Settings& settings, std::uint64_t seed) {
  double low = 0, high = kLargestDrift;
  for (int k = 0; k < kHalvings; ++k) {
    const double middle = (low + high) / 2;
    (best_sharpe(market_of(settings, middle, seed), settings) < kEdge ? low : high) = middle;
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

struct Verdict {
  std::vector<release::GateResult> refusals;
  double sharpe = 0, best = 0;  // per bar of the hold-out: the candidate's, and the best threshold policy's
};

Verdict judge_market(bool edge, std::uint64_t seed) {
  const Settings any = small_settings(kTrials[0], 0);
  const Synthetic synthetic = edge ? market_with_edge(any, seed) : market_of(any, 0, seed);
  const env::Market train = training_of(synthetic), validation = validation_of(synthetic);
  const env::Market holdout = holdout_of(synthetic);
  std::vector<Outcome> outcomes;
  std::vector<Settings> all;
  std::vector<double> scores;
  std::vector<std::size_t> trials;
  release::Evidence evidence;
  for (std::size_t trial = 0; trial < std::size(kTrials); ++trial) {
    evaluation::Series mean;
    for (std::int64_t k = 0; k < kSeeds; ++k) {
      all.push_back(small_settings(kTrials[trial], static_cast<std::int64_t>(seed) * 1000 + k));
      const Settings& settings = all.back();
      Profile profile;
      Trainer trainer(settings, train, {}, {}, profile, Trainer::Manner::background);
      outcomes.push_back(trainer.run(0));
      const evaluation::Backtest validated = run(outcomes.back(), validation, settings, 1);
      const evaluation::Series& returns = validated.simple_returns;
      mean.resize(returns.size());
      for (std::size_t t = 0; t < returns.size(); ++t) mean[t] += returns[t] / kSeeds;
      evidence.trial_sharpes.push_back(evaluation::sharpe_of(returns));
      // As validation_on() scores.
      scores.push_back(validated.orders > 0 ? evidence.trial_sharpes.back() : -std::numeric_limits<double>::infinity());
      trials.push_back(trial);
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
  Verdict verdict;
  verdict.sharpe = evaluation::sharpe_of(evidence.candidate);
  verdict.best = best_sharpe(synthetic, any);
  for (release::GateResult& gate : release::evidence_gates(evidence)) {
    if (!gate.passed) verdict.refusals.push_back(std::move(gate));
  }
  return verdict;
}

// One kind of markets, and how many of them passed.
struct Table {
  std::int64_t markets = 0, passed = 0;
  std::map<std::string, std::int64_t> refused;  // by gate
};

// A line of a worker: the market's kind, who refused it, and what is printed.
//   edge|deflated_sharpe,overfitting|market 7 with an edge: ...
std::string line_of(bool edge, std::uint64_t market, const Verdict& verdict) {
  std::vector<std::string> names, shown;
  for (const release::GateResult& gate : verdict.refusals) {
    names.push_back(gate.name);
    shown.push_back(str(gate.name, " ", gate.no_evidence ? gate.reason : gate.value));
  }
  return str(edge ? "edge" : "null", "|", join(names, ","), "|market ", market, edge ? " with" : " without",
             " an edge: Sharpe ratio ", fixed(verdict.sharpe, 3), ", the best threshold's ", fixed(verdict.best, 3),
             ", ", shown.empty() ? "passed" : "refused by " + join(shown, "; "), "\n");
}

// Every `workers`-th market from the first on, of both kinds.
void work(std::int64_t markets, std::int64_t first, std::int64_t worker, std::int64_t workers, std::FILE* out) {
  at::set_num_threads(1);  // networks this small gain nothing from a second one
  for (std::int64_t k = worker; k < 2 * markets; k += workers) {
    const bool edge = k >= markets;
    const auto market = static_cast<std::uint64_t>(first + k % markets);
    std::fputs(line_of(edge, market, judge_market(edge, market)).c_str(), out);
    std::fflush(out);
  }
}

// P(X > count) of a binomial X.
double binomial_above(std::int64_t count, std::int64_t n, double p) {
  double term = std::pow(1 - p, static_cast<double>(n)), below = term;
  for (std::int64_t k = 1; k <= count; ++k) {
    term *= static_cast<double>(n - k + 1) / static_cast<double>(k) * p / (1 - p);
    below += term;
  }
  return 1 - below;
}

// The most that may fail of n markets of which at most `share` should.
std::int64_t allowed_failures(std::int64_t n, double share) {
  std::int64_t count = static_cast<std::int64_t>(std::floor(share * static_cast<double>(n) + 1e-9));
  if (n >= kMarketsOfTheAim) return count;
  while (binomial_above(count, n, share) > kSampleError) ++count;
  return count;
}

bool report(const Table& table, bool edge) {
  const std::int64_t failed = edge ? table.markets - table.passed : table.passed;
  const std::int64_t allowed = allowed_failures(table.markets, edge ? 1 - kSmallestShareOfEdge : kLargestShareOfNull);
  std::printf("%lld of %lld markets %s passed (%s %lld wanted): %s\n", static_cast<long long>(table.passed),
              static_cast<long long>(table.markets), edge ? "with an edge" : "without an edge",
              edge ? "at least" : "at most", static_cast<long long>(edge ? table.markets - allowed : allowed),
              failed <= allowed ? "as it should be" : "FAILED");
  for (const auto& [gate, count] : table.refused) {
    std::printf("  %-21s refused %lld\n", gate.c_str(), static_cast<long long>(count));
  }
  return failed <= allowed;
}

int main_of(int argc, char** argv) {
  const auto argument = [&](int k, std::int64_t otherwise) {
    return k < argc ? parse_number<std::int64_t>(argv[k]).value_or(-1) : otherwise;
  };
  const std::int64_t markets = argument(1, -1), first = argument(2, 1);
  const std::int64_t workers = argument(3, std::max(1U, std::thread::hardware_concurrency()));
  if (markets < 1 || first < 1 || workers < 1) {
    std::fprintf(stderr, "usage: null_test MARKETS [FIRST [WORKERS]]\n");
    return 2;
  }
  log::configure(log::Level::error, log::Format::text);
  const Stopwatch watch;
  // Processes, begun before LibTorch has threads; a line is shorter than what a pipe takes in one piece.
  int ends[2];
  if (pipe(ends) != 0) return 2;
  for (std::int64_t worker = 0; worker < workers; ++worker) {
    const pid_t child = fork();
    if (child < 0) return 2;
    if (child > 0) continue;
    close(ends[0]);
    std::FILE* out = fdopen(ends[1], "w");
    work(markets, first, worker, workers, out);
    std::fclose(out);
    std::_Exit(0);
  }
  close(ends[1]);
  Table null, edge;
  std::FILE* in = fdopen(ends[0], "r");
  char* text = nullptr;
  std::size_t capacity = 0;
  for (ssize_t length = 0; (length = getline(&text, &capacity, in)) > 0;) {
    const std::vector<std::string> parts = split(std::string(text, static_cast<std::size_t>(length)), '|');
    Table& table = parts.at(0) == "edge" ? edge : null;
    ++table.markets;
    if (parts.at(1).empty()) {
      ++table.passed;
    } else {
      for (const std::string& gate : split(parts.at(1), ',')) ++table.refused[gate];
    }
    std::printf("%s", parts.at(2).c_str());
    std::fflush(stdout);
  }
  std::free(text);
  std::fclose(in);
  while (wait(nullptr) > 0) {
  }
  std::printf("%s s a market, %lld at once\n", fixed(watch.seconds() / static_cast<double>(2 * markets), 1).c_str(),
              static_cast<long long>(workers));
  if (null.markets != markets || edge.markets != markets) {
    std::printf("%lld markets were not judged: a worker has failed\n",
                static_cast<long long>(2 * markets - null.markets - edge.markets));
    return 2;
  }
  const bool null_right = report(null, false), edge_right = report(edge, true);
  return null_right && edge_right ? 0 : 1;
}

}  // namespace
}  // namespace ristretto::train

int main(int argc, char** argv) { return ristretto::train::main_of(argc, argv); }
