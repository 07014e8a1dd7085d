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
  double real = 0;                   // also integers beyond int64, whose little-endian bytes are in `text`
  std::string text;                  // text (UTF-8), bytes; global: "module name"
  std::vector<PicklePointer> items;  // tuple, list, set; object: [class, arguments...]; persistent: [id]
  std::vector<std::pair<PicklePointer, PicklePointer>> entries;  // dict; object: its items and its state's dictionary
  PicklePointer
      state;  // what BUILD was given where it is no dictionary, or the object an OrderedDict; an object's appended list

  // The value of a dictionary's or object's text key; nullptr where there is none.
  PicklePointer find(std::string_view key) const;
};

// Any pickle of protocols 0 to 5 as a tree of inert values; classes and functions become `global`, their calls
// `object`, but for OrderedDict, set, frozenset and Python 2's way to write bytes, which become dict, set and bytes.
// Throws Error(incompatible) at what is malformed or beyond the limits. `used`: bytes consumed, for files of several.
// `callables`: where given, a call of any other function is refused by its name (making an object of a class is no
// call).
PicklePointer read_pickle(std::string_view bytes, const std::string& origin, std::size_t* used = nullptr,
                          const std::vector<std::string>* callables = nullptr);

// A protocol-2 pickle of types.SimpleNamespace(**entries) where `value` is an `object`, of plain data otherwise (none,
// boolean, integer, real, text, tuple, list, dict). Throws Error(usage) at other kinds.
std::string write_pickle(const PickleValue& value);

}  // namespace ristretto::formats
