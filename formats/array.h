// A named array as files hold it: contiguous, little-endian, row-major. No tensor library.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace ristretto::formats {

enum class DType { boolean, uint8, int8, int16, int32, int64, float16, bfloat16, float32, float64, text };

// Bytes of one element; 0 for text, whose width is Array::text_width.
std::size_t size_of(DType dtype);
const char* name_of(DType dtype);

struct Array {
  DType dtype = DType::float32;
  std::vector<std::int64_t> shape;  // empty: a scalar
  std::vector<std::byte> bytes;     // product(shape) elements
  std::int64_t text_width = 0;      // text only: UTF-32 code points an element, zero-padded (NumPy's <U)

  std::int64_t count() const;  // product(shape)
  // The elements as doubles, whatever the number type. Throws Error(incompatible) for text.
  std::vector<double> as_doubles() const;
  // The elements as UTF-8 text. Throws Error(incompatible) for numbers.
  std::vector<std::string> as_texts() const;

  static Array of_doubles(std::vector<std::int64_t> shape, const std::vector<double>& values);
  static Array of_floats(std::vector<std::int64_t> shape, const std::vector<float>& values);
  static Array of_int64s(std::vector<std::int64_t> shape, const std::vector<std::int64_t>& values);
  static Array of_texts(std::vector<std::int64_t> shape, const std::vector<std::string>& values);
};

using NamedArrays = std::vector<std::pair<std::string, Array>>;  // in the file's order

// The array of that name; nullptr where there is none.
const Array* find(const NamedArrays& arrays, const std::string& name);

}  // namespace ristretto::formats
