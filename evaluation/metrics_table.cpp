#include "evaluation/metrics_table.h"

#include <cmath>
#include <cstdio>

namespace ristretto::evaluation {
namespace {

nlohmann::ordered_json number(double value) {
  return std::isfinite(value) ? nlohmann::ordered_json(value) : nlohmann::ordered_json(nullptr);
}

}  // namespace

nlohmann::ordered_json json_of(const Metrics& m) {
  return {{"total_return", number(m.total_return)},
          {"sharpe_per_bar", number(m.sharpe)},
          {"sharpe_annual", number(m.sharpe_annual)},
          {"sortino_annual", number(m.sortino_annual)},
          {"max_drawdown", number(m.max_drawdown)},
          {"volatility_annual", number(m.volatility_annual)},
          {"turnover", number(m.turnover)},
          {"mean_position", number(m.mean_position)},
          {"fees", number(m.fees)},
          {"orders", m.orders},
          {"bars", m.bars}};
}

std::string table_header() {
  char buffer[200];
  std::snprintf(buffer, sizeof buffer, "  %-26s %9s %8s %8s %9s %9s %9s %8s\n", "", "return", "Sharpe", "Sortino",
                "drawdown", "turnover", "costs", "orders");
  return buffer;
}

std::string table_line(const std::string& name, const Metrics& m) {
  char buffer[300];
  std::snprintf(buffer, sizeof buffer, "  %-26s %+8.2f%% %8.2f %8.2f %8.1f%% %9.1f %9.2f %8lld\n", name.c_str(),
                100 * m.total_return, m.sharpe_annual, m.sortino_annual, 100 * m.max_drawdown, m.turnover, m.fees,
                static_cast<long long>(m.orders));
  return buffer;
}

}  // namespace ristretto::evaluation
