// Products of matrices. Large ones of float32 on a CPU that has AMX run on its tiles (product_kernel.h, which says for
// which numbers), with errors no larger than those of float32 sums; all others are at::mm. No gradients.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace ristretto::ft_transformer {

// Whether a product [rows, depth] x [depth, columns] of float32 on a CPU runs on tiles, on this thread.
bool on_tiles(std::int64_t rows, std::int64_t depth, std::int64_t columns);

// a [m, k], b [k, n] -> [m, n].
at::Tensor product(const at::Tensor& a, const at::Tensor& b);
// Adds a b to c [m, n], which may be a part of a larger matrix. Sizes that do not fit are LibTorch's error, here too.
void add_product_(const at::Tensor& c, const at::Tensor& a, const at::Tensor& b);
// x W^T + bias [B, out] of x [B, in], weight [out, in], bias [out]; relu: of that, max(0, .).
at::Tensor affine(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, bool relu);

}  // namespace ristretto::ft_transformer
