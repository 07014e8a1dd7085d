// What the networks of this room are built of: layers by the names of their weights, and attention.
#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

#include "ft_transformer/weights.h"

namespace ristretto::ft_transformer {

// Adds the weights of layers in the files' order; without a generator their values are not set.
class Builder {
 public:
  Builder(Weights& weights, std::int64_t d_token, bool published, at::Generator generator)
      : weights_(weights), d_token_(d_token), published_(published), generator_(std::move(generator)) {}

  at::Tensor add(const std::string& name, at::IntArrayRef sizes, double value = 0);
  void uniform(const std::string& name, at::IntArrayRef sizes, double bound);
  void xavier(const std::string& name, at::IntArrayRef sizes, double gain = 1);
  // Deployed: Xavier with `gain`, bias 0. Published: U(-1/sqrt in, 1/sqrt in), the bias too unless `zero_bias`.
  void linear(const std::string& name, std::int64_t in, std::int64_t out, double gain, bool zero_bias);
  void orthogonal(const std::string& name, std::int64_t in, std::int64_t out, double gain);  // bias 0
  void norm(const std::string& name);

 private:
  Weights& weights_;
  std::int64_t d_token_;
  bool published_;
  at::Generator generator_;
};

at::Tensor linear(const Weights& weights, const std::string& name, const at::Tensor& x);
at::Tensor linear_relu(const Weights& weights, const std::string& name, const at::Tensor& x);
at::Tensor norm(const Weights& weights, const std::string& name, const at::Tensor& x);  // over the last axis

// softmax(q k^T / sqrt(d/h)) v by `heads` heads, which split the channels in order; q [B, Q, d], k and v [B, T, d] ->
// [B, Q, d]. In chunks of at most 32,768 sequences, on the CPU never in bf16. key_bias [T], where defined, is added to
// every query's scores before the softmax.
at::Tensor attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, std::int64_t heads,
                  const at::Tensor& key_bias = {});

// x += attention(norm1(x)); x += feedforward(norm2(x)) (algorithms.md 1.1), with the weights of `path`; x [B, T, d].
at::Tensor block(const Weights& weights, const std::string& path, const at::Tensor& x, std::int64_t heads);

}  // namespace ristretto::ft_transformer
