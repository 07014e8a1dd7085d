// What a run leaves to look at: a CSV line an update, TensorBoard scalars, and progress on standard error.
#pragma once

#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "formats/tensorboard.h"
#include "platform/clock.h"

namespace ristretto::train {

// The figures of one update by their TensorBoard tags (Stable-Baselines3's and CleanRL's names), in the CSV's order.
using Scalars = std::vector<std::pair<std::string, double>>;

class RunLog {
 public:
  // Writes no files where directory is empty.
  RunLog(const std::filesystem::path& directory, bool shows_progress);
  ~RunLog();
  RunLog(const RunLog&) = delete;
  RunLog& operator=(const RunLog&) = delete;

  // One update at `step` environment steps: a CSV line (flushed) and the scalars.
  void update(std::int64_t iteration, std::int64_t step, const Scalars& scalars);
  void scalar(const std::string& tag, double value, std::int64_t step);
  // A bar with rate and time left on a terminal; one plain line every few seconds otherwise.
  void progress(double fraction, std::int64_t steps, double steps_per_second, double seconds_left,
                const std::string& text);

 private:
  bool shows_progress_;
  std::FILE* csv_ = nullptr;
  bool header_written_ = false;
  std::unique_ptr<formats::EventWriter> events_;
  Stopwatch since_line_;
  bool any_line_ = false;
};

}  // namespace ristretto::train
