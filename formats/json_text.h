// JSON as Python's json.dumps writes it: NaN, Infinity and -Infinity, order of keys kept, ASCII, shortest floats.
// Strict JSON elsewhere is nlohmann's; this is for Optuna's texts and safetensors' headers, which need what it refuses.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ristretto::formats {

struct Json {
  enum class Kind { null, boolean, integer, real, text, array, object };
  Kind kind = Kind::null;
  bool boolean = false;
  std::int64_t integer = 0;
  double real = 0;   // also set for integer; integers beyond int64 are real
  std::string text;  // UTF-8
  std::vector<Json> items;
  std::vector<std::pair<std::string, Json>> members;  // in order

  Json();  // defined below: as an implicit one it needs itself while the pair above is incomplete (clang says so)
  const Json* find(std::string_view key) const;  // the last of that name; nullptr where there is none
};
inline Json::Json() = default;

// Throws Error(incompatible) with `origin` and the byte offset. Nesting at most 64; a lone surrogate becomes U+FFFD.
// allow_nan: NaN, Infinity, -Infinity. refuse_duplicates: a key twice in one object is an error.
struct JsonOptions {
  bool allow_nan = true;
  bool refuse_duplicates = false;
};
Json read_json(std::string_view text, const std::string& origin, const JsonOptions& options = {});

// What json.dumps(value) writes: separators ", " and ": " (compact: without the spaces), \uXXXX outside ASCII, floats
// by repr (1e-05, 0.1, 1e+16, 5.0). Throws Error(usage) at text that is not UTF-8.
std::string write_json(const Json& value, bool compact = false);

// The same as nlohmann's `Document`, which has no NaN and no infinities to read: `real` makes its numbers that are no
// integers.
template <class Document, class Real>
Document document_of(const Json& value, const Real& real) {
  switch (value.kind) {
    case Json::Kind::null:
      return nullptr;
    case Json::Kind::boolean:
      return value.boolean;
    case Json::Kind::integer:
      return value.integer;
    case Json::Kind::real:
      return real(value.real);
    case Json::Kind::text:
      return value.text;
    case Json::Kind::array: {
      Document items = Document::array();
      for (const Json& item : value.items) items.push_back(document_of<Document>(item, real));
      return items;
    }
    case Json::Kind::object: {
      Document members = Document::object();
      for (const auto& [key, member] : value.members) members[key] = document_of<Document>(member, real);
      return members;
    }
  }
  return nullptr;
}

}  // namespace ristretto::formats
