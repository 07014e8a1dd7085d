// Writes past the caches, for results that would not stay in them: a plain store first reads what it overwrites.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace ristretto {

inline constexpr std::int64_t kStreamedBytes = 16 << 20;  // results beyond this do not stay in the caches anyway

// memcpy past the caches; a plain one where `to` is not aligned to 16 bytes. Other threads may see it only after
// end_stream() on this one. Inlined, for code that is compiled for several instruction sets must not share it.
inline __attribute__((always_inline)) void stream(void* to, const void* from, std::size_t bytes) {
#if defined(__SSE2__)
  auto* out = static_cast<char*>(to);
  const auto* in = static_cast<const char*>(from);
  // Whole lines where vectors are wide enough: in parts a line takes up to twice as long.
#if defined(__AVX512F__)
  if (reinterpret_cast<std::uintptr_t>(out) % 64 == 0) {
    for (; bytes >= 64; bytes -= 64, out += 64, in += 64) {
      _mm512_stream_si512(reinterpret_cast<__m512i*>(out), _mm512_loadu_si512(in));
    }
  }
#elif defined(__AVX__)
  if (reinterpret_cast<std::uintptr_t>(out) % 32 == 0) {
    for (; bytes >= 32; bytes -= 32, out += 32, in += 32) {
      _mm256_stream_si256(reinterpret_cast<__m256i*>(out), _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in)));
    }
  }
#endif
  if (reinterpret_cast<std::uintptr_t>(out) % 16 == 0) {
    for (; bytes >= 16; bytes -= 16, out += 16, in += 16) {
      _mm_stream_si128(reinterpret_cast<__m128i*>(out), _mm_loadu_si128(reinterpret_cast<const __m128i*>(in)));
    }
  }
  std::memcpy(out, in, bytes);
#else
  std::memcpy(to, from, bytes);
#endif
}

inline __attribute__((always_inline)) void end_stream() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

}  // namespace ristretto
