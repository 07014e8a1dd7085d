#include "agents/bar_order.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/tensor.h>
#include <ATen/record_function.h>

#include <algorithm>
#include <numeric>

#include "env/random.h"

namespace ristretto::agents {

BarOrder::BarOrder(const at::Tensor& bar) : device_(bar.device()) {
  const at::Tensor on_host = [&] {
    RECORD_USER_SCOPE("waiting");
    return bar.to(at::kCPU, at::kInt).contiguous();
  }();
  bar_.assign(on_host.const_data_ptr<std::int32_t>(), on_host.const_data_ptr<std::int32_t>() + on_host.numel());
  by_bar_.resize(bar_.size());
  std::iota(by_bar_.begin(), by_bar_.end(), 0);
  const auto bar_of = [&](std::int64_t sample) { return bar_[static_cast<std::size_t>(sample)]; };
  std::stable_sort(by_bar_.begin(), by_bar_.end(),
                   [&](std::int64_t a, std::int64_t b) { return bar_of(a) < bar_of(b); });
  for (std::size_t i = 0; i < by_bar_.size(); ++i) {
    if (i == 0 || bar_of(by_bar_[i]) != bar_of(by_bar_[i - 1])) first_.push_back(static_cast<std::int64_t>(i));
  }
  first_.push_back(samples());
}

BarOrder::Epoch BarOrder::whole_bars(std::uint64_t seed, std::int64_t step) const {
  const at::Tensor drawn = env::permutation(distinct(), seed, step, at::kCPU);
  const std::int64_t* order = drawn.const_data_ptr<std::int64_t>();
  std::vector<std::int64_t> index;
  index.reserve(by_bar_.size());
  for (std::int64_t k = 0; k < distinct(); ++k) {
    const auto bar = static_cast<std::size_t>(order[k]);
    index.insert(index.end(), by_bar_.begin() + first_[bar], by_bar_.begin() + first_[bar + 1]);
  }
  return in_order(index, 0);
}

std::optional<BarOrder::Epoch> BarOrder::sorted_minibatches(std::uint64_t seed, std::int64_t step,
                                                            std::int64_t minibatch) const {
  const at::Tensor drawn = env::permutation(samples(), seed, step, at::kCPU);
  const std::int64_t* order = drawn.const_data_ptr<std::int64_t>();
  std::vector<std::int64_t> index(order, order + samples());
  for (std::int64_t begin = 0; begin < samples(); begin += minibatch) {
    std::sort(index.begin() + begin, index.begin() + std::min(begin + minibatch, samples()),
              [&](std::int64_t a, std::int64_t b) {
                const std::int32_t first = bar_[static_cast<std::size_t>(a)],
                                   second = bar_[static_cast<std::size_t>(b)];
                return first != second ? first < second : a < b;
              });
  }
  Epoch epoch = in_order(index, minibatch);
  if (!worthwhile(epoch.bars.size(0))) return {};
  return epoch;
}

BarOrder::Epoch BarOrder::in_order(const std::vector<std::int64_t>& index, std::int64_t minibatch) const {
  Epoch out;
  std::vector<std::int32_t> bars;
  out.place_on_host.reserve(index.size());
  for (std::size_t i = 0; i < index.size(); ++i) {
    const std::int32_t bar = bar_[static_cast<std::size_t>(index[i])];
    const bool anew = minibatch > 0 && static_cast<std::int64_t>(i) % minibatch == 0;
    if (bars.empty() || anew || bars.back() != bar) bars.push_back(bar);
    out.place_on_host.push_back(static_cast<std::int64_t>(bars.size()) - 1);
  }
  out.index = at::tensor(index, at::kLong).to(device_, /*non_blocking=*/true);
  out.bars = at::tensor(bars, at::kInt).to(device_, /*non_blocking=*/true);
  out.place = at::tensor(out.place_on_host, at::kLong).to(device_, /*non_blocking=*/true);
  return out;
}

DistinctBars BarOrder::Epoch::run(std::int64_t begin, std::int64_t count) const {
  const std::int64_t first = place_on_host[static_cast<std::size_t>(begin)];
  const std::int64_t last = place_on_host[static_cast<std::size_t>(begin + count - 1)];
  return {bars.narrow(0, first, last - first + 1), place.narrow(0, begin, count) - first};
}

}  // namespace ristretto::agents
