// The market as tables on one device (performance.md, rule 1).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "env/bars.h"

namespace ristretto::env {

// Immutable; tables are shared by all copies, so a copy with other segments is cheap. Any thread may read.
struct Market {
  std::vector<std::string> assets;    // n
  std::vector<std::string> features;  // F
  std::int64_t bar_seconds = 3600;
  std::vector<std::int64_t> time;  // [T] start of each bar, seconds since 1970, UTC
  at::Tensor price;                // [T, n] closes, float64 or float32
  at::Tensor tech;                 // [T, n*F] raw features, asset-major; float32 (float64 in replays)
  std::vector<Segment> segments;   // rows that episodes may use; none crosses a gap

  std::int64_t rows() const { return static_cast<std::int64_t>(time.size()); }
  std::int64_t bars_in_segments() const;
  // Features of each segment anew, rows of its warm-up dropped, segments left empty dropped. float64 price, float32
  // tech.
  static Market of(const Bars& bars, const std::vector<std::string>& features);
  // The same tables, on `device`, with prices of type `real`.
  Market to(at::Device device, at::ScalarType real) const;
  // The columns of these assets and features, by name and in this order; the same rows. Several layouts can so be
  // observed side by side at the same bars. Throws Error(usage) for a name that the market lacks.
  Market with_columns(const std::vector<std::string>& chosen_assets,
                      const std::vector<std::string>& chosen_features) const;
  // The same tables with only these segments.
  Market with_segments(std::vector<Segment> chosen) const;
  // The same tables with only the bars from `from` to before `to` (seconds since 1970, UTC; nothing: no bound) of the
  // segments, which may leave none.
  Market between(std::optional<std::int64_t> from, std::optional<std::int64_t> to) const;
};

}  // namespace ristretto::env
