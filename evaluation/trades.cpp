#include "evaluation/trades.h"

#include <algorithm>
#include <cmath>

#include "platform/text.h"

namespace ristretto::evaluation {
namespace {

constexpr double kDaySeconds = 86400;

// Of one asset: since when it is held and what was paid for it.
struct Position {
  std::int64_t since = 0;
  double paid = 0;  // for what is still held
  double gain = 0;  // of the round trip so far: what sales earned less what purchases cost
};

double share(std::int64_t part, std::int64_t whole) { return static_cast<double>(part) / static_cast<double>(whole); }

std::string won(std::int64_t part, std::int64_t whole) {
  return whole == 0 ? "none" : str(with_thousands(whole), ", ", fixed(100 * share(part, whole), 1), " % with a profit");
}

std::string bars_in_words(std::int64_t bars, std::int64_t bar_seconds) {
  const double days = static_cast<double>(bars * bar_seconds) / kDaySeconds;
  return str(with_thousands(bars), bars == 1 ? " bar" : " bars", days >= 1 ? str(" (", fixed(days, 1), " days)") : "");
}

}  // namespace

std::optional<Trades> trades_of(const Backtest& backtest, const env::Market& market, const env::Rules& rules) {
  if (!backtest.holdings.defined()) return std::nullopt;
  const auto n = static_cast<std::int64_t>(market.assets.size());
  const auto bars = static_cast<std::int64_t>(backtest.time.size());
  const at::Tensor prices = market.price.to(at::kCPU, at::kDouble).contiguous();
  const double* price = prices.const_data_ptr<double>();
  const double* holding = backtest.holdings.const_data_ptr<double>();
  const double cost = env::cost_fraction(rules);
  Trades out;
  out.orders = backtest.orders;
  out.bars = bars;
  out.bar_seconds = backtest.bar_seconds;
  std::vector<std::int64_t> lengths;  // of round trips
  for (std::size_t w = 0; w < backtest.windows.size(); ++w) {
    const std::int64_t first = backtest.first_bar[w];
    const std::int64_t end = w + 1 < backtest.windows.size() ? backtest.first_bar[w + 1] : bars;
    // The value that the window began with, as it is chained.
    const double chained = first == 0 ? backtest.initial_capital : backtest.value[static_cast<std::size_t>(first - 1)];
    std::vector<Position> positions(static_cast<std::size_t>(n));
    for (std::int64_t bar = first; bar < end; ++bar) {
      const auto k = static_cast<std::size_t>(bar);
      const auto row = std::lower_bound(market.time.begin(), market.time.end(), backtest.time[k]) - market.time.begin();
      bool traded = false;
      for (std::int64_t i = 0; i < n; ++i) {
        const double before = bar == first ? 0 : holding[(bar - 1) * n + i], now = holding[bar * n + i];
        if (before == now) continue;
        traded = true;
        Position& position = positions[static_cast<std::size_t>(i)];
        const double worth = std::abs(now - before) * price[row * n + i];
        const double of_account = worth / (backtest.value[k] * backtest.initial_capital / chained);
        if (of_account > out.largest_order_share) {
          out.largest_order = worth;
          out.largest_order_share = of_account;
        }
        if (now > before) {
          if (before == 0) position = {bar, 0, 0};
          position.paid += worth * (1 + cost);
          position.gain -= worth * (1 + cost);
          out.bought += worth;
          continue;
        }
        const double basis = position.paid * (before - now) / before, earned = worth * (1 - cost);
        position.paid -= basis;
        position.gain += earned;
        out.sold += worth;
        ++out.sales;
        out.sales_won += earned > basis ? 1 : 0;
        if (now > 0) continue;
        ++out.round_trips;
        out.round_trips_won += position.gain > 0 ? 1 : 0;
        lengths.push_back(bar - position.since);
      }
      out.bars_with_trade += traded ? 1 : 0;
    }
    for (std::int64_t i = 0; i < n; ++i) out.open_positions += holding[(end - 1) * n + i] > 0 ? 1 : 0;
  }
  if (!lengths.empty()) {
    std::sort(lengths.begin(), lengths.end());
    out.median_round_trip_bars = lengths[(lengths.size() - 1) / 2];
    out.longest_round_trip_bars = lengths.back();
  }
  return out;
}

std::vector<std::pair<std::string, std::string>> facts_of(const Trades& trades) {
  const double days = static_cast<double>(trades.bars * trades.bar_seconds) / kDaySeconds;
  std::vector<std::pair<std::string, std::string>> facts = {
      {"Orders",
       str(with_thousands(trades.orders), ", ", fixed(static_cast<double>(trades.orders) / days, 1), " a day")},
      {"Bars with a trade", str(with_thousands(trades.bars_with_trade), " of ", with_thousands(trades.bars), ", ",
                                fixed(100 * share(trades.bars_with_trade, trades.bars), 1), " %")},
      {"Value bought and sold", str(fixed(trades.bought, 2), " and ", fixed(trades.sold, 2))}};
  if (trades.orders > 0) {
    facts.emplace_back("Mean order", fixed((trades.bought + trades.sold) / static_cast<double>(trades.orders), 2));
    facts.emplace_back("Largest order", str(fixed(trades.largest_order, 2), ", ",
                                            fixed(100 * trades.largest_order_share, 1), " % of the account"));
  }
  facts.emplace_back("Sales", won(trades.sales_won, trades.sales));
  facts.emplace_back("Positions closed", won(trades.round_trips_won, trades.round_trips));
  if (trades.round_trips > 0) {
    facts.emplace_back("Held until then",
                       str("median ", bars_in_words(trades.median_round_trip_bars, trades.bar_seconds), ", longest ",
                           bars_in_words(trades.longest_round_trip_bars, trades.bar_seconds)));
  }
  facts.emplace_back("Positions open at the end", str(trades.open_positions));
  return facts;
}

nlohmann::ordered_json json_of(const Trades& trades) {
  return {{"orders", trades.orders},
          {"bars", trades.bars},
          {"bars_with_trade", trades.bars_with_trade},
          {"bought", trades.bought},
          {"sold", trades.sold},
          {"largest_order", trades.largest_order},
          {"largest_order_share", trades.largest_order_share},
          {"sales", trades.sales},
          {"sales_won", trades.sales_won},
          {"round_trips", trades.round_trips},
          {"round_trips_won", trades.round_trips_won},
          {"median_round_trip_bars", trades.median_round_trip_bars},
          {"longest_round_trip_bars", trades.longest_round_trip_bars},
          {"open_positions", trades.open_positions}};
}

}  // namespace ristretto::evaluation
