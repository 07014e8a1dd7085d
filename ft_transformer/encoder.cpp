#include "ft_transformer/encoder.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/addcmul.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/dropout.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/record_function.h>
#include <c10/core/DispatchKeySet.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

#include <algorithm>
#include <cassert>
#include <cmath>
#include <iterator>

#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::ft_transformer {
namespace {

constexpr double kLayerNormEpsilon = 1e-5;
constexpr std::int64_t kMaxSequences = 32768;  // of one attention call; the fused kernels fail at 65,536

std::int64_t hidden_of(const EncoderShape& shape) {
  if (shape.hidden > 0) return shape.hidden;
  return shape.published ? shape.d_token * 4 / 3 : 4 * shape.d_token;
}

struct BlockNames {
  std::string attention, attention_norm, feedforward, feedforward_norm;
};

BlockNames block_names(const EncoderShape& shape, const std::string& prefix, std::int64_t block) {
  if (shape.published) {
    const std::string path = str(prefix, "backbone.blocks.", block, ".");
    return {path + "attention", path + "attention_normalization", path + "ffn", path + "ffn_normalization"};
  }
  const std::string path = str(prefix, "blocks.", block, ".");
  return {path + "attention", path + "norm1", path + "feedforward", path + "norm2"};
}

bool has_attention_norm(const EncoderShape& shape, std::int64_t block) { return !shape.published || block > 0; }
bool has_output_projection(const EncoderShape& shape) { return !shape.published || shape.heads > 1; }

// Adds the weights of layers in the files' order; without a generator their values are not set.
class Builder {
 public:
  Builder(Weights& weights, const EncoderShape& shape, at::Generator generator)
      : weights_(weights), shape_(shape), generator_(std::move(generator)) {}

  at::Tensor add(const std::string& name, at::IntArrayRef sizes, double value = 0) {
    at::Tensor tensor = at::empty(sizes, at::kFloat);
    if (generator_.defined()) tensor.fill_(value);
    weights_.add(name, tensor);
    return tensor;
  }

  void uniform(const std::string& name, at::IntArrayRef sizes, double bound) {
    const at::Tensor tensor = add(name, sizes);
    if (generator_.defined()) uniform_(tensor, bound, generator_);
  }

  void xavier(const std::string& name, at::IntArrayRef sizes, double gain = 1) {
    const at::Tensor tensor = add(name, sizes);
    if (generator_.defined()) xavier_uniform_(tensor, gain, generator_);
  }

  // Deployed: Xavier with `gain`, bias 0. Published: U(-1/sqrt in, 1/sqrt in), the bias too unless `zero_bias`.
  void linear(const std::string& name, std::int64_t in, std::int64_t out, double gain, bool zero_bias) {
    if (!shape_.published) {
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

  void norm(const std::string& name) {
    add(name + ".weight", {shape_.d_token}, 1);
    add(name + ".bias", {shape_.d_token});
  }

 private:
  Weights& weights_;
  const EncoderShape& shape_;
  at::Generator generator_;
};

at::Tensor linear(const Weights& weights, const std::string& name, const at::Tensor& x) {
  return at::linear(x, weights.at(name + ".weight"), weights.at(name + ".bias"));
}

at::Tensor norm(const Weights& weights, const std::string& name, const at::Tensor& x) {
  const at::Tensor& weight = weights.at(name + ".weight");
  return at::layer_norm(x, weight.sizes(), weight, weights.at(name + ".bias"), kLayerNormEpsilon);
}

at::Tensor dropout(const EncoderShape& shape, const at::Tensor& x) {
  return shape.dropout > 0 ? at::dropout(x, shape.dropout, /*train=*/true) : x;
}

// [B, T, d] -> [B, heads, T, d/heads]; heads split the channels in order.
at::Tensor split_heads(const at::Tensor& x, std::int64_t heads) {
  return x.view({x.size(0), x.size(1), heads, x.size(2) / heads}).transpose(1, 2);
}

// softmax(q k^T / sqrt(d/h)) v; q [B, h, Q, d/h], k and v [B, h, T, d/h] -> [B, h, Q, d/h].
// One kernel for every device: on a CPU products written out are a tenth faster only where their scores fit into the
// cache (32 sequences at a time), 1.6 times slower elsewhere, and keep the scores for the backward pass.
at::Tensor attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  if (!q.is_cpu()) return at::scaled_dot_product_attention(q, k, v);
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);  // heads of 8: bf16 is slower
  const auto type = q.scalar_type() == at::kBFloat16 ? at::kFloat : q.scalar_type();
  return at::scaled_dot_product_attention(q.to(type), k.to(type), v.to(type));
}

// queries [B, Q, d] attend to tokens [B, T, d] -> [B, Q, d].
at::Tensor attention(const Weights& weights, const EncoderShape& shape, const std::string& name,
                     const at::Tensor& queries, const at::Tensor& tokens) {
  const at::Tensor q = split_heads(linear(weights, name + ".W_q", queries), shape.heads);
  const at::Tensor k = split_heads(linear(weights, name + ".W_k", tokens), shape.heads);
  const at::Tensor v = split_heads(linear(weights, name + ".W_v", tokens), shape.heads);
  std::vector<at::Tensor> chunks;
  for (std::int64_t first = 0; first < q.size(0) || chunks.empty(); first += kMaxSequences) {
    const std::int64_t count = std::min(kMaxSequences, q.size(0) - first);
    chunks.push_back(attend(q.narrow(0, first, count), k.narrow(0, first, count), v.narrow(0, first, count)));
  }
  const at::Tensor heads = chunks.size() == 1 ? chunks.front() : at::cat(chunks);
  const at::Tensor joined = heads.transpose(1, 2).reshape(queries.sizes());
  return has_output_projection(shape) ? linear(weights, name + ".W_out", joined) : joined;
}

at::Tensor feedforward(const Weights& weights, const EncoderShape& shape, const std::string& name,
                       const at::Tensor& x) {
  at::Tensor hidden = linear(weights, name + ".linear1", x);
  if (shape.published) {  // ReGLU (Shazeer 2020): the gate is the second half
    const std::vector<at::Tensor> halves = hidden.chunk(2, -1);
    hidden = halves[0] * at::relu(halves[1]);
  } else {
    hidden = at::relu(hidden);
  }
  return linear(weights, name + ".linear2", dropout(shape, hidden));
}

// input [B, S] -> tokens [B, S, d], published: [B, 1 + S, d] with CLS at 0.
at::Tensor tokenize(const Weights& weights, const EncoderShape& shape, const std::string& prefix,
                    const at::Tensor& input) {
  const std::string name = prefix + (shape.published ? "cont_embeddings" : "tokenizer");
  const at::Tensor tokens = at::addcmul(weights.at(name + ".bias"), input.unsqueeze(-1), weights.at(name + ".weight"));
  if (!shape.published) return tokens;
  const at::Tensor& cls = weights.at(prefix + "cls_embedding.weight");
  return at::cat({cls.expand({input.size(0), 1, shape.d_token}), tokens}, 1);
}

}  // namespace

void check(const EncoderShape& shape) {
  const auto require = [](bool good, const char* setting, auto value, const std::string& expected) {
    if (!good) throw Error(Fault::usage, str("FT-Transformer: ", setting, " is ", value, ", expected ", expected, "."));
  };
  require(shape.features > 0, "the number of features", shape.features, "at least 1");
  require(shape.d_token > 0, "d_token", shape.d_token, "at least 1");
  require(shape.blocks > 0, "the number of blocks", shape.blocks, "at least 1");
  require(shape.heads > 0, "the number of heads", shape.heads, "at least 1");
  require(shape.d_token % shape.heads == 0, "d_token", shape.d_token, str("a multiple of the ", shape.heads, " heads"));
  require(shape.hidden >= 0, "the feedforward width", shape.hidden, "at least 1, or 0 for its default");
  require(shape.output > 0, "the number of outputs", shape.output, "at least 1");
  require(shape.dropout >= 0 && shape.dropout < 1, "dropout", shape.dropout, "at least 0 and below 1");
  require(!shape.published || shape.dropout == 0, "dropout", shape.dropout, "0 in the published kind");
}

void add_encoder_weights(Weights& weights, const EncoderShape& shape, const std::string& prefix,
                         at::Generator generator) {
  check(shape);
  const std::int64_t d = shape.d_token, hidden = hidden_of(shape);
  // Two residual sums a block: scaled so, their variance at the start does not grow with the depth (algorithms.md 1.4).
  const double residual_gain = 1 / std::sqrt(2.0 * static_cast<double>(shape.blocks));
  Builder build(weights, shape, std::move(generator));

  if (shape.published) {
    const double bound = 1 / std::sqrt(static_cast<double>(d));
    build.uniform(prefix + "cls_embedding.weight", {d}, bound);
    build.uniform(prefix + "cont_embeddings.weight", {shape.features, d}, bound);
    build.uniform(prefix + "cont_embeddings.bias", {shape.features, d}, bound);
  } else {
    build.xavier(prefix + "tokenizer.weight", {shape.features, d});
    build.add(prefix + "tokenizer.bias", {shape.features, d});
  }
  for (std::int64_t block = 0; block < shape.blocks; ++block) {
    const BlockNames names = block_names(shape, prefix, block);
    for (const char* layer : {".W_q", ".W_k", ".W_v"}) build.linear(names.attention + layer, d, d, 1, true);
    if (has_output_projection(shape)) build.linear(names.attention + ".W_out", d, d, residual_gain, true);
    if (shape.published) build.norm(names.feedforward_norm);
    build.linear(names.feedforward + ".linear1", d, shape.published ? 2 * hidden : hidden, 1, false);
    build.linear(names.feedforward + ".linear2", hidden, d, residual_gain, false);
    if (has_attention_norm(shape, block)) build.norm(names.attention_norm);
    if (!shape.published) build.norm(names.feedforward_norm);
  }
  if (shape.published) {
    build.norm(prefix + "backbone.output.normalization");
    build.linear(prefix + "backbone.output.linear", d, shape.output, 1, false);
  } else {
    build.norm(prefix + "norm");
    build.linear(prefix + "output_projection", shape.features * d, shape.output, 1, true);
  }
}

at::Tensor encode(const Weights& weights, const EncoderShape& shape, const std::string& prefix,
                  const at::Tensor& input) {
  RECORD_USER_SCOPE("encoder");
  assert(input.dim() == 2 && input.size(1) == shape.features);
  at::Tensor x = tokenize(weights, shape, prefix, input);
  for (std::int64_t block = 0; block < shape.blocks; ++block) {
    const BlockNames names = block_names(shape, prefix, block);
    const at::Tensor tokens = has_attention_norm(shape, block) ? norm(weights, names.attention_norm, x) : x;
    // The published head reads CLS alone, so its last block computes no other token.
    const bool cls_only = shape.published && block + 1 == shape.blocks;
    const at::Tensor queries = cls_only ? tokens.narrow(1, 0, 1) : tokens;
    const at::Tensor residual = cls_only ? x.narrow(1, 0, 1) : x;
    x = residual + dropout(shape, attention(weights, shape, names.attention, queries, tokens));
    const at::Tensor normalized = norm(weights, names.feedforward_norm, x);
    x = x + dropout(shape, feedforward(weights, shape, names.feedforward, normalized));
  }
  if (shape.published) {
    const at::Tensor cls = norm(weights, prefix + "backbone.output.normalization", x.select(1, 0));
    return linear(weights, prefix + "backbone.output.linear", at::relu(cls));
  }
  return linear(weights, prefix + "output_projection", norm(weights, prefix + "norm", x).flatten(1));
}

const PublishedDefaults& published_defaults(std::int64_t blocks) {
  static const PublishedDefaults kTable[] = {
      {1, 96, 8, 128, 0.10, 0.00, 0},  {2, 128, 8, 170, 0.15, 0.05, 0}, {3, 192, 8, 256, 0.20, 0.10, 0},
      {4, 256, 8, 341, 0.25, 0.15, 0}, {5, 320, 8, 426, 0.30, 0.20, 0}, {6, 384, 8, 512, 0.35, 0.25, 0},
  };
  if (blocks < 1 || blocks > std::ssize(kTable)) {
    throw Error(Fault::usage, str("FT-Transformer: there are no published defaults for ", blocks,
                                  " blocks, expected 1 to ", std::ssize(kTable), "."));
  }
  return kTable[blocks - 1];
}

}  // namespace ristretto::ft_transformer
