#include "studies/samplers/truncated_normal.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "studies/samplers/exponential.h"

namespace ristretto::studies {
namespace {

constexpr double kLogSqrt2Pi = 0.91893853320467274178;

double normal_cdf(double x) { return 0.5 * std::erfc(-x / std::numbers::sqrt2); }

double log_sum(double p, double q) {
  const double larger = std::max(p, q);
  if (std::isinf(larger)) return larger;
  return larger + std::log1p(std::exp(std::min(p, q) - larger));
}

// The x with log_normal_cdf(x) = y, by Newton's method; y <= 0.
double inverse_log_cdf(double y) {
  // Near 0 the logarithm hardly moves with x; the other tail's does.
  const bool mirrored = y > -0.01;
  const double z = mirrored ? std::log(-std::expm1(y)) : y;
  double x = z < -5 ? -std::sqrt(-2 * (z + kLogSqrt2Pi))
                    : -(std::numbers::sqrt3 / std::numbers::pi) * std::log(std::expm1(-z));
  for (int i = 0; i < 100; ++i) {
    const double cdf = log_normal_cdf(x);
    const double dx = (cdf - z) * std::exp(cdf + x * x / 2 + kLogSqrt2Pi);
    x -= dx;
    if (std::abs(dx) < 1e-8 * std::abs(x)) break;
  }
  return mirrored ? -x : x;
}

}  // namespace

double log_normal_cdf(double x) {
  if (x > 6) return -normal_cdf(-x);
  if (x > -20) return std::log(normal_cdf(x));
  // 1 - 1/x^2 + 3/x^4 - 15/x^6 ...
  const double inverse_square = 1 / (x * x);
  double sum = 1, last = 0, term = 1;
  for (int i = 1; std::abs(last - sum) > std::numeric_limits<double>::epsilon(); ++i) {
    last = sum;
    term *= -(2 * i - 1) * inverse_square;
    sum += term;
  }
  return -0.5 * x * x - std::log(-x) - kLogSqrt2Pi + std::log(sum);
}

// J. F. Hart et al., Computer Approximations (1968), number 5666, with the coefficients of G. West, Better
// Approximations to Cumulative Normal Functions (2005).
void upper_shares(std::vector<double>& z) {
  constexpr double kFarthest = 37;  // above which e^(-z^2 / 2) is no normal number
  for (double& x : z) x = std::min(x, kFarthest);
  double* x = z.data();
  const std::size_t n = z.size();
  for (std::size_t i = 0; i < n; ++i) {
    const double v = x[i];
    double p = 3.52624965998911e-02;
    p = p * v + 0.700383064443688;
    p = p * v + 6.37396220353165;
    p = p * v + 33.912866078383;
    p = p * v + 112.079291497871;
    p = p * v + 221.213596169931;
    p = p * v + 220.206867912376;
    double q = 8.83883476483184e-02;
    q = q * v + 1.75566716318264;
    q = q * v + 16.064177579207;
    q = q * v + 86.7807322029461;
    q = q * v + 296.564248779674;
    q = q * v + 637.333633378831;
    q = q * v + 793.826512519948;
    q = q * v + 440.413735824752;
    x[i] = exp_of_negative(-0.5 * v * v) * p / q;
  }
}

double log_difference(double p, double q) { return p + std::log1p(-std::exp(q - p)); }

double log_normal_mass(double a, double b) {
  // Where the shares themselves are normal numbers, one logarithm does.
  if (b <= 0 && b > -20) return std::log(normal_cdf(b) - normal_cdf(a));
  if (b <= 0) return log_difference(log_normal_cdf(b), log_normal_cdf(a));
  if (a > 0) return log_normal_mass(-b, -a);
  return std::log1p(-normal_cdf(a) - normal_cdf(-b));
}

double truncated_normal_ppf(double q, double a, double b) {
  if (q <= 0) return a;
  if (q >= 1) return b;
  const double mass = log_normal_mass(a, b);
  if (a < 0) return inverse_log_cdf(log_sum(log_normal_cdf(a), std::log(q) + mass));
  return -inverse_log_cdf(log_sum(log_normal_cdf(-b), std::log1p(-q) + mass));
}

}  // namespace ristretto::studies
