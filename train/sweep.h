// The sweep: trials of a study, each an objective's value for hyperparameters that a sampler drew.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "release/manifest.h"
#include "studies/samplers/search_space.h"
#include "train/objective.h"
#include "train/settings.h"

namespace ristretto::train {

struct SweepRequest {
  std::string storage;          // made where it is not there
  std::string study_name;       // "": ristretto-<objective>
  bool continue_study = false;  // add to study_name though its values came from another objective
  bool follow = false;  // where study_name measures another experiment: into one beside it, named by its last bar
  ObjectiveKind objective = ObjectiveKind::robust;
  SplitKind splits = SplitKind::combinatorial;
  std::int64_t trials = 0;   // to be finished by this call
  std::int64_t workers = 1;  // trials at once, each with its share of threads and memory
  std::string sampler = "tpe", pruner = "median";
  std::map<std::string, std::string> pruner_options;
  std::vector<std::string> space;    // "NAME=LOW:HIGH[:STEP|:log]", "NAME=A,B,C"; in place of the table's
  std::string start_from;            // a study of the storage whose best trials are queued first; "": none
  std::int64_t start_count = 1;      // how many of them
  std::int64_t grace_seconds = 120;  // without a heartbeat, after which a trial's worker counts as killed
  double seconds = 0;                // no trial begins after this; 0: no limit
  std::string command;               // as typed, for the study's attributes
};

struct SweepResult {
  release::Json document;  // for --json
  std::string text;        // for people
  int exit_code = 0;       // 0; 1 where no trial was finished; 130 and 143 interrupted
};

// What is swept: the table's rows that have a `swept` range, that the network reads, and that nobody fixed in
// `settings` (what somebody fixed is in it with that one value); `space` replaces ranges and adds rows. Throws
// Error(usage) for an unknown name or a range that its row does not admit.
studies::SearchSpace search_space(const Settings& settings, const std::vector<std::string>& space);

// As `space` has it: "LOW:HIGH", "LOW:HIGH:STEP", "LOW:HIGH:log", "A,B,C".
std::string text_of(const agents::Range& range);

// How the sweeps of this study split the bars; combinatorial where none says so. Throws as reading it does.
SplitKind splits_of(const std::string& storage, const std::string& study_name);

// What --dry-run says: the objective, the splits with their bars, and what would be searched. Nothing is written, and
// no study is read. Throws Error where the sweep could not begin.
SweepResult plan_of(const SweepRequest& request, const Settings& settings);

// Runs trials until `trials` are finished, the time is up or a signal came (then the parts under way are finished, and
// the trials they belong to are failed and queued again). settings: all that is not swept. Throws Error.
SweepResult sweep(const SweepRequest& request, const Settings& settings);

}  // namespace ristretto::train
