// Successive halving, asynchronous (Li et al. 2020), and Hyperband, which runs it with several budgets (Li et al.
// 2018).
#pragma once

#include <optional>
#include <string_view>

#include "studies/pruners/pruner.h"

namespace ristretto::studies {

// At rung r, step min_resource * eta^(rate + r), the best one of eta goes on. What a trial had there is in its system
// attribute completed_rung_<r>, which other workers read.
class SuccessiveHalvingPruner : public Pruner {
 public:
  struct Settings {
    std::optional<std::int64_t> min_resource;  // steps; none: 'auto', a hundredth of the longest COMPLETE trial
    std::int64_t reduction_factor = 4;         // eta
    std::int64_t min_early_stopping_rate = 0;  // s
    std::int64_t bootstrap_count = 0;          // trials at a rung before the first goes on
  };
  explicit SuccessiveHalvingPruner(const Settings& settings) : settings_(settings) {}

 private:
  Decision decide_reported(const Study& study, const Trial& trial) override;
  Settings settings_;
};

// Each trial belongs to one bracket, by its number: successive halving of its own rate among the bracket's trials.
class HyperbandPruner : public Pruner {
 public:
  struct Settings {
    std::int64_t min_resource = 1;             // steps
    std::optional<std::int64_t> max_resource;  // steps; none: 'auto', of the longest COMPLETE trial, so that two
                                               // workers may differ: give it
    std::int64_t reduction_factor = 3;         // eta
    std::int64_t bootstrap_count = 0;
  };
  explicit HyperbandPruner(const Settings& settings) : settings_(settings) {}
  bool sees(const Study& study, std::int64_t number, std::int64_t other) override;
  // 0-based; nothing while max_resource is 'auto' and no COMPLETE trial has a report, or none of at least min_resource.
  std::optional<std::size_t> bracket_of(const Study& study, std::int64_t number);

 private:
  Decision decide_reported(const Study& study, const Trial& trial) override;
  Settings settings_;
  std::vector<std::uint64_t> budgets_;  // one a bracket; empty before the first call
};

// CRC-32 of zlib and PNG (ISO 3309).
std::uint32_t crc32(std::string_view bytes);

}  // namespace ristretto::studies
