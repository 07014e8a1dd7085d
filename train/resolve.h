// The layers of settings put together: defaults <- study's trial (or a deployment's) <- config file, environment,
// command line.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "release/ledger.h"
#include "release/start.h"
#include "studies/trial_settings.h"
#include "train/settings.h"

namespace ristretto::train {

struct TrainedRun;  // trained_run.h

struct StudySource {
  std::string storage;                // Optuna's URL, or a file
  std::string study_name;             // may be empty where the file holds one study
  std::optional<std::int64_t> trial;  // default: the best
};

// Where the hyperparameters came from, and what became of each of the trial's parameters.
struct Resolved {
  Settings settings;
  std::string origin;  // "study cappuccino_maxgpu, trial 134 (value 0.188)"
  std::string storage, study_name, library_version;
  std::optional<studies::Trial> trial;
  std::optional<studies::Generation> generation;
  std::int64_t trials = 1;  // that the trial was chosen among, itself included
  // They are of these studies: its own, and those whose best trials its own began with.
  std::vector<release::StudyTrials> studies;
  // Sharpe ratios per bar of the others, where the study's values are such (the robust objective's).
  std::vector<double> trial_sharpes;
  std::optional<std::int64_t> seen_until;  // last bar that the trial was chosen by, seconds since 1970, UTC; if known
  std::vector<studies::Taken> parameters;
  std::vector<std::string> overridden;          // by the serving profile, a line each
  std::shared_ptr<const release::Start> start;  // the weights that training begins with; nullptr: new ones
  // The trials that these weights were chosen among, as far as this name's ledger lacks them.
  std::vector<release::StudyTrials> start_chosen_among;
  std::shared_ptr<const TrainedRun> trained;  // the training is done, and this is it; nullptr: it is to be done
};

// The last bar that may have had a part in the choice of the hyperparameters: what the study says, or what the user
// says by --holdout-from. Nothing where nobody says it.
std::optional<std::int64_t> chosen_until(const Resolved& resolved);
// Why bars of the hold-out may have chosen the hyperparameters; nothing where they have not.
std::optional<std::string> unknown_origin(const Resolved& resolved);
// The same of a trial that nobody says it of. `origin`: what it is from.
std::string origin_is_unknown(const std::string& origin);

// Throws Error(usage) for a name or value that none of the following would take, whatever study or deployment it is of.
void check_given(const std::vector<Given>& given);

// source: a study; else deployment: a directory whose best_trial is taken; else the defaults. given: config file,
// environment, command line, in this order.
Resolved resolve(const std::optional<StudySource>& source, const std::optional<std::filesystem::path>& deployment,
                 const std::vector<Given>& given);

// The same of the source's `count` best trials, best first. Throws Error(usage) where it has fewer, and for more than
// one without a study, or of a named trial.
std::vector<Resolved> resolve_top(const std::optional<StudySource>& source,
                                  const std::optional<std::filesystem::path>& deployment,
                                  const std::vector<Given>& given, std::int64_t count);

// A table of the trial's parameters with value, status and note, for people.
std::string describe_parameters(const Resolved& resolved);

}  // namespace ristretto::train
