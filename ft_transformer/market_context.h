// The network whose encoder is shared by all portfolios at a bar (performance.md, "market_context"): the market's
// tokens attend to each other only and are encoded once per window, the portfolio's tokens (cash, one per holding)
// query that encoding, a trunk and heads follow. All weights are shared across assets: any number of assets is served,
// and their order does not matter.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "ft_transformer/weights.h"

namespace ristretto::ft_transformer {

// asset: one token an asset and lag, of its F features. feature: one token an asset, lag and feature.
enum class MarketTokens { asset, feature };

struct MarketContextShape {
  std::int64_t assets = 0;    // n that it was trained with; forward() takes any
  std::int64_t features = 0;  // F of an asset
  std::int64_t lookback = 1;  // L
  MarketTokens tokens = MarketTokens::asset;
  std::int64_t d_token = 32;  // d; the feedforward is 4d wide, the head's hidden layer too
  std::int64_t blocks = 2;
  std::int64_t heads = 4;
  std::int64_t width = 256;  // W of the trunk

  // T of n assets.
  std::int64_t tokens_of(std::int64_t n) const {
    return n * lookback * (tokens == MarketTokens::feature ? features : 1);
  }
};

// Throws Error(usage) that names the setting.
void check(const MarketContextShape& shape);

enum class ContextHead { actor, critic };

// Names, order and initial values: encoder.* Xavier with W_out and linear2 scaled as the FT-Transformer's, portfolio.*
// likewise, net.* and head.* orthogonal, the last layer with `last_gain`. With an undefined generator the values are
// not set.
void add_market_context_weights(Weights& weights, const MarketContextShape& shape, ContextHead head, double last_gain,
                                at::Generator generator);
// The part "encoder." of them, which pre-training fits and both networks may start from.
void add_market_encoder_weights(Weights& weights, const MarketContextShape& shape, at::Generator generator);

// windows [D, n, L, F] -> normalised tokens [D, T, d], an asset's beside each other; T = n L, or n L F.
at::Tensor encode_market(const Weights& weights, const MarketContextShape& shape, const at::Tensor& windows);

// What the portfolios read of D windows.
struct MarketContext {
  at::Tensor keys, values;  // [D, T, d]
  at::Tensor own;           // [D, n, d]
};
MarketContext market_context(const Weights& weights, const MarketContextShape& shape, const at::Tensor& windows);

// account [B, 1+n], window [B] int64: whose context each sample reads (undefined: sample b reads context b) -> actor
// [B, n], critic [B, 1].
at::Tensor read_context(const Weights& weights, const MarketContextShape& shape, ContextHead head,
                        const MarketContext& context, const at::Tensor& account, const at::Tensor& window);

// ---- What the network sees of raw values ----
// Statistics shared by all assets need values that are alike for all of them. Every column but a plain one is taken
// relative to the asset's reference (its close) in the same row: log_ratio log(x / c), ratio x / c, log_product
// log(1 + x c); the reference itself becomes 0. A holding is seen as its value, holding * newest reference.
enum class Role { plain = 0, log_ratio = 1, ratio = 2, log_product = 3, reference = 4 };

// raw [..., F] floating -> [..., F]. roles: one a column, at most one a reference; without one all are plain.
at::Tensor relative_features(const at::Tensor& raw, const std::vector<Role>& roles);
// Where the reference stands; -1: nowhere.
std::int64_t reference_column(const std::vector<Role>& roles);

// All that turns a served observation into what the network reads; in files as weights "input.*".
struct ContextInput {
  std::vector<Role> roles;               // [F]
  std::vector<double> scales{1, 1, 1};   // of cash, holdings and features in the observation
  at::Tensor account_mean, account_std;  // [2] of cash, and of a holding's value
  at::Tensor market_mean, market_std;    // [F] of relative features
};
inline constexpr int kContextFormat = 1;  // input.form's first number
// The weights "input.*" (float32) in front of the network's: what a file holds.
Weights with_input(const Weights& network, const MarketContextShape& shape, const ContextInput& input);
// Names and shapes of the former; values are not set.
void add_input_weights(Weights& weights, const MarketContextShape& shape);
bool is_market_context(const Weights& weights);
// Shape of a file's actor, whatever its order. Throws Error(incompatible) naming what is missing or strange.
MarketContextShape market_context_shape_of(const Weights& actor, const std::string& origin);
// x [B, 1 + n + n F L], a served observation of any n, through weights with "input.*".
at::Tensor served_forward(const Weights& weights, const MarketContextShape& shape, ContextHead head,
                          const at::Tensor& x);
// n of an observation of S numbers; 0: there is none.
std::int64_t assets_of_observation(const MarketContextShape& shape, std::int64_t observation);

}  // namespace ristretto::ft_transformer
