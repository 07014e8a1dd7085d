// Attention on a CPU by attention_kernel.h, with its gradient.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace ristretto::ft_transformer {

// float32 on a CPU, heads of 4, 8 or 16 channels.
bool fits_cpu_attention(const at::Tensor& q, std::int64_t heads);

// As attend() without a key bias: q [B, Q, d], k and v [B, T, d] -> [B, Q, d]. LibTorch's kernel gives each head's
// products to its matrix library, which needs three times as long for them.
at::Tensor cpu_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, std::int64_t heads);

}  // namespace ristretto::ft_transformer
