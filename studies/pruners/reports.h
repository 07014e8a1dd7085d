// What pruners ask of a trial's reports.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "studies/study.h"

namespace ristretto::studies {

// The report with the largest step; the trial has one.
inline const Report& last_report(const Trial& trial) {
  return *std::max_element(trial.reports.begin(), trial.reports.end(),
                           [](const Report& a, const Report& b) { return a.step < b.step; });
}

inline bool maximizes(const Study& study) { return study.directions[0] == Direction::maximize; }

// The larger (maximize) or smaller value of those that are no NaN; NaN where all are.
template <class Iterator>
double best_value(Iterator begin, Iterator end, bool maximize) {
  double best = std::numeric_limits<double>::quiet_NaN();
  for (; begin != end; ++begin) best = maximize ? std::fmax(best, begin->value) : std::fmin(best, begin->value);
  return best;
}

// The largest last step of the COMPLETE trials; nothing where none of them has a report.
inline std::optional<std::int64_t> longest_complete(const Study& study) {
  std::optional<std::int64_t> longest;
  for (const Trial& trial : study.trials) {
    if (trial.state != State::complete || trial.reports.empty()) continue;
    const std::int64_t step = last_report(trial).step;
    longest = longest ? std::max(*longest, step) : step;
  }
  return longest;
}

// Steps at which a pruner looks: warmup, warmup + interval ...; a report counts when it is the trial's first at or
// behind one of them.
struct Interval {
  std::int64_t warmup = 0, length = 1;

  bool is_first(const Trial& trial) const {
    const std::int64_t step = last_report(trial).step;
    if (step < warmup) return false;
    const std::int64_t begin = (step - warmup) / length * length + warmup;
    return std::none_of(trial.reports.begin(), trial.reports.end(),
                        [&](const Report& report) { return report.step != step && report.step >= begin; });
  }
};

}  // namespace ristretto::studies
