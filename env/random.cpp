#include "env/random.h"

#include <ATen/Parallel.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>

#include <utility>

#include "env/counter_random.h"
#include "env/step_launch.h"
#include "env/stream.h"

namespace ristretto::env {
namespace {

constexpr std::int64_t kGrain = 1024;  // worlds a thread takes at once

at::Tensor fill(std::int64_t worlds, std::int64_t columns, std::uint64_t seed, std::int64_t step, at::Device device,
                std::int64_t first_world, RandomKind kind) {
  at::Tensor out = at::empty({worlds, columns}, at::TensorOptions().dtype(at::kFloat).device(device));
  float* to = out.data_ptr<float>();
  const auto counter = static_cast<std::uint64_t>(step);
  if (!device.is_cpu()) {
    random_on_gpu(to, worlds, columns, seed, counter, first_world, kind, current_stream(device));
    return out;
  }
  at::parallel_for(0, worlds, kGrain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t world = begin; world < end; ++world) {
      fill_random(to + world * columns, columns, seed, static_cast<std::uint64_t>(first_world + world), counter, kind);
    }
  });
  return out;
}

}  // namespace

at::Tensor standard_normal(std::int64_t worlds, std::int64_t columns, std::uint64_t seed, std::int64_t step,
                           at::Device device, std::int64_t first_world) {
  return fill(worlds, columns, seed, step, device, first_world, RandomKind::normal);
}

at::Tensor uniform(std::int64_t worlds, std::int64_t columns, std::uint64_t seed, std::int64_t step, at::Device device,
                   std::int64_t first_world) {
  return fill(worlds, columns, seed, step, device, first_world, RandomKind::uniform);
}

at::Tensor permutation(std::int64_t count, std::uint64_t seed, std::int64_t step, at::Device device) {
  // Fisher-Yates (Durstenfeld 1964): a draw after another, so always on the host; the copy does not wait for the
  // device.
  at::Tensor order = at::arange(count, at::TensorOptions().dtype(at::kLong));
  std::int64_t* at_position = order.data_ptr<std::int64_t>();
  for (std::int64_t i = count - 1; i > 0; --i) {
    const Random4 random =
        random4(seed, Stream::shuffle, static_cast<std::uint64_t>(i), static_cast<std::uint64_t>(step), 0);
    std::swap(at_position[i], at_position[below(static_cast<std::uint64_t>(i + 1), random)]);
  }
  return order.to(device, /*non_blocking=*/true);
}

}  // namespace ristretto::env
