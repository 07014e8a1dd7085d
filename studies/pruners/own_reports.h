// By the trial's own reports alone.
#pragma once

#include <memory>

#include "studies/pruners/pruner.h"
#include "studies/pruners/reports.h"

namespace ristretto::studies {

// Never.
class NoPruner : public Pruner {
 private:
  Decision decide_reported(const Study&, const Trial&) override { return {}; }
};

// A report that is NaN or outside [lower, upper].
class ThresholdPruner : public Pruner {
 public:
  ThresholdPruner(double lower, double upper, const Interval& interval)
      : lower_(lower), upper_(upper), interval_(interval) {}

 private:
  Decision decide_reported(const Study& study, const Trial& trial) override;
  double lower_, upper_;
  Interval interval_;
};

// Once the last patience + 1 reports are not better than those before by min_delta: asks the wrapped pruner, or prunes
// where there is none.
class PatientPruner : public Pruner {
 public:
  PatientPruner(std::unique_ptr<Pruner> wrapped, std::int64_t patience, double min_delta)
      : wrapped_(std::move(wrapped)), patience_(patience), min_delta_(min_delta) {}

 private:
  Decision decide_reported(const Study& study, const Trial& trial) override;
  std::unique_ptr<Pruner> wrapped_;  // may be null
  std::int64_t patience_;
  double min_delta_;
};

}  // namespace ristretto::studies
