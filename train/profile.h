// Where a run's wall time goes, by named phase. Phases do not nest: time is counted for the innermost name in force.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "platform/clock.h"

namespace ristretto::train {

class Profile {
 public:
  // The phase that runs from now on; the time until now goes to the one before.
  void enter(const std::string& phase);
  // Seconds of each phase in order of first appearance, up to now.
  std::vector<std::pair<std::string, double>> seconds() const;
  double seconds_in(const std::string& phase) const;
  double total() const { return since_start_.seconds(); }

 private:
  std::vector<std::pair<std::string, double>> phases_{{"set-up", 0.0}};
  std::size_t current_ = 0;
  Stopwatch in_phase_;
  Stopwatch since_start_;
};

}  // namespace ristretto::train
