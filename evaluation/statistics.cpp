#include "evaluation/statistics.h"

#include <algorithm>
#include <boost/math/special_functions/erf.hpp>
#include <cmath>
#include <limits>
#include <numbers>

#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::evaluation {
namespace {

constexpr double kEulerGamma = 0.5772156649015329;
constexpr double kClusterCorrelation = 0.5;
// Spread below this share of the mean is rounding: the mean of equal numbers need not be that number.
constexpr double kRounding = 1e-12;
constexpr int kMostBlocks = 20;

[[noreturn]] void refuse(const std::string& message) { throw Error(Fault::usage, message); }

void require_finite(const Series& series, const char* what) {
  for (std::size_t t = 0; t < series.size(); ++t) {
    if (!std::isfinite(series[t])) refuse(str(what, " ", t, " is ", series[t], ", expected a finite number"));
  }
}

// The length that all have.
std::size_t common_length(const std::vector<Series>& all) {
  for (std::size_t k = 0; k < all.size(); ++k) {
    if (all[k].size() != all[0].size()) {
      refuse(str("series ", k, " has ", all[k].size(), " bars, expected ", all[0].size(), " as the first has"));
    }
    require_finite(all[k], "the return of bar");
  }
  return all.empty() ? 0 : all[0].size();
}

double mean_of(const Series& series) {
  double sum = 0;
  for (const double x : series) sum += x;
  return sum / static_cast<double>(series.size());
}

Series centred(const Series& series) {
  const double mean = mean_of(series);
  Series out(series);
  for (double& x : out) x -= mean;
  return out;
}

double ratio(double mean, double deviation) { return deviation > kRounding * std::abs(mean) ? mean / deviation : 0; }

double moment(const Series& centred_series, int power) {
  double sum = 0;
  for (const double x : centred_series) sum += std::pow(x, power);
  return sum / static_cast<double>(centred_series.size());
}

// 1 - skewness SR + (kurtosis - 1)/4 SR^2: T - 1 times the variance of the estimate.
double sharpe_variance(const SharpeSample& sample) {
  const double sr = sample.sharpe;
  const double d = 1 - sample.skewness * sr + (sample.kurtosis - 1) / 4 * sr * sr;
  if (!(d > 0) || !std::isfinite(d)) {
    refuse(str("a Sharpe ratio of ", sr, " with skewness ", sample.skewness, " and kurtosis ", sample.kurtosis,
               " has no sampling error"));
  }
  return d;
}

}  // namespace

double normal_cdf(double x) { return std::erfc(-x / std::numbers::sqrt2) / 2; }

double normal_quantile(double p) {
  if (!(p > 0 && p < 1)) refuse(str("the normal quantile of ", p, " was asked for, expected a number between 0 and 1"));
  return -std::numbers::sqrt2 * boost::math::erfc_inv(2 * p);
}

SharpeSample sharpe_sample(const Series& returns) {
  require_finite(returns, "the return of bar");
  if (returns.size() < 2) refuse(str(returns.size(), " bars have no Sharpe ratio, expected at least 2"));
  const double bars = static_cast<double>(returns.size());
  const Series e = centred(returns);
  const double mean = mean_of(returns), m2 = moment(e, 2), deviation = std::sqrt(m2 * bars / (bars - 1));
  if (!(deviation > kRounding * std::abs(mean)) || m2 * m2 == 0) refuse("the returns do not vary: no Sharpe ratio");
  return {mean / deviation, moment(e, 3) / std::pow(m2, 1.5), moment(e, 4) / (m2 * m2),
          static_cast<std::int64_t>(returns.size())};
}

double sharpe_of(const Series& returns) {
  require_finite(returns, "the return of bar");
  if (returns.size() < 2) return 0;
  const double bars = static_cast<double>(returns.size());
  return ratio(mean_of(returns), std::sqrt(moment(centred(returns), 2) * bars / (bars - 1)));
}

double probabilistic_sharpe(const SharpeSample& sample, double benchmark) {
  if (sample.bars < 2) refuse(str(sample.bars, " bars have no Sharpe ratio, expected at least 2"));
  return normal_cdf((sample.sharpe - benchmark) * std::sqrt(static_cast<double>(sample.bars - 1)) /
                    std::sqrt(sharpe_variance(sample)));
}

double expected_maximum_sharpe(double trials, double variance) {
  if (!(trials >= 1) || !std::isfinite(trials)) refuse(str("there are ", trials, " trials, expected at least 1"));
  if (!(variance >= 0) || !std::isfinite(variance)) {
    refuse(str("the variance of the trials' Sharpe ratios is ", variance, ", expected at least 0"));
  }
  if (trials == 1) return 0;
  // Phi^-1(1 - q) of a small q keeps its digits as -Phi^-1(q).
  const double largest =
      -(1 - kEulerGamma) * normal_quantile(1 / trials) - kEulerGamma * normal_quantile(1 / (trials * std::numbers::e));
  return std::sqrt(variance) * std::max(largest, 0.0);
}

double deflated_sharpe(const SharpeSample& sample, double trials, double variance) {
  return probabilistic_sharpe(sample, expected_maximum_sharpe(trials, variance));
}

std::optional<double> minimum_track_record(const SharpeSample& sample, double benchmark, double alpha) {
  const double z = normal_quantile(1 - alpha);
  if (!(sample.sharpe > benchmark)) return std::nullopt;
  const double step = z / (sample.sharpe - benchmark);
  return 1 + sharpe_variance(sample) * step * step;
}

Overfitting overfitting(const std::vector<Series>& trials, int blocks) {
  if (trials.size() < 2) refuse(str("overfitting among ", trials.size(), " trials was asked for, expected at least 2"));
  if (blocks < 2 || blocks > kMostBlocks || blocks % 2 != 0) {
    refuse(str("overfitting over ", blocks, " blocks was asked for, expected an even number from 2 to ", kMostBlocks));
  }
  const std::size_t bars = common_length(trials), n = trials.size(), s = static_cast<std::size_t>(blocks);
  const std::size_t length = bars / s;
  if (length < 2) refuse(str(bars, " bars make ", blocks, " blocks, expected at least ", 2 * blocks, " bars"));

  // Of each block and trial: its mean, and the sum of squares around it.
  std::vector<Series> mean(s, Series(n)), squares(s, Series(n));
  for (std::size_t trial = 0; trial < n; ++trial) {
    const double* returns = trials[trial].data() + bars % s;
    for (std::size_t block = 0; block < s; ++block, returns += length) {
      double sum = 0, around = 0;
      for (std::size_t t = 0; t < length; ++t) sum += returns[t];
      const double m = sum / static_cast<double>(length);
      for (std::size_t t = 0; t < length; ++t) around += (returns[t] - m) * (returns[t] - m);
      mean[block][trial] = m;
      squares[block][trial] = around;
    }
  }
  const double half = static_cast<double>(s / 2), m = static_cast<double>(length);
  Series sum(n), around(n);
  const auto sharpes = [&](const std::vector<bool>& chosen, bool side, Series& out) {
    std::fill(sum.begin(), sum.end(), 0);
    std::fill(around.begin(), around.end(), 0);
    for (std::size_t block = 0; block < s; ++block) {
      if (chosen[block] != side) continue;
      for (std::size_t trial = 0; trial < n; ++trial) sum[trial] += mean[block][trial];
    }
    for (std::size_t block = 0; block < s; ++block) {
      if (chosen[block] != side) continue;
      for (std::size_t trial = 0; trial < n; ++trial) {
        const double off = mean[block][trial] - sum[trial] / half;
        around[trial] += squares[block][trial] + m * off * off;
      }
    }
    for (std::size_t trial = 0; trial < n; ++trial) {
      out[trial] = ratio(sum[trial] / half, std::sqrt(around[trial] / (half * m - 1)));
    }
  };

  Overfitting out;
  Series in_sample(n), out_of_sample(n), best_in, best_out;
  std::vector<bool> chosen(s, false);
  std::fill(chosen.begin(), chosen.begin() + static_cast<std::ptrdiff_t>(s / 2), true);
  std::int64_t overfit = 0, losses = 0;
  do {
    sharpes(chosen, true, in_sample);
    sharpes(chosen, false, out_of_sample);
    const auto best =
        static_cast<std::size_t>(std::max_element(in_sample.begin(), in_sample.end()) - in_sample.begin());
    const double value = out_of_sample[best];
    double below = 0, equal = 0;
    for (const double other : out_of_sample) {
      below += other < value ? 1 : 0;
      equal += other == value ? 1 : 0;
    }
    const double rank = below + (equal + 1) / 2;
    out.logits.push_back(std::log(rank / (static_cast<double>(n) + 1 - rank)));
    overfit += out.logits.back() <= 0 ? 1 : 0;
    losses += value < 0 ? 1 : 0;
    best_in.push_back(in_sample[best]);
    best_out.push_back(value);
  } while (std::prev_permutation(chosen.begin(), chosen.end()));

  const double halves = static_cast<double>(out.logits.size());
  out.probability = static_cast<double>(overfit) / halves;
  out.probability_of_loss = static_cast<double>(losses) / halves;
  const double x0 = mean_of(best_in), y0 = mean_of(best_out);
  double xx = 0, xy = 0;
  for (std::size_t k = 0; k < best_in.size(); ++k) {
    xx += (best_in[k] - x0) * (best_in[k] - x0);
    xy += (best_in[k] - x0) * (best_out[k] - y0);
  }
  if (xx > 0) out.slope = xy / xx;
  return out;
}

EffectiveTrials effective_trials(const std::vector<Series>& trials) {
  if (trials.empty()) refuse("the effective number of no trials was asked for");
  const std::size_t bars = common_length(trials), n = trials.size();
  if (bars < 2) refuse(str(bars, " bars have no correlation, expected at least 2"));
  std::vector<Series> unit;  // centred, of length 1
  for (const Series& trial : trials) {
    Series e = centred(trial);
    const double norm = std::sqrt(moment(e, 2) * static_cast<double>(bars));
    const bool varies = norm > kRounding * std::abs(mean_of(trial)) * std::sqrt(static_cast<double>(bars));
    for (double& x : e) x = varies ? x / norm : 0;
    unit.push_back(std::move(e));
  }
  std::vector<Series> correlation(n, Series(n, 1));
  double squares = static_cast<double>(n);
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      double sum = 0;
      for (std::size_t t = 0; t < bars; ++t) sum += unit[i][t] * unit[j][t];
      correlation[i][j] = correlation[j][i] = sum;
      squares += 2 * sum * sum;
    }
  }
  EffectiveTrials out;
  // The eigenvalues sum to n, their squares to the squares of all entries.
  out.participation_ratio = static_cast<double>(n * n) / squares;

  std::vector<double> size(n, 1);
  std::vector<std::size_t> alive(n);
  for (std::size_t i = 0; i < n; ++i) alive[i] = i;
  while (alive.size() > 1) {
    std::size_t first = 0, second = 1;
    for (std::size_t a = 0; a < alive.size(); ++a) {
      for (std::size_t b = a + 1; b < alive.size(); ++b) {
        if (correlation[alive[a]][alive[b]] > correlation[alive[first]][alive[second]]) first = a, second = b;
      }
    }
    const std::size_t i = alive[first], j = alive[second];
    if (correlation[i][j] < kClusterCorrelation) break;
    for (const std::size_t k : alive) {
      const double joined = (size[i] * correlation[i][k] + size[j] * correlation[j][k]) / (size[i] + size[j]);
      correlation[i][k] = correlation[k][i] = joined;
    }
    size[i] += size[j];
    alive.erase(alive.begin() + static_cast<std::ptrdiff_t>(second));
  }
  out.clusters = static_cast<std::int64_t>(alive.size());
  return out;
}

}  // namespace ristretto::evaluation
