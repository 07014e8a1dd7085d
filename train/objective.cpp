#include "train/objective.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "env/indicators.h"
#include "evaluation/metrics.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::train {
namespace {

constexpr int kGroups = 4, kTestGroups = 2;  // 6 splits
constexpr std::int64_t kSeeds = 2;           // of the robust objective
constexpr double kCostFactor = 2;            // likewise
constexpr double kSpreadWeight = 0.1;        // of the standard deviation, in both
// Rows between training and test: a position is built over about a day, and a holding is sold off after two.
constexpr std::int64_t kPurgeBars = 24, kEmbargoBars = 48;
constexpr double kHoursOfYear = 8760;

double mean_of(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double deviation_of(const std::vector<double>& values, double ddof) {
  const double mean = mean_of(values);
  double squares = 0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  return std::sqrt(squares / (static_cast<double>(values.size()) - ddof));
}

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
  for (const Part& part : parts) out.push_back(part.agent - part.reference);
  return out;
}

}  // namespace

const char* name_of(ObjectiveKind kind) { return kind == ObjectiveKind::robust ? "robust" : "cappuccino"; }

ObjectiveKind parse_objective(const std::string& name) {
  for (const ObjectiveKind kind : {ObjectiveKind::robust, ObjectiveKind::cappuccino}) {
    if (name == name_of(kind)) return kind;
  }
  throw Error(Fault::usage, str("--objective is '", name, "', expected robust or cappuccino"));
}

double value_so_far(const std::vector<Part>& parts) { return mean_of(excesses_of(parts)); }

double value_of(ObjectiveKind kind, const std::vector<Part>& parts) {
  const std::vector<double> excesses = excesses_of(parts);
  // The existing study penalises the spread of the agent's own ratios.
  const double spread = deviation_of(kind == ObjectiveKind::cappuccino ? agents_of(parts) : excesses, 0);
  return mean_of(excesses) - kSpreadWeight * spread;
}

Objective::Objective(ObjectiveKind kind, const Settings& settings) : kind_(kind) {
  const Data data = load_data(settings);
  std::vector<env::Segment> seen = data.splits.train.market.segments;
  const std::vector<env::Segment>& validation = data.splits.validation.market.segments;
  seen.insert(seen.end(), validation.begin(), validation.end());
  const env::Market market = data.market.with_segments(std::move(seen));
  bars_ = market.bars_in_segments();
  // The same for every lookback that a trial may draw.
  const std::int64_t purge = std::max<std::int64_t>(kPurgeBars, data.layout.lookback - 1);
  for (const evaluation::CpcvSplit& split :
       evaluation::combinatorial_purged_splits(bars_, kGroups, kTestGroups, purge, kEmbargoBars)) {
    std::vector<std::int64_t> tests;
    for (const std::vector<std::int64_t>& group : split.tests) tests.insert(tests.end(), group.begin(), group.end());
    splits_.push_back({evaluation::with_bars(market, split.train), evaluation::with_bars(market, tests)});
  }
}

std::int64_t Objective::parts() const {
  const auto splits = static_cast<std::int64_t>(splits_.size());
  return kind_ == ObjectiveKind::robust ? splits * kSeeds : splits;
}

Part Objective::measure(const Settings& settings, std::int64_t part) const {
  const auto splits = static_cast<std::int64_t>(splits_.size());
  Part out;
  out.split = part % splits;
  out.seed = settings.run.seed + part / splits;
  const Split& split = splits_[static_cast<std::size_t>(out.split)];

  Settings trained = settings;
  trained.run.seed = out.seed;
  Profile profile;
  Trainer trainer(trained, split.train, {}, {}, profile, Trainer::Manner::background);
  const Stopwatch watch;
  const Outcome outcome = trainer.run(0);
  out.environment_steps = outcome.environment_steps;

  Settings tested = settings;
  if (kind_ == ObjectiveKind::robust) tested.run.fee_fraction *= kCostFactor;
  const env::Layout layout = layout_of(tested);
  const env::Rules rules = rules_of(tested);
  const evaluation::Backtest agent = evaluation::backtest(
      split.test, layout, rules, actor_of(outcome.best, split.test, settings.run.precision == "bf16"));
  env::Rules reference_rules = rules;
  if (kind_ == ObjectiveKind::cappuccino) reference_rules.fee_fraction = 0;
  const std::size_t assets = layout.assets.size();
  const evaluation::Backtest reference = evaluation::hold(
      split.test, layout, reference_rules, std::vector<double>(assets, 1.0 / static_cast<double>(assets)));
  if (kind_ == ObjectiveKind::cappuccino) {
    out.agent = sharpe_of_study(agent.log_returns);
    out.reference = sharpe_of_study(reference.log_returns);
  } else {
    out.agent = evaluation::metrics_of(agent).sharpe;
    out.reference = evaluation::metrics_of(reference).sharpe;
  }
  out.idle = !(deviation_of(agent.log_returns, 1) > 0);
  out.orders = agent.orders;
  out.seconds = watch.seconds();
  return out;
}

}  // namespace ristretto::train
