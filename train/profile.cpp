#include "train/profile.h"

#include <algorithm>

namespace ristretto::train {

void Profile::enter(const std::string& phase) {
  phases_[current_].second += in_phase_.seconds();
  in_phase_.restart();
  const auto found =
      std::find_if(phases_.begin(), phases_.end(), [&](const auto& entry) { return entry.first == phase; });
  current_ = static_cast<std::size_t>(found - phases_.begin());
  if (found == phases_.end()) phases_.emplace_back(phase, 0.0);
}

std::vector<std::pair<std::string, double>> Profile::seconds() const {
  auto out = phases_;
  out[current_].second += in_phase_.seconds();
  return out;
}

double Profile::seconds_in(const std::string& phase) const {
  for (const auto& [name, spent] : seconds()) {
    if (name == phase) return spent;
  }
  return 0;
}

}  // namespace ristretto::train
