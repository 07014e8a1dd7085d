// The normal distribution cut to [a, b], in logs, so that it holds far out in a tail (study.md, "TPE, exactly" 6).
#pragma once

#include <vector>

namespace ristretto::studies {

// ln of the standard normal's share below x.
double log_normal_cdf(double x);
// ln(exp(p) - exp(q)), p >= q.
double log_difference(double p, double q);
// Each z >= 0 becomes the standard normal's share above it, to 1e-15 of 1; a z < 0 becomes any number. For many: they
// are computed several at once.
void upper_shares(std::vector<double>& z);
// ln of the standard normal's share between a and b, a <= b.
double log_normal_mass(double a, double b);
// The point of the standard normal cut to [a, b] with the share q of it below; 0 gives a, 1 gives b.
double truncated_normal_ppf(double q, double a, double b);

}  // namespace ristretto::studies
