// The way back of an MLP's few outputs and of the ReLU below them on a CPU, in one pass over the activations: no torch.
// As operations of their own they read and write them four times, for a hundredth of the update's work.
// output_kernel.cpp is compiled once for each instruction set (cmake/InstructionSets.cmake).
#pragma once

#include <cstdint>

namespace ristretto::agents {

constexpr std::int64_t kFewOutputs = 16;

// Outputs = activation weight^T + bias, with activation = max(0, z).
struct OutputLayer {
  std::int64_t rows, width, outputs;  // outputs: at most kFewOutputs
  const float* weight;                // [outputs, width]
  const float* gradient;              // of the outputs [rows, outputs]
  float* activation;                  // [rows, width]; becomes the gradient of z
  float* weight_gradient;             // [outputs, width], which is added to
  float* z_gradient_sum;              // [width], over the rows, which is added to
};

// Of the columns [begin, end) of the width. Where an activation is NaN, the gradient passes.
#define RISTRETTO_DECLARE_OUTPUT(isa)                                            \
  namespace isa {                                                                \
  void output_back(const OutputLayer& of, std::int64_t begin, std::int64_t end); \
  }
RISTRETTO_DECLARE_OUTPUT(baseline)
RISTRETTO_DECLARE_OUTPUT(avx2)
RISTRETTO_DECLARE_OUTPUT(avx512)
#undef RISTRETTO_DECLARE_OUTPUT

}  // namespace ristretto::agents
