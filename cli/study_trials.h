// Trials of a study as the command prints them: a table, JSON, CSV.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/output.h"
#include "platform/clock.h"
#include "studies/storage.h"

namespace ristretto::cli {

// "2026-07-13T02:00:00Z", or "".
std::string iso_of(const std::optional<Instant>& instant);
std::string values_text(const std::vector<double>& values);

Document json_of(const std::vector<studies::Attribute>& attributes);
Document json_of(const studies::Trial& trial);
// All that is known of the study: the trials as above and with their distributions, reports, system attributes and
// microseconds.
Document export_of(const studies::StorageInfo& info, const studies::Study& study);

// Columns named as in Optuna's trials_dataframe, but `seconds` for its duration: one for each parameter and user
// attribute that one of the trials has, empty where a trial lacks it. Quoted as RFC 4180 says; control characters other
// than line ends and tabs are shown as '?'.
std::string csv_of(const studies::Study& study, const std::vector<const studies::Trial*>& trials);

int print_trials(const std::vector<const studies::Trial*>& trials, bool json);

}  // namespace ristretto::cli
