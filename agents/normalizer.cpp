#include "agents/normalizer.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/flip.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/sub.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/var_mean.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/record_function.h>

#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::agents {
namespace {

constexpr double kSmallestRelativeStd = 1e-6;   // below it a feature is rounding noise around its mean
constexpr double kConstantRelativeStd = 1e-12;  // double rounding of a column of equal numbers

// What a column is divided by (algorithms.md 2.2).
at::Tensor divisor_of(const at::Tensor& mean, const at::Tensor& variance) {
  const at::Tensor std = variance.sqrt();
  const at::Tensor size = mean.abs().clamp_min(1.0);
  return at::where(std <= kConstantRelativeStd * size, at::ones_like(std),
                   at::maximum(std, kSmallestRelativeStd * size));
}

}  // namespace

void RunningMoments::update(const at::Tensor& samples) {
  const at::NoGradGuard no_grad;
  const at::Tensor rows = samples.reshape({-1, samples.size(-1)}).to(at::kDouble);
  const auto added = static_cast<double>(rows.size(0));
  if (added == 0) return;
  if (mean.device() != rows.device()) {
    mean = mean.to(rows.device());
    variance = variance.to(rows.device());
  }
  const auto [row_variance, row_mean] = at::var_mean(rows, at::IntArrayRef{0}, /*unbiased=*/false);
  // Chan, Golub, LeVeque 1979: moments of two sets from the moments of each.
  const double total = count + added;
  const at::Tensor delta = row_mean - mean;
  const at::Tensor squares = variance * count + row_variance * added + delta * delta * (count * added / total);
  mean = mean + delta * (added / total);
  variance = squares / total;
  count = total;
}

Normalizer::Normalizer(const env::Market& market, const env::Layout& layout, const RunningMoments& account_prior)
    : account_size_(1 + layout.assets_count()), lookback_(layout.lookback), account_(account_prior) {
  const at::NoGradGuard no_grad;
  if (market.tech.size(1) != layout.market_columns()) {
    throw Error(Fault::usage,
                str("the market has ", market.tech.size(1), " feature columns, the layout ", layout.market_columns()));
  }
  if (account_prior.mean.numel() != account_size_) {
    throw Error(Fault::usage, str("the account's prior has ", account_prior.mean.numel(),
                                  " columns, the layout's account ", account_size_));
  }
  std::vector<at::Tensor> rows;
  for (const env::Segment& segment : market.segments) {
    rows.push_back(market.tech.slice(0, segment.begin, segment.end));
  }
  if (rows.empty()) throw Error(Fault::usage, "the market has no segment to take statistics of");
  const auto [variance, mean] = at::var_mean(at::cat(rows).to(at::kDouble), at::IntArrayRef{0}, /*unbiased=*/false);
  market_mean_ = mean.to(at::kCPU);
  market_std_ = divisor_of(market_mean_, variance.to(at::kCPU));
  tech_ = market.tech;
  account_.mean = account_.mean.to(tech_.device(), at::kDouble);
  account_.variance = account_.variance.to(tech_.device(), at::kDouble);
  fill_table();
  take_account_statistics();
}

Normalizer::Normalizer(std::int64_t account_size) : account_size_(account_size) {}

void Normalizer::fill_table() {
  const at::NoGradGuard no_grad;
  const at::Tensor mean = market_mean_.to(tech_.device()), std = market_std_.to(tech_.device());
  table_ = at::flip((tech_.to(at::kDouble) - mean) / std, {0}).to(at::kFloat).contiguous();
}

void Normalizer::take_account_statistics() {
  account_shift_ = account_.mean.to(at::kFloat);
  account_scale_ = (1.0 / divisor_of(account_.mean, account_.variance)).to(at::kFloat);
}

at::Tensor Normalizer::matrix(const env::Observation& observation) const {
  RECORD_USER_SCOPE("observations");
  const at::NoGradGuard no_grad;
  if (!lookback_) return observation.account;
  const std::int64_t rows = table_.size(0), columns = table_.size(1);
  const std::int64_t worlds = observation.account.size(0);
  at::Tensor out = at::empty({worlds, account_size_ + columns * lookback_}, account_shift_.options());
  at::Tensor account = out.narrow(1, 0, account_size_);
  at::sub_out(account, observation.account, account_shift_);
  account.mul_(account_scale_);
  // Row r of the table is bar rows-1-r, so a window, newest first, is one run of memory.
  const at::Tensor windows = table_.as_strided({rows - lookback_ + 1, lookback_ * columns}, {columns, 1});
  at::Tensor market = out.narrow(1, account_size_, columns * lookback_);
  at::index_select_out(market, windows, 0, (rows - 1) - observation.bar);
  return out;
}

void Normalizer::update_account(const at::Tensor& account) {
  if (!lookback_) return;
  account_.update(account);
  take_account_statistics();
}

ft_transformer::Weights Normalizer::folded(const ft_transformer::Weights& weights, const Architecture& architecture,
                                           const env::Layout& layout) const {
  const at::NoGradGuard no_grad;
  if (!lookback_) throw Error(Fault::usage, "an environment without a market has no observation layout to fold into");
  std::vector<at::Tensor> means{account_shift_.to(at::kCPU, at::kDouble)};
  std::vector<at::Tensor> factors{account_scale_.to(at::kCPU, at::kDouble)};
  for (std::int64_t lag = 0; lag < lookback_; ++lag) {
    means.push_back(market_mean_);
    factors.push_back(1.0 / market_std_);
  }
  const at::Tensor scale = at::tensor(layout.column_scales(), at::kDouble);
  const at::Tensor mean = at::cat(means), factor = at::cat(factors);
  if (scale.numel() != mean.numel()) {
    throw Error(Fault::usage, str("the layout has ", scale.numel(), " columns, the normalizer ", mean.numel()));
  }

  ft_transformer::Weights out = weights.to(at::kCPU, at::kDouble);
  const bool tokens = architecture.network == Network::ft_transformer;
  at::Tensor& weight = out.at(tokens ? "encoder.tokenizer.weight" : "net.0.weight");
  at::Tensor& bias = out.at(tokens ? "encoder.tokenizer.bias" : "net.0.bias");
  // A tokenizer's row is an input, a linear layer's column. The bias is that of the rounded weight: the two cancel at
  // an input's mean, and the larger the mean the more of the result is what rounding leaves.
  const at::Tensor columns = tokens ? (factor / scale).unsqueeze(1) : factor / scale;
  weight = (weight * columns).to(at::kFloat).to(at::kDouble);
  bias = bias - (tokens ? weight * (mean * scale).unsqueeze(1) : weight.mv(mean * scale));
  return out.to(at::kCPU, at::kFloat);
}

ColumnStatistics Normalizer::columns() const {
  std::vector<at::Tensor> means{account_.mean.to(at::kCPU)},
      divisors{divisor_of(account_.mean, account_.variance).cpu()};
  for (std::int64_t lag = 0; lag < lookback_; ++lag) {
    means.push_back(market_mean_);
    divisors.push_back(market_std_);
  }
  return {at::cat(means), at::cat(divisors)};
}

Normalizer Normalizer::for_market(const env::Market& market) const {
  if (!lookback_ || market.tech.size(1) != tech_.size(1)) {
    throw Error(Fault::usage, str("a market of ", market.tech.size(1), " feature columns does not fit a normalizer of ",
                                  lookback_ ? tech_.size(1) : 0));
  }
  Normalizer other = *this;
  other.tech_ = market.tech;
  other.account_.mean = other.account_.mean.to(market.tech.device());
  other.account_.variance = other.account_.variance.to(market.tech.device());
  other.fill_table();
  other.take_account_statistics();
  return other;
}

NamedTensors Normalizer::state() const {
  if (!lookback_) return {};
  return {{"account_mean", account_.mean},
          {"account_variance", account_.variance},
          {"account_count", at::scalar_tensor(account_.count, at::kDouble)},
          {"market_mean", market_mean_},
          {"market_std", market_std_}};
}

void Normalizer::restore(const NamedTensors& state) {
  if (!lookback_) return;
  const auto copy = [&](const char* name, const at::Tensor& like) {
    return saved(state, name, like.sizes(), "normalizer").to(like.options(), /*non_blocking=*/false, /*copy=*/true);
  };
  account_.mean = copy("account_mean", account_.mean);
  account_.variance = copy("account_variance", account_.variance);
  account_.count = saved(state, "account_count", {}, "normalizer").item<double>();
  market_mean_ = copy("market_mean", market_mean_);
  market_std_ = copy("market_std", market_std_);
  fill_table();
  take_account_statistics();
}

RewardNormalizer::RewardNormalizer(std::int64_t worlds, double gamma, double clip)
    : gamma_(gamma),
      clip_(clip),
      running_return_(at::zeros({worlds}, at::kDouble)),
      moments_{at::zeros({1}, at::kDouble), at::ones({1}, at::kDouble), kPriorCount} {}

at::Tensor RewardNormalizer::normalize(const at::Tensor& rewards, const at::Tensor& ended) {
  const at::NoGradGuard no_grad;
  const at::Tensor reward = rewards.to(at::kDouble);
  const at::Tensor keep = gamma_ * (1.0 - ended.to(at::kDouble));
  running_return_ = running_return_.to(rewards.device());
  std::vector<at::Tensor> variances;
  for (std::int64_t t = 0; t < reward.size(0); ++t) {
    running_return_ = running_return_ * keep[t] + reward[t];
    moments_.update(running_return_.unsqueeze(1));
    variances.push_back(moments_.variance);
  }
  const at::Tensor std = (at::cat(variances).unsqueeze(1) + 1e-8).sqrt();  // [horizon, 1]
  return at::clamp(reward / std, -clip_, clip_).to(rewards.scalar_type());
}

NamedTensors RewardNormalizer::state() const {
  return {{"running_return", running_return_},
          {"mean", moments_.mean},
          {"variance", moments_.variance},
          {"count", at::scalar_tensor(moments_.count, at::kDouble)}};
}

void RewardNormalizer::restore(const NamedTensors& state) {
  const auto copy = [&](const char* name, const at::Tensor& like) {
    return saved(state, name, like.sizes(), "reward normalizer")
        .to(like.options(), /*non_blocking=*/false, /*copy=*/true);
  };
  running_return_ = copy("running_return", running_return_);
  moments_.mean = copy("mean", moments_.mean);
  moments_.variance = copy("variance", moments_.variance);
  moments_.count = saved(state, "count", {}, "reward normalizer").item<double>();
}

}  // namespace ristretto::agents
