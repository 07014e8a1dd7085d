// Nothing of the standard library that is a template: its out-of-line copy, compiled for one instruction set, could
// become the whole program's.
#include "ft_transformer/product_kernel.h"

#include <immintrin.h>

namespace ristretto::ft_transformer::amx {
namespace {

constexpr std::int64_t kLines = 16;                 // of a tile
constexpr std::int64_t kTile = kLines * kPanel;     // bfloat16 numbers of a tile
constexpr int kParts = 3;                           // high, middle, low
constexpr std::int64_t kStep = 2 * kParts * kTile;  // of a panel: two tiles of each part, one behind the other
constexpr int kLine = 64;                           // bytes of a cache line, and of a tile's line

// Which of the 16 lanes from `first` on are below `count`.
inline __mmask16 lanes_below(std::int64_t count, std::int64_t first) {
  const std::int64_t left = count - first;
  return static_cast<__mmask16>(left >= 16 ? 0xffff : left > 0 ? (1 << left) - 1 : 0);
}

// 16 pairs of bfloat16 numbers, each pair the 32 bits of one lane, and back.
inline __m512i pairs(__m512 first, __m512 second) {
  const __m512i one_of_each = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22,
                                               6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  return _mm512_permutexvar_epi16(one_of_each, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(second, first)));
}
inline __m512 first_of(__m512i x) { return _mm512_castsi512_ps(_mm512_slli_epi32(x, 16)); }
inline __m512 second_of(__m512i x) {
  return _mm512_castsi512_ps(_mm512_and_si512(x, _mm512_set1_epi32(static_cast<int>(0xffff0000))));
}

inline void split(__m512 first, __m512 second, int line, __m512i parts[kParts][kLines]) {
  for (int part = 0; part < kParts; ++part) {
    const __m512i rounded = pairs(first, second);
    parts[part][line] = rounded;
    first = _mm512_sub_ps(first, first_of(rounded));
    second = _mm512_sub_ps(second, second_of(rounded));
  }
}

// 16 lines of 16 lanes.
inline void transpose(__m512i x[kLines]) {
  __m512i y[kLines];
  for (int i = 0; i < 8; ++i) {
    y[2 * i] = _mm512_unpacklo_epi32(x[2 * i], x[2 * i + 1]);
    y[2 * i + 1] = _mm512_unpackhi_epi32(x[2 * i], x[2 * i + 1]);
  }
  for (int i = 0; i < 4; ++i) {
    for (int half = 0; half < 2; ++half) {
      x[4 * i + 2 * half] = _mm512_unpacklo_epi64(y[4 * i + half], y[4 * i + 2 + half]);
      x[4 * i + 2 * half + 1] = _mm512_unpackhi_epi64(y[4 * i + half], y[4 * i + 2 + half]);
    }
  }
  for (int i = 0; i < 4; ++i) {
    for (int half = 0; half < 16; half += 8) {
      y[half + i] = _mm512_shuffle_i32x4(x[half + i], x[half + 4 + i], 0x88);
      y[half + 4 + i] = _mm512_shuffle_i32x4(x[half + i], x[half + 4 + i], 0xdd);
    }
  }
  for (int i = 0; i < 8; ++i) {
    x[i] = _mm512_shuffle_i32x4(y[i], y[i + 8], 0x88);
    x[i + 8] = _mm512_shuffle_i32x4(y[i], y[i + 8], 0xdd);
  }
}

// A tile of each part, kStep / kParts apart: 16 lines from `line` on and 32 numbers from `from` on, of those below
// `until`. Left: a line of the tile is a line of the factor. Right: it is a pair of numbers of all 16.
template <bool left>
void pack_tile(const Factor& x, std::int64_t line, std::int64_t from, std::int64_t until, std::uint16_t* to) {
  constexpr std::int64_t kAhead = 64;  // numbers, for lines that lie far apart
  __m512i parts[kParts][kLines];
  for (int i = 0; i < kLines; ++i) {
    __m512 first = _mm512_setzero_ps(), second = first;
    if (x.across) {
      const __mmask16 lanes = lanes_below(x.lines, line);
      const float* const row = x.numbers + (from + 2 * i) * x.stride + line;
      if (from + 2 * i < until) first = _mm512_maskz_loadu_ps(lanes, row);
      if (from + 2 * i + 1 < until) second = _mm512_maskz_loadu_ps(lanes, row + x.stride);
    } else if (line + i < x.lines) {
      const __m512i even = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
      const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
      const float* const row = x.numbers + (line + i) * x.stride + from;
      const __m512 low = _mm512_maskz_loadu_ps(lanes_below(until, from), row);
      const __m512 high = _mm512_maskz_loadu_ps(lanes_below(until, from + 16), row + 16);
      if (from + kAhead + kPanel <= until) {
        _mm_prefetch(reinterpret_cast<const char*>(row + kAhead), _MM_HINT_T0);
        _mm_prefetch(reinterpret_cast<const char*>(row + kAhead + 16), _MM_HINT_T0);
      }
      first = _mm512_permutex2var_ps(low, even, high);
      second = _mm512_permutex2var_ps(low, odd, high);
    }
    split(first, second, i, parts);
  }
  for (int part = 0; part < kParts; ++part) {
    if (x.across == left) transpose(parts[part]);
    for (int i = 0; i < kLines; ++i) _mm512_storeu_si512(to + part * 2 * kTile + i * kPanel, parts[part][i]);
  }
}

template <bool left>
void pack(const Factor& x, std::int64_t begin, std::int64_t end, std::int64_t from, std::uint16_t* to) {
  const std::int64_t until = from + kDepth < x.depth ? from + kDepth : x.depth;
  for (std::int64_t line = begin; line < end; line += kPanel)
    for (std::int64_t number = from; number < until; number += kPanel, to += kStep)
      for (int half = 0; half < 2; ++half) pack_tile<left>(x, line + half * kLines, number, until, to + half * kTile);
}

struct alignas(kLine) TileShapes {  // Intel 64 and IA-32 Architectures Software Developer's Manual, "TILECFG"
  std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
  std::uint16_t line_bytes[16] = {kLine, kLine, kLine, kLine, kLine, kLine, kLine, kLine};
  std::uint8_t lines[16] = {kLines, kLines, kLines, kLines, kLines, kLines, kLines, kLines};
};

// Sums [32, 32] in tiles 0 to 3; 4 and 5 are of the left factor, 6 and 7 of the right one.
inline void multiply_tiles() {
  _tile_dpbf16ps(0, 4, 6);
  _tile_dpbf16ps(1, 4, 7);
  _tile_dpbf16ps(2, 5, 6);
  _tile_dpbf16ps(3, 5, 7);
}
template <int part>
inline void load_left(const std::uint16_t* panel) {
  _tile_loadd(4, panel + part * 2 * kTile, kLine);
  _tile_loadd(5, panel + part * 2 * kTile + kTile, kLine);
}
template <int part>
inline void load_right(const std::uint16_t* panel) {
  _tile_loadd(6, panel + part * 2 * kTile, kLine);
  _tile_loadd(7, panel + part * 2 * kTile + kTile, kLine);
}
inline void fetch(const char*& next) {
  for (int i = 0; i < 4; ++i, next += kLine) _mm_prefetch(next, _MM_HINT_T1);
}

// `next` is fetched meanwhile.
inline void multiply_panels(const std::uint16_t* left, const std::uint16_t* right, std::int64_t steps,
                            const char* next) {
  enum Part { high, middle, low };
  for (std::int64_t step = 0; step < steps; ++step, left += kStep, right += kStep) {
    load_left<high>(left);
    load_right<low>(right);
    multiply_tiles();
    fetch(next);
    load_right<middle>(right);
    multiply_tiles();
    fetch(next);
    load_right<high>(right);
    multiply_tiles();
    fetch(next);
    load_left<low>(left);
    multiply_tiles();
    fetch(next);
    load_left<middle>(left);
    multiply_tiles();
    fetch(next);
    load_right<middle>(right);
    multiply_tiles();
    fetch(next);
  }
}

}  // namespace

void pack_left(const Factor& x, std::int64_t begin, std::int64_t end, std::int64_t from, std::uint16_t* to) {
  pack<true>(x, begin, end, from, to);
}
void pack_right(const Factor& x, std::int64_t begin, std::int64_t end, std::int64_t from, std::uint16_t* to) {
  pack<false>(x, begin, end, from, to);
}

void multiply(const Product& of) {
  constexpr std::int64_t kFetched = 6 * 4 * kLine;  // bytes a step
  static constexpr TileShapes shapes;               // not of the stack: GCC 12 takes its reading for one of 8 bytes
  _tile_loadconfig(&shapes);
  const std::int64_t steps = (of.depth + kPanel - 1) / kPanel, panel = steps * kStep;
  for (std::int64_t column = 0; column < of.columns; column += kPanel) {
    const std::uint16_t* const right = of.right + column / kPanel * panel;
    const std::uint16_t* const next = column + kPanel < of.columns ? right + panel : right;
    const __mmask16 lanes[2] = {lanes_below(of.columns, column), lanes_below(of.columns, column + 16)};
    for (std::int64_t row = 0; row < of.rows; row += kPanel) {
      const std::int64_t rows = of.rows - row < kPanel ? of.rows - row : kPanel, place = row / kPanel;
      float* const to = of.to + row * of.stride + column;
      for (std::int64_t i = 0; i < rows; ++i) {
        __builtin_prefetch(to + i * of.stride, 1);
        __builtin_prefetch(to + i * of.stride + (lanes[1] != 0 ? 16 : 0), 1);
      }
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
      const std::int64_t fetched = place * steps * kFetched < panel * 2 ? place * steps * kFetched : 0;
      multiply_panels(of.left + place * panel, right, steps, reinterpret_cast<const char*>(next) + fetched);
      alignas(kLine) float sums[kPanel * kPanel];
      constexpr int kSumsLine = kPanel * sizeof(float);
      _tile_stored(0, sums, kSumsLine);
      _tile_stored(1, sums + 16, kSumsLine);
      _tile_stored(2, sums + kLines * kPanel, kSumsLine);
      _tile_stored(3, sums + kLines * kPanel + 16, kSumsLine);
      for (std::int64_t i = 0; i < rows; ++i) {
        for (int half = 0; half < 2; ++half) {
          float* const place_of = to + i * of.stride + 16 * half;
          __m512 y = _mm512_load_ps(sums + i * kPanel + 16 * half);
          if (of.add) y = _mm512_add_ps(y, _mm512_maskz_loadu_ps(lanes[half], place_of));
          if (of.bias != nullptr) {
            y = _mm512_add_ps(y, _mm512_maskz_loadu_ps(lanes[half], of.bias + column + 16 * half));
          }
          if (of.relu) y = _mm512_max_ps(_mm512_setzero_ps(), y);  // of 0 and NaN the second
          _mm512_mask_storeu_ps(place_of, lanes[half], y);
        }
      }
    }
  }
  _tile_release();
}

}  // namespace ristretto::ft_transformer::amx
