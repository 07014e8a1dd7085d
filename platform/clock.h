// Time: instants are UTC, durations are seconds.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

namespace ristretto {

using Instant = std::chrono::system_clock::time_point;

Instant now_utc();
std::int64_t now_seconds();  // since 1970, UTC
// "2026-07-13 02:00:00,123"
std::string utc_text(Instant instant);
// "2026-07-13T02:00:00Z" of seconds since 1970.
std::string iso_utc(std::int64_t seconds);
// "20260713T020000Z", for the names of files.
std::string stamp_utc(std::int64_t seconds);
// Seconds since 1970 of "2026-07-13", "20260713", "2026-07-13T02:00:00Z", "2026-07-13 02:00:00+00:00" and the like; a
// text without a zone is UTC. Nothing where it is no such date.
std::optional<std::int64_t> parse_utc(const std::string& text);
// Seconds of "90", "90s", "3m", "2h", "1d", "1h 30m"; nothing where it is no such duration or not positive.
std::optional<double> parse_duration(const std::string& text);
// 93784 s is "1d 2h", 3725 is "1h 2m", 75 is "1m 15s", 7.2 is "7.2s".
std::string duration_text(double seconds);

// Wall time since construction or the last restart, from a clock that never runs backwards.
class Stopwatch {
 public:
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }
  void restart() { start_ = std::chrono::steady_clock::now(); }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace ristretto
