// One MLP of three layers with ReLU over one small batch, forward and backward, on one thread of a CPU: no torch. A
// matrix library packs the factors of each product, which takes a fifth of the time at a batch of 64; here activations
// are transposed, so that products read weights as they lie. mlp_kernel.cpp is compiled once for each instruction set
// (cmake/InstructionSets.cmake).
#pragma once

#include <cstdint>

namespace ristretto::agents {

constexpr int kMlpLayers = 3;

struct MlpSizes {
  std::int64_t batch, inputs, width, outputs;

  std::int64_t in(int layer) const { return layer == 0 ? inputs : width; }
  std::int64_t out(int layer) const { return layer == kMlpLayers - 1 ? outputs : width; }
};

// All row-major and contiguous.
struct MlpLayer {
  const float *weight, *bias;              // [out, in], [out]
  float *weight_gradient, *bias_gradient;  // of the same shapes
};
struct Mlp {
  MlpSizes sizes;
  MlpLayer layers[kMlpLayers];
  float* scratch;  // mlp_scratch() numbers, aligned to 64 bytes: what mlp_backward() needs of mlp_forward()
};

constexpr std::int64_t kMlpColumns = 64;  // of a product at once, the most of all instruction sets
constexpr std::int64_t mlp_columns(std::int64_t count) { return (count + kMlpColumns - 1) / kMlpColumns * kMlpColumns; }
// Of a row that is read down its column: an odd number of cache lines, so that a column does not fall into one set.
constexpr std::int64_t mlp_row(std::int64_t count) { return mlp_columns(count) + 16; }

constexpr std::int64_t mlp_scratch(const MlpSizes& of) {
  const std::int64_t natural = of.batch * (mlp_row(of.inputs) + 2 * mlp_row(of.width));
  const std::int64_t transposed = mlp_columns(of.batch) * (of.inputs + 4 * of.width + 2 * of.outputs);
  return natural + transposed;
}

// x [batch, inputs], out and out_gradient [batch, outputs]. Gradients are added to those that are there.
#define RISTRETTO_DECLARE_MLP(isa)                          \
  namespace isa {                                           \
  void mlp_forward(const Mlp&, const float* x, float* out); \
  void mlp_backward(const Mlp&, const float* out_gradient); \
  }
RISTRETTO_DECLARE_MLP(avx2)
RISTRETTO_DECLARE_MLP(avx512)
#undef RISTRETTO_DECLARE_MLP

}  // namespace ristretto::agents
