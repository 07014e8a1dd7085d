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
using Float4 = float __attribute__((vector_size(16)));
using Float8 = float __attribute__((vector_size(32)));

// In each 16 bytes of a to d, a matrix of 4 x 4.
RISTRETTO_HOST_DEVICE void transpose_fours(Float16& a, Float16& b, Float16& c, Float16& d) {
  const Float16 ac0 = __builtin_shufflevector(a, c, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
  const Float16 ac2 = __builtin_shufflevector(a, c, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
  const Float16 bd0 = __builtin_shufflevector(b, d, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
  const Float16 bd2 = __builtin_shufflevector(b, d, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
  a = __builtin_shufflevector(ac0, bd0, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
  b = __builtin_shufflevector(ac0, bd0, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
  c = __builtin_shufflevector(ac2, bd2, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
  d = __builtin_shufflevector(ac2, bd2, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
}

// Columns i to i + 3 of sixteen rows.
RISTRETTO_HOST_DEVICE void transpose_from(const float* const* rows, int i, Float16* columns) {
  const auto four_of = [&](int j) {  // of rows j, j + 4, j + 8 and j + 12
    const auto load4 = [&](int row) { return load<Float4, float, 4>(rows[row] + i); };
    const Float8 low = __builtin_shufflevector(load4(j), load4(j + 4), 0, 1, 2, 3, 4, 5, 6, 7);
    const Float8 high = __builtin_shufflevector(load4(j + 8), load4(j + 12), 0, 1, 2, 3, 4, 5, 6, 7);
    return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  };
  Float16 a = four_of(0), b = four_of(1), c = four_of(2), d = four_of(3);
  transpose_fours(a, b, c, d);
  columns[i] = a, columns[i + 1] = b, columns[i + 2] = c, columns[i + 3] = d;
}

// And back, to rows of n.
RISTRETTO_HOST_DEVICE void transpose_to(const Float16* columns, int i, int n, float* rows) {
  Float16 a = columns[i], b = columns[i + 1], c = columns[i + 2], d = columns[i + 3];
  transpose_fours(a, b, c, d);
  const Float16 of[] = {a, b, c, d};
  for (int j = 0; j < 4; ++j) {
    float* const to = rows + j * n + i;
    store<Float4, float, 4>(to, __builtin_shufflevector(of[j], of[j], 0, 1, 2, 3));
    store<Float4, float, 4>(to + 4 * n, __builtin_shufflevector(of[j], of[j], 4, 5, 6, 7));
    store<Float4, float, 4>(to + 8 * n, __builtin_shufflevector(of[j], of[j], 8, 9, 10, 11));
    store<Float4, float, 4>(to + 12 * n, __builtin_shufflevector(of[j], of[j], 12, 13, 14, 15));
  }
}

template <int kLanes>
struct VectorLanes {
  using Bytes __attribute__((vector_size(kLanes))) = std::uint8_t;
  using Ints __attribute__((vector_size(kLanes * 4))) = std::int32_t;
  using Floats __attribute__((vector_size(kLanes * 4))) = float;
  using Doubles __attribute__((vector_size(kLanes * 8))) = double;
  template <class To, class From>
  RISTRETTO_HOST_DEVICE static To convert(From from) {
    return __builtin_convertvector(from, To);
  }
  template <class M>
  RISTRETTO_HOST_DEVICE static bool any(M mask) {
    const Bytes bytes = convert<Bytes>(mask);
    std::uint64_t eight[kLanes / 8], found = 0;
    std::memcpy(eight, &bytes, sizeof bytes);
    for (const std::uint64_t some : eight) found |= some;
    return found != 0;
  }
  template <class V, class R>
  RISTRETTO_HOST_DEVICE static void load_rows(const R* const* rows, int n, V* columns) {
    int i = 0;
    if constexpr (kLanes == 16 && sizeof(R) == 4) {
      // By fours: numbers stored one by one and loaded as a vector at once stall it. The last four may overlap.
      for (; n >= 4 && i < n; i += 4) transpose_from(rows, i + 4 <= n ? i : n - 4, columns);
    }
    for (; i < n; ++i) columns[i] = gather<V, R, kLanes>([&](int lane) { return rows[lane][i]; });
  }
  template <class V, class R>
  RISTRETTO_HOST_DEVICE static void store_rows(const V* columns, int n, R* rows) {
    int i = 0;
    if constexpr (kLanes == 16 && sizeof(R) == 4) {
      for (; n >= 4 && i < n; i += 4) transpose_to(columns, i + 4 <= n ? i : n - 4, n, rows);
    }
    for (; i < n; ++i) {
      for (int lane = 0; lane < kLanes; ++lane) rows[lane * n + i] = columns[i][lane];
    }
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
  __builtin_prefetch(batch.bar_from + k);
  for (int i = 0; i < n; ++i) __builtin_prefetch(batch.action + k * n + i * 16);
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
