// NumPy's RandomState, number by number (study.md, "Random numbers and RandomSampler").
#pragma once

#include <cstdint>
#include <random>
#include <utility>
#include <vector>

namespace ristretto::studies {

class RandomState {
 public:
  explicit RandomState(std::uint32_t seed) : generator_(seed) {}

  // In [0, 1), 53 bits: random_sample().
  double uniform() {
    const auto high = static_cast<double>(generator_() >> 5), low = static_cast<double>(generator_() >> 6);
    return (high * 67108864.0 + low) / 9007199254740992.0;
  }
  double uniform(double low, double high) { return low + (high - low) * uniform(); }

  // In [0, count), count > 0: randint(count). Draws nothing where there is one.
  std::uint32_t below(std::uint32_t count) {
    const std::uint32_t last = count - 1;
    std::uint32_t mask = last;
    for (const int shift : {1, 2, 4, 8, 16}) mask |= mask >> shift;
    std::uint32_t drawn = 0;
    while (last > 0 && (drawn = static_cast<std::uint32_t>(generator_()) & mask) > last) {
    }
    return drawn;
  }

  // shuffle() of a list.
  template <class T>
  void shuffle(std::vector<T>& items) {
    for (std::size_t i = items.size(); i-- > 1;) std::swap(items[i], items[below(static_cast<std::uint32_t>(i + 1))]);
  }

 private:
  std::mt19937 generator_;
};

}  // namespace ristretto::studies
