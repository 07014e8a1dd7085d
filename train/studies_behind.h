// Whose trials are behind a choice from a study: its own, and those of the studies whose best trials it began with
// (algorithms.md 3.3).
#pragma once

#include <string>
#include <vector>

#include "release/ledger.h"
#include "studies/storage.h"

namespace ristretto::train {

// The study itself first. Its id is its name, where it lies and when its first trial began: names are given again, and
// a copy that lies elsewhere may have been swept on. Throws Error(incompatible) where its list of studies is damaged.
std::vector<release::StudyTrials> studies_behind(const studies::Study& study, const studies::StorageInfo& storage);

// Writes into the study of that name, which is about to begin with trials of `from`, that they are behind it. Both of
// one storage.
void record_start(studies::WritableStorage& storage, const std::string& study, const studies::Study& from);

}  // namespace ristretto::train
