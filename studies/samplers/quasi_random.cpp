#include "studies/samplers/quasi_random.h"

#include <algorithm>
#include <bit>
#include <boost/random/sobol.hpp>
#include <cmath>

#include "platform/error.h"
#include "platform/text.h"
#include "studies/samplers/random.h"

namespace ristretto::studies {
namespace {

constexpr Profile kProfile = Profile::optuna_5_0;  // of the rounding

agents::Value value_at(const agents::Range& range, double u) {
  if (const auto* categorical = std::get_if<agents::Choices>(&range)) {
    const auto count = static_cast<double>(categorical->choices.size());
    return categorical->choices[static_cast<std::size_t>(u * count)];
  }
  const Scale scale = scale_of(range);
  return value_on_scale(range, scale.low + (scale.high - scale.low) * u, kProfile);
}

SearchSpace without_single(SearchSpace space) {
  std::erase_if(space, [](const auto& item) { return single_value(item.second).has_value(); });
  if (space.empty()) {
    throw Error(Fault::usage, "the sampler quasi-random has no parameters, expected a search space");
  }
  return space;
}

}  // namespace

Sobol::Sobol(std::size_t dimensions, std::uint32_t seed) : dimensions_(dimensions) {
  if (dimensions > kMostDimensions) {
    throw Error(Fault::usage,
                str("the sampler quasi-random has ", dimensions, " parameters, expected at most ", kMostDimensions));
  }
  RandomState random(seed);
  const auto word = [&] { return static_cast<std::uint32_t>(random.below(1U << 16)) << 16 | random.below(1U << 16); };
  for (std::size_t d = 0; d < dimensions; ++d) {
    for (std::size_t bit = 0; bit < kBits; ++bit) {
      // A digit depends on itself and, by chance, on those before it; so intervals of 1 / 2^k stay such intervals.
      const std::uint32_t own = 1U << (kBits - 1 - bit);
      const std::uint32_t before = ~(own | (own - 1));
      rows_.push_back((word() & before) | own);
    }
    shifts_.push_back(word());
  }
}

std::vector<double> Sobol::point(std::uint64_t index) const {
  // Boost leaves out the first point, which is 0.
  std::vector<std::uint32_t> digits(dimensions_, 0);
  if (index > 0) {
    boost::random::sobol sequence(dimensions_);
    sequence.seed(index - 1);
    for (std::uint32_t& word : digits) word = static_cast<std::uint32_t>(sequence() >> 32);
  }
  std::vector<double> point;
  for (std::size_t d = 0; d < dimensions_; ++d) {
    std::uint32_t word = 0;
    for (std::size_t bit = 0; bit < kBits; ++bit) {
      word = word << 1 | (std::popcount(digits[d] & rows_[d * kBits + bit]) & 1U);
    }
    point.push_back((static_cast<double>(word ^ shifts_[d]) + 0.5) / 4294967296.0);
  }
  return point;
}

class QuasiRandomProposals : public Proposals {
 public:
  QuasiRandomProposals(QuasiRandomSampler& sampler, std::int64_t number) : sampler_(sampler), number_(number) {}

  std::vector<Parameter> relative() override {
    const std::vector<double> point = sampler_.sobol_.point(static_cast<std::uint64_t>(number_));
    std::vector<Parameter> values;
    for (std::size_t p = 0; p < point.size(); ++p) {
      const auto& [name, range] = sampler_.space_[p];
      values.push_back({name, value_at(range, point[p]), range});
    }
    return values;
  }

  agents::Value sample(const std::string&, const agents::Range& range) override {
    return random_value(sampler_.random_, range, kProfile);
  }

 private:
  QuasiRandomSampler& sampler_;
  std::int64_t number_;
};

QuasiRandomSampler::QuasiRandomSampler(SearchSpace space, std::uint32_t seed)
    : space_(without_single(std::move(space))), sobol_(space_.size(), seed), random_(seed) {}

std::unique_ptr<Proposals> QuasiRandomSampler::begin(const Study&, const Trial& trial) {
  return std::make_unique<QuasiRandomProposals>(*this, trial.number);
}

}  // namespace ristretto::studies
