// Which observation a model without a manifest was trained on: what its dimension, its trial and its optimizer's state
// say (environment.md, "Observation"; algorithms.md 6).
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "env/layout.h"
#include "release/deployment.h"

namespace ristretto::release {

// One way to make S = 1 + n + n*F*L.
struct LayoutFit {
  std::string features;  // the name of a known set; "" where F is no known set's size
  std::int64_t feature_count = 0, assets = 0, lookback = 0;
};
// Every known feature set that fits, by lookback; where none does, every F*L that does, as sets without a name. Of all
// numbers of assets up to kMostAssets where `assets` is 0.
std::vector<LayoutFit> layouts_of(std::int64_t observation, std::int64_t assets);
inline constexpr std::int64_t kMostAssets = 32;
// "11 features (alpaca-11), lookback 3, 7 assets".
std::string text_of(const LayoutFit& fit);

// The default assets in the order in which the existing data processor delivers them: ETH before LINK.
std::vector<std::string> processor_order();

// The layout that a model was trained on: its manifest's, or of the known sets (the alpaca-14 of the existing system,
// not 14b) the one that fits with the default assets; its trial gives the scales, or the defaults do where there is
// none. Nothing where no known set fits or the number of actions is another.
std::optional<env::Layout> own_layout(const Model& model);

// How much larger the prices were in ETH's column than in LINK's, were the model trained in the default order: the
// square roots of Adam's second moments of the first layer are proportional to the size of each input. Above 1: in
// that order; below 1: the two are exchanged. Nothing where the directory has no optimizer state, or its columns do
// not look like prices (BTC's must tower).
std::optional<double> eth_over_link(const std::filesystem::path& directory, const env::Layout& layout);
inline constexpr double kOrderEvidence = 5;  // in the bundled bars ETH cost 55 to 348 LINK

}  // namespace ristretto::release
