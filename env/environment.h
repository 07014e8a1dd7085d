// Environment: N worlds stepped together; and Portfolios, the one that trades (environment.md).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "env/layout.h"
#include "env/market.h"
#include "env/step.h"

namespace ristretto::env {

// What a policy sees of B worlds: the account's part, dense and unscaled, and the market's part as a row of its table.
struct Observation {
  at::Tensor account;  // [B, 1+n] float32: cash, holdings (raw units); an environment without market: its observation
  at::Tensor bar;      // [B] int32: the market's row of the newest bar; undefined without a market
};

struct Transition {
  at::Tensor reward;      // [N] float32
  at::Tensor terminated;  // [N] bool: the world ended; its value is 0
  at::Tensor truncated;   // [N] bool: the window ended; bootstrap from `last`
  Observation last;       // the observation after the step and before a reset
};

// Owned by one trainer; not thread-safe. observe() and step() are the two that matter.
class Environment {
 public:
  virtual ~Environment() = default;
  virtual std::int64_t size() const = 0;          // N
  virtual std::int64_t actions() const = 0;       // A (a categorical's choices count as A latents)
  virtual std::int64_t account_size() const = 0;  // width of Observation::account
  virtual Observation observe() const = 0;
  // action: [N, A] float in [-1, 1] (tanh-Gaussian), unbounded (Gaussian), or [N] int64 (categorical). Worlds that end
  // are reset in the same step.
  virtual Transition step(const at::Tensor& action) = 0;
  // All that a bit-exact resume needs, as named tensors, and back.
  virtual std::vector<std::pair<std::string, at::Tensor>> state() const = 0;
  virtual void restore(const std::vector<std::pair<std::string, at::Tensor>>& state) = 0;
};

// What each portfolio's account is, on the environment's device. Asset-major, so that neighbours in memory are
// portfolios.
struct Accounts {
  at::Tensor cash;      // [N] real
  at::Tensor holding;   // [n, N] real: units of the asset
  at::Tensor peak;      // [n, N] real: highest price while held (trailing stop)
  at::Tensor cooldown;  // [n, N] uint8: bars since the last sale of a held asset
  at::Tensor bar;       // [N] int32: the market's row
  at::Tensor value;     // [N] real: V at that row
  at::Tensor fees;      // [N] real: paid since the episode's start
  at::Tensor turnover;  // [N] real: sum of |quantity * price| traded since the episode's start
  at::Tensor orders;    // [N] int32: executed since the episode's start
};

class Portfolios final : public Environment {
 public:
  struct Options {
    std::int64_t portfolios = 128;
    std::uint64_t seed = 0;
    std::int64_t first_portfolio =
        0;  // number of portfolio 0 in the counter-based random numbers (data-parallel ranks)
    std::int64_t episode_bars = 1024;  // T of a training window, or the rest of the segment
    // Fixed windows, one a portfolio, never reset: for backtests and replays. Then `portfolios` is their number, and a
    // portfolio whose window has ended stands still with reward 0.
    std::vector<Segment> windows;
    bool terminal_sum = false;  // the last reward is the running discounted sum (replay only)
  };
  // layout gives assets, features and lookback; its scales are not used here: observations are raw. Throws Error(usage)
  // where rules, layout and market disagree or no window fits.
  Portfolios(std::shared_ptr<const Market> market, const Layout& layout, const Rules& rules, const Options& options);
  ~Portfolios() override;

  std::int64_t size() const override;
  std::int64_t actions() const override;
  std::int64_t account_size() const override;
  Observation observe() const override;
  Transition step(const at::Tensor& action) override;  // [N, n] float in [-1, 1]
  std::vector<std::pair<std::string, at::Tensor>> state() const override;
  void restore(const std::vector<std::pair<std::string, at::Tensor>>& state) override;

  const Accounts& accounts() const;
  const Market& market() const;
  at::Tensor active() const;           // [N] bool: false once a fixed window has ended
  at::Tensor benchmark_value() const;  // [N] real: E, the equal-weight portfolio bought at the window's start
  at::Tensor exact_reward()
      const;  // [N] real: the last step's reward before rounding to float32; only with terminal_sum
  // Mean |reward| of each term since construction, once: they are not summed any longer. Difference to equal weight,
  // return, cash bonus, reserve, concentration, drawdown, volatility. [terms] float64
  at::Tensor take_reward_terms();
  // True when a non-finite action was seen since the last call: an error of the caller (reads the device).
  bool take_bad_action();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

inline constexpr const char* kRewardTerms[] = {"excess",        "return",   "cash bonus", "reserve",
                                               "concentration", "drawdown", "volatility"};

// Observation as the [B, S] matrix that a plain network reads: raw values times the layout's scales, newest row first.
// tech: [T, n*F] of the observation's market. float32
at::Tensor materialize(const Observation& observation, const at::Tensor& tech, const Layout& layout);

// Share of episode starts at which the largest order, capital / (price * norm_action), reaches min_qty; one number an
// asset.
std::vector<double> tradable_shares(const Market& market, const Rules& rules);

}  // namespace ristretto::env
