#include "formats/array.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cmath>
#include <cstring>

#include "formats/utf8.h"
#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::formats {

static_assert(std::endian::native == std::endian::little, "Array::bytes are read in place");

namespace {

template <class T>
T element(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

// IEEE 754 binary16.
double half_to_double(std::uint16_t bits) {
  const int exponent = (bits >> 10) & 0x1F;
  const int fraction = bits & 0x3FF;
  double size;
  if (exponent == 0) {
    size = std::ldexp(fraction, -24);
  } else if (exponent == 31) {
    size = fraction == 0 ? HUGE_VAL : std::nan("");
  } else {
    size = std::ldexp(fraction + 0x400, exponent - 25);
  }
  return std::copysign(size, (bits & 0x8000) != 0 ? -1.0 : 1.0);
}

template <class T>
Array of_numbers(DType dtype, std::vector<std::int64_t> shape, const std::vector<T>& values) {
  Array array{dtype, std::move(shape), {}, 0};
  assert(array.count() == static_cast<std::int64_t>(values.size()));
  array.bytes.resize(values.size() * sizeof(T));
  if (!values.empty()) std::memcpy(array.bytes.data(), values.data(), array.bytes.size());
  return array;
}

template <class T>
void widen(const Array& array, std::vector<double>& out) {
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i] = static_cast<double>(element<T>(array.bytes.data() + i * sizeof(T)));
  }
}

}  // namespace

std::size_t size_of(DType dtype) {
  switch (dtype) {
    case DType::boolean:
    case DType::uint8:
    case DType::int8:
      return 1;
    case DType::int16:
    case DType::float16:
    case DType::bfloat16:
      return 2;
    case DType::int32:
    case DType::float32:
      return 4;
    case DType::int64:
    case DType::float64:
      return 8;
    case DType::text:
      return 0;
  }
  return 0;
}

const char* name_of(DType dtype) {
  switch (dtype) {
    case DType::boolean:
      return "boolean";
    case DType::uint8:
      return "uint8";
    case DType::int8:
      return "int8";
    case DType::int16:
      return "int16";
    case DType::int32:
      return "int32";
    case DType::int64:
      return "int64";
    case DType::float16:
      return "float16";
    case DType::bfloat16:
      return "bfloat16";
    case DType::float32:
      return "float32";
    case DType::float64:
      return "float64";
    case DType::text:
      return "text";
  }
  return "";
}

std::int64_t Array::count() const {
  std::int64_t product = 1;
  for (const std::int64_t size : shape) product *= size;
  return product;
}

std::vector<double> Array::as_doubles() const {
  if (dtype == DType::text) throw Error(Fault::incompatible, "an array holds text where numbers are expected");
  std::vector<double> out(static_cast<std::size_t>(count()));
  assert(bytes.size() == out.size() * size_of(dtype));
  switch (dtype) {
    case DType::boolean:
      for (std::size_t i = 0; i < out.size(); ++i) out[i] = bytes[i] != std::byte{0} ? 1 : 0;
      break;
    case DType::uint8:
      widen<std::uint8_t>(*this, out);
      break;
    case DType::int8:
      widen<std::int8_t>(*this, out);
      break;
    case DType::int16:
      widen<std::int16_t>(*this, out);
      break;
    case DType::int32:
      widen<std::int32_t>(*this, out);
      break;
    case DType::int64:
      widen<std::int64_t>(*this, out);
      break;
    case DType::float32:
      widen<float>(*this, out);
      break;
    case DType::float64:
      widen<double>(*this, out);
      break;
    case DType::float16:
      for (std::size_t i = 0; i < out.size(); ++i)
        out[i] = half_to_double(element<std::uint16_t>(bytes.data() + 2 * i));
      break;
    case DType::bfloat16:
      for (std::size_t i = 0; i < out.size(); ++i) {
        out[i] = std::bit_cast<float>(static_cast<std::uint32_t>(element<std::uint16_t>(bytes.data() + 2 * i)) << 16);
      }
      break;
    case DType::text:
      break;
  }
  return out;
}

std::vector<std::string> Array::as_texts() const {
  if (dtype != DType::text) {
    throw Error(Fault::incompatible, str("an array holds ", name_of(dtype), " where text is expected"));
  }
  std::vector<std::string> out(static_cast<std::size_t>(count()));
  assert(bytes.size() == out.size() * static_cast<std::size_t>(text_width) * 4);
  for (std::size_t i = 0; i < out.size(); ++i) {
    std::u32string points(static_cast<std::size_t>(text_width), U'\0');
    if (!points.empty()) std::memcpy(points.data(), bytes.data() + i * points.size() * 4, points.size() * 4);
    while (!points.empty() && points.back() == U'\0') points.pop_back();  // the padding
    for (const char32_t point : points) {
      if (point > 0x10FFFF || (point >= 0xD800 && point < 0xE000)) {
        throw Error(Fault::incompatible,
                    str("a text array holds ", std::uint32_t{point}, ", which is no Unicode point"));
      }
      append_utf8(out[i], point);
    }
  }
  return out;
}

Array Array::of_doubles(std::vector<std::int64_t> shape, const std::vector<double>& values) {
  return of_numbers(DType::float64, std::move(shape), values);
}

Array Array::of_floats(std::vector<std::int64_t> shape, const std::vector<float>& values) {
  return of_numbers(DType::float32, std::move(shape), values);
}

Array Array::of_int64s(std::vector<std::int64_t> shape, const std::vector<std::int64_t>& values) {
  return of_numbers(DType::int64, std::move(shape), values);
}

Array Array::of_texts(std::vector<std::int64_t> shape, const std::vector<std::string>& values) {
  std::vector<std::u32string> rows;
  std::size_t width = 1;  // NumPy has no text of width 0
  for (const std::string& value : values) {
    std::u32string& points = rows.emplace_back();
    for (std::size_t at = 0; at < value.size();) {
      const auto point = next_point(value, at);
      if (!point) throw Error(Fault::usage, str("the text \"", value, "\" is not UTF-8"));
      points += *point;
    }
    width = std::max(width, points.size());
  }
  Array array{DType::text, std::move(shape), std::vector<std::byte>(rows.size() * width * 4),
              static_cast<std::int64_t>(width)};
  assert(array.count() == static_cast<std::int64_t>(values.size()));
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (!rows[i].empty()) std::memcpy(array.bytes.data() + i * width * 4, rows[i].data(), rows[i].size() * 4);
  }
  return array;
}

const Array* find(const NamedArrays& arrays, const std::string& name) {
  const auto found = std::find_if(arrays.begin(), arrays.end(), [&](const auto& entry) { return entry.first == name; });
  return found == arrays.end() ? nullptr : &found->second;
}

}  // namespace ristretto::formats
