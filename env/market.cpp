#include "env/market.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <cassert>
#include <cmath>

#include "env/indicators.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::env {

std::int64_t Market::bars_in_segments() const {
  std::int64_t bars = 0;
  for (const Segment& segment : segments) bars += segment.size();
  return bars;
}

Market Market::of(const Bars& bars, const std::vector<std::string>& features) {
  Market market;
  market.assets = bars.assets;
  market.features = features;
  market.bar_seconds = bars.bar_seconds;

  const std::int64_t warm_up = warm_up_rows(features);
  std::vector<Segment> sources;  // rows of `bars`, warm-up included
  std::int64_t rows = 0;
  for (const Segment& segment : bars.segments) {
    if (segment.size() <= warm_up) continue;
    sources.push_back(segment);
    market.segments.push_back({rows, rows + segment.size() - warm_up});
    rows = market.segments.back().end;
    market.time.insert(market.time.end(), bars.time.begin() + segment.begin + warm_up, bars.time.begin() + segment.end);
  }
  if (sources.empty()) {
    throw Error(Fault::incompatible,
                str("none of the ", bars.segments.size(), " stretches of bars without a gap, of ", bars.time.size(),
                    " bars in all, is longer than the features' warm-up of ", warm_up, " bars"),
                "use files with more bars, or fill their gaps");
  }

  const std::int64_t assets = static_cast<std::int64_t>(bars.assets.size());
  const std::int64_t columns = assets * static_cast<std::int64_t>(features.size());
  market.price = at::empty({rows, assets}, at::kDouble);
  market.tech = at::empty({rows, columns}, at::kFloat);
  double* const price = market.price.mutable_data_ptr<double>();
  float* const tech = market.tech.mutable_data_ptr<float>();
  for (std::int64_t i = 0; i < assets; ++i) {
    const AssetBars& asset = bars.columns[i];
    for (std::size_t s = 0; s < sources.size(); ++s) {
      const std::int64_t from = sources[s].begin, to = market.segments[s].begin;
      const BarColumns segment{asset.open.data() + from,  asset.high.data() + from,   asset.low.data() + from,
                               asset.close.data() + from, asset.volume.data() + from, sources[s].size()};
      for (std::int64_t t = warm_up; t < segment.size; ++t) price[(to + t - warm_up) * assets + i] = segment.close[t];
      for (std::size_t f = 0; f < features.size(); ++f) {
        const std::int64_t column = i * static_cast<std::int64_t>(features.size()) + static_cast<std::int64_t>(f);
        const std::vector<double> values = compute_feature(features[f], segment);
        for (std::int64_t t = warm_up; t < segment.size; ++t) {
          const float value = static_cast<float>(values[t]);
          if (!std::isfinite(value)) {
            throw Error(Fault::incompatible,
                        str("feature ", features[f], " of ", asset.asset, " is ", values[t], " at the bar of ",
                            iso_utc(bars.time[from + t]), ", expected a finite number of type float32"),
                        str("see the bars before it in ", asset.file.string()));
          }
          tech[(to + t - warm_up) * columns + column] = value;
        }
      }
    }
  }
  return market;
}

Market Market::to(at::Device device, at::ScalarType real) const {
  Market copy = *this;
  copy.price = price.to(device, real);
  copy.tech = tech.to(device);
  return copy;
}

Market Market::with_columns(const std::vector<std::string>& chosen_assets,
                            const std::vector<std::string>& chosen_features) const {
  const auto places = [](const std::vector<std::string>& chosen, const std::vector<std::string>& known,
                         const char* what) {
    std::vector<std::int64_t> out;
    for (const std::string& name : chosen) {
      const auto found = std::find(known.begin(), known.end(), name);
      if (found == known.end()) {
        throw Error(Fault::usage, str("the market has no ", what, " '", name, "'"), "known: " + join(known, ", "));
      }
      out.push_back(found - known.begin());
    }
    return out;
  };
  const std::vector<std::int64_t> asset_places = places(chosen_assets, assets, "asset");
  const std::vector<std::int64_t> feature_places = places(chosen_features, features, "feature");
  const auto count = static_cast<std::int64_t>(features.size());
  std::vector<std::int64_t> columns;
  for (const std::int64_t asset : asset_places) {
    for (const std::int64_t feature : feature_places) columns.push_back(asset * count + feature);
  }
  Market copy = *this;
  copy.assets = chosen_assets;
  copy.features = chosen_features;
  copy.price = price.index_select(1, at::tensor(asset_places, price.options().dtype(at::kLong)));
  copy.tech = tech.index_select(1, at::tensor(columns, tech.options().dtype(at::kLong)));
  return copy;
}

Market Market::with_segments(std::vector<Segment> chosen) const {
  for ([[maybe_unused]] const Segment& segment : chosen) {
    assert(0 <= segment.begin && segment.begin < segment.end && segment.end <= rows());
    assert(time[segment.end - 1] - time[segment.begin] == (segment.size() - 1) * bar_seconds);
  }
  Market copy = *this;
  copy.segments = std::move(chosen);
  return copy;
}

Market Market::between(std::optional<std::int64_t> from, std::optional<std::int64_t> to) const {
  std::vector<Segment> chosen;
  for (const Segment& segment : segments) {
    const auto begin = time.begin() + segment.begin, end = time.begin() + segment.end;
    const Segment part{from ? std::lower_bound(begin, end, *from) - time.begin() : segment.begin,
                       to ? std::lower_bound(begin, end, *to) - time.begin() : segment.end};
    if (part.size() > 0) chosen.push_back(part);
  }
  return with_segments(std::move(chosen));
}

}  // namespace ristretto::env
