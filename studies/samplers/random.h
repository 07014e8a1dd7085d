// Independent uniform values: Optuna's RandomSampler, number by number (study.md, "Random numbers and RandomSampler").
#pragma once

#include "studies/samplers/random_state.h"
#include "studies/samplers/sampler.h"

namespace ristretto::studies {

// What shares [0, 1] out to the values of a numeric range fairly: the ends by half a step wider, in logs where the
// range is logarithmic; and the value that a number between them stands for.
struct Scale {
  double low, high;
};
Scale scale_of(const agents::Range& numeric);
agents::Value value_on_scale(const agents::Range& numeric, double scaled, Profile profile);

// One uniform; K for K choices.
agents::Value random_value(RandomState& random, const agents::Range& range, Profile profile);

class RandomSampler : public Sampler {
 public:
  RandomSampler(Profile profile, std::uint32_t seed) : profile_(profile), random_(seed) {}
  std::unique_ptr<Proposals> begin(const Study& study, const Trial& trial) override;

 private:
  Profile profile_;
  RandomState random_;
};

}  // namespace ristretto::studies
