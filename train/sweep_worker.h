// What runs the trials of a sweep: one worker a thread, and a heart for all of them.
#pragma once

#include <condition_variable>
#include <exception>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>

#include "formats/json_text.h"
#include "platform/clock.h"
#include "train/sweep.h"

namespace ristretto::train {

// "robust v1": the marker of studies and trials.
std::string objective_text(ObjectiveKind kind);

// Beats for the running trials of this process, from a thread and a connection of its own.
class Heart {
 public:
  explicit Heart(const std::string& storage) : thread_([this, storage] { beat(storage); }) {}
  ~Heart() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }
  Heart(const Heart&) = delete;
  Heart& operator=(const Heart&) = delete;

  void begin(std::int64_t trial_id) {
    {
      const std::lock_guard lock(mutex_);
      trials_.insert(trial_id);
    }
    changed_.notify_all();
  }
  void end(std::int64_t trial_id) {
    const std::lock_guard lock(mutex_);
    trials_.erase(trial_id);
  }

 private:
  void beat(const std::string& storage);

  std::mutex mutex_;
  std::condition_variable changed_;
  std::set<std::int64_t> trials_;
  bool stopping_ = false;
  std::thread thread_;  // last: it uses what stands above
};

// What the workers share.
struct Shared {
  const SweepRequest& request;
  const Objective& objective;
  const studies::SearchSpace& space;
  std::string study_name;
  Heart& heart;

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
