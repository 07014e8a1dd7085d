// An epoch's samples in an order that lets a network share work by bar: whole bars at random, the samples of a bar
// beside each other (performance.md, "What a trial showed").
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "agents/normalizer.h"

namespace ristretto::agents {

class BarOrder {
 public:
  // bar [S] int32, of one rollout. Reads the device once; nothing after it does.
  explicit BarOrder(const at::Tensor& bar);

  // Above half a distinct bar a sample, sharing gains too little for minibatches of so few bars.
  bool worthwhile() const { return 2 * static_cast<std::int64_t>(bars_.size()) <= samples(); }
  std::int64_t samples() const { return static_cast<std::int64_t>(by_bar_.size()); }

  struct Epoch {
    at::Tensor index;                         // [S] int64: the samples in order
    at::Tensor bars;                          // [D] int32: the bars in order
    at::Tensor place;                         // [S] int64: of each sample in order, its bar's place among them
    std::vector<std::int64_t> place_on_host;  // the same

    // The distinct bars of `count` samples from `begin` on.
    DistinctBars run(std::int64_t begin, std::int64_t count) const;
  };
  // seed and step number the order, counter-based.
  Epoch epoch(std::uint64_t seed, std::int64_t step) const;

 private:
  at::Device device_;
  std::vector<std::int32_t> bars_;    // [D] ascending
  std::vector<std::int64_t> first_;   // [D+1] where each bar's samples begin in by_bar_
  std::vector<std::int64_t> by_bar_;  // [S] samples by bar
};

}  // namespace ristretto::agents
