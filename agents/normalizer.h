// Observation and reward statistics, and the fold of the former into the exported first layer (algorithms.md 2.2).
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "agents/named_tensors.h"
#include "agents/policy.h"
#include "env/environment.h"
#include "env/observation_rows.h"

namespace ristretto::agents {

// Running mean and variance by Chan's formula, float64. count may start at 0.
struct RunningMoments {
  at::Tensor mean;      // [k] float64
  at::Tensor variance;  // [k] float64, population
  double count = 0;
  void update(const at::Tensor& samples);  // [..., k]
  void add(const RunningMoments& seen);    // on the same device
};

// What the raw columns of an observation are shifted and divided by.
struct ColumnStatistics {
  at::Tensor mean, divisor;  // [S] float64, CPU
};

// Which bars a batch sees: each once, and for every sample its place among them.
struct DistinctBars {
  at::Tensor bars;   // [D] int32; undefined: the network has encoded them already (FrozenNetwork::encode)
  at::Tensor place;  // [B] int64
};

// Turns observations into what networks read. For a plain one the matrix that networks read in training: (raw - mean) /
// max(std, 1e-6 max(|mean|, 1)), a constant column's std 1, no clip. The market's part is exact, once, from the
// training bars, shared by all lags; the account's part runs. For market_context the same of relative features
// (ft_transformer/market_context.h), with statistics shared by all assets: one of cash, one of a holding's value, one a
// feature. Owned by one trainer; input() is the one that matters.
class Normalizer {
 public:
  // Statistics of tech over the market's segments. account_prior: mean, variance and weight of the account's part
  // before anything was seen.
  Normalizer(const env::Market& market, const env::Layout& layout, const RunningMoments& account_prior,
             Network network = Network::mlp);
  // For environments without a market: the account's part as it is, always; there is nothing to update or save.
  explicit Normalizer(std::int64_t account_size);

  // What the network reads, float32, on the observation's device. With `distinct` (bars of the observation) the account
  // and the market of each bar once.
  Input input(const env::Observation& observation, const DistinctBars* distinct = nullptr) const;
  // [B, S], newest row first; of plain networks.
  at::Tensor matrix(const env::Observation& observation) const;
  bool shares_by_bar() const { return across_assets_; }
  // The bars from the first to the last whole window of the market's segments, those in gaps between them included: [D]
  // int32, ascending.
  at::Tensor bars() const;
  // What market_context reads of the market at bars [D]: [D, n, L, F].
  at::Tensor windows(const at::Tensor& bars) const;
  // account [..., 1+n], bar [...]: of the rollout just learned from (plain networks need no bar). Between updates only:
  // within a rollout and its update the statistics must stand still, or ratios are not 1 on the first minibatch.
  void update_account(const at::Tensor& account, const at::Tensor& bar = {});

  // The same function of the served observation (raw value * 2^exponent): w/(sigma 2^e) and b - sum mu w / sigma in
  // double, into net.0 (mlp) or the tokenizer (ft_transformer); actor or critic. market_context divides by the close
  // first, so nothing can be folded: its statistics stand beside the weights, as "input.*".
  ft_transformer::Weights folded(const ft_transformer::Weights& weights, const Architecture& architecture,
                                 const env::Layout& layout) const;
  ColumnStatistics columns() const;
  // Of market_context: from here on sees the market, and begins to see accounts, with the statistics of folded weights
  // ("input.*"), whose function the same weights are then. Throws Error(incompatible) where they take features
  // otherwise.
  void see_as(const ft_transformer::Weights& folded);
  // Another market (validation, hold-out) seen with this one's statistics.
  Normalizer for_market(const env::Market& market) const;

  NamedTensors state() const;
  void restore(const NamedTensors& state);

 private:
  void see_market(const env::Market& market);
  void normalize_market();
  void take_account_statistics();
  at::Tensor alike(const at::Tensor& rows) const;
  at::Tensor account_values(const at::Tensor& account, const at::Tensor& bar) const;

  bool across_assets_ = false;               // market_context
  std::vector<ft_transformer::Role> roles_;  // of the features, only then
  std::int64_t account_size_ = 0;
  std::int64_t lookback_ = 0;                        // 0: no market
  at::Tensor tech_;                                  // [T, n*F] raw, the market's own
  std::int64_t first_bar_ = 0, last_bar_ = 0;        // of its segments' whole windows
  std::optional<env::ObservationRows> market_rows_;  // of the normalised market
  at::Tensor close_;                                 // [T, n] float32, across assets only: what makes a holding a value
  at::Tensor market_mean_, market_std_;              // [n*F] float64, CPU; across assets [F]
  RunningMoments account_;
  at::Tensor account_shift_, account_scale_;  // [1+n] float32, on the device: what matrix() uses; across assets [2]
};

// r / sqrt(var(ret) + 1e-8), clipped to +-10; ret = ret*gamma*(1-terminated) + r (the golden form).
class RewardNormalizer {
 public:
  static constexpr double kPriorCount = 1e-4;  // weight of the start's mean 0 and variance 1 (golden norm.npz)

  RewardNormalizer(std::int64_t worlds, double gamma, double clip = 10);
  // rewards [horizon, N] floating, ended [horizon, N] bool (terminated or truncated) -> normalised rewards of the same
  // type. Updates first, step by step, as the golden file does.
  at::Tensor normalize(const at::Tensor& rewards, const at::Tensor& ended);
  NamedTensors state() const;
  void restore(const NamedTensors& state);

 private:
  double gamma_, clip_;
  at::Tensor running_return_;  // [N] float64
  RunningMoments moments_;     // k = 1
};

}  // namespace ristretto::agents
