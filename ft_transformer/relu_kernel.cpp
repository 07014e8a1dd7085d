// The kernels of relu_kernel.h for one instruction set.
// Nothing of the standard library that is a template: its out-of-line copy, compiled for one instruction set, could
// become the whole program's.
#include "ft_transformer/relu_kernel.h"

namespace ristretto::ft_transformer::RISTRETTO_ISA {

void add_bias_relu(float* y, const float* bias, std::int64_t width, std::int64_t begin, std::int64_t end) {
  for (float *row = y + begin * width, *last = y + end * width; row < last; row += width) {
    for (std::int64_t j = 0; j < width; ++j) {
      const float z = row[j] + bias[j];
      row[j] = z <= 0 ? 0 : z;
    }
  }
}

void relu_back(const float* y, const float* y_gradient, float* z_gradient, float* bias_gradient, std::int64_t rows,
               std::int64_t width, std::int64_t begin, std::int64_t end) {
  constexpr std::int64_t kColumns = 1024;  // at once: whole rows as they lie, and their sums in the first cache
  constexpr std::int64_t kRows = 128;      // summed by themselves, so that rounding does not grow with all
  for (std::int64_t first = begin; first < end; first += kColumns) {
    const std::int64_t columns = end - first < kColumns ? end - first : kColumns;
    for (std::int64_t i = 0; i < rows;) {
      float sums[kColumns];
      for (std::int64_t j = 0; j < columns; ++j) sums[j] = 0;
      for (const std::int64_t stop = i + kRows < rows ? i + kRows : rows; i < stop; ++i) {
        const std::int64_t place = i * width + first;
        const float *const of = y + place, *const from = y_gradient + place;
        float* const to = z_gradient + place;
        for (std::int64_t j = 0; j < columns; ++j) {
          const float gradient = of[j] <= 0 ? 0 : from[j];
          to[j] = gradient;
          sums[j] += gradient;
        }
      }
      for (std::int64_t j = 0; j < columns; ++j) bias_gradient[first + j] += sums[j];
    }
  }
}

}  // namespace ristretto::ft_transformer::RISTRETTO_ISA
