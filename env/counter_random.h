// Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3"): four 32-bit numbers
// from a 128-bit counter and a 64-bit key. C++17, host and device.
#pragma once

#include <cmath>
#include <cstdint>

// Always inlined: step_cpu.cpp is compiled for several instruction sets, and a shared out-of-line copy would be of one
// of them.
#if defined(__CUDACC__) || defined(__HIPCC__)
#define RISTRETTO_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define RISTRETTO_HOST_DEVICE inline __attribute__((always_inline))
#endif

namespace ristretto::env {

struct Random4 {
  std::uint32_t word[4];
};

RISTRETTO_HOST_DEVICE Random4 philox(Random4 counter, std::uint64_t key) {
  std::uint32_t key0 = static_cast<std::uint32_t>(key), key1 = static_cast<std::uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = std::uint64_t{0xD2511F53u} * counter.word[0];
    const std::uint64_t product1 = std::uint64_t{0xCD9E8D57u} * counter.word[2];
    counter = {
        {static_cast<std::uint32_t>(product1 >> 32) ^ counter.word[1] ^ key0, static_cast<std::uint32_t>(product1),
         static_cast<std::uint32_t>(product0 >> 32) ^ counter.word[3] ^ key1, static_cast<std::uint32_t>(product0)}};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return counter;
}

// What a stream of numbers is for; the streams of one seed never meet.
enum class Stream : std::uint32_t { episode_start = 1, action_noise = 2, uniform = 3, shuffle = 4 };

// The numbers of (seed, stream, world, step, index).
RISTRETTO_HOST_DEVICE Random4 random4(std::uint64_t seed, Stream stream, std::uint64_t world, std::uint64_t step,
                                      std::uint32_t index) {
  // 40 bits of step, 40 of world, 24 of stream and index: more than any run uses, and no two of them share a counter.
  return philox({{static_cast<std::uint32_t>(world), static_cast<std::uint32_t>(step),
                  static_cast<std::uint32_t>((world >> 32) & 0xFF) << 24 |
                      static_cast<std::uint32_t>(step >> 32 & 0xFF) << 16 | static_cast<std::uint32_t>(stream),
                  index}},
                seed);
}

// Uniform in [0, count).
RISTRETTO_HOST_DEVICE std::uint64_t below(std::uint64_t count, const Random4& random) {
  const std::uint64_t bits = std::uint64_t{random.word[0]} << 32 | random.word[1];
  // The high word of a 64 x 64 product (Lemire 2019), by 32-bit halves so that device compilers need no 128-bit type.
  const std::uint64_t low = (bits & 0xFFFFFFFFu) * (count & 0xFFFFFFFFu);
  const std::uint64_t middle = (bits >> 32) * (count & 0xFFFFFFFFu) + (low >> 32);
  const std::uint64_t other = (bits & 0xFFFFFFFFu) * (count >> 32) + (middle & 0xFFFFFFFFu);
  return (bits >> 32) * (count >> 32) + (middle >> 32) + (other >> 32);
}

// Uniform in (0, 1]: never 0, so that its logarithm is finite.
RISTRETTO_HOST_DEVICE float open_uniform(std::uint32_t bits) {
  return (static_cast<float>(bits >> 8) + 1.0f) * (1.0f / 16777216.0f);
}

enum class RandomKind { normal, uniform };

// `columns` numbers of one world at one step: standard normal (Box and Muller 1958) or uniform in [0, 1).
RISTRETTO_HOST_DEVICE void fill_random(float* to, std::int64_t columns, std::uint64_t seed, std::uint64_t world,
                                       std::uint64_t step, RandomKind kind) {
  for (std::int64_t first = 0; first < columns; first += 4) {
    const std::uint32_t index = static_cast<std::uint32_t>(first / 4);
    float values[4];
    if (kind == RandomKind::uniform) {
      const Random4 random = random4(seed, Stream::uniform, world, step, index);
      for (int j = 0; j < 4; ++j) values[j] = static_cast<float>(random.word[j] >> 8) * (1.0f / 16777216.0f);
    } else {
      const Random4 random = random4(seed, Stream::action_noise, world, step, index);
      for (int j = 0; j < 4; j += 2) {
        const float radius = std::sqrt(-2.0f * std::log(open_uniform(random.word[j])));
        const float angle = 6.28318530717958647692f * open_uniform(random.word[j + 1]);
        values[j] = radius * std::cos(angle);
        values[j + 1] = radius * std::sin(angle);
      }
    }
    for (std::int64_t j = first; j < columns && j < first + 4; ++j) to[j] = values[j - first];
  }
}

}  // namespace ristretto::env
