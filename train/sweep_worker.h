// What runs the trials of a sweep: one worker a thread, and a heart for all of them.
#pragma once

#include <exception>
#include <mutex>
#include <optional>
#include <string>

#include "formats/json_text.h"
#include "platform/clock.h"
#include "studies/heart.h"
#include "train/sweep.h"

namespace ristretto::train {

// "robust v1": the marker of studies and trials.
std::string objective_text(ObjectiveKind kind);

// What the workers share.
struct Shared {
  const SweepRequest& request;
  const Objective& objective;
  const studies::SearchSpace& space;
  std::string study_name;
  studies::Heart& heart;

  std::mutex mutex{};
  std::int64_t begun = 0, finished = 0, complete = 0, pruned = 0, failed = 0, requeued = 0, parts = 0, running = 0,
               rows = 0;
  std::optional<double> best{};
  std::int64_t best_number = -1;
  std::exception_ptr fault{};
  Stopwatch watch{}, since_line{};

  // Counts the trial that its caller may begin; false: it shall end.
  bool may_begin();
  // A signal came, or another worker met a fault: what is under way is finished part by part.
  bool stopping();
};

// Runs trials on the calling thread, with a connection of its own, until Shared::may_begin says no. settings: with this
// worker's share of the memory.
void run_worker(Shared& shared, const Settings& settings);

}  // namespace ristretto::train
