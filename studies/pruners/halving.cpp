#include "studies/pruners/halving.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "platform/text.h"
#include "studies/pruners/reports.h"

namespace ristretto::studies {
namespace {

// The first rung that the trial has not been at.
std::int64_t rung_of(const Trial& trial) {
  std::int64_t rung = 0;
  while (find(trial.system_attributes, str("completed_rung_", rung)) != nullptr) ++rung;
  return rung;
}

Attribute number_attribute(std::string key, double value) {
  Attribute attribute{std::move(key), {}};
  attribute.value.kind = formats::Json::Kind::real;
  attribute.value.real = value;
  return attribute;
}

// Settings with a min_resource; `competes` tells which of the study's trials, of any state, the trial is compared with.
template <class Competes>
Decision halve(const SuccessiveHalvingPruner::Settings& settings, const Study& study, const Trial& trial,
               Competes competes) {
  const bool maximize = maximizes(study);
  const Report& last = last_report(trial);
  Decision decision;
  for (std::int64_t rung = rung_of(trial);; ++rung) {
    const double promotion_step =
        static_cast<double>(*settings.min_resource) *
        std::pow(settings.reduction_factor, settings.min_early_stopping_rate + rung);  // may be beyond all integers
    if (static_cast<double>(last.step) < promotion_step) return decision;
    decision.prune = true;
    if (std::isnan(last.value)) return decision;
    const std::string key = str("completed_rung_", rung);
    decision.system_attributes.push_back(number_attribute(key, last.value));
    std::vector<double> values = {last.value};
    for (const Trial& other : study.trials) {
      if (other.number == trial.number || !competes(other)) continue;
      const formats::Json* value = find(other.system_attributes, key);
      if (value != nullptr && !std::isnan(value->real)) values.push_back(value->real);  // nobody writes a NaN there
    }
    const auto count = static_cast<std::int64_t>(values.size());
    if (count <= settings.bootstrap_count) return decision;
    std::sort(values.begin(), values.end());
    const std::int64_t last_promoted = std::max<std::int64_t>(count / settings.reduction_factor - 1, 0);
    const bool promoted = maximize ? last.value >= values[static_cast<std::size_t>(count - 1 - last_promoted)]
                                   : last.value <= values[static_cast<std::size_t>(last_promoted)];
    if (!promoted) return decision;
    decision.prune = false;
  }
}

}  // namespace

Decision SuccessiveHalvingPruner::decide_reported(const Study& study, const Trial& trial) {
  if (!settings_.min_resource) {
    const std::optional<std::int64_t> longest = longest_complete(study);
    if (!longest) return {};
    settings_.min_resource = std::max<std::int64_t>(*longest / 100, 1);
  }
  return halve(settings_, study, trial, [](const Trial&) { return true; });
}

std::optional<std::size_t> HyperbandPruner::bracket_of(const Study& study, std::int64_t number) {
  if (budgets_.empty()) {
    if (!settings_.max_resource) {
      const std::optional<std::int64_t> longest = longest_complete(study);
      if (!longest) return std::nullopt;
      settings_.max_resource = *longest + 1;
    }
    const double ratio = static_cast<double>(*settings_.max_resource) / static_cast<double>(settings_.min_resource);
    const auto eta = static_cast<double>(settings_.reduction_factor);
    // The quotient may fall just below a whole number; Optuna's does as well, and brackets must agree.
    const double brackets = std::floor(std::log(ratio) / std::log(eta)) + 1;
    for (double s = brackets - 1; s >= 0; --s) {
      budgets_.push_back(static_cast<std::uint64_t>(std::ceil(brackets * std::pow(eta, s) / (s + 1))));
    }
    if (budgets_.empty()) return std::nullopt;
  }
  const std::uint64_t sum = std::accumulate(budgets_.begin(), budgets_.end(), std::uint64_t{0});
  std::uint64_t rest = crc32(str(study.name, "_", number)) % sum;
  std::size_t bracket = 0;
  while (rest >= budgets_[bracket]) rest -= budgets_[bracket++];
  return bracket;
}

bool HyperbandPruner::sees(const Study& study, std::int64_t number, std::int64_t other) {
  return bracket_of(study, number) == bracket_of(study, other);
}

Decision HyperbandPruner::decide_reported(const Study& study, const Trial& trial) {
  const std::optional<std::size_t> bracket = bracket_of(study, trial.number);
  if (!bracket) return {};
  const SuccessiveHalvingPruner::Settings settings{settings_.min_resource, settings_.reduction_factor,
                                                   static_cast<std::int64_t>(*bracket), settings_.bootstrap_count};
  return halve(settings, study, trial, [&](const Trial& other) { return bracket_of(study, other.number) == bracket; });
}

std::uint32_t crc32(std::string_view bytes) {
  std::uint32_t crc = 0xffffffff;
  for (const char byte : bytes) {
    crc ^= static_cast<unsigned char>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc;
}

}  // namespace ristretto::studies
