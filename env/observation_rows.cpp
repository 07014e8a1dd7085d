#include "env/observation_rows.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/sub.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "env/rows_kernel.h"
#include "env/step.h"
#include "platform/error.h"
#include "platform/instruction_sets.h"
#include "platform/streaming.h"
#include "platform/text.h"

namespace ristretto::env {
namespace {

constexpr std::int64_t kGrain = 512;        // rows a thread takes at once
constexpr std::int64_t kBarsTogether = 32;  // whose rows of the table stay in the first caches

std::int64_t padded_to_lines(std::int64_t width) { return (width + kLineFloats - 1) / kLineFloats * kLineFloats; }

bool exceeds_caches(std::int64_t batch, std::int64_t width) {
  return batch * width * static_cast<std::int64_t>(sizeof(float)) >= kStreamedBytes;
}

// order[begin, end) = these rows as their windows lie in the table, to kBarsTogether. Portfolios stand at unrelated
// bars: one after the other each would fetch its whole window from wherever a table of megabytes is.
void order_by_bar(const RowsToWrite& rows, std::int64_t begin, std::int64_t end, std::int32_t* order) {
  const auto group = [&](std::int64_t k) {
    return static_cast<std::size_t>((rows.bars - 1 - rows.bar[k]) / kBarsTogether);
  };
  std::vector<std::int64_t> next(static_cast<std::size_t>(rows.bars / kBarsTogether + 2));
  next[0] = begin;
  for (std::int64_t k = begin; k < end; ++k) ++next[group(k) + 1];
  std::partial_sum(next.begin(), next.end(), next.begin());
  for (std::int64_t k = begin; k < end; ++k) order[next[group(k)]++] = static_cast<std::int32_t>(k);
}

}  // namespace

ObservationRows::ObservationRows(const at::Tensor& columns, int lookback) : lookback_(lookback) {
  if (lookback < 1 || columns.size(0) < lookback) {
    throw Error(Fault::usage, str("lookback is ", lookback, ", expected 1 to the market's ", columns.size(0), " bars"));
  }
  const std::int64_t size = columns.numel();
  newest_first_ = at::zeros({size + kLineFloats}, columns.options().dtype(at::kFloat))
                      .narrow(0, 0, size)
                      .view(columns.sizes())
                      .copy_(columns.flip(0));
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
  TORCH_INTERNAL_ASSERT(out.stride(1) == 1 && shift.numel() == head && scale.numel() == head && head <= kMaxAssets + 1);
  const at::Tensor accounts = account.contiguous(), shifts = shift.contiguous(), scales = scale.contiguous(),
                   bars = bar.contiguous();
  RowsToWrite to_write{.to = out.data_ptr<float>(),
                       .stride = stride,
                       .account = accounts.const_data_ptr<float>(),
                       .shift = shifts.const_data_ptr<float>(),
                       .scale = scales.const_data_ptr<float>(),
                       .head = head,
                       .newest_first = newest_first_.const_data_ptr<float>(),
                       .bars = rows,
                       .columns = columns,
                       .lookback = lookback_,
                       .bar = bars.const_data_ptr<std::int32_t>(),
                       .order = nullptr,
                       .past_caches = false};
  // Whole lines are written, so they must be all of the rows' own.
  to_write.past_caches = exceeds_caches(batch, head + tail) && stride == padded_to_lines(head + tail) &&
                         reinterpret_cast<std::uintptr_t>(to_write.to) % 64 == 0;
  std::vector<std::int32_t> order(to_write.past_caches ? static_cast<std::size_t>(batch) : 0);
  if (to_write.past_caches) to_write.order = order.data();
  static const auto write_rows = RISTRETTO_WIDEST(decltype(&baseline::write_rows), write_rows);
  at::parallel_for(0, batch, kGrain, [&](std::int64_t begin, std::int64_t end) {
    const std::int32_t* const bad = std::find_if(to_write.bar + begin, to_write.bar + end, [&](std::int32_t at) {
      return at < to_write.lookback - 1 || at >= to_write.bars;
    });
    TORCH_CHECK(bad == to_write.bar + end, "bar ", *bad, " of ", rows, " has no window");
    if (to_write.past_caches) order_by_bar(to_write, begin, end, order.data());
    write_rows(to_write, begin, end);
  });
}

}  // namespace ristretto::env
