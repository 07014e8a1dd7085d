#include "evaluation/attribution.h"

#include <algorithm>
#include <cmath>

#include "evaluation/costs.h"
#include "evaluation/statistics.h"

namespace ristretto::evaluation {
namespace {

// The market's row of each bar of the backtest.
std::vector<std::int64_t> rows_of(const Backtest& backtest, const env::Market& market) {
  std::vector<std::int64_t> rows;
  for (const std::int64_t time : backtest.time) {
    rows.push_back(std::lower_bound(market.time.begin(), market.time.end(), time) - market.time.begin());
  }
  return rows;
}

}  // namespace

Attribution attribution_of(const Backtest& backtest, const env::Market& market) {
  const auto n = static_cast<std::int64_t>(market.assets.size());
  const std::vector<std::int64_t> rows = rows_of(backtest, market);
  const at::Tensor prices = market.price.to(at::kCPU, at::kDouble).contiguous();
  const double* price = prices.const_data_ptr<double>();
  const double* share = backtest.shares.const_data_ptr<double>();
  Attribution out;
  out.assets.resize(static_cast<std::size_t>(n));
  std::size_t window = 0;
  for (std::size_t k = 0; k < rows.size(); ++k) {
    while (window + 1 < backtest.first_bar.size() && backtest.first_bar[window + 1] <= static_cast<std::int64_t>(k)) {
      ++window;
    }
    out.costs += backtest.simple_returns[k];
    if (backtest.first_bar[window] == static_cast<std::int64_t>(k)) continue;  // all cash before it
    for (std::int64_t i = 0; i < n; ++i) {
      const double held = share[(static_cast<std::int64_t>(k) - 1) * n + i];
      const double gain = held * (price[rows[k] * n + i] / price[rows[k - 1] * n + i] - 1);
      out.assets[static_cast<std::size_t>(i)] += gain;
      out.costs -= gain;
    }
  }
  return out;
}

std::vector<Regime> regimes_of(const Backtest& backtest, const env::Market& market) {
  const at::Tensor levels = market.price.to(at::kCPU, at::kDouble).log().mean(1).contiguous();
  const double* level = levels.const_data_ptr<double>();
  const std::vector<std::int64_t> rows = rows_of(backtest, market);
  std::vector<Regime> out = {{"up"}, {"down"}, {"sideways"}};
  std::vector<Series> returns(out.size());
  std::size_t window = 0;
  for (std::size_t k = 0; k < rows.size(); ++k) {
    while (window + 1 < backtest.windows.size() && backtest.windows[window].end <= rows[k]) ++window;
    const std::int64_t before = rows[k] - 1;
    const std::int64_t from = std::max(backtest.windows[window].begin, before - kRegimeBars);
    const double move = level[before] - level[from];
    const std::size_t regime = move > kRegimeMove ? 0 : move < -kRegimeMove ? 1 : 2;
    ++out[regime].bars;
    out[regime].log_gain += backtest.log_returns[k];
    out[regime].market_log_gain += level[rows[k]] - level[before];
    returns[regime].push_back(backtest.simple_returns[k]);
  }
  for (std::size_t regime = 0; regime < out.size(); ++regime) {
    if (out[regime].bars > 1) out[regime].sharpe = sharpe_of(returns[regime]);
  }
  return out;
}

std::vector<CostStress> cost_stress(const env::Market& market, const env::Layout& layout, const env::Rules& rules,
                                    const Actor& actor) {
  const std::size_t assets = layout.assets.size();
  std::vector<CostStress> out;
  for (const double costs : {1.0, 2.0, 3.0}) {
    const env::Rules dearer = with_costs(rules, costs);
    out.push_back(
        {costs, metrics_of(backtest(market, layout, dearer, actor)),
         metrics_of(hold(market, layout, dearer, std::vector<double>(assets, 1.0 / static_cast<double>(assets))))});
  }
  return out;
}

}  // namespace ristretto::evaluation
