// Who proposes the parameters of a trial. Free of databases: what is learned from is a Study, what comes out are
// values.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "studies/samplers/search_space.h"

namespace ristretto::studies {

// The behaviour of which Optuna: its numbers are drawn again, given its seed (study.md, the table of profiles).
// optuna_3_1 is there for the tests. In order: a profile has what the earlier ones have unless it says otherwise.
enum class Profile { optuna_3_1, optuna_4_9, optuna_5_0 };

// What a sampler proposes to one trial. Made by Sampler::begin, used up by one Ask.
class Proposals {
 public:
  virtual ~Proposals() = default;
  // The values that belong together, with the ranges that they were drawn from. Called once, before any `sample`; not
  // at all where no parameter needs a sampler.
  virtual std::vector<Parameter> relative() { return {}; }
  // A value of a parameter that `relative` has no usable value for.
  virtual agents::Value sample(const std::string& name, const agents::Range& range) = 0;
  // System attributes that the trial's row gets; `relative` may add to them.
  virtual std::vector<Attribute> attributes() const { return {}; }
};

// Of one thread: a sampler draws from its own random numbers. One sampler serves the trials of one study in turn.
class Sampler {
 public:
  virtual ~Sampler() = default;
  // `study` is a snapshot from the moment of the trial's creation and, like `trial` and the sampler, outlives the
  // result. `study` may hold the trial itself, as RUNNING.
  virtual std::unique_ptr<Proposals> begin(const Study& study, const Trial& trial) = 0;
  // Whether all that it could propose is tried or under way.
  virtual bool exhausted(const Study& /*study*/) const { return false; }
};

}  // namespace ristretto::studies
