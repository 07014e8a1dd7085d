// One trial being asked for its parameters (study.md, "ask and suggest"). Writes nothing: the caller stores the trial,
// and at once each suggested value and the attributes that are new.
#pragma once

#include "studies/samplers/sampler.h"

namespace ristretto::studies {

// Draws the joint values when a parameter first needs a sampler. `sampler` and `study` outlive it; `study` does not
// change.
class Ask {
 public:
  // `trial`: as its row was created or claimed, with its attributes.
  Ask(Sampler& sampler, const Study& study, Trial trial);
  Ask(const Ask&) = delete;
  Ask& operator=(const Ask&) = delete;

  // The value of the trial's row; else of `fixed_params` (outside the range: with a warning); else the only one of the
  // range; else the joint one where the range admits it; else an independent one. Throws Error(incompatible) where
  // `fixed_params` holds what the range cannot store.
  agents::Value suggest(const std::string& name, const agents::Range& range);

  // With the parameters suggested so far.
  const Trial& trial() const { return trial_; }
  // System attributes for the trial's row: from the beginning, and more with the joint values.
  std::vector<Attribute> attributes() const { return proposals_->attributes(); }

 private:
  agents::Value choose(const std::string& name, const agents::Range& range);

  Trial trial_;
  std::unique_ptr<Proposals> proposals_;
  std::optional<std::vector<Parameter>> relative_;
};

}  // namespace ristretto::studies
