#include "ft_transformer/market_context.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/addcmul.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/relu.h>
#include <ATen/record_function.h>

#include <cassert>
#include <cmath>
#include <numbers>

#include "ft_transformer/blocks.h"
#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::ft_transformer {
namespace {

constexpr const char* kEncoder = "encoder.";
constexpr const char* kPortfolio = "portfolio.";

std::string block_path(std::int64_t block) { return str(kEncoder, "blocks.", block, "."); }

void add_block(Builder& build, const std::string& path, std::int64_t d, double residual_gain) {
  for (const char* layer : {"W_q", "W_k", "W_v"}) build.linear(path + "attention." + layer, d, d, 1, true);
  build.linear(path + "attention.W_out", d, d, residual_gain, true);
  build.linear(path + "feedforward.linear1", d, 4 * d, 1, true);
  build.linear(path + "feedforward.linear2", 4 * d, d, residual_gain, true);
  build.norm(path + "norm1");
  build.norm(path + "norm2");
}

// Two residual sums a block: scaled so, their variance at the start does not grow with the depth (algorithms.md 1.4).
double residual_gain(std::int64_t blocks) { return 1 / std::sqrt(2.0 * static_cast<double>(blocks)); }

void add_encoder(Builder& build, const MarketContextShape& shape) {
  const std::int64_t d = shape.d_token, inputs = shape.lookback * shape.features;
  if (shape.tokens == MarketTokens::asset) {
    build.xavier(str(kEncoder, "tokenizer.weight"), {d, shape.features});
    build.add(str(kEncoder, "tokenizer.bias"), {shape.lookback, d});
  } else {
    build.xavier(str(kEncoder, "tokenizer.weight"), {inputs, d});
    build.add(str(kEncoder, "tokenizer.bias"), {inputs, d});
  }
  build.xavier(str(kEncoder, "asset.weight"), {d, inputs});
  for (std::int64_t i = 0; i < shape.blocks; ++i) add_block(build, block_path(i), d, residual_gain(shape.blocks));
  build.norm(str(kEncoder, "norm"));
}

at::Tensor feedforward(const Weights& weights, const std::string& path, const at::Tensor& x) {
  const at::Tensor hidden = linear_relu(weights, path + "feedforward.linear1", norm(weights, path + "norm2", x));
  return linear(weights, path + "feedforward.linear2", hidden);
}

// windows [D, n, L, F] -> [D, T, d]. All tokens of an asset carry the same sum of the asset's inputs: by it attention
// finds what belongs together, for no token says whose it is.
at::Tensor tokenize(const Weights& weights, const MarketContextShape& shape, const at::Tensor& windows) {
  const std::int64_t count = windows.size(0), assets = windows.size(1), d = shape.d_token;
  const at::Tensor& weight = weights.at(str(kEncoder, "tokenizer.weight"));
  const at::Tensor& bias = weights.at(str(kEncoder, "tokenizer.bias"));
  const at::Tensor asset =
      at::linear(windows.flatten(2), weights.at(str(kEncoder, "asset.weight"))).unsqueeze(2);  // [D, n, 1, d]
  const at::Tensor tokens = shape.tokens == MarketTokens::asset
                                ? at::linear(windows, weight) + bias
                                : at::addcmul(bias, windows.flatten(2).unsqueeze(-1), weight);
  return (tokens + asset).reshape({count, assets * tokens.size(2), d});
}

}  // namespace

void check(const MarketContextShape& shape) {
  const auto require = [](bool good, const char* setting, auto value, const std::string& expected) {
    if (!good) throw Error(Fault::usage, str("market_context: ", setting, " is ", value, ", expected ", expected, "."));
  };
  require(shape.assets > 0, "the number of assets", shape.assets, "at least 1");
  require(shape.features > 0, "the number of features", shape.features, "at least 1");
  require(shape.lookback > 0, "the lookback", shape.lookback, "at least 1");
  require(shape.d_token > 0, "d_token", shape.d_token, "at least 1");
  require(shape.blocks > 0, "the number of blocks", shape.blocks, "at least 1");
  require(shape.heads > 0, "the number of heads", shape.heads, "at least 1");
  require(shape.d_token % shape.heads == 0, "d_token", shape.d_token, str("a multiple of the ", shape.heads, " heads"));
  require(shape.width > 0, "the width", shape.width, "at least 1");
}

void add_market_encoder_weights(Weights& weights, const MarketContextShape& shape, at::Generator generator) {
  check(shape);
  Builder build(weights, shape.d_token, /*published=*/false, std::move(generator));
  add_encoder(build, shape);
}

void add_market_context_weights(Weights& weights, const MarketContextShape& shape, ContextHead head, double last_gain,
                                at::Generator generator) {
  check(shape);
  const std::int64_t d = shape.d_token, hidden = 4 * d, width = shape.width;
  constexpr double kHidden = std::numbers::sqrt2;
  Builder build(weights, d, /*published=*/false, std::move(generator));
  add_encoder(build, shape);
  const std::string portfolio = kPortfolio;
  build.xavier(portfolio + "tokenizer.weight", {2, d});  // cash, holding
  build.add(portfolio + "tokenizer.bias", {2, d});
  build.linear(portfolio + "own", d, d, 1, true);
  add_block(build, portfolio, d, residual_gain(1));
  build.norm(portfolio + "norm");
  build.orthogonal("net.0", 2 * d, width, kHidden);
  build.orthogonal("net.2", width, width, kHidden);
  if (head == ContextHead::critic) {
    build.orthogonal("net.4", width, 1, last_gain);
    return;
  }
  build.orthogonal("head.asset", d, hidden, kHidden);
  build.orthogonal("head.trunk", width, hidden, kHidden);
  build.orthogonal("head.action", hidden, 1, last_gain);
}

at::Tensor encode_market(const Weights& weights, const MarketContextShape& shape, const at::Tensor& windows) {
  assert(windows.dim() == 4 && windows.size(2) == shape.lookback && windows.size(3) == shape.features);
  at::Tensor x = tokenize(weights, shape, windows);
  for (std::int64_t i = 0; i < shape.blocks; ++i) x = block(weights, block_path(i), x, shape.heads);
  return norm(weights, str(kEncoder, "norm"), x);
}

MarketContext market_context(const Weights& weights, const MarketContextShape& shape, const at::Tensor& windows) {
  RECORD_USER_SCOPE("encoder");
  const at::Tensor tokens = encode_market(weights, shape, windows);
  const std::string portfolio = kPortfolio;
  const at::Tensor mean = tokens.view({windows.size(0), windows.size(1), -1, shape.d_token}).mean(2);
  return {linear(weights, portfolio + "attention.W_k", tokens), linear(weights, portfolio + "attention.W_v", tokens),
          linear(weights, portfolio + "own", mean)};
}

at::Tensor read_context(const Weights& weights, const MarketContextShape& shape, ContextHead head,
                        const MarketContext& context, const at::Tensor& account, const at::Tensor& window) {
  assert(account.size(1) == 1 + context.own.size(1));
  const std::string portfolio = kPortfolio;
  const auto of_sample = [&](const at::Tensor& all) { return window.defined() ? all.index_select(0, window) : all; };
  const at::Tensor& weight = weights.at(portfolio + "tokenizer.weight");
  const at::Tensor& bias = weights.at(portfolio + "tokenizer.bias");
  const auto tokens = [&](std::int64_t kind, const at::Tensor& values) {  // [B, k] -> [B, k, d]
    return at::addcmul(bias.select(0, kind), values.unsqueeze(-1), weight.select(0, kind));
  };
  at::Tensor x = at::cat({tokens(0, account.narrow(1, 0, 1)),
                          tokens(1, account.narrow(1, 1, account.size(1) - 1)) + of_sample(context.own)},
                         1);
  const at::Tensor queries = linear(weights, portfolio + "attention.W_q", norm(weights, portfolio + "norm1", x));
  const at::Tensor seen = attend(queries, of_sample(context.keys), of_sample(context.values), shape.heads);
  x = x + linear(weights, portfolio + "attention.W_out", seen);
  x = x + feedforward(weights, portfolio, x);
  x = norm(weights, portfolio + "norm", x);

  const at::Tensor holdings = x.narrow(1, 1, x.size(1) - 1);
  at::Tensor y = linear_relu(weights, "net.0", at::cat({x.select(1, 0), holdings.mean(1)}, 1));
  y = linear_relu(weights, "net.2", y);
  if (head == ContextHead::critic) return linear(weights, "net.4", y);
  const at::Tensor hidden = linear(weights, "head.asset", holdings) + linear(weights, "head.trunk", y).unsqueeze(1);
  return linear(weights, "head.action", at::relu(hidden)).squeeze(-1);
}

}  // namespace ristretto::ft_transformer
