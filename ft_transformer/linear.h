// Linear layers, alone or with the ReLU behind them: on a CPU in float32 the products are those of product.h, and what
// follows a product is one pass each way (relu_kernel.h), or forward its last step. No second derivatives.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>

namespace ristretto::ft_transformer {

// x W^T + bias and, the second, max(0, that): x [.., in], weight [out, in], bias [out] -> [.., out].
at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);
at::Tensor linear_relu(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

// Its parts, for passes without a graph. Whether they apply to such numbers:
bool fits_relu_kernel(const at::Tensor& y);
// y [B, out], contiguous, becomes max(0, y + bias).
void add_bias_relu_(const at::Tensor& y, const at::Tensor& bias);
// z_gradient [B, out], of what the ReLU took, becomes y_gradient where y, which it gave, is not 0; its sum over B is
// added to bias_gradient [out]. All contiguous; z_gradient may be y or y_gradient, which moves a quarter less memory.
void relu_back(const at::Tensor& y, const at::Tensor& y_gradient, const at::Tensor& z_gradient,
               const at::Tensor& bias_gradient);

// Runs `pass` over the columns [begin, end) of a matrix [rows, width] of float32, on as many threads as have enough to
// do; by whole cache lines, so that no two write to one.
void by_columns(std::int64_t rows, std::int64_t width,
                const std::function<void(std::int64_t begin, std::int64_t end)>& pass);

}  // namespace ristretto::ft_transformer
