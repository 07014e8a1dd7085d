#include "studies/pruners/percentile.h"

namespace ristretto::studies {

double nan_percentile(std::vector<double> values, double percentile) {
  values.erase(std::remove_if(values.begin(), values.end(), [](double value) { return std::isnan(value); }),
               values.end());
  if (values.empty()) return std::numeric_limits<double>::quiet_NaN();
  std::sort(values.begin(), values.end());
  const double at = static_cast<double>(values.size() - 1) * (percentile / 100);
  const std::size_t lower = std::min(static_cast<std::size_t>(at), values.size() - 1);
  const double weight = at - static_cast<double>(lower);
  const double a = values[lower], b = values[std::min(lower + 1, values.size() - 1)];
  return weight < 0.5 ? a + (b - a) * weight : b - (b - a) * (1 - weight);  // NumPy's, to the last bit
}

Decision PercentilePruner::decide_reported(const Study& study, const Trial& trial) {
  const std::int64_t step = last_report(trial).step;
  std::int64_t complete = 0;
  std::vector<double> there;
  for (const Trial& other : study.trials) {
    if (other.state != State::complete) continue;
    ++complete;
    for (const Report& report : other.reports) {
      if (report.step == step) there.push_back(report.value);
    }
  }
  if (complete == 0 || complete < settings_.n_startup_trials || !settings_.interval.is_first(trial)) return {};
  const bool maximize = maximizes(study);
  const double best = best_value(trial.reports.begin(), trial.reports.end(), maximize);
  if (std::isnan(best)) return {true, {}};
  if (static_cast<std::int64_t>(there.size()) < settings_.n_min_trials) return {};
  const double bar = nan_percentile(there, maximize ? 100 - settings_.percentile : settings_.percentile);
  return {maximize ? best < bar : best > bar, {}};  // a NaN keeps
}

}  // namespace ristretto::studies
