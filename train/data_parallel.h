// Training by several processes at once, under the environment variables that torchrun sets (performance.md, rule 9).
// Each steps portfolios of its own; the rollout, which is small, is gathered by all, so that statistics, advantages and
// minibatches are the same everywhere; each takes its share of every minibatch, and the gradients are summed. What
// comes out is what one process would have learnt, but for the order of sums.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>

#include "agents/rollout.h"

namespace ristretto::train {

// The processes of one run. Every function is called by all of them, in the same order; Error(failed) where another one
// is gone.
class ProcessGroup {
 public:
  // By RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT; nullptr where WORLD_SIZE is not set, or 1. All that they tell
  // each other goes through a c10d::TCPStore in the first one, which suits a few processes. Throws Error(usage) for
  // values that are none, Error(failed) where the others cannot be reached.
  static std::unique_ptr<ProcessGroup> of_environment();
  ~ProcessGroup();
  ProcessGroup(const ProcessGroup&) = delete;
  ProcessGroup& operator=(const ProcessGroup&) = delete;

  int rank() const;
  int size() const;
  // Whether it holds for any of them.
  bool any(bool here);
  // In place, over all of them.
  void sum(const at::Tensor& tensor);
  // All parts, in order of rank, along the worlds' axis of a rollout.
  agents::Rollout gather(const agents::Rollout& part);

 private:
  ProcessGroup();
  at::Tensor gather(const at::Tensor& part);

  struct Connection;
  std::unique_ptr<Connection> connection_;
};

}  // namespace ristretto::train
