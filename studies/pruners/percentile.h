// Against what the finished trials had at the same step.
#pragma once

#include "studies/pruners/pruner.h"
#include "studies/pruners/reports.h"

namespace ristretto::studies {

// Prunes a trial whose best report is worse than a percentile of the COMPLETE trials' reports at its last step.
// Percentile 50 is the median pruner.
class PercentilePruner : public Pruner {
 public:
  struct Settings {
    double percentile = 50;  // the share that is kept, 0 to 100
    std::int64_t n_startup_trials = 5;
    Interval interval;
    std::int64_t n_min_trials = 1;  // with a report at the step
  };
  explicit PercentilePruner(const Settings& settings) : settings_(settings) {}

 private:
  Decision decide_reported(const Study& study, const Trial& trial) override;
  Settings settings_;
};

// NumPy's nanpercentile(values, percentile), linear: NaN are left out; NaN where nothing is left, and where an infinity
// meets a weight of 0.
double nan_percentile(std::vector<double> values, double percentile);

}  // namespace ristretto::studies
