// The kernel of output_kernel.h for one instruction set.
// Nothing of the standard library that is a template: its out-of-line copy, compiled for one instruction set, could
// become the whole program's.
#include "agents/output_kernel.h"

#include "platform/vectors.h"

namespace ristretto::agents::RISTRETTO_ISA {
namespace {

constexpr std::int64_t kColumns = 512;  // at once: weights and sums of few outputs stay in the first cache
constexpr std::int64_t kRows = 128;     // summed by themselves, so that rounding does not grow with all
constexpr int kTogether = 4;            // rows for which each weight and sum is loaded once

// Of some rows: what is added to the gradients.
struct Sums {
  float weight[kFewOutputs][kColumns];
  float z[kColumns];
};

inline Vector take(const float* from, Vector) { return load(from); }
inline float take(const float* from, float) { return *from; }
inline void put(float* to, Vector x) { store(to, x); }
inline void put(float* to, float x) { *to = x; }

// One number, or a vector of them, in each of Rows rows from `row` on; place: in the columns from `first` on.
template <int Rows, class Number>
inline void column(const OutputLayer& of, std::int64_t row, std::int64_t first, std::int64_t place, Sums& sums) {
  float* const activation = of.activation + row * of.width + first + place;
  const float* const gradient = of.gradient + row * of.outputs;
  Number y[Rows], below[Rows] = {};
  for (int r = 0; r < Rows; ++r) y[r] = take(activation + r * of.width, Number{});
  for (std::int64_t k = 0; k < of.outputs; ++k) {
    const Number weight = take(of.weight + k * of.width + first + place, Number{});
    Number sum = take(sums.weight[k] + place, Number{});
    for (int r = 0; r < Rows; ++r) {
      const float factor = gradient[r * of.outputs + k];
      sum += factor * y[r];
      below[r] += factor * weight;
    }
    put(sums.weight[k] + place, sum);
  }
  Number sum = take(sums.z + place, Number{});
  for (int r = 0; r < Rows; ++r) {
    const Number z = y[r] <= 0 ? Number{} : below[r];
    sum += z;
    put(activation + r * of.width, z);
  }
  put(sums.z + place, sum);
}

template <int Rows>
void rows_of(const OutputLayer& of, std::int64_t row, std::int64_t first, std::int64_t columns, Sums& sums) {
  std::int64_t place = 0;
  for (; place + kLanes <= columns; place += kLanes) column<Rows, Vector>(of, row, first, place, sums);
  for (; place < columns; ++place) column<Rows, float>(of, row, first, place, sums);
}

void add(float* to, const float* from, std::int64_t columns) {
  for (std::int64_t j = 0; j < columns; ++j) to[j] += from[j];
}

}  // namespace

void output_back(const OutputLayer& of, std::int64_t begin, std::int64_t end) {
  for (std::int64_t first = begin; first < end; first += kColumns) {
    const std::int64_t columns = end - first < kColumns ? end - first : kColumns;
    for (std::int64_t row = 0; row < of.rows;) {
      const std::int64_t stop = row + kRows < of.rows ? row + kRows : of.rows;
      Sums sums;
      for (std::int64_t k = 0; k < of.outputs; ++k)
        for (std::int64_t j = 0; j < columns; ++j) sums.weight[k][j] = 0;
      for (std::int64_t j = 0; j < columns; ++j) sums.z[j] = 0;
      for (; row + kTogether <= stop; row += kTogether) rows_of<kTogether>(of, row, first, columns, sums);
      for (; row < stop; ++row) rows_of<1>(of, row, first, columns, sums);
      for (std::int64_t k = 0; k < of.outputs; ++k)
        add(of.weight_gradient + k * of.width + first, sums.weight[k], columns);
      add(of.z_gradient_sum + first, sums.z, columns);
    }
  }
}

}  // namespace ristretto::agents::RISTRETTO_ISA
