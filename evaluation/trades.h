// What a backtest bought and sold, of the holdings that it kept.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "env/market.h"
#include "env/step.h"
#include "evaluation/backtest.h"

namespace ristretto::evaluation {

// Money is that of accounts that are not chained. Purchases and sales of an asset at one bar count once, as what they
// come to.
struct Trades {
  std::int64_t orders = 0, bars = 0, bars_with_trade = 0;
  std::int64_t bar_seconds = 3600;
  double bought = 0, sold = 0;
  double largest_order = 0, largest_order_share = 0;  // the order with the largest share of the account's value
  // A sale is won where it earns, after costs, more than the average price paid, with costs, for what is held.
  std::int64_t sales = 0, sales_won = 0;
  // From nothing of an asset to nothing again; won where all its sales earn more than all its purchases cost.
  std::int64_t round_trips = 0, round_trips_won = 0;
  std::int64_t median_round_trip_bars = 0, longest_round_trip_bars = 0;
  std::int64_t open_positions = 0;  // at the windows' ends
};
// Nothing where the backtest did not keep its holdings.
std::optional<Trades> trades_of(const Backtest& backtest, const env::Market& market, const env::Rules& rules);

std::vector<std::pair<std::string, std::string>> facts_of(const Trades& trades);
nlohmann::ordered_json json_of(const Trades& trades);

}  // namespace ristretto::evaluation
