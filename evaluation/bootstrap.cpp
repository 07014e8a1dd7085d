// The stationary bootstrap and its block length (algorithms.md 3.4).
#include <algorithm>
#include <cmath>
#include <random>

#include "evaluation/statistics.h"
#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::evaluation {
namespace {

constexpr std::size_t kFewestBars = 20;

[[noreturn]] void refuse(const std::string& message) { throw Error(Fault::usage, message); }

Series centred(const Series& series, double* mean_out = nullptr) {
  double mean = 0;
  for (std::size_t t = 0; t < series.size(); ++t) {
    if (!std::isfinite(series[t]))
      refuse(str("the return of bar ", t, " is ", series[t], ", expected a finite number"));
    mean += series[t];
  }
  mean /= static_cast<double>(series.size());
  Series out(series);
  for (double& x : out) x -= mean;
  if (mean_out != nullptr) *mean_out = mean;
  return out;
}

void require_pair(const Series& candidate, const Series& other) {
  if (candidate.size() != other.size()) {
    refuse(str("the two series have ", candidate.size(), " and ", other.size(), " bars, expected the same bars"));
  }
  if (candidate.size() < kFewestBars) {
    refuse(str("an interval over ", candidate.size(), " bars was asked for, expected at least ", kFewestBars));
  }
}

// Of the two-sided percentile interval; linear between order statistics.
double percentile(const Series& sorted, double share) {
  const double at = share * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(at);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (at - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

Interval interval_of(double estimate, Series statistics, double mean_block, double confidence) {
  std::sort(statistics.begin(), statistics.end());
  return {estimate, percentile(statistics, (1 - confidence) / 2), percentile(statistics, (1 + confidence) / 2),
          mean_block};
}

}  // namespace

double mean_block_length(const Series& series) {
  if (series.size() < kFewestBars) {
    refuse(str("a block length for ", series.size(), " bars was asked for, expected at least ", kFewestBars));
  }
  const Series e = centred(series);
  const std::size_t bars = series.size();
  const double t = static_cast<double>(bars);
  const std::size_t window = std::max<std::size_t>(5, static_cast<std::size_t>(std::log10(t)));  // K
  const std::size_t most = static_cast<std::size_t>(std::ceil(std::sqrt(t))) + window;
  if (std::all_of(e.begin(), e.end(), [](double x) { return x == 0; })) return 1;

  Series covariance(most + 1), correlation(most + 1);
  for (std::size_t lag = 0; lag <= most; ++lag) {
    double sum = 0, without_first = 0, without_last = 0;  // lag + 1 bars of them
    for (std::size_t k = lag; k < bars; ++k) sum += e[k] * e[k - lag];
    for (std::size_t k = lag + 1; k < bars; ++k) {
      without_first += e[k] * e[k];
      without_last += e[k - lag - 1] * e[k - lag - 1];
    }
    covariance[lag] = sum / t;
    correlation[lag] = std::abs(sum) / std::sqrt(without_first * without_last);
  }
  const double small = 2 * std::sqrt(std::log10(t) / t);
  std::size_t lags = most;  // M
  for (std::size_t m = 0; m + window <= most; ++m) {
    const auto begin = correlation.begin() + static_cast<std::ptrdiff_t>(m);
    if (std::all_of(begin, begin + static_cast<std::ptrdiff_t>(window), [&](double r) { return r < small; })) {
      lags = std::min(2 * std::max<std::size_t>(m, 1), most);
      break;
    }
  }
  double weighted = 0, spectrum = covariance[0];  // G, g
  for (std::size_t k = 1; k <= lags; ++k) {
    const double share = static_cast<double>(k) / static_cast<double>(lags);
    const double taper = share <= 0.5 ? 1 : 2 * (1 - share);
    weighted += 2 * taper * static_cast<double>(k) * covariance[k];
    spectrum += 2 * taper * covariance[k];
  }
  const double longest = std::ceil(std::min(3 * std::sqrt(t), t / 3));
  const double length = std::cbrt(weighted * weighted / (spectrum * spectrum)) * std::cbrt(t);
  // A spectrum of 0 leaves infinity, or nothing to divide: the longest blocks are the careful choice.
  return std::isfinite(length) ? std::clamp(length, 1.0, longest) : longest;
}

std::vector<Series> bootstrap_means(const std::vector<Series>& columns, double mean_block, const Bootstrap& bootstrap) {
  if (columns.empty() || columns[0].empty() || columns[0].size() > UINT32_MAX) refuse("a bootstrap without bars");
  for (const Series& column : columns) {
    if (column.size() != columns[0].size()) refuse("a bootstrap of series of unequal lengths was asked for");
  }
  if (!(mean_block >= 1)) refuse(str("the mean block length is ", mean_block, ", expected at least 1"));
  if (!(bootstrap.confidence > 0 && bootstrap.confidence < 1)) {
    refuse(str("a confidence of ", bootstrap.confidence, " was asked for, expected a number between 0 and 1"));
  }
  if (bootstrap.replicates < 1) refuse(str(bootstrap.replicates, " replicates were asked for, expected at least 1"));
  const auto bars = static_cast<std::uint64_t>(columns[0].size());
  // One number of 64 random bits a bar: the upper half is where a new block would begin, the lower whether one does.
  const auto new_block = static_cast<std::uint64_t>(std::ldexp(1 / mean_block, 32));
  std::mt19937_64 generator(bootstrap.seed);
  std::vector<Series> means(columns.size(), Series(static_cast<std::size_t>(bootstrap.replicates)));
  std::vector<std::uint32_t> rows(columns[0].size());
  for (std::size_t replicate = 0; replicate < means[0].size(); ++replicate) {
    std::uint64_t row = ((generator() >> 32) * bars) >> 32;
    for (std::uint32_t& r : rows) {
      r = static_cast<std::uint32_t>(row);
      const std::uint64_t bits = generator(), next = row + 1 == bars ? 0 : row + 1;
      row = (bits & UINT32_MAX) < new_block ? ((bits >> 32) * bars) >> 32 : next;
    }
    for (std::size_t k = 0; k < columns.size(); ++k) {
      double sum = 0;
      for (const std::uint32_t r : rows) sum += columns[k][r];
      means[k][replicate] = sum / static_cast<double>(bars);
    }
  }
  return means;
}

Interval gain_difference(const Series& candidate, const Series& other, const Bootstrap& bootstrap) {
  require_pair(candidate, other);
  Series difference(candidate.size());
  for (std::size_t t = 0; t < candidate.size(); ++t) {
    if (!(candidate[t] > -1 && other[t] > -1)) {
      refuse(str("the returns of bar ", t, " are ", candidate[t], " and ", other[t], ", expected more than -1"));
    }
    difference[t] = std::log1p(candidate[t]) - std::log1p(other[t]);
  }
  const double bars = static_cast<double>(difference.size()), block = mean_block_length(difference);
  double mean = 0;
  centred(difference, &mean);
  Series gains = std::move(bootstrap_means({difference}, block, bootstrap)[0]);
  for (double& gain : gains) gain *= bars;
  return interval_of(mean * bars, std::move(gains), block, bootstrap.confidence);
}

Interval sharpe_difference(const Series& candidate, const Series& other, const Bootstrap& bootstrap) {
  require_pair(candidate, other);
  const double estimate = sharpe_sample(candidate).sharpe - sharpe_sample(other).sharpe;
  const double bars = static_cast<double>(candidate.size());
  const double block = std::max(mean_block_length(candidate), mean_block_length(other));
  // A Sharpe ratio from the means of the centred series and of its square.
  double mean[2] = {};
  std::vector<Series> columns = {centred(candidate, &mean[0]), {}, centred(other, &mean[1]), {}};
  for (const std::size_t k : {0u, 2u}) {
    columns[k + 1] = columns[k];
    for (double& x : columns[k + 1]) x *= x;
  }
  const std::vector<Series> means = bootstrap_means(columns, block, bootstrap);
  Series differences;
  for (std::size_t r = 0; r < means[0].size(); ++r) {
    double sharpe[2] = {};
    for (const std::size_t k : {0u, 1u}) {
      const double off = means[2 * k][r], variance = (means[2 * k + 1][r] - off * off) * bars / (bars - 1);
      // A replicate of one bar repeated does not vary; it counts as a Sharpe ratio of 0.
      if (variance > 0) sharpe[k] = (mean[k] + off) / std::sqrt(variance);
    }
    differences.push_back(sharpe[0] - sharpe[1]);
  }
  return interval_of(estimate, std::move(differences), block, bootstrap.confidence);
}

}  // namespace ristretto::evaluation
