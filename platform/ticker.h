// Something that is done now and then beside the work.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <stop_token>
#include <thread>

namespace ristretto {

// Calls `tick` every `interval` from a thread of its own, until its end. It may not throw.
class Ticker {
 public:
  Ticker(std::chrono::milliseconds interval, std::function<void()> tick)
      : thread_([this, interval, tick = std::move(tick)](const std::stop_token& stop) {
          std::unique_lock lock(mutex_);
          const auto stopping = [&] { return stop.stop_requested(); };
          while (!changed_.wait_for(lock, stop, interval, stopping)) tick();
        }) {}

 private:
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::jthread thread_;  // last: it uses what stands above
};

}  // namespace ristretto
