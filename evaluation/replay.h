// A recorded episode run again: every state, reward and balance compared (environment.md, first section).
#pragma once

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace ristretto::evaluation {

struct ReplayQuantity {
  std::string name;        // "cash", "value", "reward", "state (market)" ...
  double largest = 0;      // largest deviation
  double tolerance = 0;    // in the same unit
  std::int64_t step = -1;  // where the largest deviation is
};

struct ReplayReport {
  std::int64_t steps = 0;
  std::vector<ReplayQuantity> quantities;
  std::string first_difference;  // the first value beyond its tolerance, in words; empty where there is none
  bool passed() const { return first_difference.empty(); }
};

// FILE.npz as in golden/environment: price, tech, actions, state, reward, cash, stocks, total_asset, equal_weight,
// fees, config. real: the arithmetic, at::kDouble or at::kFloat, whose tolerances are 100 times wider. Throws
// Error(incompatible) where the file is no such recording.
ReplayReport replay(const std::filesystem::path& file, at::ScalarType real);

}  // namespace ristretto::evaluation
