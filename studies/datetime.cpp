#include "studies/datetime.h"

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <ctime>

#include "platform/text.h"

namespace ristretto::studies {
namespace {

using std::chrono::seconds;

// Takes the digits of `pattern` ("dddd-dd") off the front of `text` into `numbers`, or leaves it.
bool take(std::string_view& text, std::string_view pattern, int* numbers) {
  if (text.size() < pattern.size()) return false;
  int value = 0;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] != 'd') {
      if (text[i] != pattern[i]) return false;
      *numbers++ = value;
      value = 0;
    } else {
      if (text[i] < '0' || text[i] > '9') return false;
      value = 10 * value + (text[i] - '0');
    }
  }
  *numbers = value;
  text.remove_prefix(pattern.size());
  return true;
}

// The fraction behind a point, rounded down to microseconds; nothing where there are no digits.
std::optional<std::chrono::microseconds> take_fraction(std::string_view& text) {
  if (text.empty() || text[0] != '.') return std::chrono::microseconds{0};
  text.remove_prefix(1);
  std::int64_t micros = 0, unit = 1000000;
  std::size_t digits = 0;
  for (; digits < text.size() && text[digits] >= '0' && text[digits] <= '9'; ++digits) {
    unit /= 10;
    micros += unit * (text[digits] - '0');
  }
  if (digits == 0) return std::nullopt;
  text.remove_prefix(digits);
  return std::chrono::microseconds{micros};
}

// "", "Z", "+09:00", "-0300": what has to be subtracted to get UTC.
std::optional<seconds> parse_zone(std::string_view text) {
  if (text == "Z") return seconds{0};
  if (text.empty() || (text[0] != '+' && text[0] != '-')) return std::nullopt;
  const int sign = text[0] == '-' ? -1 : 1;
  text.remove_prefix(1);
  int numbers[2] = {};
  if (!take(text, "dd:dd", numbers)) {
    if (!take(text, "dddd", numbers)) return std::nullopt;
    numbers[1] = numbers[0] % 100;
    numbers[0] /= 100;
  }
  if (!text.empty() || numbers[0] > 23 || numbers[1] > 59) return std::nullopt;
  return seconds{sign * (numbers[0] * 3600 + numbers[1] * 60)};
}

}  // namespace

std::optional<Instant> parse_datetime(std::string_view text, bool local) {
  int date[3] = {}, time[3] = {};
  if (!take(text, "dddd-dd-dd", date)) return std::nullopt;
  const std::chrono::year_month_day day{std::chrono::year{date[0]}, std::chrono::month(static_cast<unsigned>(date[1])),
                                        std::chrono::day(static_cast<unsigned>(date[2]))};
  if (!day.ok()) return std::nullopt;
  std::chrono::microseconds fraction{0};
  if (!text.empty()) {
    if (text[0] != ' ' && text[0] != 'T') return std::nullopt;
    text.remove_prefix(1);
    if (!take(text, "dd:dd:dd", time) || time[0] > 23 || time[1] > 59 || time[2] > 59) return std::nullopt;
    const auto taken = take_fraction(text);
    if (!taken) return std::nullopt;
    fraction = *taken;
  }
  const seconds of_day{time[0] * 3600 + time[1] * 60 + time[2]};
  if (!text.empty()) {
    const auto zone = parse_zone(text);
    if (!zone) return std::nullopt;
    return std::chrono::sys_days(day) + of_day - *zone + fraction;
  }
  if (!local) return std::chrono::sys_days(day) + of_day + fraction;
  std::tm fields{};
  fields.tm_year = date[0] - 1900;
  fields.tm_mon = date[1] - 1;
  fields.tm_mday = date[2];
  fields.tm_hour = time[0];
  fields.tm_min = time[1];
  fields.tm_sec = time[2];
  fields.tm_isdst = -1;
  return std::chrono::system_clock::from_time_t(std::mktime(&fields)) + fraction;
}

std::string datetime_text(Instant instant, bool local) {
  const auto whole = std::chrono::floor<seconds>(instant);
  const auto micros = std::chrono::floor<std::chrono::microseconds>(instant - whole).count();
  const std::time_t time = std::chrono::system_clock::to_time_t(whole);
  std::tm fields{};
  if (local) {
    localtime_r(&time, &fields);
  } else {
    gmtime_r(&time, &fields);
  }
  char buffer[80];
  std::snprintf(buffer, sizeof buffer, "%04d-%02d-%02d %02d:%02d:%02d.%06d", fields.tm_year + 1900, fields.tm_mon + 1,
                fields.tm_mday, fields.tm_hour, fields.tm_min, fields.tm_sec, static_cast<int>(micros));
  return buffer;
}

}  // namespace ristretto::studies
