// What torch.save writes (algorithms.md 5.1-5.3): zip, legacy and whole-module files, read without running code.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "formats/array.h"

namespace ristretto::formats {

// The tensors of a state_dict (or of a whole module's parameters and buffers, by their dotted names), in order.
// Nested dictionaries are joined with dots ("state.0.exp_avg"); numbers and the rest of an optimizer's dictionary that
// are no tensors are left out. Throws Error(incompatible) naming what is wrong and where.
NamedArrays read_torch_file(const std::filesystem::path& path);
NamedArrays read_torch_bytes(std::string_view bytes, const std::string& origin);

// What torch.save(OrderedDict) writes: zip, STORED, 64-byte aligned, protocol 2, `prefix` as the top folder. Equal
// bytes for equal input. torch.load(weights_only=True) opens it, also with mmap=True.
std::string write_torch_bytes(const NamedArrays& arrays, const std::string& prefix);

}  // namespace ristretto::formats
