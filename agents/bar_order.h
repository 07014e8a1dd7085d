// An epoch's samples in an order that lets a network share work by bar: those of a bar stand beside each other
// (performance.md, "What a trial showed").
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "agents/normalizer.h"

namespace ristretto::agents {

class BarOrder {
 public:
  // bar [S] int32, of one rollout. Reads the device once; nothing after it does.
  explicit BarOrder(const at::Tensor& bar);

  // Half a distinct bar a sample: above it sharing gains less than it costs.
  bool worthwhile() const { return worthwhile(distinct()); }
  std::int64_t samples() const { return static_cast<std::int64_t>(bar_.size()); }

  struct Epoch {
    at::Tensor index;                         // [S] int64: the samples in order
    at::Tensor bars;                          // [D] int32: the bars in order, of every minibatch anew
    at::Tensor place;                         // [S] int64: of each sample in order, its bar's place among them
    std::vector<std::int64_t> place_on_host;  // the same

    // The distinct bars of `count` samples from `begin` on.
    DistinctBars run(std::int64_t begin, std::int64_t count) const;
  };
  // Whole bars at random: few bars a minibatch. seed and step number the order, counter-based; so below.
  Epoch whole_bars(std::uint64_t seed, std::int64_t step) const;
  // Samples at random, those of each minibatch sorted by bar: the minibatches of env::permutation(). None where that is
  // not worthwhile.
  std::optional<Epoch> sorted_minibatches(std::uint64_t seed, std::int64_t step, std::int64_t minibatch) const;

 private:
  std::int64_t distinct() const { return static_cast<std::int64_t>(first_.size()) - 1; }
  bool worthwhile(std::int64_t distinct) const { return 2 * distinct <= samples(); }
  // minibatch 0: the whole.
  Epoch in_order(const std::vector<std::int64_t>& index, std::int64_t minibatch) const;

  at::Device device_;
  std::vector<std::int32_t> bar_;     // [S]
  std::vector<std::int64_t> by_bar_;  // [S] samples by bar
  std::vector<std::int64_t> first_;   // [D+1] where each bar's samples begin in by_bar_
};

}  // namespace ristretto::agents
