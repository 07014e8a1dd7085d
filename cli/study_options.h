// The options by which a command names a study and one of its trials.
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
// Of `option`, a whole number; `otherwise` where it was not given. Throws Error(usage).
std::int64_t whole_number(const Options& options, const std::string& option, std::int64_t otherwise);
// Of `option`, at least 1, which is also what is taken where it was not given. Throws Error(usage).
std::int64_t positive_number(const Options& options, const std::string& option, std::int64_t otherwise = 1);

// "ristretto sweep --storage ...", for studies and manifests: as typed, but for the password of a database.
std::string recorded_command(const std::string& name, const std::vector<std::string>& arguments);

}  // namespace ristretto::cli
