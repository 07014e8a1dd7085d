// Counter-based random numbers: a number depends on (seed, stream, world, step, index) alone, never on threads or
// layout.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "env/step.h"

namespace ristretto::env {

// [worlds, columns] float32 on `device`: standard normal (Box-Muller) or uniform in [0, 1). first_world numbers world
// 0.
at::Tensor standard_normal(std::int64_t worlds, std::int64_t columns, std::uint64_t seed, std::int64_t step,
                           at::Device device, std::int64_t first_world = 0);
at::Tensor uniform(std::int64_t worlds, std::int64_t columns, std::uint64_t seed, std::int64_t step, at::Device device,
                   std::int64_t first_world = 0);
// A permutation of 0..count-1, int64 on `device`.
at::Tensor permutation(std::int64_t count, std::uint64_t seed, std::int64_t step, at::Device device);

}  // namespace ristretto::env
