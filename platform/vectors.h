// The widest vectors of the instruction set that a file is compiled for, for kernels that are compiled once for each
// (cmake/InstructionSets.cmake).
#pragma once

#include <cstdint>
#include <cstring>

namespace ristretto {

#if defined(__AVX512F__)
constexpr std::int64_t kLanes = 16;
#elif defined(__AVX__)
constexpr std::int64_t kLanes = 8;
#else
constexpr std::int64_t kLanes = 4;
#endif
using Vector __attribute__((vector_size(kLanes * 4))) = float;  // one register; unaligned in memory

// Static: an out-of-line copy of one instruction set must not become the whole program's.
static inline Vector load(const float* from) {
  Vector x;
  std::memcpy(&x, from, sizeof x);
  return x;
}

static inline void store(float* to, Vector x) { std::memcpy(to, &x, sizeof x); }

}  // namespace ristretto
