// The kernels of adam_kernel.h for one instruction set.
// Nothing of the standard library that is a template: its out-of-line copy, compiled for one instruction set, could
// become the whole program's.
#include "agents/adam_kernel.h"

namespace ristretto::agents::RISTRETTO_ISA {
namespace {

inline float root(float x) { return __builtin_sqrtf(x); }
inline double root(double x) { return __builtin_sqrt(x); }

template <class R>
void step_of(const AdamStep& step, const AdamNumbers<R>& of, std::int64_t begin, std::int64_t end) {
  const R scale = static_cast<R>(step.gradient_scale), second_scale = static_cast<R>(step.second_scale);
  const R keep1 = static_cast<R>(step.beta1), take1 = static_cast<R>(1 - step.beta1);
  const R keep2 = static_cast<R>(step.beta2), take2 = static_cast<R>(1 - step.beta2);
  const R step_size = static_cast<R>(step.step_size);
  const R epsilon = static_cast<R>(step.epsilon), decay = static_cast<R>(step.decay);
  R* __restrict parameter = of.parameter;
  R* __restrict first = of.first_moment;
  R* __restrict second = of.second_moment;
  const R* __restrict gradient = of.gradient;
  for (std::int64_t i = begin; i < end; ++i) {
    const R g = gradient[i] * scale;
    first[i] = first[i] * keep1 + take1 * g;
    second[i] = second[i] * keep2 + take2 * g * g;
    parameter[i] = parameter[i] * decay - step_size * first[i] / (root(second[i]) * second_scale + epsilon);
  }
}

// Lanes that a vector adds up at once, for few enough numbers that their own type is exact enough.
template <class R>
double squares_of(const R* numbers, std::int64_t begin, std::int64_t end) {
  constexpr std::int64_t kLanes = 64, kAtOnce = 64 * kLanes;
  double sum = 0;
  while (begin < end) {
    const std::int64_t stop = begin + kAtOnce < end ? begin + kAtOnce : end;
    R lanes[kLanes] = {};
    for (; begin + kLanes <= stop; begin += kLanes) {
      for (std::int64_t j = 0; j < kLanes; ++j) lanes[j] += numbers[begin + j] * numbers[begin + j];
    }
    for (; begin < stop; ++begin) lanes[0] += numbers[begin] * numbers[begin];
    for (const R lane : lanes) sum += static_cast<double>(lane);
  }
  return sum;
}

}  // namespace

double sum_of_squares(const float* numbers, std::int64_t begin, std::int64_t end) {
  return squares_of(numbers, begin, end);
}
double sum_of_squares(const double* numbers, std::int64_t begin, std::int64_t end) {
  return squares_of(numbers, begin, end);
}

void adam(const AdamStep& step, const AdamNumbers<float>& of, std::int64_t begin, std::int64_t end) {
  step_of(step, of, begin, end);
}
void adam(const AdamStep& step, const AdamNumbers<double>& of, std::int64_t begin, std::int64_t end) {
  step_of(step, of, begin, end);
}

}  // namespace ristretto::agents::RISTRETTO_ISA
