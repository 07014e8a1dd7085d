#include "train/run_log.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "platform/error.h"
#include "platform/log.h"
#include "platform/text.h"

namespace ristretto::train {
namespace {

constexpr double kPlainLineSeconds = 5;
constexpr int kBarWidth = 24;

}  // namespace

RunLog::RunLog(const std::filesystem::path& directory, bool shows_progress) : shows_progress_(shows_progress) {
  if (directory.empty()) return;
  const std::filesystem::path logs = directory / "logs";
  std::filesystem::create_directories(logs);
  int number = 1;
  std::filesystem::path file;
  do {
    file = logs / str("updates_", number++, ".csv");
  } while (std::filesystem::exists(file));
  csv_ = std::fopen(file.c_str(), "w");
  if (csv_ == nullptr) throw Error(Fault::failed, str(file.string(), ": cannot be created: ", std::strerror(errno)));
  events_ = std::make_unique<formats::EventWriter>(directory);
}

RunLog::~RunLog() {
  if (csv_ != nullptr) std::fclose(csv_);
  if (shows_progress_) log::progress("");
}

void RunLog::update(std::int64_t iteration, std::int64_t step, const Scalars& scalars) {
  if (csv_ == nullptr) return;
  if (!header_written_) {
    std::string header = "iteration,environment_steps";
    for (const auto& [tag, value] : scalars) header += "," + tag;
    std::fprintf(csv_, "%s\n", header.c_str());
    header_written_ = true;
  }
  std::string line = str(iteration, ",", step);
  for (const auto& [tag, value] : scalars) line += str(",", value);
  std::fprintf(csv_, "%s\n", line.c_str());
  std::fflush(csv_);
  for (const auto& [tag, value] : scalars) events_->scalar(tag, value, step);
  events_->flush();
}

void RunLog::scalar(const std::string& tag, double value, std::int64_t step) {
  if (events_) events_->scalar(tag, value, step);
}

void RunLog::progress(double fraction, std::int64_t steps, double steps_per_second, double seconds_left,
                      const std::string& text) {
  if (!shows_progress_) return;
  fraction = std::clamp(fraction, 0.0, 1.0);
  const std::string figures = str(fixed(100 * fraction, 1), " %  ", with_thousands(steps), " steps  ",
                                  with_thousands(static_cast<long long>(steps_per_second)), " steps/s  ",
                                  duration_text(seconds_left), " left  ", text);
  if (log::stderr_is_terminal()) {
    const int filled = static_cast<int>(fraction * kBarWidth + 0.5);
    std::string bar;
    for (int i = 0; i < kBarWidth; ++i) bar += i < filled ? "█" : "░";
    log::progress(str(bar, " ", figures));
  } else if (!any_line_ || since_line_.seconds() >= kPlainLineSeconds) {
    log::info("train", figures);
    since_line_.restart();
    any_line_ = true;
  }
}

}  // namespace ristretto::train
