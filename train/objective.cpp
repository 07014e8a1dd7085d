#include "train/objective.h"

#include <ATen/TensorOperators.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "evaluation/costs.h"
#include "evaluation/metrics.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/text.h"
#include "release/sha256.h"
#include "train/price_sum.h"

namespace ristretto::train {
namespace {

constexpr int kGroups = 4, kTestGroups = 2;  // combinatorial: 6 splits
constexpr int kFolds = 6;                    // of the other kinds
constexpr std::int64_t kSeeds = 2;           // of the robust objective
constexpr double kCostFactor = 2;            // likewise
constexpr double kSpreadWeight = 0.1;        // of the standard deviation, in both
constexpr std::int64_t kPurgeBars = 24;      // at least: a position is built over about a day
constexpr double kHoursOfYear = 8760;

// environment.md: sqrt(8760 / N) * mean / std (ddof 1); 0 where they do not vary.
double sharpe_of_study(const std::vector<double>& log_returns) {
  const double deviation = deviation_of(log_returns, 1);
  if (!(deviation > 0)) return 0;
  return std::sqrt(kHoursOfYear / static_cast<double>(log_returns.size())) * mean_of(log_returns) / deviation;
}

std::vector<double> agents_of(const std::vector<Part>& parts) {
  std::vector<double> out;
  for (const Part& part : parts) out.push_back(part.agent);
  return out;
}

std::vector<double> excesses_of(const std::vector<Part>& parts) {
  std::vector<double> out;
  for (const Part& part : parts) {
    const double excess = part.agent - part.reference;
    out.push_back(part.idle ? std::min(excess, 0.0) : excess);
  }
  return out;
}

}  // namespace

double mean_of(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double deviation_of(const std::vector<double>& values, double ddof) {
  const double mean = mean_of(values);
  double squares = 0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  return std::sqrt(squares / (static_cast<double>(values.size()) - ddof));
}

const char* name_of(ObjectiveKind kind) { return kind == ObjectiveKind::robust ? "robust" : "cappuccino"; }

ObjectiveKind parse_objective(const std::string& name) {
  for (const ObjectiveKind kind : {ObjectiveKind::robust, ObjectiveKind::cappuccino}) {
    if (name == name_of(kind)) return kind;
  }
  throw Error(Fault::usage, str("--objective is '", name, "', expected robust or cappuccino"));
}

const char* name_of(SplitKind kind) {
  switch (kind) {
    case SplitKind::combinatorial:
      return "combinatorial";
    case SplitKind::k_fold:
      return "k-fold";
    case SplitKind::walk_forward:
      break;
  }
  return "walk-forward";
}

SplitKind parse_splits(const std::string& name) {
  for (const SplitKind kind : {SplitKind::combinatorial, SplitKind::k_fold, SplitKind::walk_forward}) {
    if (name == name_of(kind)) return kind;
  }
  throw Error(Fault::usage, str("--splits is '", name, "', expected combinatorial, k-fold or walk-forward"));
}

double value_so_far(const std::vector<Part>& parts) { return mean_of(excesses_of(parts)); }

double value_of(ObjectiveKind kind, const std::vector<Part>& parts) {
  const std::vector<double> excesses = excesses_of(parts);
  // The existing study penalises the spread of the agent's own ratios.
  const double spread = deviation_of(kind == ObjectiveKind::cappuccino ? agents_of(parts) : excesses, 0);
  return mean_of(excesses) - kSpreadWeight * spread;
}

Objective::Objective(ObjectiveKind kind, const Settings& settings, std::int64_t largest_lookback, SplitKind splits)
    : kind_(kind), largest_lookback_(largest_lookback) {
  if (kind == ObjectiveKind::cappuccino && splits != SplitKind::combinatorial) {
    throw Error(Fault::usage,
                str("--splits is ", name_of(splits),
                    ", but the cappuccino objective is the existing study's, whose splits are combinatorial"),
                "--objective robust takes all of them");
  }
  const Data data = load_data(settings);
  std::vector<env::Segment> seen = data.splits.train.market.segments;
  const std::vector<env::Segment>& validation = data.splits.validation.market.segments;
  seen.insert(seen.end(), validation.begin(), validation.end());
  const env::Market market = data.market.with_segments(std::move(seen));
  bars_ = market.bars_in_segments();
  last_time_ = data.splits.validation.last_time;
  const RunSettings& run = settings.run;
  experiment_ = str(bars_, " bars from ", iso_utc(data.splits.train.first_time), " to ", iso_utc(last_time_), ", ",
                    price_sum(market, market.segments.back().end), "; ", run.assets, "; ", run.features, "; serving ",
                    run.serving, ", capital ", run.initial_capital, ", fee ", run.fee_fraction, ", steps ", run.steps,
                    ", portfolios ", run.portfolios, ", episode bars ", run.episode_bars, ", ", run.precision,
                    ", seed ", run.seed, ", lookback up to ", largest_lookback);
  // Left out where there are none: studies from before they could be given measure the same.
  if (run.slippage_fraction > 0) experiment_ += str(", slippage ", run.slippage_fraction);
  if (run.spread_fraction > 0) experiment_ += str(", spread ", run.spread_fraction);
  if (!run.pretrained.empty()) experiment_ += ", encoder " + release::sha256_of_file(run.pretrained).substr(0, 16);
  if (splits != SplitKind::combinatorial) experiment_ += str(", splits ", name_of(splits));
  const std::int64_t purge = std::max<std::int64_t>(kPurgeBars, largest_lookback - 1);
  const auto cut = [&] {
    if (splits == SplitKind::walk_forward) {
      return evaluation::walk_forward_splits(bars_, kFolds, purge, evaluation::kEmbargoBars);
    }
    const bool k_fold = splits == SplitKind::k_fold;
    return evaluation::combinatorial_purged_splits(bars_, k_fold ? kFolds : kGroups, k_fold ? 1 : kTestGroups, purge,
                                                   evaluation::kEmbargoBars);
  };
  for (const evaluation::PurgedSplit& split : cut()) {
    std::vector<std::int64_t> tests;
    for (const std::vector<std::int64_t>& group : split.tests) tests.insert(tests.end(), group.begin(), group.end());
    splits_.push_back({evaluation::with_bars(market, split.train), evaluation::with_bars(market, tests), 0});
    splits_.back().reference = reference_on(splits_.back().test, settings);
  }
}

// Equal weight, with the costs that the objective names.
double Objective::reference_on(const env::Market& test, const Settings& settings) const {
  Settings held = settings;
  held.hyperparameters.lookback = largest_lookback_;
  const env::Layout layout = layout_of(held);
  const std::size_t assets = layout.assets.size();
  const env::Rules rules = evaluation::with_costs(rules_of(held), kind_ == ObjectiveKind::robust ? kCostFactor : 0);
  // As the values of all studies so far were measured.
  const evaluation::Backtest reference =
      evaluation::hold(test, layout, rules, std::vector<double>(assets, 1.0 / static_cast<double>(assets)),
                       evaluation::Purchase::first_price);
  return kind_ == ObjectiveKind::robust ? evaluation::metrics_of(reference).sharpe
                                        : sharpe_of_study(reference.log_returns);
}

std::int64_t Objective::parts() const { return kind_ == ObjectiveKind::robust ? splits() * kSeeds : splits(); }

const env::Market& Objective::training_bars(std::int64_t part) const { return split_of(part).train; }

env::Market Objective::test_bars(const Settings& settings, std::int64_t part) const {
  const env::Market& test = split_of(part).test;
  // An account decides from bar L-1 of a segment to the L-th before its end: the same bars for every L.
  std::vector<env::Segment> windows;
  const std::int64_t cut = largest_lookback_ - settings.hyperparameters.lookback;
  for (const env::Segment& segment : test.segments) {
    if (segment.size() > 2 * largest_lookback_) windows.push_back({segment.begin + cut, segment.end - cut});
  }
  return test.with_segments(std::move(windows));
}

Part Objective::judge(const Settings& settings, std::int64_t part, const evaluation::Actor& actor) const {
  Part out;
  out.split = part % splits();
  out.seed = settings.run.seed + part / splits();
  out.reference = split_of(part).reference;
  const env::Rules rules = evaluation::with_costs(rules_of(settings), kind_ == ObjectiveKind::robust ? kCostFactor : 1);
  const evaluation::Backtest agent = evaluation::backtest(test_bars(settings, part), layout_of(settings), rules, actor);
  out.agent =
      kind_ == ObjectiveKind::robust ? evaluation::metrics_of(agent).sharpe : sharpe_of_study(agent.log_returns);
  out.idle = !(deviation_of(agent.log_returns, 1) > 0);
  out.orders = agent.orders;
  return out;
}

Part Objective::measure(const Settings& settings, std::int64_t part) const {
  Settings trained = settings;
  trained.run.seed += part / splits();
  Profile profile;
  Trainer trainer(trained, training_bars(part), {}, {}, profile, Trainer::Manner::background);
  const Stopwatch watch;
  const Outcome outcome = trainer.run(0);
  const evaluation::Actor actor = actor_of(outcome.best, test_bars(settings, part), settings.run.precision == "bf16");
  Part out = judge(settings, part, actor);
  out.environment_steps = outcome.environment_steps;
  out.seconds = watch.seconds();
  return out;
}

}  // namespace ristretto::train
