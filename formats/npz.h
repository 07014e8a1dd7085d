// NumPy's .npy and .npz (algorithms.md 5.5).
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "formats/array.h"

namespace ristretto::formats {

// One .npy. Throws Error(incompatible): not npy, objects, big-endian, cut, unknown type. Fortran order is turned.
Array read_npy(std::string_view bytes, const std::string& origin);
std::string write_npy(const Array& array);

// Stored or deflated members; names without ".npy". Inflates at most what the .npy header declares.
NamedArrays read_npz(const std::filesystem::path& path);
NamedArrays read_npz_bytes(std::string_view bytes, const std::string& origin);
// The bytes of an .npz with stored members, equal for equal input.
std::string write_npz(const NamedArrays& arrays);

}  // namespace ristretto::formats
