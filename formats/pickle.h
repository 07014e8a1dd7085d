// Pickles as inert data: no class is looked up, nothing is called (algorithms.md 5.3). And the pickles that we write.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ristretto::formats {

struct PickleValue;
using PicklePointer = std::shared_ptr<PickleValue>;  // shared: the memo may name one value many times

struct PickleValue {
  enum class Kind { none, boolean, integer, real, text, bytes, tuple, list, dict, set, global, object, persistent };
  Kind kind = Kind::none;
  bool boolean = false;
  std::int64_t integer = 0;
  double real = 0;
  std::string text;                    // text, bytes; global: "module name"
  std::vector<PicklePointer> items;    // tuple, list, set; object: [class, arguments...]; persistent: [id]
  std::vector<std::pair<PicklePointer, PicklePointer>> entries;  // dict; object: its state's dictionary
  PicklePointer state;                 // object: what BUILD was given, where it is no dictionary

  // The value of a dictionary's or object's text key; nullptr where there is none.
  PicklePointer find(std::string_view key) const;
};

// Any pickle of protocols 0 to 5 as a tree of inert values; classes and functions become `global`, their calls `object`.
// Throws Error(incompatible) at what is malformed or beyond the limits. `used`: bytes consumed, for files of several.
PicklePointer read_pickle(std::string_view bytes, const std::string& origin, std::size_t* used = nullptr);

// A protocol-2 pickle of types.SimpleNamespace(**entries) where `value` is an `object`, of plain data otherwise.
std::string write_pickle(const PickleValue& value);

}  // namespace ristretto::formats
