// Linear layers on a CPU with weights in oneDNN's own order, which the product then needs not bring about: of a 1024 x
// 1024 layer, 8 rows take a third of LibTorch's own product (MKL) on an AMD processor, wide ones 0.85 of it
// (docs/performance.md). What it costs is a copy of the weight, so it is for weights that stay as they are for a while.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <limits>

namespace ristretto::agents {

class PackedLinear {
 public:
  static constexpr std::int64_t kWithoutEnd = std::numeric_limits<std::int64_t>::max();
  // weight [out, in], bias [out] or undefined; both float32 or bfloat16, without gradients. `rows`: that it will see in
  // all. Where this LibTorch or the device has no such products, or they do not pay, the plain one is used. Packed when
  // that pays for the first time: the weight must not change from here on.
  PackedLinear(const at::Tensor& weight, const at::Tensor& bias, std::int64_t rows = kWithoutEnd);
  // Of one thread at a time. x [B, in] of the weight's type -> [B, out] of the same; relu: of that, max(0, .).
  at::Tensor operator()(const at::Tensor& x, bool relu) const;

 private:
  at::Tensor weight_, bias_;
  bool packs_ = false;
  mutable at::Tensor packed_;
};

}  // namespace ristretto::agents
