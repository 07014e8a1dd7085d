// Signs of life of the trials that a process runs.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <set>
#include <string>
#include <thread>

namespace ristretto::studies {

// Beats for the running trials of this process, from a thread and a connection of its own. Any thread may begin and
// end one.
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

}  // namespace ristretto::studies
