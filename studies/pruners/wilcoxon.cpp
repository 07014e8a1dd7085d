#include "studies/pruners/wilcoxon.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "studies/pruners/reports.h"

namespace ristretto::studies {
namespace {

constexpr std::size_t kMostExact = 50, kMostPermuted = 13;

// P(sum of the ranks with a plus >= observed), or <=, where each of 1 to n has either sign with equal probability.
double exact_p(std::size_t n, double observed, bool greater) {
  const std::size_t largest = n * (n + 1) / 2;
  std::vector<double> ways(largest + 1);  // to reach each sum; below 2^50, so exact
  ways[0] = 1;
  for (std::size_t rank = 1; rank <= n; ++rank) {
    for (std::size_t sum = largest; sum >= rank; --sum) ways[sum] += ways[sum - rank];
  }
  const auto at = static_cast<std::ptrdiff_t>(observed);
  const double tail = greater ? std::accumulate(ways.begin() + at, ways.end(), 0.0)
                              : std::accumulate(ways.begin(), ways.begin() + at + 1, 0.0);
  return std::ldexp(tail, -static_cast<int>(n));
}

// The same for any ranks: all 2^n signs. Ranks are multiples of 1/2, so the sums are exact.
double permuted_p(const std::vector<double>& ranks, double observed, bool greater) {
  const std::size_t all = std::size_t{1} << ranks.size();
  std::size_t hits = 0;
  for (std::size_t signs = 0; signs < all; ++signs) {
    double sum = 0;
    for (std::size_t i = 0; i < ranks.size(); ++i) sum += (signs >> i & 1) != 0 ? ranks[i] : 0;
    hits += (greater ? sum >= observed : sum <= observed) ? 1 : 0;
  }
  return static_cast<double>(hits) / static_cast<double>(all);
}

}  // namespace

double wilcoxon_p_value(const std::vector<double>& differences, bool greater) {
  std::vector<double> sorted = differences;
  std::sort(sorted.begin(), sorted.end(), [](double a, double b) { return std::abs(a) < std::abs(b); });
  const std::size_t count = sorted.size();
  std::vector<double> nonzero_ranks;
  double plus = 0, zeros = 0, tie_term = 0;
  bool ties = false;
  for (std::size_t begin = 0, end; begin < count; begin = end) {
    for (end = begin; end < count && std::abs(sorted[end]) == std::abs(sorted[begin]);) ++end;
    const auto tied = static_cast<double>(end - begin);
    const double rank = static_cast<double>(begin + end + 1) / 2;  // the mean of begin + 1 to end
    ties = ties || end - begin > 1;
    tie_term += tied * tied * tied - tied;
    for (std::size_t i = begin; i < end; ++i) {
      if (sorted[i] == 0) {
        zeros += rank;
        continue;
      }
      nonzero_ranks.push_back(rank);
      plus += sorted[i] > 0 ? rank : 0;
    }
  }
  const bool clean = !ties && nonzero_ranks.size() == count;
  if (clean && count > 0 && count <= kMostExact) return exact_p(count, plus, greater);
  // Half of the zeros' ranks counts as plus, under all signs alike.
  if (count > 0 && count <= kMostPermuted) return permuted_p(nonzero_ranks, plus, greater);
  const auto n = static_cast<double>(count);
  const double mean = n * (n + 1) / 4;
  const double deviation = std::sqrt((n * (n + 1) * (2 * n + 1) - tie_term / 2) / 24);
  const double z = (plus + zeros / 2 - mean) / deviation;
  return std::erfc((greater ? z : -z) / std::sqrt(2.0)) / 2;
}

Decision WilcoxonPruner::decide_reported(const Study& study, const Trial& trial) {
  const Trial* best = best_trial(study);
  if (best == nullptr || best->reports.empty()) return {};
  const auto finite = [](const Trial& of) {
    return std::all_of(of.reports.begin(), of.reports.end(), [](const Report& r) { return std::isfinite(r.value); });
  };
  if (!finite(trial) || !finite(*best)) return {};
  std::vector<double> differences;
  for (const Report& own : trial.reports) {
    for (const Report& theirs : best->reports) {
      if (theirs.step == own.step) differences.push_back(own.value - theirs.value);
    }
  }
  if (static_cast<std::int64_t>(differences.size()) < std::max<std::int64_t>(2, n_startup_steps_)) return {};
  const bool maximize = maximizes(study);
  const double p = wilcoxon_p_value(differences, !maximize);
  const auto mean = [](const Trial& of) {
    double sum = 0;
    for (const Report& report : of.reports) sum += report.value;
    return sum / static_cast<double>(of.reports.size());
  };
  const bool no_worse = maximize ? mean(*best) <= mean(trial) : mean(*best) >= mean(trial);
  return {p < p_threshold_ && !no_worse, {}};
}

}  // namespace ristretto::studies
