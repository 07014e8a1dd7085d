// The nightly job: every deployment that is due is retrained, judged, promoted or kept, and reported.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "release/evidence.h"
#include "release/manifest.h"
#include "train/resolve.h"
#include "train/webhook.h"

namespace ristretto::train {

struct NightlyRequest {
  std::vector<std::string> names;  // none: every deployment
  std::filesystem::path deployments = "deployments";
  std::filesystem::path runs = "runs";
  std::optional<StudySource> source;  // of the hyperparameters; none: each deployment's own best_trial
  std::int64_t top_trials = 1, seeds = 1;
  std::int64_t sweep_trials = 0;  // added to the source's study first, begun with its top trials
  release::Thresholds thresholds;
  std::int64_t new_bars = 24;      // a deployment is due when so many are newer than its last judgement
  double seconds = 0;              // wall time of the whole night, over restarts; 0: no limit
  std::int64_t disk_bytes = 0;     // that runs and deployments may take together; 0: no limit
  std::optional<Webhook> webhook;  // told how the night ended
  bool dry_run = false;            // which are due, and nothing else
  std::string command;             // as typed, for the manifests
};

struct NightlyResult {
  release::Json document;
  std::string text;  // one line a model
  // 1 a model failed, or was served and not recorded, whatever became of the others; else 0 something was served or
  // nothing was due, 3 nothing was good enough; 130, 143 interrupted
  int exit_code = 0;
};

// given: the layers of settings of all retrains. One at a time: Error(busy) while another runs with the same runs or
// the same deployments. A night that a crash or a reboot ended is gone on with (runs/nightly/journal.json): models that
// are done stay done, trainings go on from their checkpoints, a version that was published is put where its verdict
// says; a model at which the process died twice fails. Where that night began more than 12 hours ago, or has not all
// models, the one that was asked for follows. The hold-out of a model begins where that of its newest version began and
// ends with the newest bar. A fault of one model, such as damage of what it serves, does not end the others. Throws
// Error for faults of the whole: a clock behind the last night's, the disk budget, names that are not there or not
// those of the night that is gone on with.
NightlyResult nightly(const NightlyRequest& request, const std::vector<Given>& given);

}  // namespace ristretto::train
