// Layer normalisation on a CPU, with the residual sum that its gradient joins, and sums of rows, each in one pass: no
// torch. norm_kernel.cpp is compiled once for each instruction set (cmake/InstructionSets.cmake).
#pragma once

#include <cstdint>

namespace ristretto::ft_transformer {

constexpr std::int64_t kNormLanes = 16;  // `width` is a multiple of it
constexpr double kLayerNormEpsilon = 1e-5;

// Rows [rows, width] one behind the other, and the norm's weights [width].
struct NormRows {
  std::int64_t rows, width;
  const float *weight, *bias;
};
// What a norm tells of each row [rows]: its mean, and 1 / sqrt(variance + 1e-5).
struct NormStatistics {
  float *mean, *rstd;
};

// add_rows: to = x + added + bias [width].
// norm: to = the norm of x, and its statistics. norm_again: the same from these.
// norm_back: to = residual + the gradient of x from that of the norm's output; the weights' gradients are added to
// weight_gradient and bias_gradient [width].
// sum_rows: what the rows of x sum to is added to sums [width].
#define RISTRETTO_DECLARE_NORM(isa)                                                                                    \
  namespace isa {                                                                                                      \
  void add_rows(const float* x, const float* added, const float* bias, float* to, std::int64_t rows,                   \
                std::int64_t width);                                                                                   \
  void norm(const NormRows&, const float* x, float* to, const NormStatistics&);                                        \
  void norm_again(const NormRows&, const float* x, const NormStatistics&, float* to);                                  \
  void norm_back(const NormRows&, const float* x, const NormStatistics&, const float* gradient, const float* residual, \
                 float* to, float* weight_gradient, float* bias_gradient);                                             \
  void sum_rows(const float* x, float* sums, std::int64_t rows, std::int64_t width);                                   \
  }
RISTRETTO_DECLARE_NORM(baseline)
RISTRETTO_DECLARE_NORM(avx2)
RISTRETTO_DECLARE_NORM(avx512)
#undef RISTRETTO_DECLARE_NORM

}  // namespace ristretto::ft_transformer
