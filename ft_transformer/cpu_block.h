// A pre-norm block on a CPU, few sequences at once: what it computes of them stays in a core's cache from the first
// norm to the last sum, each way. As a network's operations one by one, each of its [B, T, d] tensors goes through
// memory.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

#include "ft_transformer/weights.h"

namespace ristretto::ft_transformer {

// x += attention(norm1(x)); x += feedforward(norm2(x)) (algorithms.md 1.1) for x [B, T, d], with the weights of `path`:
// attention.W_q and so on, feedforward.linear1 and 2, norm1, norm2; gradients of all of them and of x. Threads
// change no bit of what it gives, but for the order in which a matrix library sums a weight's gradient.
at::Tensor cpu_block(const Weights& weights, const std::string& path, const at::Tensor& x, std::int64_t heads);

// float32 on a CPU, not under autocast, d a multiple of 16 and of a head's width that cpu_attention() takes.
bool fits_cpu_block(const at::Tensor& x, std::int64_t heads);

}  // namespace ristretto::ft_transformer
