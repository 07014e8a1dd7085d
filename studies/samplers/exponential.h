// The exponential function for loops over many numbers.
#pragma once

#include <bit>
#include <cstdint>
#include <numbers>

namespace ristretto::studies {

constexpr double kSmallestExponent = -700;  // of what e^x is a normal number

// exp(x), kSmallestExponent <= x <= 0, without branches, so that the compiler vectorises loops over it; callers cut x
// to that in a loop of its own. exp(x) = 2^k exp(r), |r| <= ln(2) / 2, exp(r) by its series to r^12, where 2^-53 is
// reached.
inline double exp_of_negative(double x) {
  constexpr double kLog2E = std::numbers::log2e, kRound = 0x1.8p52;  // adding kRound leaves k in the last bits
  constexpr double kLn2High = 0x1.62e42fefa38p-1, kLn2Low = 0x1.ef35793c7673p-45;
  const double t = x * kLog2E + kRound;
  const double k = t - kRound;
  const double r = (x - k * kLn2High) - k * kLn2Low;
  double p = 1.0 / 479001600;
  p = p * r + 1.0 / 39916800;
  p = p * r + 1.0 / 3628800;
  p = p * r + 1.0 / 362880;
  p = p * r + 1.0 / 40320;
  p = p * r + 1.0 / 5040;
  p = p * r + 1.0 / 720;
  p = p * r + 1.0 / 120;
  p = p * r + 1.0 / 24;
  p = p * r + 1.0 / 6;
  p = p * r + 0.5;
  p = p * r + 1;
  p = p * r + 1;
  const auto power = (std::bit_cast<std::uint64_t>(t) << 52) + (std::uint64_t{1023} << 52);
  return p * std::bit_cast<double>(power);
}

}  // namespace ristretto::studies
