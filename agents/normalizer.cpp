#include "agents/normalizer.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/var_mean.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/record_function.h>

#include <cassert>
#include <cmath>
#include <map>

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

// How each feature is made alike for all assets. The indicators that are ratios or bounded already stay as they are.
std::vector<ft_transformer::Role> roles_of(const std::vector<std::string>& features) {
  using ft_transformer::Role;
  static const std::map<std::string, Role> kRoles{{"open", Role::log_ratio},  {"high", Role::log_ratio},
                                                  {"low", Role::log_ratio},   {"close", Role::reference},
                                                  {"macd", Role::ratio},      {"macd_signal", Role::ratio},
                                                  {"macd_hist", Role::ratio}, {"volume", Role::log_product}};
  std::vector<Role> roles;
  for (const std::string& feature : features) {
    const auto found = kRoles.find(feature);
    roles.push_back(found == kRoles.end() ? Role::plain : found->second);
  }
  return roles;
}

// Moments of all columns together: [1].
RunningMoments pooled(const at::Tensor& mean, const at::Tensor& variance, double count) {
  const at::Tensor middle = mean.mean(0, /*keepdim=*/true);
  return {middle, (variance + (mean - middle).square()).mean(0, /*keepdim=*/true), count};
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
  add({row_mean, row_variance, added});
}

void RunningMoments::add(const RunningMoments& seen) {
  const double added = seen.count;
  // Chan, Golub, LeVeque 1979: moments of two sets from the moments of each.
  const double total = count + added;
  const at::Tensor delta = seen.mean - mean;
  const at::Tensor squares = variance * count + seen.variance * added + delta * delta * (count * added / total);
  mean = mean + delta * (added / total);
  variance = squares / total;
  count = total;
}

Normalizer::Normalizer(const env::Market& market, const env::Layout& layout, const RunningMoments& account_prior,
                       Network network)
    : across_assets_(network == Network::market_context),
      account_size_(1 + layout.assets_count()),
      lookback_(layout.lookback),
      account_(account_prior) {
  const at::NoGradGuard no_grad;
  if (market.tech.size(1) != layout.market_columns()) {
    throw Error(Fault::usage,
                str("the market has ", market.tech.size(1), " feature columns, the layout ", layout.market_columns()));
  }
  if (account_prior.mean.numel() != account_size_) {
    throw Error(Fault::usage, str("the account's prior has ", account_prior.mean.numel(),
                                  " columns, the layout's account ", account_size_));
  }
  if (across_assets_) roles_ = roles_of(layout.features);
  std::vector<at::Tensor> rows;
  for (const env::Segment& segment : market.segments) {
    rows.push_back(alike(market.tech.slice(0, segment.begin, segment.end).to(at::kDouble)));
  }
  if (rows.empty()) throw Error(Fault::usage, "the market has no segment to take statistics of");
  const auto [variance, mean] = at::var_mean(at::cat(rows), at::IntArrayRef{0}, /*unbiased=*/false);
  market_mean_ = mean.to(at::kCPU);
  market_std_ = divisor_of(market_mean_, variance.to(at::kCPU));
  if (across_assets_) {  // as the file holds them
    market_mean_ = market_mean_.to(at::kFloat).to(at::kDouble);
    market_std_ = market_std_.to(at::kFloat).to(at::kDouble);
  }
  see_market(market);
  account_.mean = account_.mean.to(tech_.device(), at::kDouble);
  account_.variance = account_.variance.to(tech_.device(), at::kDouble);
  normalize_market();
  if (across_assets_) {
    // The prior is of units; those of asset i are worth its mean close.
    const std::int64_t assets = account_size_ - 1;
    at::Tensor units_mean = account_.mean.narrow(0, 1, assets), units_variance = account_.variance.narrow(0, 1, assets);
    if (close_.defined()) {
      std::vector<at::Tensor> closes;
      for (const env::Segment& segment : market.segments) {
        closes.push_back(close_.slice(0, segment.begin, segment.end).to(at::kDouble));
      }
      const at::Tensor close = at::cat(closes).mean(0);
      units_mean = units_mean * close;
      units_variance = units_variance * close.square();
    }
    const RunningMoments values = pooled(units_mean, units_variance, account_.count);
    account_.mean = at::cat({account_.mean.narrow(0, 0, 1), values.mean});
    account_.variance = at::cat({account_.variance.narrow(0, 0, 1), values.variance});
  }
  take_account_statistics();
}

Normalizer::Normalizer(std::int64_t account_size) : account_size_(account_size) {}

// Rows of all columns [R, n*F] as what statistics are taken of: across assets [R*n, F], relative.
at::Tensor Normalizer::alike(const at::Tensor& rows) const {
  if (!across_assets_) return rows;
  return ft_transformer::relative_features(rows.reshape({-1, static_cast<std::int64_t>(roles_.size())}), roles_);
}

void Normalizer::see_market(const env::Market& market) {
  tech_ = market.tech;
  const auto& segments = market.segments;
  first_bar_ = (segments.empty() ? 0 : segments.front().begin) + lookback_ - 1;
  last_bar_ = (segments.empty() ? market.rows() : segments.back().end) - 1;
}

at::Tensor Normalizer::bars() const { return at::arange(first_bar_, last_bar_ + 1, tech_.options().dtype(at::kInt)); }

void Normalizer::normalize_market() {
  const at::NoGradGuard no_grad;
  const at::Tensor mean = market_mean_.to(tech_.device()), std = market_std_.to(tech_.device());
  const at::Tensor normalized = ((alike(tech_.to(at::kDouble)) - mean) / std).view(tech_.sizes());
  market_rows_.emplace(normalized, static_cast<int>(lookback_));
  const std::int64_t reference = ft_transformer::reference_column(roles_);
  if (reference < 0) return;
  const auto features = static_cast<std::int64_t>(roles_.size());
  close_ = tech_.view({tech_.size(0), -1, features}).select(2, reference).to(at::kFloat).contiguous();
}

void Normalizer::take_account_statistics() {
  account_shift_ = account_.mean.to(at::kFloat);
  account_scale_ = (1.0 / divisor_of(account_.mean, account_.variance)).to(at::kFloat);
}

// Across assets: cash and each holding's value, float64.
at::Tensor Normalizer::account_values(const at::Tensor& account, const at::Tensor& bar) const {
  const at::Tensor units = account.to(at::kDouble);
  if (!close_.defined()) return units;
  const std::int64_t assets = account.size(1) - 1;
  const at::Tensor values = units.narrow(1, 1, assets) * close_.index_select(0, bar);
  return at::cat({units.narrow(1, 0, 1), values}, 1);
}

Input Normalizer::input(const env::Observation& observation, const DistinctBars* distinct) const {
  if (!across_assets_ && !distinct) return matrix(observation);
  RECORD_USER_SCOPE("observations");
  const at::NoGradGuard no_grad;
  Input out;
  if (across_assets_) {
    const at::Tensor values = account_values(observation.account, observation.bar);
    const std::int64_t assets = values.size(1) - 1;
    out.account = at::cat({(values.narrow(1, 0, 1) - account_shift_[0]) * account_scale_[0],
                           (values.narrow(1, 1, assets) - account_shift_[1]) * account_scale_[1]},
                          1)
                      .to(at::kFloat);
  } else {
    out.account = (observation.account - account_shift_) * account_scale_;
  }
  const at::Tensor& bars = distinct ? distinct->bars : observation.bar;
  if (distinct) out.window = distinct->place;
  if (bars.defined()) out.windows = across_assets_ ? windows(bars) : market_rows_->windows(bars);
  return out;
}

at::Tensor Normalizer::windows(const at::Tensor& bars) const {
  const auto features = static_cast<std::int64_t>(roles_.size());
  return market_rows_->windows(bars)
      .view({bars.size(0), lookback_, market_rows_->columns() / features, features})
      .transpose(1, 2)
      .contiguous();
}

at::Tensor Normalizer::matrix(const env::Observation& observation) const {
  RECORD_USER_SCOPE("observations");
  assert(!across_assets_);
  const at::NoGradGuard no_grad;
  if (!lookback_) return observation.account;
  return market_rows_->gather(observation.account, account_shift_, account_scale_, observation.bar);
}

void Normalizer::update_account(const at::Tensor& account, const at::Tensor& bar) {
  if (!lookback_) return;
  if (across_assets_) {
    const at::NoGradGuard no_grad;
    const at::Tensor values = account_values(account.reshape({-1, account.size(-1)}), bar.reshape({-1}));
    const auto [variance, mean] = at::var_mean(values, at::IntArrayRef{0}, /*unbiased=*/false);
    const std::int64_t assets = values.size(1) - 1;
    const auto rows = static_cast<double>(values.size(0));
    const RunningMoments holdings = pooled(mean.narrow(0, 1, assets), variance.narrow(0, 1, assets), rows);
    account_.add(
        {at::cat({mean.narrow(0, 0, 1), holdings.mean}), at::cat({variance.narrow(0, 0, 1), holdings.variance}), rows});
  } else {
    account_.update(account);
  }
  take_account_statistics();
}

ft_transformer::Weights Normalizer::folded(const ft_transformer::Weights& weights, const Architecture& architecture,
                                           const env::Layout& layout) const {
  const at::NoGradGuard no_grad;
  if (!lookback_) throw Error(Fault::usage, "an environment without a market has no observation layout to fold into");
  if (across_assets_) {
    ft_transformer::ContextInput input;
    input.roles = roles_;
    input.scales = {std::ldexp(1.0, layout.scales.cash_exp), std::ldexp(1.0, layout.scales.stocks_exp),
                    std::ldexp(1.0, layout.scales.tech_exp)};
    input.account_mean = account_shift_;
    input.account_std = account_scale_.to(at::kDouble).reciprocal();
    input.market_mean = market_mean_;
    input.market_std = market_std_;
    ft_transformer::MarketContextShape shape = architecture.context;
    shape.assets = architecture.actions;
    return ft_transformer::with_input(weights, shape, input);
  }
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

void Normalizer::see_as(const ft_transformer::Weights& folded) {
  assert(across_assets_);
  std::vector<double> roles;
  for (const ft_transformer::Role role : roles_) roles.push_back(static_cast<double>(role));
  if (!at::equal(folded.at("input.roles").to(at::kCPU, at::kDouble), at::tensor(roles))) {
    throw Error(Fault::incompatible, "the weights take other features relative to the close than this program does");
  }
  NamedTensors seen = state();
  for (auto& [name, tensor] : seen) {
    if (name == "account_mean") tensor = folded.at("input.account_mean");
    if (name == "account_variance") tensor = folded.at("input.account_std").to(at::kDouble).square();
    if (name == "market_mean") tensor = folded.at("input.market_mean");
    if (name == "market_std") tensor = folded.at("input.market_std");
  }
  restore(seen);
}

Normalizer Normalizer::for_market(const env::Market& market) const {
  const auto features = static_cast<std::int64_t>(roles_.size());
  const bool fits = across_assets_ ? market.tech.size(1) % features == 0 : market.tech.size(1) == tech_.size(1);
  if (!lookback_ || !fits) {
    throw Error(Fault::usage, str("a market of ", market.tech.size(1), " feature columns does not fit a normalizer of ",
                                  lookback_ ? tech_.size(1) : 0));
  }
  Normalizer other = *this;
  other.see_market(market);
  other.account_.mean = other.account_.mean.to(market.tech.device());
  other.account_.variance = other.account_.variance.to(market.tech.device());
  other.normalize_market();
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
  normalize_market();
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
