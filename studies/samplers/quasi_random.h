// Points that fill the space evenly: Sobol's sequence, scrambled by the seed (a random linear map of the digits and a
// shift: Matousek, J. Complexity 14, 1998).
#pragma once

#include "studies/samplers/random_state.h"
#include "studies/samplers/sampler.h"

namespace ristretto::studies {

// The sequence itself: point i is the same in every process with the seed.
class Sobol {
 public:
  // Throws Error(usage) above kMostDimensions.
  Sobol(std::size_t dimensions, std::uint32_t seed);
  static constexpr std::size_t kMostDimensions = 3667;
  // In (0, 1), [dimensions].
  std::vector<double> point(std::uint64_t index) const;

 private:
  static constexpr std::size_t kBits = 32;
  std::size_t dimensions_;
  std::vector<std::uint32_t> rows_;    // [dimensions, kBits]: the digits whose sum is a digit, the highest first
  std::vector<std::uint32_t> shifts_;  // [dimensions]
};

// Trial i gets point i of the space, so workers of one study need one seed and no agreement. Parameters outside the
// space are uniform.
class QuasiRandomSampler : public Sampler {
 public:
  // Throws Error(usage) for an empty space.
  QuasiRandomSampler(SearchSpace space, std::uint32_t seed);
  std::unique_ptr<Proposals> begin(const Study& study, const Trial& trial) override;

 private:
  friend class QuasiRandomProposals;
  SearchSpace space_;  // without single ranges
  Sobol sobol_;
  RandomState random_;
};

}  // namespace ristretto::studies
