// The kernels of mlp_kernel.h for one instruction set.
// Nothing of the standard library that is a template: its out-of-line copy, compiled for one instruction set, could
// become the whole program's. What mlp_kernel.h defines is inlined.
#include "agents/mlp_kernel.h"

#include <cstring>

#include "platform/vectors.h"

namespace ristretto::agents::RISTRETTO_ISA {
namespace {

constexpr std::int64_t kVectors = kLanes == 16 ? 4 : 2;
constexpr std::int64_t kRows = 6;                     // with kVectors: sums that fill the registers
constexpr std::int64_t kColumns = kVectors * kLanes;  // divides kMlpColumns
constexpr std::int64_t kDepth = 128;                  // rows of kColumns numbers: at most the first cache

// c[i, j] = sum of a[i, r] b[r, j] over r: strides in numbers, j next to each other in b and c.
struct Product {
  const float* a;
  std::int64_t a_row, a_column;
  const float* b;
  std::int64_t b_row;
  float* c;
  std::int64_t c_row;
  std::int64_t rows, columns, depth;  // b has whole mlp_columns(columns), c just these
  bool adds;
};

// Rows x kColumns of c from row i and column j on, over `depth` of b's rows from r on.
template <int Rows>
void tile(const Product& of, std::int64_t i, std::int64_t j, std::int64_t r, std::int64_t depth) {
  const float* a = of.a + i * of.a_row + r * of.a_column;
  const float* b = of.b + r * of.b_row + j;
  float* c = of.c + i * of.c_row + j;
  const bool adds = of.adds || r > 0;  // to what is there, or to what b's rows before gave
  Vector sums[Rows][kVectors] = {};
  for (std::int64_t end = r + depth; r < end; ++r, a += of.a_column, b += of.b_row) {
    Vector row[kVectors];
    for (int v = 0; v < kVectors; ++v) row[v] = load(b + v * kLanes);
    for (int k = 0; k < Rows; ++k) {
      const float factor = a[k * of.a_row];
      for (int v = 0; v < kVectors; ++v) sums[k][v] += factor * row[v];
    }
  }
  const std::int64_t columns = of.columns - j;
  for (int k = 0; k < Rows; ++k, c += of.c_row) {
    if (columns >= kColumns) {
      for (int v = 0; v < kVectors; ++v) store(c + v * kLanes, adds ? load(c + v * kLanes) + sums[k][v] : sums[k][v]);
      continue;
    }
    float numbers[kColumns];
    for (int v = 0; v < kVectors; ++v) store(numbers + v * kLanes, sums[k][v]);
    for (std::int64_t column = 0; column < columns; ++column) {
      c[column] = adds ? c[column] + numbers[column] : numbers[column];
    }
  }
}

void multiply(const Product& of) {
  for (std::int64_t r = 0; r < of.depth; r += kDepth) {
    const std::int64_t depth = of.depth - r < kDepth ? of.depth - r : kDepth;
    for (std::int64_t j = 0; j < of.columns; j += kColumns) {
      std::int64_t i = 0;
      for (; i + kRows <= of.rows; i += kRows) tile<kRows>(of, i, j, r, depth);
      switch (of.rows - i) {
        case 5:
          tile<5>(of, i, j, r, depth);
          break;
        case 4:
          tile<4>(of, i, j, r, depth);
          break;
        case 3:
          tile<3>(of, i, j, r, depth);
          break;
        case 2:
          tile<2>(of, i, j, r, depth);
          break;
        case 1:
          tile<1>(of, i, j, r, depth);
          break;
        default:
          break;
      }
    }
  }
}

// to[j, i] = from[i, j].
void transpose(const float* from, std::int64_t from_row, std::int64_t rows, std::int64_t columns, float* to,
               std::int64_t to_row) {
  using Four __attribute__((vector_size(16))) = float;
  const auto at = [&](std::int64_t i, std::int64_t j) {
    Four x;
    std::memcpy(&x, from + i * from_row + j, sizeof x);
    return x;
  };
  const std::int64_t whole_rows = rows / 4 * 4, whole_columns = columns / 4 * 4;
  for (std::int64_t j = 0; j < whole_columns; j += 4) {
    for (std::int64_t i = 0; i < whole_rows; i += 4) {
      const Four a = at(i, j), b = at(i + 1, j), c = at(i + 2, j), d = at(i + 3, j);
      const Four ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), ab2 = __builtin_shufflevector(a, b, 2, 6, 3, 7);
      const Four cd = __builtin_shufflevector(c, d, 0, 4, 1, 5), cd2 = __builtin_shufflevector(c, d, 2, 6, 3, 7);
      const Four out[4] = {__builtin_shufflevector(ab, cd, 0, 1, 4, 5), __builtin_shufflevector(ab, cd, 2, 3, 6, 7),
                           __builtin_shufflevector(ab2, cd2, 0, 1, 4, 5),
                           __builtin_shufflevector(ab2, cd2, 2, 3, 6, 7)};
      for (int k = 0; k < 4; ++k) std::memcpy(to + (j + k) * to_row + i, &out[k], sizeof out[k]);
    }
  }
  for (std::int64_t j = 0; j < columns; ++j) {
    for (std::int64_t i = j < whole_columns ? whole_rows : 0; i < rows; ++i)
      to[j * to_row + i] = from[i * from_row + j];
  }
}

// Of whole vectors.
float sum(const float* numbers, std::int64_t count) {
  Vector sums{};
  for (std::int64_t i = 0; i < count; i += kLanes) sums += load(numbers + i);
  float all = 0;
  for (std::int64_t i = 0; i < kLanes; ++i) all += sums[i];
  return all;
}

// Where things lie in the scratch memory.
struct Places {
  explicit Places(const Mlp& mlp) : columns(mlp_columns(mlp.sizes.batch)) {
    float* next = mlp.scratch;
    const auto take = [&next](std::int64_t numbers) {
      float* const place = next;
      next += numbers;
      return place;
    };
    for (int layer = 0; layer < kMlpLayers; ++layer) {
      row[layer] = mlp_row(mlp.sizes.in(layer));
      input[layer] = take(mlp.sizes.batch * row[layer]);
    }
    for (int layer = 0; layer < kMlpLayers; ++layer) transposed[layer] = take(mlp.sizes.in(layer)*columns);
    transposed[kMlpLayers] = take(mlp.sizes.outputs * columns);
    for (int layer = 0; layer < kMlpLayers; ++layer) gradient[layer] = take(mlp.sizes.out(layer) * columns);
  }
  std::int64_t columns;               // of the transposed ones: samples, the last ones of nothing
  std::int64_t row[kMlpLayers];       // numbers between two samples of
  float* input[kMlpLayers];           // each layer's input [batch, in]
  float* transposed[kMlpLayers + 1];  // the same and the output, [in, columns]
  float* gradient[kMlpLayers];        // by each layer's output before its activation, [out, columns], of nothing 0
};

}  // namespace

void mlp_forward(const Mlp& mlp, const float* x, float* out) {
  const MlpSizes& sizes = mlp.sizes;
  const Places places(mlp);
  std::memset(places.transposed[0], 0, static_cast<std::size_t>(sizes.inputs * places.columns) * sizeof(float));
  for (std::int64_t i = 0; i < sizes.batch; ++i) {
    std::memcpy(places.input[0] + i * places.row[0], x + i * sizes.inputs,
                static_cast<std::size_t>(sizes.inputs) * sizeof(float));
  }
  transpose(x, sizes.inputs, sizes.batch, sizes.inputs, places.transposed[0], places.columns);
  for (int layer = 0; layer < kMlpLayers; ++layer) {
    const std::int64_t in = sizes.in(layer), rows = sizes.out(layer);
    float* y = places.transposed[layer + 1];
    multiply({mlp.layers[layer].weight, in, 1, places.transposed[layer], places.columns, y, places.columns, rows,
              places.columns, in, false});
    const bool last = layer + 1 == kMlpLayers;
    for (std::int64_t i = 0; i < rows; ++i) {
      const float bias = mlp.layers[layer].bias[i];
      float* row = y + i * places.columns;
      for (std::int64_t j = 0; j < places.columns; ++j) {
        const float z = row[j] + bias;
        row[j] = last || !(z <= 0) ? z : 0;  // NaN stays
      }
    }
    if (last) {
      transpose(y, places.columns, rows, sizes.batch, out, rows);
    } else {
      transpose(y, places.columns, rows, sizes.batch, places.input[layer + 1], places.row[layer + 1]);
    }
  }
}

void mlp_backward(const Mlp& mlp, const float* out_gradient) {
  const MlpSizes& sizes = mlp.sizes;
  const Places places(mlp);
  float* of_out = places.gradient[kMlpLayers - 1];
  std::memset(of_out, 0, static_cast<std::size_t>(sizes.outputs * places.columns) * sizeof(float));
  transpose(out_gradient, sizes.outputs, sizes.batch, sizes.outputs, of_out, places.columns);
  for (int layer = kMlpLayers - 1; layer >= 0; --layer) {
    const std::int64_t in = sizes.in(layer), rows = sizes.out(layer);
    const MlpLayer& of = mlp.layers[layer];
    const float* gradient = places.gradient[layer];
    multiply({gradient, places.columns, 1, places.input[layer], places.row[layer], of.weight_gradient, in, rows, in,
              sizes.batch, true});
    for (std::int64_t i = 0; i < rows; ++i) {
      of.bias_gradient[i] += sum(gradient + i * places.columns, places.columns);
    }
    if (layer == 0) break;
    float* below = places.gradient[layer - 1];
    multiply({of.weight, 1, in, gradient, places.columns, below, places.columns, in, places.columns, rows, false});
    const float* activation = places.transposed[layer];
    for (std::int64_t i = 0; i < in * places.columns; ++i) below[i] = activation[i] <= 0 ? 0 : below[i];
  }
}

}  // namespace ristretto::agents::RISTRETTO_ISA
