// The room that nights take on the disk.
#pragma once

#include <filesystem>

#include "train/nightly.h"
#include "train/nightly_journal.h"

namespace ristretto::train {

// A model's run directory of a night.
std::filesystem::path run_of(const std::filesystem::path& runs, const std::string& name, const std::string& night);
// Removes the checkpoints of a finished night's trainings that ended in a version, which holds the chosen one's; those
// of others, reports, logs and settings stay, and so does what was trained on since, or is being trained on.
void remove_checkpoints(const Night& night, const std::filesystem::path& runs);
// Throws Error(failed) with both numbers where runs and deployments take more than --disk-budget.
void require_disk_budget(const NightlyRequest& request);

}  // namespace ristretto::train
