#include "evaluation/costs.h"

#include <cmath>

#include "platform/text.h"

namespace ristretto::evaluation {
namespace {

// Four digits behind the point at most: a spread may be a few hundredths of a percent.
std::string percent(double fraction) {
  const double rounded = std::round(fraction * 1e6) / 1e6;
  std::string text = fixed(100 * rounded, 4);
  while (text.back() == '0') text.pop_back();
  if (text.back() == '.') text.pop_back();
  return text + " %";
}

}  // namespace

env::Rules with_costs(env::Rules rules, double factor) {
  rules.fee_fraction *= factor;
  rules.slippage_fraction *= factor;
  rules.spread_fraction *= factor;
  return rules;
}

env::Rules with_costs_of(env::Rules rules, const env::Rules& other) {
  rules.fee_fraction = other.fee_fraction;
  rules.slippage_fraction = other.slippage_fraction;
  rules.spread_fraction = other.spread_fraction;
  return rules;
}

std::string costs_in_words(const env::Rules& rules) {
  std::string text = str(percent(env::cost_fraction(rules)), " of its value");
  if (rules.slippage_fraction == 0 && rules.spread_fraction == 0) return text + " (the fee)";
  return text + str(" (fee ", percent(rules.fee_fraction), ", slippage ", percent(rules.slippage_fraction),
                    ", half of a spread of ", percent(rules.spread_fraction), ")");
}

nlohmann::ordered_json costs_json(const env::Rules& rules) {
  return {{"fee_fraction", rules.fee_fraction},
          {"slippage_fraction", rules.slippage_fraction},
          {"spread_fraction", rules.spread_fraction},
          {"cost_fraction", env::cost_fraction(rules)}};
}

}  // namespace ristretto::evaluation
