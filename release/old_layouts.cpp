#include "release/old_layouts.h"

#include <algorithm>
#include <cmath>

#include "formats/torch_file.h"
#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::release {
namespace {

namespace fs = std::filesystem;

void add_fits(std::int64_t observation, std::int64_t assets, bool known, std::vector<LayoutFit>& out) {
  const std::int64_t market = observation - 1 - assets;
  if (market <= 0 || market % assets != 0) return;
  const std::int64_t per_asset = market / assets;
  if (!known) {
    out.push_back({"", per_asset, assets, 1});
    return;
  }
  for (const std::string& name : env::feature_set_names()) {
    const auto count = static_cast<std::int64_t>(env::feature_set(name).size());
    if (per_asset % count == 0) out.push_back({name, count, assets, per_asset / count});
  }
}

int exponent_of(const Trial& trial, const char* name, int otherwise) {
  const auto found = trial.parameters.find(name);
  return found != trial.parameters.end() && found->is_number() ? static_cast<int>(found->get<double>()) : otherwise;
}

// Root mean square gradient of each input: Adam's second moments of the first matrix, [W, S] of an MLP, [S, d] of a
// tokenizer. Empty where the file has none of S columns.
std::vector<double> input_sizes(const fs::path& file, int parameter, std::int64_t observation) {
  std::vector<double> out;
  formats::NamedArrays arrays;
  try {
    arrays = formats::read_torch_file(file);
  } catch (const Error&) {
    return out;  // evidence that cannot be read is none
  }
  const formats::Array* moments = formats::find(arrays, str("state.", parameter, ".exp_avg_sq"));
  if (moments == nullptr || moments->shape.size() != 2) return out;
  const std::int64_t rows = moments->shape[0], columns = moments->shape[1];
  const bool by_column = columns == observation;
  if (!by_column && rows != observation) return out;
  const std::vector<double> values = moments->as_doubles();
  out.resize(static_cast<std::size_t>(observation));
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < columns; ++j) {
      out[static_cast<std::size_t>(by_column ? j : i)] += values[static_cast<std::size_t>(i * columns + j)];
    }
  }
  for (double& value : out) value = std::sqrt(value);
  return out;
}

}  // namespace

std::vector<LayoutFit> layouts_of(std::int64_t observation, std::int64_t assets) {
  std::vector<LayoutFit> out;
  const std::int64_t first = assets > 0 ? assets : 1, last = assets > 0 ? assets : kMostAssets;
  for (const bool known : {true, false}) {
    for (std::int64_t n = first; n <= last && (known || out.empty() || out.front().features.empty()); ++n) {
      add_fits(observation, n, known, out);
    }
  }
  std::stable_sort(out.begin(), out.end(),
                   [](const LayoutFit& a, const LayoutFit& b) { return a.lookback < b.lookback; });
  return out;
}

std::string text_of(const LayoutFit& fit) {
  if (!fit.features.empty()) {
    return str(fit.feature_count, " features (", fit.features, "), lookback ", fit.lookback, ", ", fit.assets,
               " assets");
  }
  return str(fit.feature_count, " values an asset (features x lookback; no known set), ", fit.assets, " assets");
}

std::vector<std::string> processor_order() {
  std::vector<std::string> assets = env::default_assets();
  std::sort(assets.begin(), assets.end());
  return assets;
}

std::optional<env::Layout> own_layout(const Model& model) {
  if (model.layout) return model.layout;
  env::Layout layout;
  layout.assets = env::default_assets();
  if (model.architecture.actions != layout.assets_count()) return std::nullopt;
  const std::vector<LayoutFit> fits = layouts_of(model.architecture.observation, layout.assets_count());
  const auto known = std::find_if(fits.begin(), fits.end(), [&](const LayoutFit& fit) {
    if (fit.features.empty() || fit.features == "alpaca-14b") return false;
    // A dimension of several known sets: the trial's lookback decides.
    const std::int64_t wanted = model.trial ? exponent_of(*model.trial, "lookback", 0) : 0;
    return wanted == 0 || fit.lookback == wanted ||
           std::none_of(fits.begin(), fits.end(), [&](const LayoutFit& other) { return other.lookback == wanted; });
  });
  if (known == fits.end()) return std::nullopt;
  layout.features = env::feature_set(known->features);
  layout.lookback = static_cast<int>(known->lookback);
  if (model.trial) {
    const env::ObservationScales defaults;
    layout.scales = {exponent_of(*model.trial, "norm_cash_exp", defaults.cash_exp),
                     exponent_of(*model.trial, "norm_stocks_exp", defaults.stocks_exp),
                     exponent_of(*model.trial, "norm_tech_exp", defaults.tech_exp)};
  }
  return layout;
}

std::optional<double> eth_over_link(const fs::path& directory, const env::Layout& layout) {
  constexpr std::int64_t kPrices = 4;  // open, high, low and close begin every set
  const auto position = [&](const char* asset) {
    const std::vector<std::string>& assets = env::default_assets();
    return std::find(assets.begin(), assets.end(), asset) - assets.begin();
  };
  if (layout.assets_count() != static_cast<std::int64_t>(env::default_assets().size())) return std::nullopt;
  for (const auto& [file, parameter] : {std::pair{"act_optim.pth", 1}, std::pair{"cri_optim.pth", 0}}) {
    if (!fs::exists(directory / file)) continue;
    const std::vector<double> sizes = input_sizes(directory / file, parameter, layout.size());
    if (sizes.empty()) continue;
    const auto price = [&](const char* asset) {
      const auto first =
          1 + layout.assets_count() + position(asset) * static_cast<std::int64_t>(layout.features.size());
      double sum = 0;
      for (std::int64_t j = first; j < first + kPrices; ++j) sum += sizes[static_cast<std::size_t>(j)];
      return sum;
    };
    const double eth = price("ETH/USD"), link = price("LINK/USD");
    if (eth > 0 && link > 0 && price("BTC/USD") > kOrderEvidence * std::max(eth, link)) return eth / link;
  }
  return std::nullopt;
}

}  // namespace ristretto::release
