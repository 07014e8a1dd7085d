// What follows a linear layer's product on a CPU when a ReLU does, in one pass over its rows each way: no torch. A
// library's operations take two passes forward and two back. relu_kernel.cpp is compiled once for each instruction set
// (cmake/InstructionSets.cmake).
#pragma once

#include <cstdint>

namespace ristretto::ft_transformer {

// add_bias_relu: y [., width] = max(0, y + bias [width]) in its rows [begin, end); NaN stays.
// relu_back: z_gradient [rows, width] becomes y_gradient where y > 0 or is NaN, 0 elsewhere, in its columns [begin,
// end), and may be y or y_gradient itself; what they sum to is added to bias_gradient [width].
#define RISTRETTO_DECLARE_RELU(isa)                                                                                   \
  namespace isa {                                                                                                     \
  void add_bias_relu(float* y, const float* bias, std::int64_t width, std::int64_t begin, std::int64_t end);          \
  void relu_back(const float* y, const float* y_gradient, float* z_gradient, float* bias_gradient, std::int64_t rows, \
                 std::int64_t width, std::int64_t begin, std::int64_t end);                                           \
  }
RISTRETTO_DECLARE_RELU(baseline)
RISTRETTO_DECLARE_RELU(avx2)
RISTRETTO_DECLARE_RELU(avx512)
#undef RISTRETTO_DECLARE_RELU

}  // namespace ristretto::ft_transformer
