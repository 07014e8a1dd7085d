// Products of float32 matrices on AMX tiles, which multiply bfloat16 numbers and add float32 ones: no torch. Each
// number is the sum of three bfloat16 ones, high, middle and low; of their nine products the six that float32 can tell
// are taken (Henry, Tang and Heinecke 2019, "Leveraging the bfloat16 Artificial Intelligence Datatype For
// Higher-Precision Computations"). The split is exact for numbers between 2^-102 and 2^127 in size. Tiles take what is
// below 2^-126 for 0: products keep float32's digits down to about 2^-102 and lose them below. What is infinite, NaN or
// too large gives NaN. product_kernel.cpp is compiled for this instruction set alone (cmake/InstructionSets.cmake).
#pragma once

#include <cstdint>

namespace ristretto::ft_transformer::amx {

constexpr std::int64_t kPanel = 32;   // rows or columns of two tiles, and numbers that a tile sums over
constexpr std::int64_t kDepth = 512;  // numbers to sum over, packed at once

// A factor: its `lines`, which are the left one's rows and the right one's columns, of numbers that are summed over.
struct Factor {
  const float* numbers;
  std::int64_t lines, depth;
  // Between lines, whose numbers lie side by side; `across`: between numbers, where the lines lie side by side.
  std::int64_t stride;
  bool across;
};

// bfloat16 numbers that `lines` take when packed, of at most kDepth each.
constexpr std::int64_t packed_size(std::int64_t lines, std::int64_t depth) {
  const auto whole = [](std::int64_t n) { return (n + kPanel - 1) / kPanel * kPanel; };
  return 3 * whole(lines) * whole(depth);
}

// The lines [begin, end) and of each the numbers from `from` on, at most kDepth; begin: a multiple of kPanel.
void pack_left(const Factor&, std::int64_t begin, std::int64_t end, std::int64_t from, std::uint16_t* to);
void pack_right(const Factor&, std::int64_t begin, std::int64_t end, std::int64_t from, std::uint16_t* to);

struct Product {
  std::int64_t rows, columns, depth;
  const std::uint16_t *left, *right;  // packed
  float* to;                          // [rows, columns]
  std::int64_t stride;                // between its rows
  bool add;                           // to what is there
  const float* bias;                  // [columns], which is added too; or null
  bool relu;                          // and of the sum max(0, .), where NaN stays
};
// to = left right, and what else Product says. Of any number of threads at once, each with its own rows, in a process
// that has AMX's registers (has_amx_bf16, at::cpu::init_amx).
void multiply(const Product&);

}  // namespace ristretto::ft_transformer::amx
