#include "formats/json_text.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <set>

#include "formats/utf8.h"
#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::formats {
namespace {

constexpr int kMaxNesting = 64;
constexpr char32_t kReplacement = 0xFFFD;

class Reader {
 public:
  Reader(std::string_view text, const std::string& origin, const JsonOptions& options)
      : text_(text), origin_(origin), options_(options) {}

  Json document() {
    Json value = this->value(0);
    skip_space();
    if (at_ != text_.size()) fail("text behind the value");
    return value;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(Fault::incompatible, str(origin_, ": not JSON at byte ", at_, ": ", what));
  }

  void skip_space() {
    while (at_ < text_.size() && std::string_view(" \t\n\r").find(text_[at_]) != std::string_view::npos) ++at_;
  }

  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

  bool take(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }

  void need(char c) {
    if (peek() != c) fail(str("expected '", c, "'"));
    ++at_;
  }

  Json value(int depth) {
    if (depth > kMaxNesting) fail(str("nested deeper than ", kMaxNesting));
    skip_space();
    Json out;
    switch (peek()) {
      case '{':
        object(out, depth);
        return out;
      case '[':
        array(out, depth);
        return out;
      case '"':
        out.kind = Json::Kind::text;
        out.text = string();
        return out;
      default:
        break;
    }
    if (take("null")) return out;
    if (take("true") || take("false")) {
      out.kind = Json::Kind::boolean;
      out.boolean = text_[at_ - 2] == 'u';
      return out;
    }
    const std::size_t begin = at_;
    out.kind = Json::Kind::real;
    if (take("NaN")) {
      out.real = std::numeric_limits<double>::quiet_NaN();
    } else if (take("Infinity")) {
      out.real = HUGE_VAL;
    } else if (take("-Infinity")) {
      out.real = -HUGE_VAL;
    } else {
      number(out);
      return out;
    }
    if (!options_.allow_nan) {
      at_ = begin;
      fail("NaN and infinities are not allowed here");
    }
    return out;
  }

  std::size_t digits() {
    const std::size_t begin = at_;
    while (peek() >= '0' && peek() <= '9') ++at_;
    return at_ - begin;
  }

  void number(Json& out) {
    const std::size_t begin = at_;
    take("-");
    const bool leading_zero = peek() == '0';
    const std::size_t whole = digits();
    if (whole == 0) fail("expected a value");
    if (leading_zero && whole > 1) fail("a number with a leading zero");
    bool integral = true;
    if (take(".")) {
      integral = false;
      if (digits() == 0) fail("expected a digit behind '.'");
    }
    if (take("e") || take("E")) {
      integral = false;
      if (!take("+")) take("-");
      if (digits() == 0) fail("expected a digit in the exponent");
    }
    const std::string_view token = text_.substr(begin, at_ - begin);
    if (const auto integer = parse_number<std::int64_t>(token); integral && integer) {
      out.kind = Json::Kind::integer;
      out.integer = *integer;
      out.real = static_cast<double>(*integer);
      return;
    }
    const auto [end, error] = std::from_chars(token.data(), token.data() + token.size(), out.real);
    if (error == std::errc::result_out_of_range) out.real = out_of_range(token);
  }

  // What Python's float() gives for a number that no double holds: infinity, or 0.
  static double out_of_range(std::string_view token) {
    const double sign = token[0] == '-' ? -1 : 1;
    const std::size_t e = std::min(token.find_first_of("eE"), token.size());
    const std::size_t point = std::min(token.find('.'), e);
    const std::size_t first = token.find_first_of("123456789");
    if (first >= e) return sign * 0.0;
    // The power of ten of the first digit that is not 0.
    double power = first < point ? static_cast<double>(point - first - 1) : -static_cast<double>(first - point);
    if (e < token.size()) {
      std::string_view exponent = token.substr(e + 1);
      const bool negative = exponent[0] == '-';
      if (exponent[0] == '+' || negative) exponent.remove_prefix(1);
      const double size =
          static_cast<double>(parse_number<std::int64_t>(exponent).value_or(std::numeric_limits<std::int64_t>::max()));
      power += negative ? -size : size;
    }
    return sign * (power > 0 ? HUGE_VAL : 0.0);
  }

  std::string string() {
    need('"');
    std::string out;
    for (;;) {
      const char c = peek();
      if (at_ == text_.size()) fail("a string without end");
      if (c == '"') {
        ++at_;
        return out;
      }
      if (static_cast<unsigned char>(c) < 0x20) fail("a control character in a string");
      if (c == '\\') {
        escape(out);
        continue;
      }
      const std::size_t begin = at_;
      if (!next_point(text_, at_)) fail("bytes that are not UTF-8");
      out += text_.substr(begin, at_ - begin);
    }
  }

  char32_t four_hex_digits() {
    std::uint32_t point = 0;
    const std::string_view hex = text_.substr(at_, 4);
    const auto [end, error] = std::from_chars(hex.data(), hex.data() + hex.size(), point, 16);
    if (hex.size() != 4 || error != std::errc{} || end != hex.data() + 4 || hex[0] == '-')
      fail("expected four hex digits");
    at_ += 4;
    return point;
  }

  void escape(std::string& out) {
    ++at_;
    const std::size_t simple = std::string_view("\"\\/bfnrt").find(peek());
    if (at_ < text_.size() && simple != std::string_view::npos) {
      out += "\"\\/\b\f\n\r\t"[simple];
      ++at_;
      return;
    }
    if (!take("u")) fail("an unknown escape");
    char32_t point = four_hex_digits();
    if (point >= 0xD800 && point < 0xDC00 && text_.substr(at_, 2) == "\\u") {
      const std::size_t behind = at_;
      at_ += 2;
      const char32_t low = four_hex_digits();
      if (low >= 0xDC00 && low < 0xE000) {
        point = 0x10000 + ((point - 0xD800) << 10) + (low - 0xDC00);
      } else {
        at_ = behind;
      }
    }
    append_utf8(out, point >= 0xD800 && point < 0xE000 ? kReplacement : point);
  }

  void array(Json& out, int depth) {
    out.kind = Json::Kind::array;
    need('[');
    skip_space();
    if (take("]")) return;
    for (;;) {
      out.items.push_back(value(depth + 1));
      skip_space();
      if (take("]")) return;
      need(',');
    }
  }

  void object(Json& out, int depth) {
    out.kind = Json::Kind::object;
    std::set<std::string> seen;
    need('{');
    skip_space();
    if (take("}")) return;
    for (;;) {
      skip_space();
      std::string key = string();
      if (options_.refuse_duplicates && !seen.insert(key).second)
        fail(str("the key \"", key, "\" twice in one object"));
      skip_space();
      need(':');
      out.members.emplace_back(std::move(key), value(depth + 1));
      skip_space();
      if (take("}")) return;
      need(',');
    }
  }

  std::string_view text_;
  const std::string& origin_;
  JsonOptions options_;
  std::size_t at_ = 0;
};

// Python's repr(float): the shortest digits that read back equal, as 0.0001 to 1e+16 without an exponent.
void write_real(std::string& out, double value) {
  if (std::isnan(value)) {
    out += "NaN";
    return;
  }
  if (std::isinf(value)) {
    out += value < 0 ? "-Infinity" : "Infinity";
    return;
  }
  char buffer[32];
  const char* end = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific).ptr;
  const std::string_view text(buffer, static_cast<std::size_t>(end - buffer));
  const std::size_t e = text.find('e');
  std::string_view exponent_text = text.substr(e + 1);
  if (exponent_text[0] == '+') exponent_text.remove_prefix(1);
  const int exponent = *parse_number<int>(exponent_text);
  if (exponent < -4 || exponent >= 16) {
    out += text;  // both write at least two digits of the exponent
    return;
  }
  if (value < 0 || std::signbit(value)) out += '-';
  std::string digits;
  for (const char c : text.substr(0, e)) {
    if (c >= '0' && c <= '9') digits += c;
  }
  if (exponent < 0) {
    out += "0." + std::string(static_cast<std::size_t>(-exponent - 1), '0') + digits;
    return;
  }
  const auto whole = static_cast<std::size_t>(exponent) + 1;
  if (digits.size() <= whole) {
    out += digits + std::string(whole - digits.size(), '0') + ".0";
  } else {
    out += digits.substr(0, whole) + "." + digits.substr(whole);
  }
}

void write_escaped(std::string& out, std::uint32_t unit) {
  constexpr std::string_view kHex = "0123456789abcdef";
  out += "\\u";
  for (int shift = 12; shift >= 0; shift -= 4) out += kHex[(unit >> shift) & 0xF];
}

void write_string(std::string& out, const std::string& text) {
  out += '"';
  for (std::size_t at = 0; at < text.size();) {
    const auto point = next_point(text, at);
    if (!point) throw Error(Fault::usage, str("a text that is not UTF-8 at byte ", at, " cannot be written as JSON"));
    const std::size_t escaped =
        *point < 0x80 ? std::string_view("\"\\\b\f\n\r\t").find(static_cast<char>(*point)) : std::string_view::npos;
    if (escaped != std::string_view::npos) {
      out += '\\';
      out += "\"\\bfnrt"[escaped];
    } else if (*point >= 0x20 && *point < 0x7F) {
      out += static_cast<char>(*point);
    } else if (*point < 0x10000) {
      write_escaped(out, *point);
    } else {
      write_escaped(out, 0xD800 + ((*point - 0x10000) >> 10));
      write_escaped(out, 0xDC00 + ((*point - 0x10000) & 0x3FF));
    }
  }
  out += '"';
}

void write(std::string& out, const Json& value, bool compact) {
  const std::string_view comma = compact ? "," : ", ";
  switch (value.kind) {
    case Json::Kind::null:
      out += "null";
      break;
    case Json::Kind::boolean:
      out += value.boolean ? "true" : "false";
      break;
    case Json::Kind::integer:
      out += std::to_string(value.integer);
      break;
    case Json::Kind::real:
      write_real(out, value.real);
      break;
    case Json::Kind::text:
      write_string(out, value.text);
      break;
    case Json::Kind::array:
      out += '[';
      for (std::size_t i = 0; i < value.items.size(); ++i) {
        if (i > 0) out += comma;
        write(out, value.items[i], compact);
      }
      out += ']';
      break;
    case Json::Kind::object:
      out += '{';
      for (std::size_t i = 0; i < value.members.size(); ++i) {
        if (i > 0) out += comma;
        write_string(out, value.members[i].first);
        out += compact ? ":" : ": ";
        write(out, value.members[i].second, compact);
      }
      out += '}';
      break;
  }
}

}  // namespace

const Json* Json::find(std::string_view key) const {
  const auto found = std::find_if(members.rbegin(), members.rend(), [&](const auto& m) { return m.first == key; });
  return found == members.rend() ? nullptr : &found->second;
}

Json read_json(std::string_view text, const std::string& origin, const JsonOptions& options) {
  return Reader(text, origin, options).document();
}

std::string write_json(const Json& value, bool compact) {
  std::string out;
  write(out, value, compact);
  return out;
}

}  // namespace ristretto::formats
