// The training loop: collect, advantages, update; every few iterations validate and save. One owner, one thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agents/normalizer.h"
#include "agents/policy.h"
#include "agents/ppo.h"
#include "agents/rollout.h"
#include "env/environment.h"
#include "platform/error.h"
#include "release/start.h"
#include "train/data_parallel.h"
#include "train/profile.h"
#include "train/settings.h"

namespace ristretto::train {

inline constexpr const char* kCheckpointDirectory = "checkpoint";  // of a run

// What a run will do and what it will take, before it begins.
struct Plan {
  std::int64_t portfolios = 0, horizon = 0;
  std::int64_t samples = 0;          // environment steps of one iteration
  std::int64_t optimizer_steps = 0;  // of one iteration, without early stops
  std::int64_t micro_batch = 0;
  agents::RolloutMemory rollout;
  std::int64_t steps = 0;        // environment steps wanted
  std::int64_t iterations = 0;   // to reach them
  double budget_seconds = 0;     // 0: none
  double flops = 0;              // of one iteration, multiply and add counted as two
  double rate = 0;               // flops a second that the networks reached, measured
  double predicted_seconds = 0;  // of one iteration, from the two
  // Iterations that the budget holds after `used_seconds`, by the prediction; all of them where there is no budget.
  std::int64_t affordable_iterations(double used_seconds) const;
};
// predict: also rate and predicted_seconds, which takes a pass through the networks.
Plan make_plan(const Settings& settings, c10::Device device, bool predict = true);

// Of one checkpoint, at most.
std::int64_t checkpoint_bytes(const Settings& settings);

// How good the policy is on bars that it is not trained on; larger is better. Called at each validation.
struct Validation {
  double score = 0;
  std::string text;  // for the log: "Sharpe 0.31, 124 orders"
};
using Validate = std::function<Validation(const agents::Policy&, const agents::Normalizer&)>;

// A policy as it was at one iteration, with the statistics it reads its observations by.
struct Snapshot {
  agents::Policy policy;
  agents::Normalizer normalizer;
  double score = 0;  // of the validation; 0 where nothing validates
  std::int64_t iteration = 0;
};

// Loss, gradients, weights or actions are not finite, or the training stands still: the same again would do the same.
class Diverged : public Error {
 public:
  Diverged(const std::string& message, std::string hint) : Error(Fault::failed, message, std::move(hint)) {}
};

struct Outcome {
  explicit Outcome(Snapshot kept) : best(std::move(kept)) {}

  Snapshot best;               // by validation; the last where nothing validated
  bool has_validated = false;  // best was chosen so, and may be served
  std::int64_t iterations = 0;
  std::int64_t environment_steps = 0;
  std::int64_t optimizer_steps = 0;
  double seconds = 0;        // of training, all resumes together
  double weight_change = 0;  // |w - w0| / |w0| over the actor's weights
  std::string ended;         // "steps", "time budget", "SIGINT", "SIGTERM"
  int signal = 0;
  std::vector<double> reward_term_shares;  // of the mean |reward| in the first rollout, env::kRewardTerms
};

class Trainer {
 public:
  // background: one of several at once; no progress line, its log lines are for debugging, and signals are its caller's
  // to heed.
  enum class Manner { foreground, background };
  // group: the processes that train together, of which this is one (plan().portfolios are all of theirs); it outlives
  // the trainer. train: the training bars, on any device, float64 prices. directory: the run directory (created);
  // empty: nothing is written. Throws Error(usage) where the agent could not trade at all.
  Trainer(const Settings& settings, const env::Market& train, std::filesystem::path directory, Validate validate,
          Profile& profile, Manner manner = Manner::foreground, ProcessGroup* group = nullptr);
  ~Trainer();

  // Goes on from directory/checkpoint. Throws Error(incompatible) where the settings that may not change did.
  void resume();
  // What directory/checkpoint holds, without training on from it. Throws as resume(), and Error(usage) where nothing
  // was validated yet.
  Outcome saved();
  // Begins with a deployment's weights instead of new ones; before run(). Throws as begin_from() does.
  void start_from(const release::Start& start);
  // Until the steps are done, the time is up or a signal came; saves before it returns. seconds_left: wall time for
  // this and for `validations_after` further runs of the validation's length, 0: no limit. Throws Diverged, the last
  // good checkpoint kept.
  Outcome run(double seconds_left, double validations_after = 0);

  const Plan& plan() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace ristretto::train
