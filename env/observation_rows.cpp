#include "env/observation_rows.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/index_select.h>
#include <c10/util/Exception.h>

#include <cstring>

#include "platform/error.h"
#include "platform/text.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace ristretto::env {
namespace {

constexpr std::int64_t kLine = 16;               // floats of a cache line
constexpr std::int64_t kStreamBytes = 16 << 20;  // results beyond this do not stay in the caches anyway
constexpr std::int64_t kGrain = 512;             // rows a thread takes at once
constexpr std::int64_t kPrefetched = 6;          // rows ahead

// The table does not fit the second-level cache, and portfolios stand at unrelated bars.
void prefetch(const float* from, std::int64_t size) {
  for (std::int64_t i = 0; i < size; i += kLine) __builtin_prefetch(from + i);
}

// to: 64-byte aligned, `padded` floats; head: `head_size` floats, then `tail_size` floats of tail, then whatever.
void write_row(float* to, const float* head, std::int64_t head_size, const float* tail, std::int64_t tail_size,
               std::int64_t padded, bool stream) {
#if defined(__SSE2__)
  if (stream && head_size <= kLine) {
    alignas(64) float edge[kLine];
    const std::int64_t first = kLine - head_size;  // floats of the tail in the first line
    if (tail_size >= first) {
      std::memcpy(edge, head, static_cast<std::size_t>(head_size) * sizeof(float));
      std::memcpy(edge + head_size, tail, static_cast<std::size_t>(first) * sizeof(float));
      for (std::int64_t i = 0; i < kLine; i += 4) _mm_stream_ps(to + i, _mm_load_ps(edge + i));
      std::int64_t line = kLine;
      const float* from = tail + first;
      for (; line + kLine <= head_size + tail_size; line += kLine, from += kLine) {
        for (std::int64_t i = 0; i < kLine; i += 4) _mm_stream_ps(to + line + i, _mm_loadu_ps(from + i));
      }
      if (line < padded) {
        std::memset(edge, 0, sizeof edge);
        std::memcpy(edge, from, static_cast<std::size_t>(head_size + tail_size - line) * sizeof(float));
        for (std::int64_t i = 0; i < kLine; i += 4) _mm_stream_ps(to + line + i, _mm_load_ps(edge + i));
      }
      return;
    }
  }
#else
  (void)padded;
  (void)stream;
#endif
  std::memcpy(to, head, static_cast<std::size_t>(head_size) * sizeof(float));
  std::memcpy(to + head_size, tail, static_cast<std::size_t>(tail_size) * sizeof(float));
}

}  // namespace

ObservationRows::ObservationRows(const at::Tensor& columns, int lookback)
    : newest_first_(columns.to(at::kFloat).flip(0).contiguous()), lookback_(lookback) {
  if (lookback < 1 || columns.size(0) < lookback) {
    throw Error(Fault::usage, str("lookback is ", lookback, ", expected 1 to the market's ", columns.size(0), " bars"));
  }
}

at::Tensor ObservationRows::gather(const at::Tensor& account, const at::Tensor& bar) const {
  const std::int64_t width = account.size(1) + lookback_ * newest_first_.size(1);
  // LibTorch's CPU allocations are 64-byte aligned.
  const std::int64_t padded = account.device().is_cpu() ? (width + kLine - 1) / kLine * kLine : width;
  const at::Tensor out = at::empty({account.size(0), padded}, account.options()).narrow(1, 0, width);
  gather_into(out, account, bar);
  return out;
}

void ObservationRows::gather_into(const at::Tensor& out, const at::Tensor& account, const at::Tensor& bar) const {
  const std::int64_t rows = newest_first_.size(0), columns = newest_first_.size(1);
  const std::int64_t batch = account.size(0), head = account.size(1), tail = lookback_ * columns;
  TORCH_INTERNAL_ASSERT(out.size(0) == batch && out.size(1) == head + tail && out.device() == account.device());
  if (!account.device().is_cpu()) {
    const at::Tensor windows = newest_first_.as_strided({rows - lookback_ + 1, tail}, {columns, 1});
    out.narrow(1, 0, head).copy_(account);
    at::Tensor market = out.narrow(1, head, tail);
    at::index_select_out(market, windows, 0, rows - 1 - bar);
    return;
  }
  const std::int64_t padded = out.stride(0);
  TORCH_INTERNAL_ASSERT(padded % kLine == 0 && out.stride(1) == 1);
  const at::Tensor accounts = account.contiguous(), bars = bar.contiguous();
  const float* from = newest_first_.const_data_ptr<float>();
  const float* heads = accounts.const_data_ptr<float>();
  const std::int32_t* at_bar = bars.const_data_ptr<std::int32_t>();
  float* to = out.data_ptr<float>();
  const bool stream = batch * padded * static_cast<std::int64_t>(sizeof(float)) >= kStreamBytes;
  at::parallel_for(0, batch, kGrain, [&](std::int64_t begin, std::int64_t end) {
    const auto window = [&](std::int64_t k) { return from + (rows - 1 - at_bar[k]) * columns; };
    for (std::int64_t k = begin; k < end; ++k) {
      if (k + kPrefetched < end) prefetch(window(k + kPrefetched), tail);
      write_row(to + k * padded, heads + k * head, head, window(k), tail, padded, stream);
    }
#if defined(__SSE2__)
    _mm_sfence();
#endif
  });
}

}  // namespace ristretto::env
