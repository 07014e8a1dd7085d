// The densities that TPE compares: a mixture with a kernel an observation and a prior (study.md, "TPE, exactly" 3-5).
#pragma once

#include <vector>

#include "studies/samplers/random_state.h"
#include "studies/samplers/sampler.h"

namespace ristretto::studies {

// The weights of n observations in the order of their trials; the oldest count least from 25 on.
std::vector<double> observation_weights(std::size_t n);

// The kernels' widths of observations in [low, high], in their order: the distance to the farther neighbour, not below
// a share of the range. prior_is_neighbour: the range's middle counts as an observation (Optuna up to 4.8).
std::vector<double> neighbour_sigmas(const std::vector<double>& observations, double low, double high,
                                     bool prior_is_neighbour);

// Drawn points in internal values: samples[parameter][candidate].
using Samples = std::vector<std::vector<double>>;

class ParzenEstimator {
 public:
  // observations[parameter][i], internal values, all of one length n, in the order of their trials.
  // multivariate: several parameters in one (or one, by the same rules).
  ParzenEstimator(const SearchSpace& space, const std::vector<std::vector<double>>& observations, bool multivariate,
                  Profile profile);
  ~ParzenEstimator();
  ParzenEstimator(ParzenEstimator&&) noexcept;

  // `count` points from the mixture.
  Samples sample(RandomState& random, std::size_t count) const;
  // ln of the density at each of them.
  std::vector<double> log_density(const Samples& samples) const;

  struct Axis;  // one parameter's part of all kernels

 private:
  std::vector<double> weights_, log_weights_;  // [n + 1], the prior last
  std::vector<Axis> axes_;                     // one a parameter
  bool categorical_uniforms_first_;
};

}  // namespace ristretto::studies
