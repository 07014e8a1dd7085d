// The trial of a deployment whose best_trial is missing: from a study, or from the weights alone.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "agents/policy.h"
#include "release/trial.h"

namespace ristretto::release {

struct LostTrial {
  Trial trial;
  std::string from;                // "study S, trial 14, by its number", "the weights alone"
  std::vector<std::string> notes;  // what was looked at and passed over
};

struct TrialLookup {
  std::string storage, study_name;  // "" for none
  std::optional<std::int64_t> number;
};

// The user attribute of a trial that was found so, with LostTrial::from: a written guess stays known as one.
inline constexpr const char* kReconstructed = "ristretto:reconstructed";
inline constexpr const char* kWeightsAlone = "the weights alone";

// A number of the trial's parameters that is whole; nothing for others.
std::optional<std::int64_t> whole_parameter(const Trial& trial, const std::string& name);

// Looks in the storage, where one is given, by number (the lookup's, else metadata's trial_number, in the lookup's
// study, else metadata's), then by architecture: the best COMPLETE trial whose width and encoder are these. Without one
// the parameters that the weights show, with the defaults' scales. Throws what the storage does.
LostTrial find_trial(const agents::Architecture& architecture, const TrialLookup& lookup, const Json& metadata);

}  // namespace ristretto::release
