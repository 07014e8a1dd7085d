#include "env/layout.h"

#include <algorithm>
#include <cmath>

#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::env {
namespace {

constexpr int kMaxLookback = 1000;
constexpr double kMinimumMargin = 1.1;  // over the exchange's minimum, which moves with the price

struct Minimum {
  const char* asset;
  double quantity;  // the exchange's, in units of the asset
};

constexpr Minimum kMinima[] = {
    {"AAVE/USD", 0.005}, {"AVAX/USD", 0.03}, {"BTC/USD", 0.00001}, {"LINK/USD", 0.1},
    {"ETH/USD", 0.0003}, {"LTC/USD", 0.01},  {"UNI/USD", 0.15},
};

std::string one_of(const std::string& name, const std::vector<std::string>& candidates) {
  return str("; the nearest is \"", nearest_name(name, candidates), '"');
}

// Files say it: a wrong one would ask for columns without end.
void check_lookback(int lookback) {
  if (lookback >= 1 && lookback <= kMaxLookback) return;
  throw Error(Fault::usage, str("the layout's lookback is ", lookback, ", expected 1 to ", kMaxLookback));
}

// The names of `a` that `b` has not.
std::vector<std::string> without(const std::vector<std::string>& a, const std::vector<std::string>& b) {
  std::vector<std::string> out;
  for (const std::string& name : a) {
    if (std::find(b.begin(), b.end(), name) == b.end()) out.push_back(name);
  }
  return out;
}

void add_difference(const char* what, const std::vector<std::string>& found, const std::vector<std::string>& expected,
                    std::vector<std::string>& parts) {
  const std::vector<std::string> missing = without(expected, found), more = without(found, expected);
  if (!missing.empty()) parts.push_back(str("it lacks the ", what, " ", join(missing, ", ")));
  if (!more.empty()) parts.push_back(str("it has the ", what, " ", join(more, ", ")));
  if (missing.empty() && more.empty() && found != expected) {
    parts.push_back(str("its ", what, " are in the order ", join(found, ", "), ", expected ", join(expected, ", ")));
  }
}

}  // namespace

std::vector<std::string> Layout::names() const {
  check_lookback(lookback);
  std::vector<std::string> out{"cash"};
  out.reserve(static_cast<std::size_t>(size()));
  for (const std::string& asset : assets) out.push_back(str("holding:", asset));
  for (int row = 0; row < lookback; ++row) {
    for (const std::string& asset : assets) {
      for (const std::string& feature : features) out.push_back(str(asset, ':', feature, '@', row));
    }
  }
  return out;
}

std::vector<double> Layout::column_scales() const {
  check_lookback(lookback);
  std::vector<double> out(static_cast<std::size_t>(size()), std::ldexp(1.0, scales.tech_exp));
  out[0] = std::ldexp(1.0, scales.cash_exp);
  std::fill_n(out.begin() + 1, assets_count(), std::ldexp(1.0, scales.stocks_exp));
  return out;
}

bool Layout::operator==(const Layout& other) const {
  return assets == other.assets && features == other.features && lookback == other.lookback &&
         scales.cash_exp == other.scales.cash_exp && scales.stocks_exp == other.scales.stocks_exp &&
         scales.tech_exp == other.scales.tech_exp;
}

std::string difference(const Layout& found, const Layout& expected) {
  std::vector<std::string> parts;
  add_difference("assets", found.assets, expected.assets, parts);
  add_difference("features", found.features, expected.features, parts);
  const auto add = [&](const char* what, int is, int should) {
    if (is != should) parts.push_back(str("its ", what, " is ", is, ", expected ", should));
  };
  add("lookback", found.lookback, expected.lookback);
  add("scale of the cash (power of two)", found.scales.cash_exp, expected.scales.cash_exp);
  add("scale of the holdings (power of two)", found.scales.stocks_exp, expected.scales.stocks_exp);
  add("scale of the features (power of two)", found.scales.tech_exp, expected.scales.tech_exp);
  return join(parts, "; ");
}

const std::vector<std::string>& default_assets() {
  static const std::vector<std::string> kAssets = [] {
    std::vector<std::string> assets;
    for (const Minimum& minimum : kMinima) assets.emplace_back(minimum.asset);
    return assets;
  }();
  return kAssets;
}

const std::vector<std::string>& feature_set_names() {
  static const std::vector<std::string> kNames = {"alpaca-11", "alpaca-14", "alpaca-14b"};
  return kNames;
}

std::vector<std::string> feature_set(const std::string& name) {
  const std::vector<std::string>& known = feature_set_names();
  if (std::find(known.begin(), known.end(), name) == known.end()) {
    throw Error(Fault::usage, str("feature set \"", name, "\" is unknown", one_of(name, known)),
                str("known: ", join(known, ", ")));
  }
  std::vector<std::string> features = {"open",        "high",      "low", "close", "volume", "macd",
                                       "macd_signal", "macd_hist", "rsi", "cci",   "dx"};
  if (name == "alpaca-11") return features;
  features.insert(features.end(),
                  {"atr_regime_shift", name == "alpaca-14b" ? "range_breakout_volume_14b" : "range_breakout_volume",
                   "trend_reacceleration"});
  return features;
}

double minimum_quantity(const std::string& asset) {
  for (const Minimum& minimum : kMinima) {
    if (asset == minimum.asset) return kMinimumMargin * minimum.quantity;
  }
  throw Error(Fault::usage,
              str("no minimum quantity is known for asset \"", asset, '"', one_of(asset, default_assets())),
              str("known: ", join(default_assets(), ", ")));
}

}  // namespace ristretto::env
