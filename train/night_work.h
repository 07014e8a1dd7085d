// What a night has to do for one model: which bars are new, which judge it, what it is retrained from.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "train/nightly.h"
#include "train/resolve.h"

namespace ristretto::train {

// Warns of hyperparameters and a seed that hold for all models and nights: a file of settings or a variable is often
// written for something else than the night.
void warn_of_fixed(const std::vector<Given>& given, bool of_study);

bool pins_holdout(const std::vector<Given>& given);

// Where this night's hold-out of a model begins; empty: where the user put it. Where the last one began, so that it is
// judged on the same bars and the new ones, until it has grown by a part: then training moves on. Where there was none,
// where the settings put it today: bars that come while the night is interrupted do not move it. source: of the
// hyperparameters; none: the deployment's own.
std::string holdout_from(const NightlyRequest& request, const std::optional<StudySource>& source,
                         const std::vector<Given>& given, const std::string& name);

// Adds trials to the source's study, or to one beside it, on the bars before `from`; empty: before the settings'
// hold-out. Returns the study's name.
std::string add_trials(const NightlyRequest& request, const StudySource& source, const std::vector<Given>& given,
                       const std::string& from);

struct Work {
  std::vector<Resolved>
      trials;  // that a retrain trains: the study's best, and what is served trained on where that can be
  std::int64_t new_bars = 0;  // of its hold-out, that are newer than its last judgement
};

// from: of holdout_from. seconds_left: for the retrain; 0: no limit. Throws Error where the bars are not as new as they
// should be, or hyperparameters or bars cannot be had.
Work work_of(const NightlyRequest& request, const std::optional<StudySource>& source, const std::vector<Given>& given,
             const std::string& name, const std::string& from, std::int64_t seed, double seconds_left);

}  // namespace ristretto::train
