// Rows that plain networks read, from accounts and bars: [account, tech[t], tech[t-1], ...] (performance.md, rule 1).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace ristretto::env {

// The market's columns as a network sees them, kept newest row first so that a window of `lookback` rows is one piece
// of memory. Immutable; any thread may gather.
class ObservationRows {
 public:
  // columns: [T, C] float32, scaled or normalised already, on any device.
  ObservationRows(const at::Tensor& columns, int lookback);

  // account: [B, a] float32, seen as (account - shift) * scale with shift and scale [a]; bar: [B] int32, each at least
  // lookback - 1. -> [B, a + lookback * C] float32. On a CPU results that do not fit the caches are written past them,
  // and their rows begin at 64-byte boundaries (the tensor is a view of a padded one).
  at::Tensor gather(const at::Tensor& account, const at::Tensor& shift, const at::Tensor& scale,
                    const at::Tensor& bar) const;
  // The same into what an earlier call for as many rows returned.
  void gather_into(const at::Tensor& rows, const at::Tensor& account, const at::Tensor& shift, const at::Tensor& scale,
                   const at::Tensor& bar) const;
  // The market's part alone: [B, lookback * C].
  at::Tensor windows(const at::Tensor& bar) const;

  int lookback() const { return lookback_; }
  std::int64_t columns() const { return newest_first_.size(1); }

 private:
  at::Tensor all_windows() const;  // [T - lookback + 1, lookback * C], without copying

  at::Tensor newest_first_;  // [T, C]: row r is bar T-1-r
  int lookback_;
};

}  // namespace ristretto::env
