#include "evaluation/replay.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>

#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>

#include "env/environment.h"
#include "formats/npz.h"
#include "ft_transformer/weights.h"
#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::evaluation {
namespace {

// environment.md: of the initial capital W, and of W times the reward's scale N; recordings hold float32 holdings and
// actions.
constexpr double kMoneyTolerance = 1e-6;
constexpr double kRewardTolerance = 1e-7;
constexpr double kTerminalRewardTolerance = 1e-6;
constexpr double kMarketTolerance = 1e-6;  // relative
constexpr double kFloatFactor = 100;       // arithmetic in float32

class Comparison {
 public:
  Comparison(ReplayReport& report, std::string name, double tolerance) : report_(report) {
    quantity_.name = std::move(name);
    quantity_.tolerance = tolerance;
  }
  ~Comparison() { report_.quantities.push_back(quantity_); }
  Comparison(const Comparison&) = delete;
  Comparison& operator=(const Comparison&) = delete;

  void operator()(std::int64_t step, double found, double expected, double unit = 1) {
    const double deviation = std::abs(found - expected) / unit;
    if (deviation > quantity_.largest || quantity_.step < 0 || std::isnan(deviation)) {
      quantity_.largest = deviation;
      quantity_.step = step;
    }
    if (!(deviation <= quantity_.tolerance) && (first_step_ < 0 || step < first_step_)) {
      first_step_ = step;
      if (report_.first_difference.empty() || step < report_step_) {
        report_.first_difference =
            str(quantity_.name, " at step ", step, " is ", found, ", the recording has ", expected);
        report_step_ = step;
      }
    }
  }

 private:
  ReplayReport& report_;
  ReplayQuantity quantity_;
  std::int64_t first_step_ = -1;
  static inline thread_local std::int64_t report_step_ = 0;
};

at::Tensor array(const formats::NamedArrays& arrays, const std::string& name, const std::filesystem::path& file) {
  const formats::Array* found = formats::find(arrays, name);
  if (found == nullptr) {
    throw Error(Fault::incompatible, str(file.string(), " has no array '", name, "'"),
                "a recording holds price, tech, actions, state, reward, cash, stocks, total_asset, equal_weight, fees "
                "and config");
  }
  return ft_transformer::tensor_of(*found).to(at::kDouble).contiguous();
}

}  // namespace

ReplayReport replay(const std::filesystem::path& file, at::ScalarType real) {
  const formats::NamedArrays arrays = formats::read_npz(file);
  const formats::Array* config_array = formats::find(arrays, "config");
  if (config_array == nullptr) throw Error(Fault::incompatible, str(file.string(), " has no array 'config'"));
  const auto config = nlohmann::json::parse(config_array->as_texts().at(0), nullptr, false);
  const auto number = [&](const char* name, std::optional<double> absent = std::nullopt) {
    const auto found = config.find(name);
    if (found != config.end() && found->is_number()) return found->get<double>();
    if (absent) return *absent;
    throw Error(Fault::incompatible, str(file.string(), ": its config has no number '", name, "'"));
  };
  if (!config.is_object() || !config.contains("tickers") || !config.contains("minimum_qty")) {
    throw Error(Fault::incompatible, str(file.string(), ": its config is no JSON object with tickers and minimum_qty"));
  }

  const at::Tensor price = array(arrays, "price", file), tech = array(arrays, "tech", file);
  const at::Tensor actions = array(arrays, "actions", file), states = array(arrays, "state", file);
  const at::Tensor rewards = array(arrays, "reward", file), cash = array(arrays, "cash", file);
  const at::Tensor stocks = array(arrays, "stocks", file), values = array(arrays, "total_asset", file);
  const at::Tensor benchmark = array(arrays, "equal_weight", file), fees = array(arrays, "fees", file);

  env::Layout layout;
  layout.assets = config["tickers"].get<std::vector<std::string>>();
  layout.lookback = static_cast<int>(number("lookback"));
  const auto n = static_cast<std::int64_t>(layout.assets.size());
  for (std::int64_t f = 0; f < tech.size(1) / n; ++f) layout.features.push_back(str("feature_", f));

  env::Rules rules;
  rules.assets = static_cast<int>(n);
  rules.lookback = layout.lookback;
  rules.initial_capital = number("initial_capital");
  rules.fee_fraction = number("buy_cost_pct");
  rules.norm_action = number("norm_action");
  rules.max_position_fraction = number("max_position_fraction", 0);
  rules.min_cash_reserve = number("min_cash_reserve");
  rules.trailing_stop_pct = number("trailing_stop_pct");
  rules.time_decay_floor = number("time_decay_floor");
  rules.norm_reward = number("norm_reward");
  rules.concentration_penalty = number("concentration_penalty");
  rules.gamma = number("gamma");
  for (std::int64_t i = 0; i < n && i < env::kMaxAssets; ++i) rules.min_qty[i] = config["minimum_qty"][i].get<double>();

  auto market = std::make_shared<env::Market>();
  market->assets = layout.assets;
  market->features = layout.features;
  market->time.resize(static_cast<std::size_t>(price.size(0)));
  market->price = price.to(real);
  market->tech = tech;
  market->segments = {{0, price.size(0)}};
  env::Portfolios::Options options;
  options.windows = {{0, price.size(0)}};
  options.terminal_sum = true;
  env::Portfolios portfolios(market, layout, rules, options);

  ReplayReport report;
  report.steps = actions.size(0);
  const double capital = rules.initial_capital;
  const double widen = real == at::kFloat ? kFloatFactor : 1;
  const double money = kMoneyTolerance * widen;
  const double reward_unit = capital * rules.norm_reward;
  {
    Comparison compare_cash(report, "cash / W", money), compare_value(report, "value / W", money);
    Comparison compare_holding(report, "holding * price / W", money), compare_fees(report, "fees / W", money);
    Comparison compare_benchmark(report, "equal weight / W", money);
    Comparison compare_reward(report, "reward / (W N)", kRewardTolerance * widen);
    Comparison compare_terminal(report, "terminal reward / (W N)", kTerminalRewardTolerance * widen);
    Comparison compare_account(report, "state, account / W", money);
    Comparison compare_market(report, "state, market (relative)", kMarketTolerance * widen);
    Comparison compare_done(report, "done", 0);

    const std::int64_t first = layout.lookback - 1;
    const at::Tensor norm = at::Tensor(tech * number("norm_tech")).to(at::kFloat).to(at::kDouble).contiguous();
    const at::Tensor dones = array(arrays, "done", file);
    for (std::int64_t k = 0; k <= actions.size(0); ++k) {
      const env::Accounts& now = portfolios.accounts();
      const at::Tensor holding = now.holding.to(at::kDouble);
      const double found_cash = now.cash.to(at::kDouble).item<double>();
      compare_cash(k, found_cash, cash[k].item<double>(), capital);
      compare_value(k, now.value.to(at::kDouble).item<double>(), values[k].item<double>(), capital);
      compare_fees(k, now.fees.to(at::kDouble).item<double>(), fees[k].item<double>(), capital);
      compare_benchmark(k, portfolios.benchmark_value().to(at::kDouble).item<double>(), benchmark[k].item<double>(),
                        capital);
      const at::Tensor observed = states[k];
      compare_account(k, found_cash, observed[0].item<double>() / number("norm_cash"), capital);
      for (std::int64_t i = 0; i < n; ++i) {
        const double p = price[first + k][i].item<double>(), units = holding[i][0].item<double>();
        compare_holding(k, units * p, stocks[k][i].item<double>() * p, capital);
        compare_account(k, units * p, observed[1 + i].item<double>() / number("norm_stocks") * p, capital);
      }
      for (int lag = 0; lag < layout.lookback; ++lag) {
        const double* found = norm[first + k - lag].const_data_ptr<double>();
        const at::Tensor part = observed.narrow(0, 1 + n + lag * tech.size(1), tech.size(1)).contiguous();
        const double* expected = part.const_data_ptr<double>();
        for (std::int64_t j = 0; j < tech.size(1); ++j) {
          compare_market(k, found[j], expected[j], std::max(1e-30, std::abs(expected[j])));
        }
      }
      if (k == actions.size(0)) break;
      const env::Transition transition = portfolios.step(actions[k].unsqueeze(0).to(at::kFloat));
      const double reward = portfolios.exact_reward().to(at::kDouble).item<double>();
      const bool last = k + 1 == actions.size(0);
      (last ? compare_terminal : compare_reward)(k, reward, rewards[k].item<double>(), reward_unit);
      compare_done(k, transition.truncated.item<bool>() ? 1 : 0, dones[k].item<double>());
    }
  }
  if (portfolios.take_bad_action()) {
    throw Error(Fault::incompatible, str(file.string(), ": its actions hold a value that is not finite"));
  }
  return report;
}

}  // namespace ristretto::evaluation
