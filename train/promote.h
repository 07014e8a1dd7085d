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
  std::string what;  // a version's number or id, or a staged directory (a run's deployment/, or the run)
  std::filesystem::path deployments = "deployments";
  std::filesystem::path runs = "runs";
  std::optional<release::Thresholds> thresholds;  // given: no recorded verdict stands
  bool dry_run = false;  // the gates that need no look at the hold-out, and what it would be judged by
};

struct PromoteResult {
  release::Json document;
  std::string text;
  int exit_code = 0;  // 0 served (dry run: nothing speaks against judging it), 3 refused
};

// given: bars, money, costs, hold-out. The hold-out begins where it began when the candidate was trained, unless
// --holdout-from names a later bar. A version that was judged against what is served now, on bars of which there are no
// newer ones, is not judged a second time: its recorded verdict stands. Throws Error.
PromoteResult promote(const PromoteRequest& request, const std::vector<Given>& given);

}  // namespace ristretto::train
