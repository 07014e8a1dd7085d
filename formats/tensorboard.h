// TensorBoard event files: TFRecord of Event messages, scalars and texts.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace ristretto::formats {

// Appends to `events.out.tfevents.<seconds>.<host>.<pid>` in `directory`. One writer a thread at a time. Whole records
// are written at each flush, so a reader never sees half of one for long.
class EventWriter {
 public:
  explicit EventWriter(const std::filesystem::path& directory);
  ~EventWriter();
  EventWriter(const EventWriter&) = delete;
  EventWriter& operator=(const EventWriter&) = delete;

  void scalar(const std::string& tag, double value, std::int64_t step);
  // A text that TensorBoard shows under TEXT (markdown).
  void text(const std::string& tag, const std::string& markdown, std::int64_t step);
  void flush();

 private:
  std::filesystem::path path_;
  std::string pending_;
  int fd_ = -1;
};

}  // namespace ristretto::formats
