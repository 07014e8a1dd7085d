// The main job: hyperparameters from a study, training, judging on bars that nothing has seen, a new version, service.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "release/evidence.h"
#include "release/manifest.h"
#include "train/contenders.h"
#include "train/profile.h"
#include "train/resolve.h"

namespace ristretto::train {

struct RetrainRequest {
  std::string name;  // under deployments
  std::filesystem::path deployments = "deployments";
  std::filesystem::path runs = "runs";
  std::filesystem::path run;  // of this job; what a killed one left there goes on. "": a new one below runs
  std::int64_t seeds = 1;     // of each trial
  release::Thresholds thresholds;
  bool promote = true;  // serve the version if it passes
  std::string command;  // as typed, for the manifest
};

struct RetrainResult {
  release::Json document;  // all of it, for --json
  std::string text;        // for people
  int exit_code = 0;       // 0 served (or stopped before that as asked), 3 refused, 130 and 143 interrupted
};

// Everything: see the steps in retrain.cpp. trials: whose hyperparameters are tried, at least one; the candidate is
// chosen among them by validation. trained: their trainings, where those are done already (one of a run,
// Resolved::trained). Throws Error; whatever happens, what is served stays whole.
RetrainResult retrain(const RetrainRequest& request, const std::vector<Resolved>& trials, Profile& profile,
                      std::vector<Contender> trained = {});
// Before hours are spent: bars that chose the hyperparameters or trained the weights cannot judge them. Throws
// Error(usage).
void require_unseen(const Resolved& resolved, const Data& data);

}  // namespace ristretto::train
