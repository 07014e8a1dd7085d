// Every point of a grid once, in an order shuffled by the seed: Optuna's GridSampler, and its marks in the trials.
#pragma once

#include "studies/samplers/random_state.h"
#include "studies/samplers/sampler.h"

namespace ristretto::studies {

// The values of each parameter.
using Grid = std::vector<std::pair<std::string, std::vector<agents::Value>>>;
// All values of each range. Throws Error(usage) for a continuous one.
Grid grid_of(const SearchSpace& space);

// Trials carry their point as system attributes `grid_id` and `search_space`; Python workers with the same grid and
// seed take from the same points.
class GridSampler : public Sampler {
 public:
  // Throws Error(usage) for a parameter without values, and for more than kMostPoints points.
  GridSampler(Grid grid, std::uint32_t seed);
  static constexpr std::size_t kMostPoints = 1'000'000;

  // Takes the point of the trial's number; behind the last number, one that no trial has, else one that is RUNNING.
  // Throws Error(usage) where every point is tried. The proposals throw Error(usage) for a parameter that the grid
  // lacks, or a value of it that the asked range cannot store.
  std::unique_ptr<Proposals> begin(const Study& study, const Trial& trial) override;
  bool exhausted(const Study& study) const override;

 private:
  friend class GridProposals;
  // Of each point.
  std::vector<State> states(const Study& study) const;
  agents::Value value_at(std::size_t id, std::size_t parameter) const;

  Grid grid_;                         // by name
  formats::Json space_;               // as the trials carry it
  std::vector<std::uint32_t> order_;  // of a point's id, its place among all combinations, the last name fastest
  RandomState random_;
};

}  // namespace ristretto::studies
