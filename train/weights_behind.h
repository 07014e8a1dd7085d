// Whose trials are behind weights that a training goes on from (algorithms.md 3.3).
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "release/ledger.h"

namespace ristretto::train {

// The trials that the weights in `directory` (or of a file there) were chosen among, for the ledger of `name`, which
// does not have them: all that the ledger of the name counts that they are a version of; of what lies elsewhere, what
// was written beside it when it was judged, and of a converted deployment those of what was converted. None where they
// are `name`'s own, and where nothing tells (a deployment of the existing trainer). Throws Error(incompatible) where
// what tells is damaged.
std::vector<release::StudyTrials> weights_chosen_among(const std::filesystem::path& directory,
                                                       const std::filesystem::path& deployments,
                                                       const std::string& name);

}  // namespace ristretto::train
