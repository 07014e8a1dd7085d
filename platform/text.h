// Text from parts, and parts from text. Numbers are written in their shortest form that reads back equal.
#pragma once

#include <charconv>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace ristretto {

namespace detail {
inline void append(std::string& out, std::string_view text) { out += text; }
inline void append(std::string& out, const char* text) { out += text; }
inline void append(std::string& out, char c) { out += c; }
inline void append(std::string& out, bool b) { out += b ? "true" : "false"; }
template <class T>
std::enable_if_t<std::is_arithmetic_v<T> && !std::is_same_v<T, bool> && !std::is_same_v<T, char>> append(
    std::string& out, T number) {
  char buffer[32];
  out.append(buffer, std::to_chars(buffer, buffer + sizeof buffer, number).ptr);
}
}  // namespace detail

// str("bars ", 12, " of ", 0.5) is "bars 12 of 0.5".
template <class... Parts>
std::string str(const Parts&... parts) {
  std::string out;
  (detail::append(out, parts), ...);
  return out;
}

// `value` with `decimals` digits behind the point; "nan", "inf", "-inf" for the others.
std::string fixed(double value, int decimals);
// Six significant digits, for people.
std::string six_digits(double value);
// 1234567 is "1,234,567".
std::string with_thousands(long long value);
// The whole of `text` as a number, or nothing. Locale-independent; accepts nan and inf where T is floating.
template <class T>
std::optional<T> parse_number(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}
std::vector<std::string> split(std::string_view text, char separator);
std::string join(const std::vector<std::string>& parts, std::string_view separator);
// Without spaces, tabs and carriage returns at both ends.
std::string trimmed(const std::string& text);
// `text` in at least `width` bytes, with spaces in front or, padded_right, behind.
std::string padded_left(const std::string& text, std::size_t width);
std::string padded_right(const std::string& text, std::size_t width);
// Text with the characters that HTML and SVG read as markup escaped, and control characters, which XML forbids, as '?'.
std::string escaped(const std::string& text);
// The candidate with the smallest edit distance to `name` (Levenshtein), or "" where there are none.
std::string nearest_name(std::string_view name, const std::vector<std::string>& candidates);

}  // namespace ristretto
