// What this processor must have for the objects of ristretto_for_each_isa() (cmake/InstructionSets.cmake, whose lists
// these are).
#pragma once

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace ristretto {

#if defined(__x86_64__)
inline bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
inline bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
// Tiles of bfloat16 numbers, whose registers the system must be asked for too (at::cpu::init_amx). Not every compiler
// knows their name.
inline bool has_amx_bf16() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kTiles = 1U << 24, kBf16 = 1U << 22;
  return has_avx512() && __builtin_cpu_supports("avx512bf16") && __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 &&
         (d & kTiles) != 0 && (d & kBf16) != 0;
}
#endif

}  // namespace ristretto

// The `function` of the widest vectors that this processor has, as the type that chooses among its overloads.
#if defined(__x86_64__)
#define RISTRETTO_WIDEST(type, function)                           \
  (::ristretto::has_avx512() ? static_cast<type>(avx512::function) \
   : ::ristretto::has_avx2() ? static_cast<type>(avx2::function)   \
                             : static_cast<type>(baseline::function))
#else
#define RISTRETTO_WIDEST(type, function) static_cast<type>(baseline::function)
#endif
