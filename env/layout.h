// The observation as ordered names and scales (environment.md, "Observation"; deployments.md, manifest).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ristretto::env {

// Powers of two: observation = raw value * 2^exponent.
struct ObservationScales {
  int cash_exp = -11;
  int stocks_exp = -8;
  int tech_exp = -14;
};

// Two layouts are compatible when their names say so; a bare dimension says nothing (141 and 211 each fit several).
struct Layout {
  std::vector<std::string> assets;    // "BTC/USD"
  std::vector<std::string> features;  // "rsi"
  int lookback = 1;                   // L rows, newest first
  ObservationScales scales;

  std::int64_t assets_count() const { return static_cast<std::int64_t>(assets.size()); }
  std::int64_t market_columns() const { return static_cast<std::int64_t>(assets.size() * features.size()); }  // n*F
  std::int64_t size() const { return 1 + assets_count() + market_columns() * lookback; }                      // S
  // "cash", "holding:BTC/USD" ..., "BTC/USD:rsi@0" ...: one name a column, in order.
  std::vector<std::string> names() const;
  // 2^exponent of each column.
  std::vector<double> column_scales() const;
  bool operator==(const Layout& other) const;
};

// Where `found` is not `expected`, by names: "it lacks the features rsi, macd; its lookback is 1, expected 3"; "" where
// they are equal.
std::string difference(const Layout& found, const Layout& expected);

// Assets of today's trader, in its order: AAVE AVAX BTC LINK ETH LTC UNI, each "/USD".
const std::vector<std::string>& default_assets();
// "alpaca-11", "alpaca-14", "alpaca-14b": the features of a set, in order. Throws Error(usage) with the nearest name.
std::vector<std::string> feature_set(const std::string& name);
const std::vector<std::string>& feature_set_names();
// Smallest order of an asset, 1.1 times the exchange's minimum (environment.md, "Step"). Throws Error(usage) for an
// asset that the table lacks.
double minimum_quantity(const std::string& asset);

}  // namespace ristretto::env
