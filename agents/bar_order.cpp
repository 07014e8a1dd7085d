#include "agents/bar_order.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <numeric>

#include "env/random.h"

namespace ristretto::agents {

BarOrder::BarOrder(const at::Tensor& bar) : device_(bar.device()) {
  const at::Tensor on_host = bar.to(at::kCPU, at::kInt).contiguous();
  const std::int32_t* bars = on_host.const_data_ptr<std::int32_t>();
  by_bar_.resize(static_cast<std::size_t>(on_host.numel()));
  std::iota(by_bar_.begin(), by_bar_.end(), 0);
  std::stable_sort(by_bar_.begin(), by_bar_.end(), [&](std::int64_t a, std::int64_t b) { return bars[a] < bars[b]; });
  for (std::size_t i = 0; i < by_bar_.size(); ++i) {
    const std::int32_t here = bars[by_bar_[i]];
    if (!bars_.empty() && bars_.back() == here) continue;
    bars_.push_back(here);
    first_.push_back(static_cast<std::int64_t>(i));
  }
  first_.push_back(samples());
}

BarOrder::Epoch BarOrder::epoch(std::uint64_t seed, std::int64_t step) const {
  const at::Tensor drawn = env::permutation(static_cast<std::int64_t>(bars_.size()), seed, step, at::kCPU);
  const std::int64_t* order = drawn.const_data_ptr<std::int64_t>();
  Epoch out;
  std::vector<std::int64_t> index;
  std::vector<std::int32_t> bars;
  index.reserve(by_bar_.size());
  out.place_on_host.reserve(by_bar_.size());
  for (std::size_t k = 0; k < bars_.size(); ++k) {
    const auto bar = static_cast<std::size_t>(order[k]);
    bars.push_back(bars_[bar]);
    for (std::int64_t i = first_[bar]; i < first_[bar + 1]; ++i) {
      index.push_back(by_bar_[static_cast<std::size_t>(i)]);
      out.place_on_host.push_back(static_cast<std::int64_t>(k));
    }
  }
  out.index = at::tensor(index, at::kLong).to(device_);
  out.bars = at::tensor(bars, at::kInt).to(device_);
  out.place = at::tensor(out.place_on_host, at::kLong).to(device_);
  return out;
}

DistinctBars BarOrder::Epoch::run(std::int64_t begin, std::int64_t count) const {
  const std::int64_t first = place_on_host[static_cast<std::size_t>(begin)];
  const std::int64_t last = place_on_host[static_cast<std::size_t>(begin + count - 1)];
  return {bars.narrow(0, first, last - first + 1), place.narrow(0, begin, count) - first};
}

}  // namespace ristretto::agents
