// The kernels of norm_kernel.h for one instruction set.
// Nothing of the standard library that is a template: its out-of-line copy, compiled for one instruction set, could
// become the whole program's.
#include "ft_transformer/norm_kernel.h"

#include <cstring>

#include "platform/vectors.h"

namespace ristretto::ft_transformer::RISTRETTO_ISA {
namespace {

static_assert(kNormLanes % kLanes == 0);

// The lanes' sum, by halves.
inline float sum(Vector x) {
  using Four __attribute__((vector_size(16))) = float;
  Four quarters[kLanes / 4];
  std::memcpy(quarters, &x, sizeof x);
  for (std::int64_t half = kLanes / 8; half > 0; half /= 2)
    for (std::int64_t i = 0; i < half; ++i) quarters[i] += quarters[i + half];
  const Four all = quarters[0];
  return (all[0] + all[2]) + (all[1] + all[3]);
}

constexpr std::int64_t kSummedRows = 128;  // by themselves, so that rounding does not grow with all

// One row.
inline void apply(const NormRows& of, const float* x, float mean, float rstd, float* to) {
  for (std::int64_t j = 0; j < of.width; j += kLanes) {
    store(to + j, (load(x + j) - mean) * rstd * load(of.weight + j) + load(of.bias + j));
  }
}

}  // namespace

void add_rows(const float* x, const float* added, const float* bias, float* to, std::int64_t rows, std::int64_t width) {
  for (std::int64_t i = 0; i < rows; ++i, x += width, added += width, to += width)
    for (std::int64_t j = 0; j < width; ++j) to[j] = x[j] + (added[j] + bias[j]);
}

void norm(const NormRows& of, const float* x, float* to, const NormStatistics& statistics) {
  const float share = 1 / static_cast<float>(of.width);
  for (std::int64_t i = 0; i < of.rows; ++i, x += of.width, to += of.width) {
    Vector total{}, squares{};
    for (std::int64_t j = 0; j < of.width; j += kLanes) total += load(x + j);
    const float mean = sum(total) * share;
    for (std::int64_t j = 0; j < of.width; j += kLanes) {
      const Vector off = load(x + j) - mean;
      squares += off * off;
    }
    const float rstd = 1 / __builtin_sqrtf(sum(squares) * share + static_cast<float>(kLayerNormEpsilon));
    apply(of, x, mean, rstd, to);
    statistics.mean[i] = mean;
    statistics.rstd[i] = rstd;
  }
}

void norm_again(const NormRows& of, const float* x, const NormStatistics& statistics, float* to) {
  for (std::int64_t i = 0; i < of.rows; ++i, x += of.width, to += of.width) {
    apply(of, x, statistics.mean[i], statistics.rstd[i], to);
  }
}

void norm_back(const NormRows& of, const float* x, const NormStatistics& statistics, const float* gradient,
               const float* residual, float* to, float* weight_gradient, float* bias_gradient) {
  const float share = 1 / static_cast<float>(of.width);
  for (std::int64_t i = 0; i < of.rows;
       ++i, x += of.width, gradient += of.width, residual += of.width, to += of.width) {
    const float mean = statistics.mean[i], rstd = statistics.rstd[i];
    Vector total{}, along{};  // of the normalised row's gradient, and of it times that row
    for (std::int64_t j = 0; j < of.width; j += kLanes) {
      const Vector g = load(gradient + j), normal = (load(x + j) - mean) * rstd, of_normal = g * load(of.weight + j);
      total += of_normal;
      along += of_normal * normal;
      store(weight_gradient + j, load(weight_gradient + j) + g * normal);
      store(bias_gradient + j, load(bias_gradient + j) + g);
    }
    const float shift = sum(total) * share, slope = sum(along) * share;
    for (std::int64_t j = 0; j < of.width; j += kLanes) {
      const Vector normal = (load(x + j) - mean) * rstd, of_normal = load(gradient + j) * load(of.weight + j);
      store(to + j, load(residual + j) + (of_normal - shift - normal * slope) * rstd);
    }
  }
}

void sum_rows(const float* x, float* sums, std::int64_t rows, std::int64_t width) {
  for (std::int64_t j = 0; j < width; j += kLanes) {
    Vector all = load(sums + j);
    for (std::int64_t i = 0; i < rows;) {
      Vector some{};
      for (const std::int64_t stop = i + kSummedRows < rows ? i + kSummedRows : rows; i < stop; ++i) {
        some += load(x + i * width + j);
      }
      all += some;
    }
    store(sums + j, all);
  }
}

}  // namespace ristretto::ft_transformer::RISTRETTO_ISA
