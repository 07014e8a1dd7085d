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

  // account: [B, a] float32, likewise scaled; bar: [B] int32, each at least lookback - 1. -> [B, a + lookback * C]
  // float32. On a CPU rows begin at 64-byte boundaries (the tensor is a view of a padded one), and large results are
  // written past the caches.
  at::Tensor gather(const at::Tensor& account, const at::Tensor& bar) const;
  // The same into what an earlier call for as many rows returned. On a CPU memory that is new at each call costs ten
  // times the copy: a result of this size comes from the operating system page by page, and goes back to it.
  void gather_into(const at::Tensor& rows, const at::Tensor& account, const at::Tensor& bar) const;

  int lookback() const { return lookback_; }
  std::int64_t columns() const { return newest_first_.size(1); }

 private:
  at::Tensor newest_first_;  // [T, C]: row r is bar T-1-r
  int lookback_;
};

}  // namespace ristretto::env
