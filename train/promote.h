// A candidate or version that exists already, judged again against what is served now.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "release/evidence.h"
#include "release/manifest.h"
#include "train/settings.h"

namespace ristretto::train {

struct PromoteRequest {
  std::string name;
  // One of the two: a version's number or id; a run, or a staged directory (a run's deployment/, or the run above it).
  std::string version;
  std::filesystem::path directory;
  std::filesystem::path deployments = "deployments";
  std::filesystem::path runs = "runs";
  std::optional<release::Thresholds> thresholds;  // given: no recorded verdict stands
  bool dry_run = false;  // the gates that need no look at the hold-out, and what it would be judged by
  std::string command;   // as typed, for the manifest of a run
};

struct PromoteResult {
  release::Json document;
  std::string text;
  int exit_code = 0;  // 0 served (dry run: nothing speaks against judging it), 3 refused, 130 and 143 interrupted
};

// Whether there is a run or a staged directory.
bool is_candidate(const std::filesystem::path& directory);

// given: bars, money, costs, hold-out. The hold-out begins where it began when the candidate was trained, unless
// --holdout-from names a later bar. A version that was judged against what is served now, on bars of which there are no
// newer ones, is not judged a second time: its recorded verdict stands. A run (train --run) becomes a version as a
// retrain's does; one that is a version already is judged as that. Throws Error.
PromoteResult promote(const PromoteRequest& request, const std::vector<Given>& given);

}  // namespace ristretto::train
