// The options by which a command names a study and one of its trials, and those of commands that judge.
#pragma once

#include <optional>
#include <string>

#include "cli/options.h"
#include "train/resolve.h"

namespace ristretto::cli {

// Declares --storage, --study-name and --trial, and the names that fingers know.
void declare_study(Options& options);
// What they name; nothing where none was given. Throws Error(usage) for a study or trial without a storage.
std::optional<train::StudySource> study_of(const Options& options);
// Declares --seeds, --top-trials and --gates: how candidates are made and judged.
void declare_judging(Options& options);

}  // namespace ristretto::cli
