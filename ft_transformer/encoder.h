// FT-Transformers as functions of named weights: the deployed one (algorithms.md 1.1) and the published one (1.2).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

#include "ft_transformer/weights.h"

namespace ristretto::ft_transformer {

// Pre-norm blocks over scalar tokens. The two kinds are options of one implementation.
struct EncoderShape {
  std::int64_t features = 0;  // S scalar inputs, one token each
  std::int64_t d_token = 32;  // d
  std::int64_t blocks = 2;
  std::int64_t heads = 4;   // d % heads == 0
  std::int64_t hidden = 0;  // feedforward width; 0: 4d (deployed), int(d*4/3) (published)
  std::int64_t output = 0;  // deployed: W of output_projection; published: outputs of the head
  // Of the deployed kind's converted form: a learnable number a token that attention adds to its scores, so that tokens
  // can come in unseen (algorithms.md 6). Weight "key_bias" [S].
  bool key_bias = false;
  bool published = false;  // CLS token, ReGLU, no first attention norm, head on CLS
  double dropout = 0;      // after the feedforward's ReLU, linear2 and W_out; pre-training only, not if published
};

// Throws Error(usage) that names the setting: d_token not divisible by heads, sizes not positive.
void check(const EncoderShape& shape);

// Names, order and initial values of algorithms.md, float32 on the CPU; `prefix` ("encoder.") stands before each name.
// W_out and linear2 of the deployed kind are 1/sqrt(2 blocks) of Xavier's (1.4). With an undefined generator the values
// are not set. Throws what check() throws.
void add_encoder_weights(Weights& weights, const EncoderShape& shape, const std::string& prefix,
                         at::Generator generator);

// input [B, S] -> [B, output]; the deployed kind's before the ReLU that follows output_projection. float32, float64 or
// under autocast. Attention runs in chunks of at most 32,768 sequences, on the CPU never in bf16.
at::Tensor encode(const Weights& weights, const EncoderShape& shape, const std::string& prefix,
                  const at::Tensor& input);

}  // namespace ristretto::ft_transformer
