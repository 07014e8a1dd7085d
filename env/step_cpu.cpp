// The step on the CPU: compiled once for each instruction set (cmake/InstructionSets.cmake), launched by
// environment.cpp.
#include "env/step_launch.h"
#include "platform/streaming.h"

namespace ristretto::env {

// A vector of 64 bytes: one register of AVX-512, two of AVX2, four of SSE2.
using Float16 = float __attribute__((vector_size(64)));
using Double8 = double __attribute__((vector_size(64)));
template <>
struct LaneOf<Float16> {
  using type = float;
};
template <>
struct LaneOf<Double8> {
  using type = double;
};
template <int kLanes>
struct VectorLanes {
  using Bytes __attribute__((vector_size(kLanes))) = std::uint8_t;
  using Ints __attribute__((vector_size(kLanes * 4))) = std::int32_t;
  using Floats __attribute__((vector_size(kLanes * 4))) = float;
  using Doubles __attribute__((vector_size(kLanes * 8))) = double;
  template <class To, class From>
  static To convert(From from) {
    return __builtin_convertvector(from, To);
  }
  template <class M>
  static bool any(M mask) {
    bool found = false;
    for (int lane = 0; lane < kLanes; ++lane) found = found | (mask[lane] != 0);
    return found;
  }
  RISTRETTO_HOST_DEVICE static void give(void* to, const void* from, std::size_t bytes, bool past_caches) {
    if (past_caches) {
      stream(to, from, bytes);
    } else {
      std::memcpy(to, from, bytes);
    }
  }
};
template <>
struct Lanes<Float16> : VectorLanes<16> {};
template <>
struct Lanes<Double8> : VectorLanes<8> {};

namespace RISTRETTO_ISA {
constexpr std::int64_t kFetchedAhead = 64;  // portfolios

// Asks the memory for what portfolios from k on will need: a portfolio's numbers lie in more streams than a processor
// follows by itself, and with 2^16 portfolios all of them in the same sets of its caches.
template <class R>
RISTRETTO_HOST_DEVICE void fetch_ahead(const Batch<R>& batch, std::int64_t k) {
  if (k >= batch.portfolios) return;
  const int n = batch.rules.assets;
  const R* const reals[] = {batch.cash, batch.value, batch.benchmark, batch.fees, batch.turnover};
  for (const R* real : reals) __builtin_prefetch(real + k, 1);
  for (int i = 0; i < n; ++i) {
    __builtin_prefetch(batch.holding + i * batch.portfolios + k, 1);
    __builtin_prefetch(batch.capital_units + i * batch.portfolios + k);
    __builtin_prefetch(batch.cooldown + i * batch.portfolios + k, 1);
  }
  __builtin_prefetch(batch.orders + k, 1);
  __builtin_prefetch(batch.window_begin + k);
  __builtin_prefetch(batch.window_rows + k);
}

void step_range(const Batch<float>& batch, std::int64_t begin, std::int64_t end) {
  std::int64_t k = begin;
  for (; k + 16 <= end; k += 16) {
    fetch_ahead(batch, k + kFetchedAhead);
    step_lanes<Float16, float, 16>(batch, k);
  }
  for (; k < end; ++k) step_lanes<float, float, 1>(batch, k);
  end_stream();
}

void step_range(const Batch<double>& batch, std::int64_t begin, std::int64_t end) {
  std::int64_t k = begin;
  for (; k + 8 <= end; k += 8) {
    fetch_ahead(batch, k + kFetchedAhead);
    step_lanes<Double8, double, 8>(batch, k);
  }
  for (; k < end; ++k) step_lanes<double, double, 1>(batch, k);
  end_stream();
}

}  // namespace RISTRETTO_ISA
}  // namespace ristretto::env
