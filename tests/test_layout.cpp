#include <doctest/doctest.h>

#include <algorithm>
#include <set>

#include "env/indicators.h"
#include "env/layout.h"
#include "platform/error.h"
#include "platform/text.h"

using namespace ristretto;
using namespace ristretto::env;

namespace {

Layout layout_of(const std::string& set, int lookback) { return {default_assets(), feature_set(set), lookback, {}}; }

}  // namespace

TEST_CASE("layout: the dimensions of the existing models") {
  CHECK(layout_of("alpaca-11", 1).size() == 85);
  CHECK(layout_of("alpaca-11", 3).size() == 239);
  const std::int64_t expected[] = {106, 204, 302, 400, 498};
  for (int lookback = 1; lookback <= 5; ++lookback) {
    CHECK(layout_of("alpaca-14", lookback).size() == expected[lookback - 1]);
    CHECK(layout_of("alpaca-14b", lookback).size() == expected[lookback - 1]);
  }
}

TEST_CASE("layout: names are cash, holdings, and the features of each asset, newest row first") {
  const Layout layout{{"BTC/USD", "ETH/USD"}, {"close", "rsi"}, 2, {}};
  CHECK(layout.names() == std::vector<std::string>{"cash", "holding:BTC/USD", "holding:ETH/USD", "BTC/USD:close@0",
                                                   "BTC/USD:rsi@0", "ETH/USD:close@0", "ETH/USD:rsi@0",
                                                   "BTC/USD:close@1", "BTC/USD:rsi@1", "ETH/USD:close@1",
                                                   "ETH/USD:rsi@1"});
  CHECK(layout.market_columns() == 4);
  CHECK(layout.assets_count() == 2);
}

TEST_CASE("layout: there is one name a column, and no name twice") {
  for (const std::string& set : feature_set_names()) {
    const Layout layout = layout_of(set, 3);
    const std::vector<std::string> names = layout.names();
    CHECK(static_cast<std::int64_t>(names.size()) == layout.size());
    CHECK(std::set<std::string>(names.begin(), names.end()).size() == names.size());
    CHECK(static_cast<std::int64_t>(layout.column_scales().size()) == layout.size());
  }
}

TEST_CASE("layout: a lookback that no layout has is refused before there are names of it") {
  for (const int lookback : {-5, 0, 1001, 1'000'000'000}) {
    const Layout layout{{"BTC/USD"}, {"rsi"}, lookback, {}};
    const std::string expected = str("the layout's lookback is ", lookback, ", expected 1 to 1000");
    CHECK_THROWS_WITH_AS(layout.names(), expected.c_str(), Error);
    CHECK_THROWS_WITH_AS(layout.column_scales(), expected.c_str(), Error);
  }
  CHECK(Layout{{"BTC/USD"}, {"rsi"}, 1000, {}}.names().size() == 1002);
}

TEST_CASE("layout: each column has the power of two of its kind") {
  const Layout layout{{"BTC/USD", "ETH/USD"}, {"rsi"}, 2, {-11, 3, -14}};
  const double tech = 1.0 / 16384;
  CHECK(layout.column_scales() == std::vector<double>{1.0 / 2048, 8, 8, tech, tech, tech, tech});
}

TEST_CASE("layout: two are equal when assets, features, lookback and scales are, in order") {
  const Layout layout = layout_of("alpaca-14", 2);
  CHECK(layout == layout_of("alpaca-14", 2));
  CHECK_FALSE(layout == layout_of("alpaca-14", 3));
  CHECK_FALSE(layout == layout_of("alpaca-14b", 2));
  Layout other = layout;
  std::swap(other.assets[3], other.assets[4]);  // LINK and ETH: the same dimension
  CHECK_FALSE(layout == other);
  for (int ObservationScales::*scale :
       {&ObservationScales::cash_exp, &ObservationScales::stocks_exp, &ObservationScales::tech_exp}) {
    other = layout;
    other.scales.*scale += 1;
    CHECK_FALSE(layout == other);
  }
}

TEST_CASE("layout: the feature sets are those of the existing system, and 14b tells itself from 14") {
  const std::vector<std::string> all = {"open",
                                        "high",
                                        "low",
                                        "close",
                                        "volume",
                                        "macd",
                                        "macd_signal",
                                        "macd_hist",
                                        "rsi",
                                        "cci",
                                        "dx",
                                        "atr_regime_shift",
                                        "range_breakout_volume",
                                        "trend_reacceleration"};
  CHECK(feature_set("alpaca-14") == all);
  CHECK(feature_set("alpaca-11") == std::vector<std::string>(all.begin(), all.begin() + 11));
  std::vector<std::string> intended = all;
  intended[12] = "range_breakout_volume_14b";
  CHECK(feature_set("alpaca-14b") == intended);
  for (const std::string& set : feature_set_names()) CHECK(warm_up_rows(feature_set(set)) == 33);
  CHECK_THROWS_WITH_AS(feature_set("alpaca-13"), doctest::Contains("the nearest is \"alpaca-1"), Error);
}

TEST_CASE("layout: assets in the trader's order, and their smallest orders") {
  CHECK(default_assets() ==
        std::vector<std::string>{"AAVE/USD", "AVAX/USD", "BTC/USD", "LINK/USD", "ETH/USD", "LTC/USD", "UNI/USD"});
  const double minima[] = {0.005, 0.03, 0.00001, 0.1, 0.0003, 0.01, 0.15};
  for (std::size_t i = 0; i < 7; ++i) CHECK(minimum_quantity(default_assets()[i]) == 1.1 * minima[i]);
  CHECK_THROWS_WITH_AS(minimum_quantity("BTC/USDT"), doctest::Contains("the nearest is \"BTC/USD\""), Error);
}

TEST_CASE("layout: a difference is told by names, and is empty between equals") {
  const Layout layout = layout_of("alpaca-14", 2);
  CHECK(difference(layout, layout).empty());
  CHECK(difference(layout_of("alpaca-11", 2), layout) ==
        "it lacks the features atr_regime_shift, range_breakout_volume, trend_reacceleration");
  CHECK(difference(layout_of("alpaca-14", 3), layout) == "its lookback is 3, expected 2");
  Layout other = layout;
  std::swap(other.assets[3], other.assets[4]);
  CHECK(difference(other, layout).find("its assets are in the order AAVE/USD, AVAX/USD, BTC/USD, ETH/USD") == 0);
  other = layout;
  other.assets.pop_back();
  other.scales.tech_exp = -15;
  CHECK(difference(other, layout) ==
        "it lacks the assets UNI/USD; its scale of the features (power of two) is -15, expected -14");
}
