#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "env/indicators.h"
#include "env/layout.h"
#include "env/market.h"
#include "formats/npz.h"
#include "platform/error.h"

using namespace ristretto;
using namespace ristretto::env;

namespace {

constexpr std::int64_t kHour = 3600;
const std::filesystem::path kExampleBars = RISTRETTO_SOURCE "/data/crypto_1h";
// A float32 of a value that agrees with the existing system's float64 to 1e-9: half a unit in the last place.
constexpr double kFloatRounding = 6e-8;

// Bars at these hours: asset i closes at 100 (i + 1) + hour, with a range of 1 to either side and volume `hour`.
Bars bars_at(const std::vector<std::int64_t>& hours, const std::vector<std::string>& assets) {
  Bars bars;
  bars.assets = assets;
  for (const std::int64_t hour : hours) bars.time.push_back(hour * kHour);
  bars.segments = segments_of(bars.time, kHour);
  for (std::size_t i = 0; i < assets.size(); ++i) {
    AssetBars asset;
    asset.asset = assets[i];
    asset.time = bars.time;
    for (const std::int64_t hour : hours) {
      const double close = 100 * static_cast<double>(i + 1) + static_cast<double>(hour);
      asset.open.push_back(close);
      asset.high.push_back(close + 1);
      asset.low.push_back(close - 1);
      asset.close.push_back(close);
      asset.volume.push_back(static_cast<double>(hour));
    }
    bars.columns.push_back(std::move(asset));
  }
  return bars;
}

std::vector<std::int64_t> hours_of(const std::vector<Segment>& stretches) {
  std::vector<std::int64_t> hours;
  for (const Segment& stretch : stretches) {
    for (std::int64_t hour = stretch.begin; hour < stretch.end; ++hour) hours.push_back(hour);
  }
  return hours;
}

double price_at(const Market& market, std::int64_t row, std::int64_t asset) {
  return market.price.const_data_ptr<double>()[row * market.price.size(1) + asset];
}
double tech_at(const Market& market, std::int64_t row, std::int64_t column) {
  return static_cast<double>(market.tech.const_data_ptr<float>()[row * market.tech.size(1) + column]);
}

}  // namespace

TEST_CASE("market: each segment loses its warm-up, a segment no longer than that is dropped, rows are those left") {
  // 40 bars, 33 bars (all warm-up), 34 bars (one row).
  const Bars bars = bars_at(hours_of({{0, 40}, {50, 83}, {90, 124}}), {"BTC/USD", "ETH/USD"});
  const Market market = Market::of(bars, {"close", "macd"});
  CHECK(market.segments == std::vector<Segment>{{0, 7}, {7, 8}});
  CHECK(market.rows() == 8);
  CHECK(market.bars_in_segments() == 8);
  CHECK(market.bar_seconds == kHour);
  CHECK((market.price.sizes() == at::IntArrayRef{8, 2}));
  CHECK((market.tech.sizes() == at::IntArrayRef{8, 4}));
  CHECK((market.price.scalar_type() == at::kDouble));
  CHECK((market.tech.scalar_type() == at::kFloat));
  const std::int64_t hours[] = {33, 34, 35, 36, 37, 38, 39, 123};
  for (std::int64_t row = 0; row < 8; ++row) {
    CHECK(market.time[row] == hours[row] * kHour);
    for (std::int64_t asset = 0; asset < 2; ++asset) {
      const double close = 100 * static_cast<double>(asset + 1) + static_cast<double>(hours[row]);
      CHECK(price_at(market, row, asset) == close);
      CHECK(tech_at(market, row, 2 * asset) == close);  // asset-major: close, macd, close, macd
    }
  }
}

TEST_CASE("market: without features that have a warm-up every row stays") {
  const Market market = Market::of(bars_at(hours_of({{0, 3}, {5, 6}}), {"BTC/USD"}), {"volume", "open"});
  CHECK(market.segments == std::vector<Segment>{{0, 3}, {3, 4}});
  CHECK(tech_at(market, 3, 0) == 5);
  CHECK(tech_at(market, 3, 1) == 105);
}

TEST_CASE("market: no recursion crosses a gap") {
  const Bars bars = read_bars(kExampleBars, {"BTC/USD", "LTC/USD"});
  const std::vector<std::string> features = feature_set("alpaca-14b");
  const Market market = Market::of(bars, features);
  REQUIRE(market.segments.size() == bars.segments.size());
  for (std::size_t s = 0; s < market.segments.size(); ++s) {
    const Segment from = bars.segments[s], to = market.segments[s];
    REQUIRE(to.size() == from.size() - 33);
    for (std::size_t asset = 0; asset < 2; ++asset) {
      const AssetBars& columns = bars.columns[asset];
      const BarColumns alone{columns.open.data() + from.begin,   columns.high.data() + from.begin,
                             columns.low.data() + from.begin,    columns.close.data() + from.begin,
                             columns.volume.data() + from.begin, from.size()};
      for (std::size_t f = 0; f < features.size(); ++f) {
        const std::vector<double> expected = compute_feature(features[f], alone);
        const std::int64_t column = static_cast<std::int64_t>(asset * features.size() + f);
        bool equal = true;
        for (std::int64_t t = 0; t < to.size(); ++t) {
          equal = equal &&
                  tech_at(market, to.begin + t, column) == static_cast<double>(static_cast<float>(expected[t + 33]));
        }
        CAPTURE(features[f]);
        CHECK(equal);
      }
    }
  }
}

TEST_CASE("market: the existing data processor's arrays up to their first gap, by name") {
  const formats::NamedArrays golden = formats::read_npz(RISTRETTO_GOLDEN "/indicators/assembled_processor.npz");
  const auto doubles = [&](const char* name) { return formats::find(golden, name)->as_doubles(); };
  const auto texts = [&](const char* name) { return formats::find(golden, name)->as_texts(); };
  const std::vector<double> price = doubles("price_array"), tech = doubles("tech_array"), time = doubles("time_array");
  const std::vector<std::string> assets = texts("price_columns"), columns = texts("tech_columns");

  // The same bars, and the layout's order in place of the processor's alphabetical one.
  Bars bars = read_bars(kExampleBars, default_assets());
  const std::int64_t begin =
      std::find(bars.time.begin(), bars.time.end(), static_cast<std::int64_t>(doubles("input_time")[0])) -
      bars.time.begin();
  const Segment first = *std::find_if(bars.segments.begin(), bars.segments.end(),
                                      [&](const Segment& segment) { return segment.end > begin; });
  bars.segments = {{begin, first.end}};
  const Market market = Market::of(bars, feature_set("alpaca-14"));
  REQUIRE(assets != market.assets);
  REQUIRE(market.rows() > 900);
  const std::vector<std::string> names = Layout{market.assets, market.features, 1, {}}.names();
  for (std::int64_t row = 0; row < market.rows(); ++row) {
    REQUIRE(static_cast<double>(market.time[row]) == time[row]);
    for (std::size_t i = 0; i < assets.size(); ++i) {
      const auto asset = std::find(market.assets.begin(), market.assets.end(), assets[i]) - market.assets.begin();
      REQUIRE(price_at(market, row, asset) == price[row * assets.size() + i]);
    }
  }
  for (std::size_t c = 0; c < columns.size(); ++c) {
    CAPTURE(columns[c]);
    const auto at = std::find(names.begin(), names.end(), columns[c] + "@0");
    REQUIRE(at != names.end());
    const std::int64_t column = at - names.begin() - 1 - static_cast<std::int64_t>(assets.size());
    double worst = 0;
    for (std::int64_t row = 0; row < market.rows(); ++row) {
      const double expected = tech[row * columns.size() + c];
      // 1e-9 of the price level is what the values themselves may differ by (test_indicators).
      const double level = price_at(market, row, column / static_cast<std::int64_t>(market.features.size()));
      const double allowed = kFloatRounding * std::abs(expected) + 1e-9 * std::max(level, 1.0);
      worst = std::max(worst, std::abs(tech_at(market, row, column) - expected) / allowed);
    }
    CHECK(worst <= 1);
  }
}

TEST_CASE("market: the paper trader's arrays, which know no gap and repeat a row where an asset has no bar") {
  const formats::NamedArrays golden = formats::read_npz(RISTRETTO_GOLDEN "/indicators/assembled_paper_trader.npz");
  const auto doubles = [&](const char* name) { return formats::find(golden, name)->as_doubles(); };
  const std::vector<double> price = doubles("price_array"), tech = doubles("tech_array"), time = doubles("time_array"),
                            input_time = doubles("input_time");
  const double removed = doubles("removed_bar")[0];
  const std::string removed_from = formats::find(golden, "removed_from")->as_texts()[0];
  REQUIRE(formats::find(golden, "price_columns")->as_texts() == default_assets());

  const std::vector<std::string> features = feature_set("alpaca-14");
  const Bars all = read_bars(kExampleBars, default_assets());
  for (std::size_t i = 0; i < default_assets().size(); ++i) {
    const std::string& asset = default_assets()[i];
    CAPTURE(asset);
    Bars bars;
    bars.assets = {asset};
    AssetBars& into = bars.columns.emplace_back();
    for (const double bar : input_time) {
      if (asset == removed_from && bar == removed) continue;
      const auto found = std::find(all.time.begin(), all.time.end(), static_cast<std::int64_t>(bar));
      REQUIRE(found != all.time.end());
      const auto t = static_cast<std::size_t>(found - all.time.begin());
      bars.time.push_back(*found);
      for (const auto column :
           {&AssetBars::open, &AssetBars::high, &AssetBars::low, &AssetBars::close, &AssetBars::volume}) {
        (into.*column).push_back((all.columns[i].*column)[t]);
      }
    }
    bars.segments = {{0, static_cast<std::int64_t>(bars.time.size())}};
    const Market market = Market::of(bars, features);
    REQUIRE(market.rows() == static_cast<std::int64_t>(time.size()) - (asset == removed_from ? 1 : 0));
    double worst = 0;
    for (std::size_t row = 0, from = 0; row < time.size(); ++row) {
      if (row > 0 && !(asset == removed_from && time[row] == removed)) ++from;
      const auto at = static_cast<std::int64_t>(from);
      REQUIRE((static_cast<double>(market.time[from]) == time[row] || time[row] == removed));
      const double close = price_at(market, at, 0);
      REQUIRE(price[row * default_assets().size() + i] == static_cast<double>(static_cast<float>(close)));
      for (std::size_t f = 0; f < features.size(); ++f) {
        const double expected = tech[(row * default_assets().size() + i) * features.size() + f];
        // Both are rounded to float32.
        const double allowed = 2 * kFloatRounding * std::abs(expected) + 1e-9 * std::max(close, 1.0);
        worst = std::max(worst, std::abs(tech_at(market, at, static_cast<std::int64_t>(f)) - expected) / allowed);
      }
    }
    CHECK(worst <= 1);
  }
}

TEST_CASE("market: bars without a segment longer than the warm-up are an error") {
  const Bars bars = bars_at(hours_of({{0, 33}, {40, 73}}), {"BTC/USD"});
  CHECK_THROWS_WITH_AS(Market::of(bars, {"macd"}), doctest::Contains("warm-up of 33 bars"), Error);
  CHECK_THROWS_AS(Market::of(bars, {"vwap"}), Error);
}

TEST_CASE("market: a feature that float32 cannot hold is an error that names asset, feature and bar") {
  Bars bars = bars_at(hours_of({{0, 3}}), {"BTC/USD"});
  bars.columns[0].volume[1] = 1e39;
  CHECK_THROWS_WITH_AS(
      Market::of(bars, {"volume"}),
      doctest::Contains("feature volume of BTC/USD is 1e+39 at the bar of 1970-01-01T01:00:00Z, expected"), Error);
}

TEST_CASE("market: a copy with other segments or prices shares or keeps the other tables") {
  const Market market = Market::of(bars_at(hours_of({{0, 10}}), {"BTC/USD"}), {"volume"});
  const Market part = market.with_segments({{2, 5}, {5, 7}});
  CHECK(part.bars_in_segments() == 5);
  CHECK(part.rows() == 10);
  CHECK(part.price.const_data_ptr() == market.price.const_data_ptr());
  CHECK(part.tech.const_data_ptr() == market.tech.const_data_ptr());
  const Market single = market.to(at::kCPU, at::kFloat);
  CHECK((single.price.scalar_type() == at::kFloat));
  CHECK((single.tech.scalar_type() == at::kFloat));
  CHECK(single.price.const_data_ptr<float>()[3] == 103.0f);
  CHECK(single.segments == market.segments);
  CHECK(single.time == market.time);
  CHECK((market.price.scalar_type() == at::kDouble));
}

TEST_CASE("market: bars are cut by time, the last bound's bar left out, and segments without a bar dropped") {
  const Market market = Market::of(bars_at(hours_of({{0, 10}, {20, 30}}), {"BTC/USD"}), {"volume"});
  const auto at = [&](std::int64_t row) { return market.time[static_cast<std::size_t>(row)]; };
  CHECK(market.between({}, {}).segments == market.segments);
  CHECK(market.between(at(3), at(15)).segments == std::vector<Segment>{{3, 10}, {10, 15}});
  CHECK(market.between(at(3) + 1, at(10)).segments == std::vector<Segment>{{4, 10}});
  CHECK(market.between(at(10), {}).segments == std::vector<Segment>{{10, 20}});
  CHECK(market.between({}, at(9) + 1).segments == std::vector<Segment>{{0, 10}});
  CHECK(market.between(at(9) + 1, at(10)).segments.empty());
  CHECK(market.between(at(8), at(2)).segments.empty());
  CHECK(market.between(at(0), {}).price.const_data_ptr() == market.price.const_data_ptr());
}

TEST_CASE("market: columns are chosen by name, in the order asked for, and the rows stay") {
  std::vector<std::int64_t> hours;
  for (std::int64_t hour = 0; hour < 60; ++hour) hours.push_back(hour);
  const Market all = Market::of(bars_at(hours, {"BTC/USD", "ETH/USD", "LTC/USD"}), {"close", "volume", "rsi"});
  const Market some = all.with_columns({"LTC/USD", "BTC/USD"}, {"volume", "close"});
  CHECK(some.time == all.time);
  CHECK(some.assets == std::vector<std::string>{"LTC/USD", "BTC/USD"});
  for (const std::int64_t row : {std::int64_t{0}, all.rows() - 1}) {
    CHECK(some.price[row][0].item<double>() == all.price[row][2].item<double>());
    const std::int64_t places[] = {7, 6, 1, 0};
    for (std::int64_t j = 0; j < 4; ++j) {
      CHECK(some.tech[row][j].item<float>() == all.tech[row][places[j]].item<float>());
    }
  }
  CHECK_THROWS_WITH_AS(all.with_columns({"UNI/USD"}, {"close"}), doctest::Contains("no asset 'UNI/USD'"), Error);
  CHECK_THROWS_WITH_AS(all.with_columns({"BTC/USD"}, {"macd"}), doctest::Contains("no feature 'macd'"), Error);
}
