#include "ft_transformer/blocks.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <c10/core/DispatchKeySet.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "ft_transformer/cpu_attention.h"
#include "ft_transformer/cpu_block.h"
#include "ft_transformer/linear.h"
#include "ft_transformer/norm_kernel.h"

namespace ristretto::ft_transformer {
namespace {

constexpr std::int64_t kMaxSequences = 32768;  // of one attention call; the fused kernels fail at 65,536

// [B, T, d] -> [B, heads, T, d/heads].
at::Tensor split_heads(const at::Tensor& x, std::int64_t heads) {
  return x.view({x.size(0), x.size(1), heads, x.size(2) / heads}).transpose(1, 2);
}

// q [B, h, Q, d/h], k and v [B, h, T, d/h] -> [B, h, Q, d/h].
// What cpu_attention() does not do: GPUs, other types and widths, key biases. A key bias that is trained makes LibTorch
// keep the scores for the backward pass.
at::Tensor attend_heads(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& key_bias) {
  const auto mask = key_bias.defined() ? std::optional(key_bias.to(q.scalar_type()).view({1, 1, 1, -1})) : std::nullopt;
  if (!q.is_cpu()) return at::scaled_dot_product_attention(q, k, v, mask);
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  return at::scaled_dot_product_attention(q, k, v, mask);
}

}  // namespace

at::Tensor Builder::add(const std::string& name, at::IntArrayRef sizes, double value) {
  at::Tensor tensor = at::empty(sizes, at::kFloat);
  if (generator_.defined()) tensor.fill_(value);
  weights_.add(name, tensor);
  return tensor;
}

void Builder::uniform(const std::string& name, at::IntArrayRef sizes, double bound) {
  const at::Tensor tensor = add(name, sizes);
  if (generator_.defined()) uniform_(tensor, bound, generator_);
}

void Builder::xavier(const std::string& name, at::IntArrayRef sizes, double gain) {
  const at::Tensor tensor = add(name, sizes);
  if (generator_.defined()) xavier_uniform_(tensor, gain, generator_);
}

void Builder::linear(const std::string& name, std::int64_t in, std::int64_t out, double gain, bool zero_bias) {
  if (!published_) {
    xavier(name + ".weight", {out, in}, gain);
    add(name + ".bias", {out});
    return;
  }
  const double bound = 1 / std::sqrt(static_cast<double>(in));
  uniform(name + ".weight", {out, in}, bound);
  if (zero_bias) {
    add(name + ".bias", {out});
  } else {
    uniform(name + ".bias", {out}, bound);
  }
}

void Builder::orthogonal(const std::string& name, std::int64_t in, std::int64_t out, double gain) {
  const at::Tensor tensor = add(name + ".weight", {out, in});
  if (generator_.defined()) orthogonal_(tensor, gain, generator_);
  add(name + ".bias", {out});
}

void Builder::norm(const std::string& name) {
  add(name + ".weight", {d_token_}, 1);
  add(name + ".bias", {d_token_});
}

at::Tensor linear(const Weights& weights, const std::string& name, const at::Tensor& x) {
  return linear(x, weights.at(name + ".weight"), weights.at(name + ".bias"));
}

at::Tensor linear_relu(const Weights& weights, const std::string& name, const at::Tensor& x) {
  return linear_relu(x, weights.at(name + ".weight"), weights.at(name + ".bias"));
}

at::Tensor norm(const Weights& weights, const std::string& name, const at::Tensor& x) {
  const at::Tensor& weight = weights.at(name + ".weight");
  return at::layer_norm(x, weight.sizes(), weight, weights.at(name + ".bias"), kLayerNormEpsilon);
}

at::Tensor attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, std::int64_t heads,
                  const at::Tensor& key_bias) {
  if (q.is_cpu() && q.scalar_type() == at::kBFloat16) {  // heads of 8: bf16 is slower
    return attend(q.to(at::kFloat), k.to(at::kFloat), v.to(at::kFloat), heads, key_bias);
  }
  if (!key_bias.defined() && fits_cpu_attention(q, heads)) return cpu_attention(q, k, v, heads);
  const at::Tensor queries = split_heads(q, heads), keys = split_heads(k, heads), values = split_heads(v, heads);
  std::vector<at::Tensor> chunks;
  for (std::int64_t first = 0; first < q.size(0) || chunks.empty(); first += kMaxSequences) {
    const std::int64_t count = std::min(kMaxSequences, q.size(0) - first);
    chunks.push_back(attend_heads(queries.narrow(0, first, count), keys.narrow(0, first, count),
                                  values.narrow(0, first, count), key_bias));
  }
  const at::Tensor joined = chunks.size() == 1 ? chunks.front() : at::cat(chunks);
  return joined.transpose(1, 2).reshape(q.sizes());
}

at::Tensor block(const Weights& weights, const std::string& path, const at::Tensor& x, std::int64_t heads) {
  if (fits_cpu_block(x, heads)) return cpu_block(weights, path, x, heads);
  const std::string name = path + "attention.";
  const at::Tensor tokens = norm(weights, path + "norm1", x);
  const at::Tensor seen = attend(linear(weights, name + "W_q", tokens), linear(weights, name + "W_k", tokens),
                                 linear(weights, name + "W_v", tokens), heads);
  const at::Tensor sum = x + linear(weights, name + "W_out", seen);
  const at::Tensor hidden = linear_relu(weights, path + "feedforward.linear1", norm(weights, path + "norm2", sum));
  return sum + linear(weights, path + "feedforward.linear2", hidden);
}

}  // namespace ristretto::ft_transformer
