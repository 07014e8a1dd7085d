// What a trial of a sweep is worth: trainings on purged splits, each judged on the bars it did not see.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "evaluation/backtest.h"
#include "train/job.h"
#include "train/settings.h"

namespace ristretto::train {

enum class ObjectiveKind {
  // Mean over the 6 splits and 2 seeds of the Sharpe ratio per bar in excess of equal weight's, both at doubled costs,
  // minus 0.1 standard deviations of it.
  robust,
  // The existing study's (environment.md, "The existing study's objective").
  cappuccino,
};
const char* name_of(ObjectiveKind kind);

// How the bars are cut: 6 splits of any kind. combinatorial: 4 groups, 2 of them tested. k_fold: 6 groups, one tested.
// walk_forward: 7 groups, each but the first tested after a training on those before it.
enum class SplitKind { combinatorial, k_fold, walk_forward };
const char* name_of(SplitKind kind);
// Throws Error(usage) naming the choices.
SplitKind parse_splits(const std::string& name);

// Throws Error(usage) naming the choices.
ObjectiveKind parse_objective(const std::string& name);
inline constexpr int kObjectiveVersion = 2;  // changes where equal settings would get other values

// One training and its test.
struct Part {
  std::int64_t split = 0, seed = 0;
  double agent = 0, reference = 0;  // Sharpe ratios, as the objective has them
  bool idle = false;                // the account's returns do not vary: it earns no credit for what others lost
  std::int64_t orders = 0;
  std::int64_t environment_steps = 0;
  double seconds = 0;
};

double mean_of(const std::vector<double>& values);
// ddof: 1 for a sample's.
double deviation_of(const std::vector<double>& values, double ddof);

// Of a trial's parts, at least one.
double value_of(ObjectiveKind kind, const std::vector<Part>& parts);
// Of the parts so far, for a pruner: without the penalty of their spread, which one part does not have.
double value_so_far(const std::vector<Part>& parts);

// The bars that sweeps may see (train and validation, never the hold-out), split once for all trials. Immutable; any
// thread may measure.
class Objective {
 public:
  // settings: of the whole sweep; bars, assets, hold-out. largest_lookback: that a trial may draw; all are tested on
  // the same bars and against the same reference. Throws Error(usage) where the bars do not make the splits, and for
  // other splits than the existing study's with its objective.
  Objective(ObjectiveKind kind, const Settings& settings, std::int64_t largest_lookback,
            SplitKind splits = SplitKind::combinatorial);

  ObjectiveKind kind() const { return kind_; }
  std::int64_t parts() const;  // of a whole trial: the splits with the first seed, then with the next
  std::int64_t splits() const { return static_cast<std::int64_t>(splits_.size()); }
  std::int64_t bars() const { return bars_; }
  std::int64_t last_time() const { return last_time_; }  // of the bars that are seen, seconds since 1970, UTC
  // What else a value depends on: bars, money, costs, steps. Trials of one study have it in common.
  std::string experiment() const { return experiment_; }
  // Part number `part` of a trial with these settings, trained to its end on the calling thread. Throws Error(failed)
  // for a training that diverges.
  Part measure(const Settings& settings, std::int64_t part) const;

  // What measure() is made of: the bars that a part trains on, those that it is judged on with these settings (one
  // window a segment), and what `actor` is worth there; steps and seconds of the Part are 0.
  const env::Market& training_bars(std::int64_t part) const;
  env::Market test_bars(const Settings& settings, std::int64_t part) const;
  Part judge(const Settings& settings, std::int64_t part, const evaluation::Actor& actor) const;

 private:
  double reference_on(const env::Market& test, const Settings& settings) const;

  struct Split {
    env::Market train, test;
    double reference = 0;  // its Sharpe ratio on the test bars
  };
  const Split& split_of(std::int64_t part) const { return splits_[static_cast<std::size_t>(part) % splits_.size()]; }

  ObjectiveKind kind_;
  std::int64_t bars_ = 0, last_time_ = 0, largest_lookback_ = 1;
  std::string experiment_;
  std::vector<Split> splits_;
};

}  // namespace ristretto::train
