#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "env/bars.h"
#include "env/indicators.h"
#include "env/layout.h"
#include "formats/npz.h"
#include "platform/error.h"

using namespace ristretto;
using namespace ristretto::env;

namespace {

const std::string kGolden = RISTRETTO_GOLDEN "/indicators/";
const std::filesystem::path kExampleBars = RISTRETTO_SOURCE "/data/crypto_1h";

// Relative to the value, plus absolute times the level of what the feature is computed from: rounding of sums of up to
// 50 numbers of that level, and pandas' rolling means, which carry the rounding of all rows before.
constexpr double kTolerance = 1e-9;

const std::vector<std::string> kComputed = {"macd",
                                            "macd_signal",
                                            "macd_hist",
                                            "rsi",
                                            "cci",
                                            "dx",
                                            "atr_regime_shift",
                                            "range_breakout_volume",
                                            "trend_reacceleration",
                                            "atr14",
                                            "adx14",
                                            "range_breakout_volume_14b"};

// Prices for what is in dollars; 1 for ratios and indices, so that the tolerance is not the looser for a high price.
bool is_in_dollars(const std::string& feature) { return feature.starts_with("macd") || feature == "atr14"; }

BarColumns rows_of(const AssetBars& bars, std::int64_t begin, std::int64_t end) {
  return {bars.open.data() + begin,  bars.high.data() + begin,   bars.low.data() + begin,
          bars.close.data() + begin, bars.volume.data() + begin, end - begin};
}

std::vector<double> golden(const formats::NamedArrays& arrays, const std::string& name) {
  const formats::Array* array = formats::find(arrays, name);
  REQUIRE_MESSAGE(array != nullptr, name);
  return array->as_doubles();
}

// Checks equal warm-up and equal values; gives the largest deviation as a share of what is allowed.
double deviation(const std::vector<double>& found, const std::vector<double>& expected,
                 const std::vector<double>& close, bool dollars) {
  REQUIRE(found.size() >= expected.size());
  double worst = 0;
  std::size_t undefined = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    if (std::isnan(found[i]) != std::isnan(expected[i])) return INFINITY;
    if (std::isnan(expected[i])) {
      ++undefined;
      continue;
    }
    const double allowed = kTolerance * (std::abs(expected[i]) + (dollars ? close[i] : 1.0));
    worst = std::max(worst, std::abs(found[i] - expected[i]) / allowed);
  }
  REQUIRE(undefined < expected.size() / 2);
  return worst;
}

// A market that moves, from a fixed linear congruence.
struct Sample {
  std::vector<double> open, high, low, close, volume;
  explicit Sample(std::int64_t size) {
    std::uint64_t state = 12345;
    const auto uniform = [&] {
      state = state * 6364136223846793005u + 1442695040888963407u;
      return static_cast<double>(state >> 40) / static_cast<double>(1 << 24);
    };
    double price = 100;
    for (std::int64_t i = 0; i < size; ++i) {
      open.push_back(price);
      price *= 0.98 + 0.04 * uniform();
      close.push_back(price);
      high.push_back(std::max(open.back(), price) * (1 + 0.01 * uniform()));
      low.push_back(std::min(open.back(), price) * (1 - 0.01 * uniform()));
      volume.push_back(1000 * uniform());
    }
  }
  BarColumns columns() const {
    return {open.data(), high.data(), low.data(), close.data(), volume.data(), static_cast<std::int64_t>(open.size())};
  }
};

}  // namespace

TEST_CASE("indicators: the existing system's values over whole files, across gaps") {
  for (const std::string ticker : {"AAVE", "BTC", "LINK"}) {
    const Bars bars = read_bars(kExampleBars, {ticker + "/USD"});
    const AssetBars& asset = bars.columns[0];
    const formats::NamedArrays arrays = formats::read_npz(kGolden + ticker + ".npz");
    REQUIRE(golden(arrays, "time")[0] == static_cast<double>(asset.time[0]));
    for (const std::string& name : kComputed) {
      CAPTURE(ticker);
      CAPTURE(name);
      const std::vector<double> found =
          compute_feature(name, rows_of(asset, 0, static_cast<std::int64_t>(asset.time.size())));
      CHECK(deviation(found, golden(arrays, name), asset.close, is_in_dollars(name)) <= 1);
    }
  }
}

TEST_CASE("indicators: begun anew at each gap") {
  for (const std::string ticker : {"AAVE", "BTC", "LINK"}) {
    const Bars bars = read_bars(kExampleBars, {ticker + "/USD"});
    const AssetBars& asset = bars.columns[0];
    const formats::NamedArrays arrays = formats::read_npz(kGolden + ticker + ".npz");
    std::vector<double> starts;
    for (const Segment& segment : bars.segments) starts.push_back(static_cast<double>(segment.begin));
    CHECK(starts == golden(arrays, "segment_starts"));
    for (const std::string& name : kComputed) {
      CAPTURE(ticker);
      CAPTURE(name);
      std::vector<double> found;
      for (const Segment& segment : bars.segments) {
        const std::vector<double> part = compute_feature(name, rows_of(asset, segment.begin, segment.end));
        found.insert(found.end(), part.begin(), part.end());
      }
      CHECK(deviation(found, golden(arrays, "segmented_" + name), asset.close, is_in_dollars(name)) <= 1);
    }
  }
}

TEST_CASE("indicators: the existing data processor's table, by name") {
  const formats::NamedArrays arrays = formats::read_npz(kGolden + "assembled_processor.npz");
  const std::vector<double> time = golden(arrays, "input_time");
  const std::vector<std::string> columns = formats::find(arrays, "tech_columns")->as_texts();
  const std::vector<std::string> price_columns = formats::find(arrays, "price_columns")->as_texts();
  const std::vector<double> tech = golden(arrays, "tech_array"), price = golden(arrays, "price_array");
  const std::vector<double> kept = golden(arrays, "time_array");
  const std::size_t dropped = time.size() - kept.size();
  REQUIRE(dropped == static_cast<std::size_t>(warm_up_rows(feature_set("alpaca-14"))));

  const Bars bars = read_bars(kExampleBars, default_assets());
  const auto first = std::find(bars.time.begin(), bars.time.end(), static_cast<std::int64_t>(time[0]));
  const std::int64_t begin = first - bars.time.begin();
  const std::int64_t rows = static_cast<std::int64_t>(time.size());
  REQUIRE(bars.time[begin + rows - 1] == static_cast<std::int64_t>(time.back()));
  REQUIRE(kept.back() == time.back());
  REQUIRE(kept.front() == time[dropped]);
  for (const AssetBars& asset : bars.columns) {
    const auto at = std::find(price_columns.begin(), price_columns.end(), asset.asset);
    REQUIRE(at != price_columns.end());
    const std::vector<double> close(asset.close.begin() + begin + static_cast<std::int64_t>(dropped),
                                    asset.close.begin() + begin + rows);
    for (std::size_t t = 0; t < kept.size(); ++t) {
      REQUIRE(price[t * price_columns.size() + static_cast<std::size_t>(at - price_columns.begin())] == close[t]);
    }
    for (const std::string& name : feature_set("alpaca-14")) {
      CAPTURE(asset.asset);
      CAPTURE(name);
      const auto column = std::find(columns.begin(), columns.end(), asset.asset + ":" + name);
      REQUIRE(column != columns.end());
      std::vector<double> expected, found = compute_feature(name, rows_of(asset, begin, begin + rows));
      found.erase(found.begin(), found.begin() + static_cast<std::int64_t>(dropped));
      for (std::size_t t = 0; t < kept.size(); ++t) {
        expected.push_back(tech[t * columns.size() + static_cast<std::size_t>(column - columns.begin())]);
      }
      CHECK(deviation(found, expected, close, is_in_dollars(name)) <= 1);
    }
  }
}

TEST_CASE("indicators: raw columns are the bars' own") {
  const Sample sample(40);
  CHECK(compute_feature("open", sample.columns()) == sample.open);
  CHECK(compute_feature("high", sample.columns()) == sample.high);
  CHECK(compute_feature("low", sample.columns()) == sample.low);
  CHECK(compute_feature("close", sample.columns()) == sample.close);
  CHECK(compute_feature("volume", sample.columns()) == sample.volume);
}

TEST_CASE("indicators: a feature is undefined in its warm-up and nowhere else, however short the segment") {
  std::vector<std::string> names = kComputed;
  names.insert(names.end(), {"open", "high", "low", "close", "volume"});
  for (std::int64_t size = 0; size <= 80; ++size) {
    const Sample sample(size);
    for (const std::string& name : names) {
      const std::vector<double> values = compute_feature(name, sample.columns());
      REQUIRE(static_cast<std::int64_t>(values.size()) == size);
      for (std::int64_t i = 0; i < size; ++i) {
        CAPTURE(name);
        CAPTURE(i);
        REQUIRE(std::isnan(values[i]) == (i < warm_up_rows({name})));
      }
    }
  }
}

TEST_CASE("indicators: no value depends on a later bar") {
  const Sample sample(200), shorter(120);
  for (const std::string& name : kComputed) {
    CAPTURE(name);
    const std::vector<double> all = compute_feature(name, sample.columns());
    const std::vector<double> some = compute_feature(name, shorter.columns());
    for (std::size_t i = 40; i < some.size(); ++i) REQUIRE(all[i] == some[i]);
  }
}

TEST_CASE("indicators: a market without movement or volume gives zeros") {
  const std::vector<double> price(100, 64.0), volume(100, 0.0);
  const BarColumns flat{price.data(), price.data(), price.data(), price.data(), volume.data(), 100};
  for (const std::string& name : kComputed) {
    CAPTURE(name);
    const std::vector<double> values = compute_feature(name, flat);
    for (std::int64_t i = warm_up_rows({name}); i < 100; ++i) REQUIRE(values[i] == 0);
  }
}

TEST_CASE("indicators: dx repeats its last value and adx14 stands while nothing moves") {
  constexpr std::size_t kStill = 30,
                        kRows = 600;  // enough rows for Wilder's sums to fall under what TA-Lib takes for 0
  Sample sample(kRows);
  for (auto* column : {&sample.open, &sample.high, &sample.low, &sample.close}) {
    std::fill(column->begin() + kStill - 1, column->end(), sample.close[kStill - 1]);
  }
  // The sums fall by 1/14 a row, all alike: their ratio stays, but for rounding.
  constexpr double kRounding = 1e-12;
  const std::vector<double> dx = compute_feature("dx", sample.columns());
  const std::vector<double> still = compute_feature("adx14", sample.columns());
  for (std::size_t i = kStill; i < kRows; ++i) REQUIRE(dx[i] == doctest::Approx(dx[kStill]).epsilon(kRounding));
  CHECK(dx[kRows - 1] == dx[kRows - 2]);
  CHECK(still[kRows - 1] == still[kRows - 2]);
  CHECK(still[kRows - 1] == doctest::Approx(dx[kStill]).epsilon(kRounding));

  const std::vector<double> price(60, 5.0);
  Sample late(60);
  const auto flat_until = [&](std::vector<double>& column) { std::copy_n(price.begin(), 20, column.begin()); };
  for (auto* column : {&late.open, &late.high, &late.low, &late.close}) flat_until(*column);
  const std::vector<double> begun = compute_feature("dx", late.columns());
  for (std::size_t i = 14; i < 20; ++i) CHECK(begun[i] == 0);
  CHECK(begun[20] == doctest::Approx(100).epsilon(kRounding));  // one jump: all movement has one direction
  const std::vector<double> strength = compute_feature("adx14", late.columns());
  double seed = 0;
  for (std::size_t i = 14; i <= 27; ++i) seed += begun[i];
  CHECK(strength[27] == doctest::Approx(seed / 14).epsilon(kRounding));
}

TEST_CASE("indicators: range_breakout_volume is 0 always, its intended formula is not") {
  const Bars bars = read_bars(kExampleBars, {"BTC/USD"});
  const BarColumns all = rows_of(bars.columns[0], 0, static_cast<std::int64_t>(bars.time.size()));
  const std::vector<double> kept = compute_feature("range_breakout_volume", all);
  CHECK(std::all_of(kept.begin(), kept.end(), [](double x) { return x == 0 && !std::signbit(x); }));
  const std::vector<double> intended = compute_feature("range_breakout_volume_14b", all);
  const auto breakouts = std::count_if(intended.begin(), intended.end(), [](double x) { return x != 0; });
  CHECK(breakouts > all.size * 5 / 100);
  CHECK(breakouts < all.size * 12 / 100);

  // By hand: 20 equal bars, then a close above them at four times the volume: mean (19 + 4) / 20.
  std::vector<double> price(21, 10.0), volume(21, 1.0), close = price, high = price;
  close[20] = high[20] = 11;
  volume[20] = 4;
  const BarColumns jump{price.data(), high.data(), price.data(), close.data(), volume.data(), 21};
  CHECK(compute_feature("range_breakout_volume_14b", jump)[20] ==
        doctest::Approx(4 / 1.15).epsilon(1e-7));  // 1e-8 guard
  CHECK(compute_feature("range_breakout_volume_14b", jump)[19] == 0);
}

TEST_CASE("indicators: the warm-up of a set is its longest") {
  CHECK(warm_up_rows({}) == 0);
  CHECK(warm_up_rows({"close", "volume"}) == 0);
  CHECK(warm_up_rows({"rsi", "cci"}) == 14);
  CHECK(warm_up_rows({"rsi", "trend_reacceleration", "cci"}) == 29);
  CHECK(warm_up_rows({"macd_hist", "adx14"}) == 33);
}

TEST_CASE("indicators: an unknown name is an error that names the nearest") {
  const Sample sample(3);
  CHECK_THROWS_WITH_AS(compute_feature("mcad", sample.columns()), doctest::Contains("the nearest is \"macd\""), Error);
  CHECK_THROWS_AS(warm_up_rows({"close", "vwap"}), Error);
}
