// Rows of observations on a CPU: no torch. rows_kernel.cpp is compiled once for each instruction set
// (cmake/InstructionSets.cmake).
#pragma once

#include <cstdint>

namespace ristretto::env {

inline constexpr std::int64_t kLineFloats = 16;  // of a cache line

// Row k is [(account[k] - shift) * scale, the window that ends at bar[k]].
struct RowsToWrite {
  float* to;             // row k begins at to + k * stride
  std::int64_t stride;   // of past_caches: whole lines, and `to` begins one
  const float* account;  // [B, head]
  const float *shift, *scale;
  std::int64_t head;          // at most kMaxAssets + 1
  const float* newest_first;  // [bars, columns] and kLineFloats numbers more: row r is bar `bars` - 1 - r
  std::int64_t bars, columns;
  std::int64_t lookback;
  const std::int32_t* bar;    // [B], each of a whole window
  const std::int32_t* order;  // [B]: the rows by turns; null: as they lie
  bool past_caches;           // also writes what lies between a row's end and its line's
};

// Turns [begin, end) on the calling thread.
#define RISTRETTO_DECLARE_ROWS(isa)                                               \
  namespace isa {                                                                 \
  void write_rows(const RowsToWrite& rows, std::int64_t begin, std::int64_t end); \
  }
RISTRETTO_DECLARE_ROWS(baseline)
RISTRETTO_DECLARE_ROWS(avx2)
RISTRETTO_DECLARE_ROWS(avx512)
#undef RISTRETTO_DECLARE_ROWS

}  // namespace ristretto::env
