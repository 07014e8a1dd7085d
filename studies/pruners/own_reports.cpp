#include "studies/pruners/own_reports.h"

namespace ristretto::studies {

Decision ThresholdPruner::decide_reported(const Study&, const Trial& trial) {
  if (!interval_.is_first(trial)) return {};
  const double value = last_report(trial).value;
  return {std::isnan(value) || value < lower_ || value > upper_, {}};
}

Decision PatientPruner::decide_reported(const Study& study, const Trial& trial) {
  const std::int64_t before = static_cast<std::int64_t>(trial.reports.size()) - patience_ - 1;
  if (before <= 0) return {};
  std::vector<Report> reports = trial.reports;
  std::sort(reports.begin(), reports.end(), [](const Report& a, const Report& b) { return a.step < b.step; });
  const bool maximize = maximizes(study);
  const double earlier = best_value(reports.begin(), reports.begin() + before, maximize);
  const double recent = best_value(reports.begin() + before, reports.end(), maximize);
  const bool stuck = maximize ? earlier - min_delta_ > recent : earlier + min_delta_ < recent;
  if (!stuck) return {};
  return wrapped_ ? wrapped_->decide(study, trial) : Decision{true, {}};
}

}  // namespace ristretto::studies
