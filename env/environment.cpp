#include "env/environment.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <ATen/record_function.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "env/step_launch.h"
#include "env/stream.h"
#include "platform/error.h"
#include "platform/instruction_sets.h"
#include "platform/streaming.h"
#include "platform/text.h"

namespace ristretto::env {
namespace {

constexpr std::int64_t kGrain = 4096;  // portfolios a thread takes at once: a few hundred microseconds
constexpr std::int64_t kBlock = 16;    // portfolios whose float results fill a line of the caches

template <class R>
using StepRange = void (*)(const Batch<R>&, std::int64_t, std::int64_t);

void require(bool condition, const std::string& message, const std::string& hint = {}) {
  if (!condition) throw Error(Fault::usage, message, hint);
}

std::int64_t starts_of(const Segment& segment, std::int64_t episode_bars, int lookback) {
  if (segment.size() < smallest_window(lookback)) return 0;
  return std::max<std::int64_t>(1, segment.size() - episode_bars + 1);
}

}  // namespace

struct Portfolios::State {
  std::shared_ptr<const Market> market;
  Rules rules;
  Options options;
  at::Device device{at::kCPU};
  at::ScalarType real{at::kDouble};
  std::int64_t count = 0;

  Accounts accounts;
  at::Tensor benchmark, value_peak, returns, discounted_sum;
  at::Tensor window_begin, window_rows, episode, capital_units;
  at::Tensor segment_begin, segment_end, starts_cumulative;
  at::Tensor account_now, reward_terms, bad_action;
  std::int64_t counted_steps = 0;  // of the reward's terms, until they are taken

  // The tensors that a resume needs, with their names.
  std::vector<std::pair<std::string, at::Tensor*>> carried() {
    return {{"cash", &accounts.cash},
            {"holding", &accounts.holding},
            {"peak", &accounts.peak},
            {"cooldown", &accounts.cooldown},
            {"bar", &accounts.bar},
            {"value", &accounts.value},
            {"fees", &accounts.fees},
            {"turnover", &accounts.turnover},
            {"orders", &accounts.orders},
            {"benchmark", &benchmark},
            {"value_peak", &value_peak},
            {"returns", &returns},
            {"discounted_sum", &discounted_sum},
            {"window_begin", &window_begin},
            {"window_rows", &window_rows},
            {"episode", &episode},
            {"capital_units", &capital_units},
            {"account_now", &account_now}};
  }

  template <class R>
  Batch<R> batch() {
    Batch<R> b{};
    b.portfolios = count;
    b.first_portfolio = options.first_portfolio;
    b.rules = rules;
    b.seed = options.seed;
    b.price = market->price.data_ptr<R>();
    b.segment_begin = segment_begin.data_ptr<std::int32_t>();
    b.segment_end = segment_end.data_ptr<std::int32_t>();
    b.starts_cumulative = starts_cumulative.data_ptr<std::int64_t>();
    b.segments = static_cast<int>(segment_begin.numel());
    b.episode_bars = static_cast<std::int32_t>(options.episode_bars);
    b.fixed_windows = !options.windows.empty();
    b.terminal_sum = options.terminal_sum;
    b.cash = accounts.cash.data_ptr<R>();
    b.holding = accounts.holding.data_ptr<R>();
    b.peak = accounts.peak.data_ptr<R>();
    b.cooldown = accounts.cooldown.data_ptr<std::uint8_t>();
    b.value = accounts.value.data_ptr<R>();
    b.benchmark = benchmark.data_ptr<R>();
    b.fees = accounts.fees.data_ptr<R>();
    b.turnover = accounts.turnover.data_ptr<R>();
    b.orders = accounts.orders.data_ptr<std::int32_t>();
    b.value_peak = value_peak.data_ptr<R>();
    b.returns = returns.data_ptr<R>();
    b.discounted_sum = discounted_sum.data_ptr<R>();
    b.bar_from = b.bar = accounts.bar.data_ptr<std::int32_t>();
    b.window_begin = window_begin.data_ptr<std::int32_t>();
    b.window_rows = window_rows.data_ptr<std::int32_t>();
    b.episode = episode.data_ptr<std::int64_t>();
    b.capital_units = capital_units.data_ptr<R>();
    b.account_now = account_now.data_ptr<float>();
    b.reward_terms = reward_terms.defined() ? reward_terms.data_ptr<double>() : nullptr;
    b.bad_action = bad_action.data_ptr<std::int32_t>();
    return b;
  }

  template <class R>
  void open_all() {
    const Batch<R> b = batch<R>();
    if (!device.is_cpu()) {
      open_on_gpu(b, current_stream(device));
      return;
    }
    for (std::int64_t k = 0; k < count; ++k) {
      if (b.fixed_windows) {
        open_account<R>(b, k);
      } else {
        begin_episode<R>(b, k);
      }
    }
  }

  template <class R>
  Transition step(const at::Tensor& action) {
    const auto floats = at::TensorOptions().dtype(at::kFloat).device(device);
    Transition out;
    out.reward = at::empty({count}, floats);
    out.terminated = at::empty({count}, floats.dtype(at::kBool));
    out.truncated = at::empty({count}, floats.dtype(at::kBool));
    out.last.account = at::empty({count, 1 + rules.assets}, floats);
    out.last.bar = at::empty({count}, floats.dtype(at::kInt));
    // A new tensor at each step: observations given out earlier keep their values.
    account_now = at::empty({count, 1 + rules.assets}, floats);
    const at::Tensor bar_from = std::exchange(accounts.bar, at::empty({count}, floats.dtype(at::kInt)));
    Batch<R> b = batch<R>();
    b.bar_from = bar_from.const_data_ptr<std::int32_t>();
    if (exact_reward.defined()) b.reward_exact = exact_reward.data_ptr<R>();
    b.action = action.data_ptr<float>();
    b.reward = out.reward.data_ptr<float>();
    b.terminated = out.terminated.data_ptr<bool>();
    b.truncated = out.truncated.data_ptr<bool>();
    b.account_before_reset = out.last.account.data_ptr<float>();
    b.bar_before_reset = out.last.bar.data_ptr<std::int32_t>();
    // The account is written twice, now and before the reset.
    b.past_caches = 2 * static_cast<std::int64_t>(account_now.nbytes()) >= kStreamedBytes;
    if (device.is_cpu()) {
      static const StepRange<R> step_range = RISTRETTO_WIDEST(StepRange<R>, step_range);
      // Whole lines of the caches for each thread.
      at::parallel_for(0, (count + kBlock - 1) / kBlock, kGrain / kBlock, [&](std::int64_t begin, std::int64_t end) {
        step_range(b, begin * kBlock, std::min(end * kBlock, count));
      });
    } else {
      step_on_gpu(b, current_stream(device));
    }
    if (reward_terms.defined()) ++counted_steps;
    return out;
  }

  at::Tensor exact_reward;  // [N] real, only with terminal_sum: a replay compares it
};

Portfolios::Portfolios(std::shared_ptr<const Market> market, const Layout& layout, const Rules& rules,
                       const Options& options)
    : state_(std::make_unique<State>()) {
  State& s = *state_;
  s.market = std::move(market);
  s.rules = rules;
  s.options = options;
  s.device = s.market->price.device();
  s.real = s.market->price.scalar_type();
  const auto n = static_cast<std::int64_t>(s.market->assets.size());
  require(layout.assets == s.market->assets && layout.features == s.market->features,
          str("the layout is of assets ", join(layout.assets, " "), " and ", layout.features.size(),
              " features, the market of ", join(s.market->assets, " "), " and ", s.market->features.size()));
  require(rules.assets == n && rules.lookback == layout.lookback,
          str("the rules are of ", rules.assets, " assets and lookback ", rules.lookback, ", the layout of ", n,
              " and ", layout.lookback));
  require(n >= 1 && n <= kMaxAssets, str("the market has ", n, " assets, expected 1 to ", kMaxAssets));
  require(s.market->rows() < (std::int64_t{1} << 31), str("the market has ", s.market->rows(), " bars, too many"));
  require(rules.norm_action > 0, str("norm_action is ", rules.norm_action, ", expected more than 0"));
  require(rules.initial_capital > 0, str("initial_capital is ", rules.initial_capital, ", expected more than 0"));
  require(rules.lookback >= 1 && rules.lookback <= s.market->rows(),
          str("lookback is ", rules.lookback, ", expected 1 to the market's ", s.market->rows(), " bars"));

  const std::int32_t smallest = smallest_window(rules.lookback);
  const bool fixed = !options.windows.empty();
  s.count = fixed ? static_cast<std::int64_t>(options.windows.size()) : options.portfolios;
  require(s.count > 0, str("portfolios is ", s.count, ", expected at least 1"));
  require(fixed || options.episode_bars >= smallest,
          str("episode_bars is ", options.episode_bars, ", expected at least ", smallest, " with lookback ",
              rules.lookback));
  s.options.episode_bars = std::min(options.episode_bars, s.market->rows());  // an int32 in the step

  std::vector<std::int32_t> begins, ends;
  std::vector<std::int64_t> cumulative;
  std::int64_t starts = 0;
  for (const Segment& segment : s.market->segments) {
    const std::int64_t here = starts_of(segment, s.options.episode_bars, rules.lookback);
    if (here == 0) continue;
    begins.push_back(static_cast<std::int32_t>(segment.begin));
    ends.push_back(static_cast<std::int32_t>(segment.end));
    cumulative.push_back(starts += here);
  }
  require(fixed || starts > 0,
          str("no segment of the market has the ", smallest, " bars that one step with lookback ", rules.lookback,
              " needs"),
          "give more bars, or fewer held-out ones");
  const auto on_device = [&](at::ScalarType type) { return at::TensorOptions().dtype(type).device(s.device); };
  const auto upload = [&](const auto& values, at::ScalarType type) {
    return at::tensor(at::ArrayRef(values), at::TensorOptions().dtype(type)).to(s.device);
  };
  if (begins.empty()) {
    begins.push_back(0);
    ends.push_back(0);
    cumulative.push_back(0);
  }
  s.segment_begin = upload(begins, at::kInt);
  s.segment_end = upload(ends, at::kInt);
  s.starts_cumulative = upload(cumulative, at::kLong);

  const auto real = on_device(s.real);
  s.accounts.cash = at::zeros({s.count}, real);
  s.accounts.holding = at::zeros({n, s.count}, real);
  s.accounts.peak = at::zeros({n, s.count}, real);
  s.accounts.cooldown = at::zeros({n, s.count}, on_device(at::kByte));
  s.accounts.bar = at::zeros({s.count}, on_device(at::kInt));
  s.accounts.value = at::zeros({s.count}, real);
  s.accounts.fees = at::zeros({s.count}, real);
  s.accounts.turnover = at::zeros({s.count}, real);
  s.accounts.orders = at::zeros({s.count}, on_device(at::kInt));
  s.benchmark = at::zeros({s.count}, real);
  s.value_peak = at::zeros({s.count}, real);
  s.returns = at::zeros({rules.volatility_penalty > 0 ? kVolatilityBars : 0, s.count}, real);
  s.discounted_sum = at::zeros({s.count}, real);
  s.window_begin = at::zeros({s.count}, on_device(at::kInt));
  s.window_rows = at::zeros({s.count}, on_device(at::kInt));
  s.episode = at::zeros({s.count}, on_device(at::kLong));
  s.capital_units = at::zeros({n, s.count}, real);
  s.account_now = at::zeros({s.count, 1 + n}, on_device(at::kFloat));
  s.reward_terms = at::zeros({kRewardTermCount, s.count}, on_device(at::kDouble));
  s.bad_action = at::zeros({1}, on_device(at::kInt));
  if (options.terminal_sum) s.exact_reward = at::zeros({s.count}, real);
  if (fixed) {
    std::vector<std::int32_t> window_begin, window_rows;
    for (const Segment& window : options.windows) {
      const bool inside = std::any_of(
          s.market->segments.begin(), s.market->segments.end(),
          [&](const Segment& segment) { return segment.begin <= window.begin && window.end <= segment.end; });
      require(inside, str("the window of bars ", window.begin, " to ", window.end, " crosses a gap of the market"));
      require(window.size() >= smallest, str("the window of bars ", window.begin, " to ", window.end, " has ",
                                             window.size(), " bars, expected at least ", smallest));
      window_begin.push_back(static_cast<std::int32_t>(window.begin));
      window_rows.push_back(static_cast<std::int32_t>(window.size()));
    }
    s.window_begin = upload(window_begin, at::kInt);
    s.window_rows = upload(window_rows, at::kInt);
  }
  if (s.real == at::kDouble) {
    s.open_all<double>();
  } else {
    s.open_all<float>();
  }
  s.account_now.select(1, 0).copy_(s.accounts.cash);
}

Portfolios::~Portfolios() = default;

std::int64_t Portfolios::size() const { return state_->count; }
std::int64_t Portfolios::actions() const { return state_->rules.assets; }
std::int64_t Portfolios::account_size() const { return 1 + state_->rules.assets; }
const Accounts& Portfolios::accounts() const { return state_->accounts; }
const Market& Portfolios::market() const { return *state_->market; }
at::Tensor Portfolios::benchmark_value() const { return state_->benchmark; }
at::Tensor Portfolios::exact_reward() const { return state_->exact_reward; }

Observation Portfolios::observe() const { return {state_->account_now, state_->accounts.bar}; }

Transition Portfolios::step(const at::Tensor& action) {
  State& s = *state_;
  if (action.dim() != 2 || action.size(0) != s.count || action.size(1) != s.rules.assets) {
    throw Error(Fault::usage, str("actions have ", action.dim(), " dimensions and ", action.numel(),
                                  " numbers, expected ", s.count, " portfolios times ", s.rules.assets, " assets"));
  }
  const at::Tensor floats = action.to(s.device, at::kFloat).contiguous();
  return s.real == at::kDouble ? s.step<double>(floats) : s.step<float>(floats);
}

at::Tensor Portfolios::active() const {
  const State& s = *state_;
  return (s.accounts.bar - s.window_begin).lt(s.window_rows - (s.rules.lookback + 1));
}

at::Tensor Portfolios::take_reward_terms() {
  State& s = *state_;
  const double samples = static_cast<double>(s.count) * static_cast<double>(std::max<std::int64_t>(1, s.counted_steps));
  const at::Tensor means = s.reward_terms.sum(1).div(samples).cpu();
  s.reward_terms.reset();
  return means;
}

bool Portfolios::take_bad_action() {
  RECORD_USER_SCOPE("waiting");  // for the device
  const bool bad = state_->bad_action.cpu().data_ptr<std::int32_t>()[0] != 0;
  if (bad) state_->bad_action.zero_();
  return bad;
}

std::vector<std::pair<std::string, at::Tensor>> Portfolios::state() const {
  std::vector<std::pair<std::string, at::Tensor>> out;
  for (const auto& [name, tensor] : state_->carried()) out.emplace_back(name, tensor->clone());
  return out;
}

void Portfolios::restore(const std::vector<std::pair<std::string, at::Tensor>>& saved) {
  for (const auto& [name, tensor] : state_->carried()) {
    const auto found = std::find_if(saved.begin(), saved.end(),
                                    [&, &wanted = name](const auto& entry) { return entry.first == wanted; });
    if (found == saved.end() || !found->second.sizes().equals(tensor->sizes()) ||
        found->second.scalar_type() != tensor->scalar_type()) {
      throw Error(Fault::incompatible,
                  str("the saved environment has no '", name, "' of ", tensor->numel(), " numbers of its type"),
                  "it was saved with other settings: start a new run");
    }
    *tensor = found->second.to(state_->device).clone();
  }
}

at::Tensor materialize(const Observation& observation, const at::Tensor& tech, const Layout& layout) {
  const std::int64_t batch = observation.account.size(0);
  const auto options = at::TensorOptions().dtype(at::kFloat).device(observation.account.device());
  at::Tensor out = at::empty({batch, layout.size()}, options);
  const std::int64_t n = layout.assets_count();
  out.select(1, 0).copy_(observation.account.select(1, 0) * std::ldexp(1.0, layout.scales.cash_exp));
  out.narrow(1, 1, n).copy_(observation.account.narrow(1, 1, n) * std::ldexp(1.0, layout.scales.stocks_exp));
  const double scale = std::ldexp(1.0, layout.scales.tech_exp);
  for (int lag = 0; lag < layout.lookback; ++lag) {
    out.narrow(1, 1 + n + lag * layout.market_columns(), layout.market_columns())
        .copy_(tech.index_select(0, observation.bar - lag).to(at::kFloat) * scale);
  }
  return out;
}

std::vector<double> tradable_shares(const Market& market, const Rules& rules) {
  const at::Tensor price = market.price.to(at::kCPU, at::kDouble).contiguous();
  const double* p = price.data_ptr<double>();
  const std::int64_t n = price.size(1);
  std::vector<double> shares(static_cast<std::size_t>(n));
  std::int64_t starts = 0;
  for (const Segment& segment : market.segments) {
    for (std::int64_t row = segment.begin; row + smallest_window(rules.lookback) <= segment.end; ++row, ++starts) {
      for (std::int64_t i = 0; i < n; ++i) {
        const double largest = rules.initial_capital / (p[row * n + i] * rules.norm_action);
        if (largest > rules.min_qty[i]) shares[static_cast<std::size_t>(i)] += 1;
      }
    }
  }
  for (double& share : shares) share /= static_cast<double>(std::max<std::int64_t>(1, starts));
  return shares;
}

}  // namespace ristretto::env
