// The kernel of rows_kernel.h for one instruction set.
#include "env/rows_kernel.h"

#include <cstring>

#include "env/step.h"
#include "platform/streaming.h"

namespace ristretto::env::RISTRETTO_ISA {
namespace {

constexpr std::int64_t kPrefetched = 6;  // rows ahead
constexpr std::size_t kLineBytes = kLineFloats * sizeof(float);

// The table does not fit the second-level cache, and portfolios stand at unrelated bars.
void prefetch(const float* from, std::int64_t size) {
  for (std::int64_t i = 0; i < size; i += kLineFloats) __builtin_prefetch(from + i);
}

void write_account(float* to, const RowsToWrite& rows, std::int64_t k) {
  const float* const account = rows.account + k * rows.head;
  for (std::int64_t i = 0; i < rows.head; ++i) to[i] = (account[i] - rows.shift[i]) * rows.scale[i];
}

void write_row(float* to, const RowsToWrite& rows, std::int64_t k, const float* window, std::int64_t size) {
  write_account(to, rows, k);
  to += rows.head;
  std::int64_t i = 0;
  for (; i + kLineFloats <= size; i += kLineFloats) std::memcpy(to + i, window + i, kLineBytes);
  for (; i < size; ++i) to[i] = window[i];
}

void stream_row(float* to, const RowsToWrite& rows, std::int64_t k, const float* window, std::int64_t size) {
  alignas(64) float first[kMaxAssets + 2 * kLineFloats];
  write_account(first, rows, k);
  std::memcpy(first + rows.head, window, kLineBytes);
  const std::int64_t first_size = (rows.head + kLineFloats - 1) / kLineFloats * kLineFloats;
  stream(to, first, static_cast<std::size_t>(first_size) * sizeof(float));
  for (std::int64_t i = first_size - rows.head; i < size; i += kLineFloats) {
    stream(to + rows.head + i, window + i, kLineBytes);
  }
}

}  // namespace

void write_rows(const RowsToWrite& rows, std::int64_t begin, std::int64_t end) {
  const std::int64_t size = rows.lookback * rows.columns;
  const auto row = [&](std::int64_t turn) { return rows.order ? std::int64_t{rows.order[turn]} : turn; };
  const auto window = [&](std::int64_t k) { return rows.newest_first + (rows.bars - 1 - rows.bar[k]) * rows.columns; };
  for (std::int64_t turn = begin; turn < end; ++turn) {
    if (turn + kPrefetched < end) {
      const std::int64_t later = row(turn + kPrefetched);
      __builtin_prefetch(rows.account + later * rows.head);
      prefetch(window(later), size);
    }
    const std::int64_t k = row(turn);
    (rows.past_caches ? stream_row : write_row)(rows.to + k * rows.stride, rows, k, window(k), size);
  }
  end_stream();
}

}  // namespace ristretto::env::RISTRETTO_ISA
