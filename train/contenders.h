// What a retrain chooses among: the hyperparameters of one or more trials, each trained from several seeds.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "evaluation/backtest.h"
#include "platform/lock.h"
#include "release/deployment.h"
#include "train/job.h"
#include "train/judge.h"
#include "train/resolve.h"
#include "train/trainer.h"

namespace ristretto::train {

// One training. Its networks are kept in their served form only, on the CPU.
struct Contender {
  std::size_t trial = 0;                 // which of the hyperparameters that were given
  std::shared_ptr<const FileLock> lock;  // of its run: nobody trains on meanwhile
  Settings settings;                     // with this contender's seed
  std::shared_ptr<const Data> data;
  release::Json making;             // making_of() it
  std::filesystem::path directory;  // its run
  Plan plan;
  Outcome outcome;                 // without the networks
  release::Content content;        // without the manifest's sections; this and `validated` are empty after a signal
  evaluation::Backtest validated;  // the served form on the validation bars
};

// How the directories of runs begin that lie in another's, for it trains several.
inline constexpr const char* kTrialRun = "trial-";

// Trains every trial's hyperparameters from `seeds` seeds (the settings' and those after it), one after the other, in
// equal shares of the time budget that is left. directory: of the run; a single contender's run is the directory
// itself, those of several lie below it. One that a process that died left there goes on from its checkpoint. A signal
// ends it: the last contender is the one that was interrupted. A trial of which a training diverges is given up, with
// its other seeds; throws what the last one did where none is left.
std::vector<Contender> train_contenders(const std::vector<Resolved>& trials, std::int64_t seeds,
                                        const std::filesystem::path& directory, Profile& profile);

// The one that a run has trained already (Resolved::trained), as it stands. Throws Error(usage) where nothing of it was
// validated yet, and as Trainer::saved().
Contender trained_contender(const Resolved& resolved, Profile& profile);

// The trial whose median seed is best, and of it the median seed; of two in the middle the worse one, so that luck
// chooses nothing. scores: of each contender, larger is better; trials: the trial of each. Returns an index.
std::size_t choose(const std::vector<double>& scores, const std::vector<std::size_t>& trials);
std::size_t choose(const std::vector<Contender>& contenders);  // by the validation's score

// What the candidate was chosen among; its seeds' returns on the hold-out are judge()'s to add.
Background background_of(const std::vector<Contender>& contenders, const std::vector<Resolved>& trials);

// What a policy in its served form does on a market with its layout's features; content must outlive it.
evaluation::Actor actor_of(const release::Content& content, const env::Market& market);

}  // namespace ristretto::train
