#include "platform/clock.h"

#include <cmath>
#include <cstdio>
#include <ctime>

#include "platform/text.h"

namespace ristretto {
namespace {

// Days since 1970-01-01 of a proleptic Gregorian date; H. Hinnant, "chrono-Compatible Low-Level Date Algorithms".
std::int64_t days_from_civil(std::int64_t year, int month, int day) {
  year -= month <= 2;
  const std::int64_t era = (year >= 0 ? year : year - 399) / 400;
  const std::int64_t year_of_era = year - era * 400;
  const std::int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
  return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719468;
}

// Two digits at `at`, or -1.
int two_digits(const std::string& text, std::size_t at) {
  if (at + 2 > text.size() || text[at] < '0' || text[at] > '9' || text[at + 1] < '0' || text[at + 1] > '9') return -1;
  return (text[at] - '0') * 10 + (text[at + 1] - '0');
}

bool leap(int year) { return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0; }

}  // namespace

Instant now_utc() { return std::chrono::system_clock::now(); }

std::int64_t now_seconds() { return std::chrono::system_clock::to_time_t(now_utc()); }

std::string utc_text(Instant instant) {
  const auto milliseconds =
      std::chrono::duration_cast<std::chrono::milliseconds>(instant.time_since_epoch()).count() % 1000;
  const std::time_t seconds = std::chrono::system_clock::to_time_t(instant);
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  char buffer[40];
  const std::size_t length = std::strftime(buffer, sizeof buffer, "%Y-%m-%d %H:%M:%S", &parts);
  std::snprintf(buffer + length, sizeof buffer - length, ",%03d", static_cast<int>(milliseconds));
  return buffer;
}

std::string iso_utc(std::int64_t seconds) {
  const std::time_t time = static_cast<std::time_t>(seconds);
  std::tm parts{};
  gmtime_r(&time, &parts);
  char buffer[32];
  std::strftime(buffer, sizeof buffer, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return buffer;
}

std::string stamp_utc(std::int64_t seconds) {
  std::string stamp = iso_utc(seconds);
  std::erase_if(stamp, [](char c) { return c == '-' || c == ':'; });
  return stamp;
}

std::optional<std::int64_t> parse_utc(const std::string& text) {
  const bool dashed = text.size() >= 10 && text[4] == '-' && text[7] == '-';
  const std::size_t after_date = dashed ? 10 : 8;
  const int century = two_digits(text, 0);
  const int year_in_century = two_digits(text, 2);
  const int month = two_digits(text, dashed ? 5 : 4);
  const int day = two_digits(text, dashed ? 8 : 6);
  if (century < 0 || year_in_century < 0 || month < 1 || month > 12 || day < 1) return std::nullopt;
  const int year = century * 100 + year_in_century;
  static constexpr int kDays[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  if (day > kDays[month - 1] + (month == 2 && leap(year) ? 1 : 0)) return std::nullopt;
  std::int64_t seconds = days_from_civil(year, month, day) * 86400;
  if (text.size() == after_date) return seconds;
  std::size_t at = after_date;
  if (text[at] != 'T' && text[at] != ' ') return std::nullopt;
  const int hour = two_digits(text, at + 1);
  if (hour < 0 || hour > 23) return std::nullopt;
  at += 3;
  int minute = 0, second = 0;
  if (at < text.size() && text[at] == ':') {
    minute = two_digits(text, at + 1);
    at += 3;
    if (minute < 0 || minute > 59) return std::nullopt;
    if (at < text.size() && text[at] == ':') {
      second = two_digits(text, at + 1);
      at += 3;
      if (second < 0 || second > 59) return std::nullopt;
      if (at < text.size() && text[at] == '.') {
        ++at;
        if (at >= text.size() || text[at] < '0' || text[at] > '9') return std::nullopt;
        while (at < text.size() && text[at] >= '0' && text[at] <= '9') ++at;
      }
    }
  }
  seconds += hour * 3600 + minute * 60 + second;
  if (at == text.size()) return seconds;
  if (text[at] == 'Z' && at + 1 == text.size()) return seconds;
  if (text[at] != '+' && text[at] != '-') return std::nullopt;
  const int zone_hour = two_digits(text, at + 1);
  const bool colon = at + 3 < text.size() && text[at + 3] == ':';
  const std::size_t minute_at = at + (colon ? 4 : 3);
  const int zone_minute = minute_at < text.size() ? two_digits(text, minute_at) : 0;
  const std::size_t end = minute_at < text.size() ? minute_at + 2 : at + 3;
  if (zone_hour < 0 || zone_hour > 14 || zone_minute < 0 || zone_minute > 59 || end != text.size()) return std::nullopt;
  const int zone = zone_hour * 3600 + zone_minute * 60;
  return text[at] == '+' ? seconds - zone : seconds + zone;
}

std::optional<double> parse_duration(const std::string& text) {
  const auto after_spaces = [&](std::size_t at) { return std::min(text.find_first_not_of(' ', at), text.size()); };
  const std::size_t begin = after_spaces(0);
  double sum = 0;
  for (std::size_t at = begin; at == begin || at < text.size();) {
    const std::size_t end = std::min(text.find_first_not_of("0123456789.", at), text.size());
    const auto value = parse_number<double>(text.substr(at, end - at));
    double unit = 1;
    if (end < text.size()) {
      unit = text[end] == 's' ? 1 : text[end] == 'm' ? 60 : text[end] == 'h' ? 3600 : text[end] == 'd' ? 86400 : 0;
    } else if (at != begin) {
      return std::nullopt;  // "6m30" may be 6 minutes and a half, or half an hour and 6 of something
    }
    if (!value || !std::isfinite(*value) || unit == 0) return std::nullopt;
    sum += *value * unit;
    at = after_spaces(end + 1);  // behind a unit only: "1 30m" may be an hour and a half, or a mistyped 130m
  }
  return sum > 0 ? std::optional(sum) : std::nullopt;
}

std::string duration_text(double seconds) {
  if (!(seconds >= 0) || std::isinf(seconds)) return "?";
  if (seconds < 10) return fixed(seconds, 1) + "s";
  const std::int64_t whole = std::llround(seconds);
  if (whole < 60) return str(whole, "s");
  if (whole < 3600) return str(whole / 60, "m ", whole % 60, "s");
  if (whole < 86400) return str(whole / 3600, "h ", whole % 3600 / 60, "m");
  return str(whole / 86400, "d ", whole % 86400 / 3600, "h");
}

}  // namespace ristretto
