// Against the best trial on the same steps, which stand for instances such as seeds.
#pragma once

#include "studies/pruners/pruner.h"

namespace ristretto::studies {

// Wilcoxon's signed-rank test of the paired reports: prunes a trial that is worse than the best one with p below a
// threshold, unless its mean report is at least as good.
class WilcoxonPruner : public Pruner {
 public:
  WilcoxonPruner(double p_threshold, std::int64_t n_startup_steps)
      : p_threshold_(p_threshold), n_startup_steps_(n_startup_steps) {}

 private:
  Decision decide_reported(const Study& study, const Trial& trial) override;
  double p_threshold_;
  std::int64_t n_startup_steps_;
};

// The one-sided p-value of differences whose median lies above 0 (greater) or below: SciPy 1.17's wilcoxon(differences,
// zero_method="zsplit", alternative=...). Exact for at most 50 without ties or zeros, over all signs for at most 13
// with them, else by the normal approximation, without continuity correction; NaN there for zeros only. None: NaN.
double wilcoxon_p_value(const std::vector<double>& differences, bool greater);

}  // namespace ristretto::studies
