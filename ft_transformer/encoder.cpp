#include "ft_transformer/encoder.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/addcmul.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/dropout.h>
#include <ATen/ops/relu.h>
#include <ATen/record_function.h>

#include <cassert>
#include <cmath>

#include "ft_transformer/blocks.h"
#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::ft_transformer {
namespace {

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

at::Tensor dropout(const EncoderShape& shape, const at::Tensor& x) {
  return shape.dropout > 0 ? at::dropout(x, shape.dropout, /*train=*/true) : x;
}

// queries [B, Q, d] attend to tokens [B, T, d] -> [B, Q, d].
at::Tensor attention(const Weights& weights, const EncoderShape& shape, const std::string& name,
                     const at::Tensor& queries, const at::Tensor& tokens, const at::Tensor& key_bias) {
  const at::Tensor joined = attend(linear(weights, name + ".W_q", queries), linear(weights, name + ".W_k", tokens),
                                   linear(weights, name + ".W_v", tokens), shape.heads, key_bias);
  return has_output_projection(shape) ? linear(weights, name + ".W_out", joined) : joined;
}

at::Tensor feedforward(const Weights& weights, const EncoderShape& shape, const std::string& name,
                       const at::Tensor& x) {
  at::Tensor hidden;
  if (shape.published) {  // ReGLU (Shazeer 2020): the gate is the second half
    const std::vector<at::Tensor> halves = linear(weights, name + ".linear1", x).chunk(2, -1);
    hidden = halves[0] * at::relu(halves[1]);
  } else {
    hidden = linear_relu(weights, name + ".linear1", x);
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
  require(!shape.published || !shape.key_bias, "key_bias", "on", "off in the published kind");
  require(!shape.published || shape.dropout == 0, "dropout", shape.dropout, "0 in the published kind");
}

void add_encoder_weights(Weights& weights, const EncoderShape& shape, const std::string& prefix,
                         at::Generator generator) {
  check(shape);
  const std::int64_t d = shape.d_token, hidden = hidden_of(shape);
  // Two residual sums a block: scaled so, their variance at the start does not grow with the depth (algorithms.md 1.4).
  const double residual_gain = 1 / std::sqrt(2.0 * static_cast<double>(shape.blocks));
  Builder build(weights, d, shape.published, std::move(generator));

  if (shape.published) {
    const double bound = 1 / std::sqrt(static_cast<double>(d));
    build.uniform(prefix + "cls_embedding.weight", {d}, bound);
    build.uniform(prefix + "cont_embeddings.weight", {shape.features, d}, bound);
    build.uniform(prefix + "cont_embeddings.bias", {shape.features, d}, bound);
  } else {
    build.xavier(prefix + "tokenizer.weight", {shape.features, d});
    build.add(prefix + "tokenizer.bias", {shape.features, d});
    if (shape.key_bias) build.add(prefix + "key_bias", {shape.features});
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
  const bool is_plain = !shape.published && !shape.key_bias && shape.dropout == 0;
  const at::Tensor key_bias = shape.key_bias ? weights.at(prefix + "key_bias") : at::Tensor();
  for (std::int64_t block = 0; block < shape.blocks; ++block) {
    if (is_plain) {
      x = ft_transformer::block(weights, str(prefix, "blocks.", block, "."), x, shape.heads);
      continue;
    }
    const BlockNames names = block_names(shape, prefix, block);
    const at::Tensor tokens = has_attention_norm(shape, block) ? norm(weights, names.attention_norm, x) : x;
    // The published head reads CLS alone, so its last block computes no other token.
    const bool cls_only = shape.published && block + 1 == shape.blocks;
    const at::Tensor queries = cls_only ? tokens.narrow(1, 0, 1) : tokens;
    const at::Tensor residual = cls_only ? x.narrow(1, 0, 1) : x;
    x = residual + dropout(shape, attention(weights, shape, names.attention, queries, tokens, key_bias));
    const at::Tensor normalized = norm(weights, names.feedforward_norm, x);
    x = x + dropout(shape, feedforward(weights, shape, names.feedforward, normalized));
  }
  if (shape.published) {
    const at::Tensor cls = norm(weights, prefix + "backbone.output.normalization", x.select(1, 0));
    return linear(weights, prefix + "backbone.output.linear", at::relu(cls));
  }
  return linear(weights, prefix + "output_projection", norm(weights, prefix + "norm", x).flatten(1));
}

}  // namespace ristretto::ft_transformer
