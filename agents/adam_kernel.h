// Adam's step on a CPU with its clipping, in one pass over memory: no torch. adam_kernel.cpp is compiled once for each
// instruction set (cmake/InstructionSets.cmake).
#pragma once

#include <cstdint>

namespace ristretto::agents {

// m and v take gradient * gradient_scale in; then p = p * decay - step_size * m / (sqrt(v) * second_scale + epsilon)
// (Kingma and Ba 2015, algorithm 1; the decay: Loshchilov and Hutter 2019, algorithm 2).
struct AdamStep {
  double gradient_scale, beta1, beta2;
  double step_size;     // learning rate / (1 - beta1^t)
  double second_scale;  // 1 / sqrt(1 - beta2^t)
  double epsilon;
  double decay;  // 1 - learning rate * weight decay
};

template <class R>
struct AdamNumbers {
  R* parameter;
  const R* gradient;
  R *first_moment, *second_moment;
};

// Of the numbers [begin, end).
#define RISTRETTO_DECLARE_ADAM(isa)                                                             \
  namespace isa {                                                                               \
  double sum_of_squares(const float* numbers, std::int64_t begin, std::int64_t end);            \
  double sum_of_squares(const double* numbers, std::int64_t begin, std::int64_t end);           \
  void adam(const AdamStep&, const AdamNumbers<float>&, std::int64_t begin, std::int64_t end);  \
  void adam(const AdamStep&, const AdamNumbers<double>&, std::int64_t begin, std::int64_t end); \
  }
RISTRETTO_DECLARE_ADAM(baseline)
RISTRETTO_DECLARE_ADAM(avx2)
RISTRETTO_DECLARE_ADAM(avx512)
#undef RISTRETTO_DECLARE_ADAM

}  // namespace ristretto::agents
