// The classes of storages that a .pth names, and what their numbers are.
#pragma once

#include <array>
#include <utility>

#include "formats/array.h"

namespace ristretto::formats {

inline constexpr std::array<std::pair<const char*, DType>, 10> kTorchStorages{
    {{"torch FloatStorage", DType::float32},
     {"torch DoubleStorage", DType::float64},
     {"torch HalfStorage", DType::float16},
     {"torch BFloat16Storage", DType::bfloat16},
     {"torch LongStorage", DType::int64},
     {"torch IntStorage", DType::int32},
     {"torch ShortStorage", DType::int16},
     {"torch CharStorage", DType::int8},
     {"torch ByteStorage", DType::uint8},
     {"torch BoolStorage", DType::boolean}}};

}  // namespace ristretto::formats
