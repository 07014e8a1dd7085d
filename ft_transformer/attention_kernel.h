// Softmax attention on a CPU for heads of few channels, whose products are too small for a matrix library: no torch.
// attention_kernel.cpp is compiled once for each instruction set (cmake/InstructionSets.cmake).
#pragma once

#include <cstdint>

namespace ristretto::ft_transformer {

// All contiguous: q and out [B, Q, heads * channels], k and v [B, T, heads * channels], log_sum_exp
// [B, heads, Q].
struct AttentionSizes {
  std::int64_t queries, keys, heads, channels;
};
struct AttentionForward {
  const float *q, *k, *v;
  float *out, *log_sum_exp;  // of a query's scores, in base 2: log2(sum of e^score)
};
struct AttentionBackward {
  const float *q, *k, *v, *out, *log_sum_exp, *out_gradient;
  float *q_gradient, *k_gradient, *v_gradient;
};

constexpr std::int64_t kAttentionLanes = 16;  // of the widest vector
constexpr std::int64_t kAttentionRows = 8;    // queries at once whose gradient is summed: they hide one sum's latency

// Numbers of scratch memory: a query a lane's scores forward, their gradients [Q, T] and a number a query backward.
constexpr std::int64_t attention_scratch(const AttentionSizes& sizes) { return sizes.keys * kAttentionLanes; }
constexpr std::int64_t attention_back_scratch(const AttentionSizes& sizes) {
  return (sizes.queries + kAttentionRows) * (sizes.keys + kAttentionLanes + 1);
}

constexpr bool has_attention_kernel(std::int64_t channels) { return channels == 4 || channels == 8 || channels == 16; }

// Of the heads [begin, end) of all B * heads, counted sequence by sequence; scratch: the calling thread's own.
#define RISTRETTO_DECLARE_ATTENTION(isa)                                                                     \
  namespace isa {                                                                                            \
  void attention(const AttentionSizes&, const AttentionForward&, std::int64_t begin, std::int64_t end,       \
                 float* scratch);                                                                            \
  void attention_back(const AttentionSizes&, const AttentionBackward&, std::int64_t begin, std::int64_t end, \
                      float* scratch);                                                                       \
  }
RISTRETTO_DECLARE_ATTENTION(baseline)
RISTRETTO_DECLARE_ATTENTION(avx2)
RISTRETTO_DECLARE_ATTENTION(avx512)
#undef RISTRETTO_DECLARE_ATTENTION

}  // namespace ristretto::ft_transformer
