// safetensors files (algorithms.md 5.4).
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "formats/array.h"

namespace ristretto::formats {

struct Safetensors {
  NamedArrays arrays;                           // by offset in the file
  std::map<std::string, std::string> metadata;  // `__metadata__`
};

// Throws Error(incompatible) whose message begins with the typed name of algorithms.md 5.4, such as InvalidOffset.
// `origin` names the file in messages.
Safetensors read_safetensors(std::string_view bytes, const std::string& origin);
// The file's bytes: tensors by alignment descending, then name. Text arrays are an Error(usage).
std::string write_safetensors(const NamedArrays& arrays, const std::map<std::string, std::string>& metadata = {});

}  // namespace ristretto::formats
