// What this processor must have for the objects of ristretto_for_each_isa() (cmake/InstructionSets.cmake, whose lists
// these are).
#pragma once

namespace ristretto {

#if defined(__x86_64__)
inline bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
inline bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
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
