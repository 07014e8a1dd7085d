// What market_context reads of raw values, and the form in which files hold it.
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/log1p.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/where.h>

#include <cmath>

#include "ft_transformer/market_context.h"
#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::ft_transformer {
namespace {

constexpr double kSmallestReference = 1e-30, kLargestRatio = 1e6;  // a close of 0 stays finite
constexpr double kSmallestChange = -1 + 1e-6;                      // log1p stays finite

std::vector<double> numbers_of(const at::Tensor& tensor) {
  const at::Tensor values = tensor.to(at::kCPU, at::kDouble).contiguous();
  return {values.const_data_ptr<double>(), values.const_data_ptr<double>() + values.numel()};
}

std::vector<Role> roles_of(const Weights& weights) {
  std::vector<Role> roles;
  for (const double number : numbers_of(weights.at("input.roles"))) roles.push_back(static_cast<Role>(number));
  return roles;
}

}  // namespace

std::int64_t reference_column(const std::vector<Role>& roles) {
  for (std::size_t i = 0; i < roles.size(); ++i) {
    if (roles[i] == Role::reference) return static_cast<std::int64_t>(i);
  }
  return -1;
}

at::Tensor relative_features(const at::Tensor& raw, const std::vector<Role>& roles) {
  const std::int64_t reference = reference_column(roles);
  if (reference < 0) return raw;
  const at::Tensor close = raw.narrow(-1, reference, 1), divisor = close.clamp_min(kSmallestReference);
  // log1p of the difference, not log of the ratio: exact where the two are close, as prices of one bar are.
  const at::Tensor log_ratio = at::log1p(((raw - close) / divisor).clamp(kSmallestChange, kLargestRatio));
  const at::Tensor ratio = (raw / divisor).clamp(-kLargestRatio, kLargestRatio);
  const at::Tensor log_product = at::log1p((raw * close).clamp_min(0));
  std::vector<std::int64_t> numbers;
  for (const Role role : roles) numbers.push_back(static_cast<std::int64_t>(role));
  const at::Tensor role = at::tensor(numbers, at::TensorOptions().dtype(at::kLong)).to(raw.device());
  const auto is = [&](Role which) { return role.eq(static_cast<std::int64_t>(which)); };
  at::Tensor out = at::where(is(Role::plain), raw, log_ratio);  // of the reference itself 0
  out = at::where(is(Role::ratio), ratio, out);
  return at::where(is(Role::log_product), log_product, out);
}

void add_input_weights(Weights& weights, const MarketContextShape& shape) {
  const auto add = [&](const char* name, std::int64_t size) { weights.add(name, at::empty({size}, at::kFloat)); };
  add("input.form", 4);
  add("input.roles", shape.features);
  add("input.scales", 3);
  add("input.account_mean", 2);
  add("input.account_std", 2);
  add("input.market_mean", shape.features);
  add("input.market_std", shape.features);
}

Weights with_input(const Weights& network, const MarketContextShape& shape, const ContextInput& input) {
  std::vector<double> roles;
  for (const Role role : input.roles) roles.push_back(static_cast<double>(role));
  const std::vector<double> form{kContextFormat, static_cast<double>(shape.assets), static_cast<double>(shape.heads),
                                 shape.tokens == MarketTokens::asset ? 0.0 : 1.0};
  Weights out;
  const auto add = [&](const char* name, const at::Tensor& values) {
    out.add(name, values.to(at::kCPU, at::kFloat, /*non_blocking=*/false, /*copy=*/true));
  };
  add("input.form", at::tensor(form));
  add("input.roles", at::tensor(roles));
  add("input.scales", at::tensor(input.scales));
  add("input.account_mean", input.account_mean);
  add("input.account_std", input.account_std);
  add("input.market_mean", input.market_mean);
  add("input.market_std", input.market_std);
  for (const auto& [name, tensor] : network.to(at::kCPU, at::kFloat)) out.add(name, tensor);
  return out;
}

bool is_market_context(const Weights& weights) {
  return weights.contains("input.form") || weights.contains("portfolio.tokenizer.weight");
}

MarketContextShape market_context_shape_of(const Weights& actor, const std::string& origin) {
  const auto bad = [&](const std::string& what, const std::string& hint = {}) {
    throw Error(Fault::incompatible, str(origin, ": ", what), hint);
  };
  const auto need = [&](const std::string& name, std::int64_t dimensions) -> const at::Tensor& {
    if (!actor.contains(name)) bad(str("the weight '", name, "' is missing."));
    const at::Tensor& weight = actor.at(name);
    if (weight.dim() != dimensions || weight.numel() == 0) {
      bad(str("the weight '", name, "' has ", weight.dim(), " dimensions and ", weight.numel(), " numbers, expected ",
              dimensions, " dimensions."));
    }
    return weight;
  };
  const std::vector<double> form = numbers_of(need("input.form", 1));
  if (form[0] != kContextFormat) {
    bad(str("its input is of format ", form[0], ", expected ", kContextFormat, "."),
        "a newer version of this program wrote it");
  }
  const auto count = [](double number) { return number >= 1 && number <= 1e6 && std::trunc(number) == number; };
  if (form.size() != 4 || !count(form[1]) || !count(form[2]) || (form[3] != 0 && form[3] != 1)) {
    bad("'input.form' is not (format, assets, heads, 0 or 1).");
  }
  const std::vector<double> roles = numbers_of(need("input.roles", 1));
  int references = 0;
  for (const double role : roles) {
    if (!(role >= 0 && role <= 4) || std::trunc(role) != role) bad(str("'input.roles' holds ", role, "."));
    references += role == static_cast<double>(Role::reference);
  }
  if (references > 1) bad(str("'input.roles' names ", references, " references, expected one at most."));
  MarketContextShape shape;
  shape.assets = static_cast<std::int64_t>(form[1]);
  shape.heads = static_cast<std::int64_t>(form[2]);
  shape.tokens = form[3] == 0 ? MarketTokens::asset : MarketTokens::feature;
  shape.features = static_cast<std::int64_t>(roles.size());
  const at::Tensor& asset = need("encoder.asset.weight", 2);
  shape.d_token = asset.size(0);
  shape.lookback = asset.size(1) / shape.features;
  shape.width = need("net.2.weight", 2).size(0);
  shape.blocks = 1;
  while (actor.contains(str("encoder.blocks.", shape.blocks, ".attention.W_q.weight"))) ++shape.blocks;
  if (asset.size(1) % shape.features != 0 || shape.d_token % shape.heads != 0) {
    bad(str("'encoder.asset.weight' is [", asset.size(0), ", ", asset.size(1), "], which does not fit ", shape.features,
            " features and ", shape.heads, " heads."));
  }
  return shape;
}

std::int64_t assets_of_observation(const MarketContextShape& shape, std::int64_t observation) {
  const std::int64_t each = 1 + shape.features * shape.lookback;
  return observation > 1 && (observation - 1) % each == 0 ? (observation - 1) / each : 0;
}

at::Tensor served_forward(const Weights& weights, const MarketContextShape& shape, ContextHead head,
                          const at::Tensor& x) {
  const std::int64_t assets = assets_of_observation(shape, x.size(1));
  if (assets == 0) {
    throw Error(Fault::incompatible, str("an observation of ", x.size(1), " numbers does not fit market_context with ",
                                         shape.features, " features and lookback ", shape.lookback));
  }
  const std::vector<double> scales = numbers_of(weights.at("input.scales"));
  const std::vector<Role> roles = roles_of(weights);
  // In float64, as training made its table: a logarithm of money has few float32 digits behind its point. Division by
  // powers of two gives the raw values of training.
  const at::Tensor state = x.to(at::kDouble);
  const at::Tensor raw = (state.narrow(1, 1 + assets, assets * shape.features * shape.lookback) / scales[2])
                             .view({x.size(0), shape.lookback, assets, shape.features});
  at::Tensor holdings = state.narrow(1, 1, assets) / scales[1];
  if (const std::int64_t close = reference_column(roles); close >= 0) {
    holdings = holdings * raw.select(1, 0).select(-1, close);
  }
  const at::Tensor &mean = weights.at("input.account_mean"), &std = weights.at("input.account_std");
  const at::Tensor account =
      at::cat({(state.narrow(1, 0, 1) / scales[0] - mean[0]) / std[0], (holdings - mean[1]) / std[1]}, 1)
          .to(x.scalar_type());
  const at::Tensor windows =
      ((relative_features(raw, roles) - weights.at("input.market_mean")) / weights.at("input.market_std"))
          .transpose(1, 2)
          .to(x.scalar_type())
          .contiguous();
  return read_context(weights, shape, head, market_context(weights, shape, windows), account, {});
}

}  // namespace ristretto::ft_transformer
