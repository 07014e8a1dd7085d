#include "env/observation_rows.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/sub.h>
#include <c10/util/Exception.h>

#include <cstring>

#include "platform/error.h"
#include "platform/streaming.h"
#include "platform/text.h"

namespace ristretto::env {
namespace {

constexpr std::int64_t kLine = 16;       // floats of a cache line
constexpr std::int64_t kGrain = 512;     // rows a thread takes at once
constexpr std::int64_t kPrefetched = 6;  // rows ahead

// The table does not fit the second-level cache, and portfolios stand at unrelated bars.
void prefetch(const float* from, std::int64_t size) {
  for (std::int64_t i = 0; i < size; i += kLine) __builtin_prefetch(from + i);
}

// What write_row reads of a row: `size` numbers of the account, and what makes them a network's.
struct Account {
  const float* values;
  const float* shift;
  const float* scale;
  std::int64_t size;

  void write(float* to) const {
    for (std::int64_t i = 0; i < size; ++i) to[i] = (values[i] - shift[i]) * scale[i];
  }
};

void write_row(float* to, const Account& account, const float* tail, std::int64_t tail_size) {
  account.write(to);
  std::memcpy(to + account.size, tail, static_cast<std::size_t>(tail_size) * sizeof(float));
}

// Past the caches. to: 64-byte aligned, whole lines.
void stream_row(float* to, const Account& account, const float* tail, std::int64_t tail_size) {
  alignas(64) float edge[kLine];
  const std::int64_t first = kLine - account.size;  // floats of the tail in the first line
  if (first < 0 || tail_size < first) return write_row(to, account, tail, tail_size);
  account.write(edge);
  std::memcpy(edge + account.size, tail, static_cast<std::size_t>(first) * sizeof(float));
  stream(to, edge, sizeof edge);
  const std::int64_t left = (tail_size - first) % kLine, whole = tail_size - first - left;
  stream(to + kLine, tail + first, static_cast<std::size_t>(whole) * sizeof(float));
  if (left == 0) return;
  std::memset(edge, 0, sizeof edge);
  std::memcpy(edge, tail + first + whole, static_cast<std::size_t>(left) * sizeof(float));
  stream(to + kLine + whole, edge, sizeof edge);
}

std::int64_t padded_to_lines(std::int64_t width) { return (width + kLine - 1) / kLine * kLine; }

bool exceeds_caches(std::int64_t batch, std::int64_t width) {
  return batch * width * static_cast<std::int64_t>(sizeof(float)) >= kStreamedBytes;
}

}  // namespace

ObservationRows::ObservationRows(const at::Tensor& columns, int lookback)
    : newest_first_(columns.to(at::kFloat).flip(0).contiguous()), lookback_(lookback) {
  if (lookback < 1 || columns.size(0) < lookback) {
    throw Error(Fault::usage, str("lookback is ", lookback, ", expected 1 to the market's ", columns.size(0), " bars"));
  }
}

at::Tensor ObservationRows::all_windows() const {
  const std::int64_t rows = newest_first_.size(0), columns = newest_first_.size(1);
  return newest_first_.as_strided({rows - lookback_ + 1, lookback_ * columns}, {columns, 1});
}

at::Tensor ObservationRows::windows(const at::Tensor& bar) const {
  return all_windows().index_select(0, newest_first_.size(0) - 1 - bar);
}

at::Tensor ObservationRows::gather(const at::Tensor& account, const at::Tensor& shift, const at::Tensor& scale,
                                   const at::Tensor& bar) const {
  const std::int64_t batch = account.size(0), width = account.size(1) + lookback_ * newest_first_.size(1);
  // LibTorch's CPU allocations are 64-byte aligned.
  const bool pads = account.device().is_cpu() && exceeds_caches(batch, width);
  const std::int64_t padded = pads ? padded_to_lines(width) : width;
  const at::Tensor out = at::empty({batch, padded}, account.options()).narrow(1, 0, width);
  gather_into(out, account, shift, scale, bar);
  return out;
}

void ObservationRows::gather_into(const at::Tensor& out, const at::Tensor& account, const at::Tensor& shift,
                                  const at::Tensor& scale, const at::Tensor& bar) const {
  const std::int64_t rows = newest_first_.size(0), columns = newest_first_.size(1);
  const std::int64_t batch = account.size(0), head = account.size(1), tail = lookback_ * columns;
  TORCH_INTERNAL_ASSERT(out.size(0) == batch && out.size(1) == head + tail && out.device() == account.device());
  if (!account.device().is_cpu()) {
    at::Tensor seen = out.narrow(1, 0, head);
    at::sub_out(seen, account, shift);
    seen.mul_(scale);
    at::Tensor market = out.narrow(1, head, tail);
    at::index_select_out(market, all_windows(), 0, rows - 1 - bar);
    return;
  }
  const std::int64_t stride = out.stride(0);
  TORCH_INTERNAL_ASSERT(out.stride(1) == 1 && shift.numel() == head && scale.numel() == head);
  const at::Tensor accounts = account.contiguous(), shifts = shift.contiguous(), scales = scale.contiguous(),
                   bars = bar.contiguous();
  const float* from = newest_first_.const_data_ptr<float>();
  const Account first{accounts.const_data_ptr<float>(), shifts.const_data_ptr<float>(), scales.const_data_ptr<float>(),
                      head};
  const std::int32_t* at_bar = bars.const_data_ptr<std::int32_t>();
  float* to = out.data_ptr<float>();
  // Whole lines are written, so they must be all of the rows' own.
  const bool past_caches =
      exceeds_caches(batch, head + tail) && stride == padded_to_lines(head + tail) && out.storage_offset() % kLine == 0;
  at::parallel_for(0, batch, kGrain, [&](std::int64_t begin, std::int64_t end) {
    const auto window = [&](std::int64_t k) { return from + (rows - 1 - at_bar[k]) * columns; };
    for (std::int64_t k = begin; k < end; ++k) {
      TORCH_CHECK(at_bar[k] >= lookback_ - 1 && at_bar[k] < rows, "bar ", at_bar[k], " of ", rows, " has no window");
      if (k + kPrefetched < end) prefetch(window(k + kPrefetched), tail);
      Account seen = first;
      seen.values += k * head;
      (past_caches ? stream_row : write_row)(to + k * stride, seen, window(k), tail);
    }
    end_stream();
  });
}

}  // namespace ristretto::env
