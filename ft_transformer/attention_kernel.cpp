// The kernels of attention_kernel.h for one instruction set.
// Nothing of the standard library that is a template: its out-of-line copy, compiled for one instruction set, could
// become the whole program's.
#include "ft_transformer/attention_kernel.h"

#include <cstring>

#include "platform/vectors.h"

namespace ristretto::ft_transformer::RISTRETTO_ISA {
namespace {

constexpr float kLog2E = 1.44269504f;
using Ints __attribute__((vector_size(kLanes * 4))) = std::int32_t;

// 2^x for x < 127 to 2 units in the last place; below -126 that of -126 (1.2e-38). NaN stays.
inline Vector power_of_two(Vector x) {
  // What is added to 1.5 * 2^23 is rounded to a whole number, in the last bits; 127 is what an exponent's bits are more
  // by.
  constexpr float kShift = 12582912 + 127;
  x = x < -126.0f ? Vector{} - 126.0f : x;
  const Vector shifted = x + kShift;
  const Vector r = x - (shifted - kShift);
  Vector y = r * 1.535336188319500e-4f + 1.339887440266574e-3f;  // Cephes' exp2f
  y = y * r + 9.618437357674640e-3f;
  y = y * r + 5.550332471162809e-2f;
  y = y * r + 2.402264791363012e-1f;
  y = y * r + 6.931472028550421e-1f;
  y = y * r + 1.0f;
  Ints bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = bits << 23;
  Vector power;
  std::memcpy(&power, &bits, sizeof power);
  return y * power;
}

// kLanes rows of one head, a vector a channel; rows beyond `count` as zeros.
template <int kChannels>
inline void load_rows(const float* from, std::int64_t count, std::int64_t width, Vector* to) {
  float columns[kChannels][kLanes] = {};
  for (std::int64_t lane = 0; lane < count; ++lane)
    for (int c = 0; c < kChannels; ++c) columns[c][lane] = from[lane * width + c];
  for (int c = 0; c < kChannels; ++c) to[c] = load(columns[c]);
}

template <int kChannels>
inline void store_rows(const Vector* from, std::int64_t count, std::int64_t width, float* to) {
  float columns[kChannels][kLanes];
  for (int c = 0; c < kChannels; ++c) store(columns[c], from[c]);
  for (std::int64_t lane = 0; lane < count; ++lane)
    for (int c = 0; c < kChannels; ++c) to[lane * width + c] = columns[c][lane];
}

template <int kChannels>
void forward(const AttentionSizes& sizes, const AttentionForward& of, std::int64_t begin, std::int64_t end,
             float* scratch) {
  const std::int64_t width = sizes.heads * kChannels;
  const float scale = 1 / __builtin_sqrtf(static_cast<float>(kChannels)), log2_scale = scale * kLog2E;
  float* const scores = scratch;  // [T, kLanes queries]
  for (std::int64_t head = begin; head < end; ++head) {
    const std::int64_t sequence = head / sizes.heads, column = head % sizes.heads * kChannels;
    const float* const keys = of.k + sequence * sizes.keys * width + column;
    const float* const values = of.v + sequence * sizes.keys * width + column;
    for (std::int64_t i = 0; i < sizes.queries; i += kLanes) {
      const std::int64_t count = sizes.queries - i < kLanes ? sizes.queries - i : kLanes;
      const std::int64_t place = (sequence * sizes.queries + i) * width + column;
      Vector q[kChannels], out[kChannels] = {};
      load_rows<kChannels>(of.q + place, count, width, q);
      for (Vector& channel : q) channel *= log2_scale;
      Vector most = Vector{} - 3e38f;
      for (std::int64_t j = 0; j < sizes.keys; ++j) {
        Vector score = q[0] * keys[j * width];
        for (int c = 1; c < kChannels; ++c) score += q[c] * keys[j * width + c];
        store(&scores[j * kLanes], score);
        most = score > most ? score : most;
      }
      Vector total{};
      for (std::int64_t j = 0; j < sizes.keys; ++j) {
        const Vector p = power_of_two(load(&scores[j * kLanes]) - most);
        total += p;
        for (int c = 0; c < kChannels; ++c) out[c] += p * values[j * width + c];
      }
      for (Vector& channel : out) channel /= total;
      store_rows<kChannels>(out, count, width, of.out + place);
      for (std::int64_t lane = 0; lane < count; ++lane)
        of.log_sum_exp[head * sizes.queries + i + lane] = most[lane] + __builtin_logf(total[lane]) * kLog2E;
    }
  }
}

// As FlashAttention's backward pass (Dao et al. 2022) but for its tiles: first the keys' and values' gradients, a key a
// lane, then the queries' from the scores'.
template <int kChannels>
void backward(const AttentionSizes& sizes, const AttentionBackward& of, std::int64_t begin, std::int64_t end,
              float* scratch) {
  using Row __attribute__((vector_size(kChannels * 4))) = float;
  constexpr std::int64_t kRows = kAttentionRows;
  const std::int64_t width = sizes.heads * kChannels;
  const std::int64_t padded = (sizes.keys + kLanes - 1) / kLanes * kLanes;
  const std::int64_t rows = (sizes.queries + kRows - 1) / kRows * kRows;
  const float scale = 1 / __builtin_sqrtf(static_cast<float>(kChannels)), log2_scale = scale * kLog2E;
  float *const of_scores = scratch, *const delta =
                                        scratch + rows * padded;  // [Q, T], and [Q] the out's gradient times out
  for (std::int64_t head = begin; head < end; ++head) {
    const std::int64_t sequence = head / sizes.heads, column = head % sizes.heads * kChannels;
    const std::int64_t first_query = sequence * sizes.queries * width + column;
    const std::int64_t first_key = sequence * sizes.keys * width + column;
    const float *const queries = of.q + first_query, *const gradients = of.out_gradient + first_query;
    const float* const log_sum_exp = of.log_sum_exp + head * sizes.queries;
    for (std::int64_t i = 0; i < sizes.queries; ++i) {
      delta[i] = 0;
      for (int c = 0; c < kChannels; ++c) delta[i] += gradients[i * width + c] * of.out[first_query + i * width + c];
    }
    for (std::int64_t j = 0; j < sizes.keys; j += kLanes) {
      const std::int64_t count = sizes.keys - j < kLanes ? sizes.keys - j : kLanes;
      Vector key[kChannels], value[kChannels], of_key[kChannels] = {}, of_value[kChannels] = {};
      load_rows<kChannels>(of.k + first_key + j * width, count, width, key);
      load_rows<kChannels>(of.v + first_key + j * width, count, width, value);
      for (Vector& channel : key) channel *= log2_scale;
      for (std::int64_t i = 0; i < sizes.queries; ++i) {
        const float *const q = queries + i * width, *const gradient = gradients + i * width;
        Vector score = key[0] * q[0] - log_sum_exp[i], of_p = value[0] * gradient[0] - delta[i];
        for (int c = 1; c < kChannels; ++c) {
          score += key[c] * q[c];
          of_p += value[c] * gradient[c];
        }
        const Vector p = power_of_two(score), of_score = p * of_p;
        store(&of_scores[i * padded + j], of_score);
        for (int c = 0; c < kChannels; ++c) {
          of_key[c] += of_score * q[c];
          of_value[c] += p * gradient[c];
        }
      }
      for (Vector& channel : of_key) channel *= scale;
      store_rows<kChannels>(of_key, count, width, of.k_gradient + first_key + j * width);
      store_rows<kChannels>(of_value, count, width, of.v_gradient + first_key + j * width);
    }
    for (std::int64_t i = 0; i < sizes.queries; i += kRows) {
      Row sums[kRows] = {};
      for (std::int64_t j = 0; j < sizes.keys; ++j) {
        Row key;
        std::memcpy(&key, of.k + first_key + j * width, sizeof key);
        for (std::int64_t r = 0; r < kRows; ++r) sums[r] += of_scores[(i + r) * padded + j] * key;
      }
      for (std::int64_t r = 0; r < kRows && i + r < sizes.queries; ++r) {
        sums[r] *= scale;
        std::memcpy(of.q_gradient + first_query + (i + r) * width, &sums[r], sizeof sums[r]);
      }
    }
  }
}

}  // namespace

void attention(const AttentionSizes& sizes, const AttentionForward& of, std::int64_t begin, std::int64_t end,
               float* scratch) {
  if (sizes.channels == 4) return forward<4>(sizes, of, begin, end, scratch);
  if (sizes.channels == 8) return forward<8>(sizes, of, begin, end, scratch);
  forward<16>(sizes, of, begin, end, scratch);
}

void attention_back(const AttentionSizes& sizes, const AttentionBackward& of, std::int64_t begin, std::int64_t end,
                    float* scratch) {
  if (sizes.channels == 4) return backward<4>(sizes, of, begin, end, scratch);
  if (sizes.channels == 8) return backward<8>(sizes, of, begin, end, scratch);
  backward<16>(sizes, of, begin, end, scratch);
}

}  // namespace ristretto::ft_transformer::RISTRETTO_ISA
