#include "studies/samplers/random.h"

#include <algorithm>
#include <cmath>

namespace ristretto::studies {

using agents::Choices;
using agents::FloatRange;
using agents::IntRange;

namespace {

double on_grid(double x, double low, double high, double step, bool half_up) {
  const double k = half_up ? std::floor((x - low) / step + 0.5) : std::nearbyint((x - low) / step);
  return std::clamp(k * step + low, low, high);
}

class RandomProposals : public Proposals {
 public:
  RandomProposals(RandomState& random, Profile profile) : random_(random), profile_(profile) {}
  agents::Value sample(const std::string&, const agents::Range& range) override {
    return random_value(random_, range, profile_);
  }

 private:
  RandomState& random_;
  Profile profile_;
};

}  // namespace

Scale scale_of(const agents::Range& numeric) {
  if (const auto* real = std::get_if<FloatRange>(&numeric)) {
    if (real->log) return {std::log(real->low), std::log(real->high)};
    return {real->low - real->step / 2, real->high + real->step / 2};
  }
  const auto& integer = std::get<IntRange>(numeric);
  const auto low = static_cast<double>(integer.low), high = static_cast<double>(integer.high);
  if (integer.log) return {std::log(low - 0.5), std::log(high + 0.5)};
  const double step = static_cast<double>(integer.step);
  return {low - step / 2, high + step / 2};
}

agents::Value value_on_scale(const agents::Range& numeric, double scaled, Profile profile) {
  if (const auto* real = std::get_if<FloatRange>(&numeric)) {
    if (real->step > 0) return on_grid(scaled, real->low, real->high, real->step, false);
    double x = real->log ? std::exp(scaled) : scaled;
    if (real->log && profile >= Profile::optuna_5_0) x = std::max(x, real->low);
    return std::min(x, std::nextafter(real->high, real->high - 1));
  }
  const auto& integer = std::get<IntRange>(numeric);
  const auto low = static_cast<double>(integer.low), high = static_cast<double>(integer.high);
  const double x = integer.log
                       ? std::clamp(std::nearbyint(std::exp(scaled)), low, high)
                       : on_grid(scaled, low, high, static_cast<double>(integer.step), profile >= Profile::optuna_5_0);
  return static_cast<std::int64_t>(x);
}

agents::Value random_value(RandomState& random, const agents::Range& range, Profile profile) {
  if (const auto* categorical = std::get_if<Choices>(&range)) {
    std::size_t best = 0;
    double largest = -1;
    for (std::size_t i = 0; i < categorical->choices.size(); ++i) {
      const double drawn = random.uniform();
      if (drawn > largest) best = i, largest = drawn;
    }
    return categorical->choices[best];
  }
  const Scale scale = scale_of(range);
  return value_on_scale(range, random.uniform(scale.low, scale.high), profile);
}

std::unique_ptr<Proposals> RandomSampler::begin(const Study&, const Trial&) {
  return std::make_unique<RandomProposals>(random_, profile_);
}

}  // namespace ristretto::studies
