// What chance alone explains of a result (algorithms.md 3.2 to 3.4). Returns are per bar and nothing is annualised. All
// functions throw Error(usage) for a number that is not finite, and as said below.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace ristretto::evaluation {

using Series = std::vector<double>;  // [T] one return a bar

double normal_cdf(double x);
// z with P(Z <= z) = p, 0 < p < 1.
double normal_quantile(double p);

// Of one series' Sharpe ratio, all that its sampling error depends on. Throws for fewer than two bars and for returns
// that do not vary: they have no Sharpe ratio.
struct SharpeSample {
  double sharpe = 0;    // mean / std (ddof 1)
  double skewness = 0;  // m3 / m2^1.5, central moments over T
  double kurtosis = 3;  // m4 / m2^2: not the excess, 3 of a Gaussian
  std::int64_t bars = 0;
};
SharpeSample sharpe_sample(const Series& returns);
// mean / std (ddof 1); 0 where the returns do not vary, as in metrics.h.
double sharpe_of(const Series& returns);

// The probability that the true Sharpe ratio is above `benchmark` (Bailey and Lopez de Prado 2012).
double probabilistic_sharpe(const SharpeSample& sample, double benchmark);
// The largest Sharpe ratio to expect of `trials` independent ones without skill, their estimates having this variance
// ("SR0"; Bailey and Lopez de Prado 2014). At least 0: for fewer than two trials the approximation falls below it.
// Throws unless trials >= 1 and variance >= 0.
double expected_maximum_sharpe(double trials, double variance);
// The probabilistic Sharpe ratio against that.
double deflated_sharpe(const SharpeSample& sample, double trials, double variance);
// Bars after which `benchmark` would be exceeded with confidence 1 - alpha; nothing where sharpe <= benchmark.
std::optional<double> minimum_track_record(const SharpeSample& sample, double benchmark, double alpha = 0.05);

// The probability of backtest overfitting by combinatorially symmetric cross-validation (Bailey, Borwein, Lopez de
// Prado, Zhu 2017). Note what it asks: whether the best of the trials in one half of the bars is above their median in
// the other half. Among trials of equal skill it is 1/2 on average, and scattered widely, however large the skill is.
struct Overfitting {
  double probability = 0;       // PBO: share of logits <= 0
  std::optional<double> slope;  // of the best trial's Sharpe out of sample on that in sample; none where that is flat
  double probability_of_loss = 0;  // share of halves in which the best in sample has a negative Sharpe out of sample
  Series logits;                   // one for each of the C(blocks, blocks/2) halves, in lexicographic order
};
// trials: [N] series of the same T bars. T mod blocks bars are dropped from the front. Throws unless N >= 2, blocks is
// even and 2 to 20, and each block has at least two bars.
Overfitting overfitting(const std::vector<Series>& trials, int blocks = 16);

// How many independent trials N correlated ones amount to, each between 1 and N. A series that does not vary is
// correlated with none.
struct EffectiveTrials {
  double participation_ratio = 0;  // (sum of eigenvalues)^2 / sum of their squares, of the correlation matrix
  std::int64_t clusters = 0;       // average linkage of 1 - correlation, joined while their mean correlation >= 0.5
};
// Throws where there is no trial, or not the same number (at least two) of bars in each.
EffectiveTrials effective_trials(const std::vector<Series>& trials);

// Mean block length for the stationary bootstrap (Politis and White 2004, with the correction of 2009), at least 1.
// Throws for fewer than 20 bars; 1 for a series that does not vary.
double mean_block_length(const Series& series);

struct Bootstrap {
  std::int64_t replicates = 10'000;
  double confidence = 0.95;  // of the two-sided percentile interval
  std::uint64_t seed = 0;
};

// Means of the columns in each replicate of the stationary bootstrap (Politis and Romano 1994); all columns of a
// replicate take the same bars. columns: [K] series of T bars; the result is [K][replicates].
std::vector<Series> bootstrap_means(const std::vector<Series>& columns, double mean_block, const Bootstrap& bootstrap);

struct Interval {
  double estimate = 0;  // of the series as it is
  double low = 0, high = 0;
  double mean_block = 1;
};

// Of candidate - other, bar by bar the same bars: the difference of log gain, sum ln(1 + r) over the bars, and of the
// Sharpe ratio (simple returns). Blocks are as long as mean_block_length() of the difference asks (gain), or the longer
// of the two series (Sharpe). Throws for unequal lengths, fewer than 20 bars, a return of -1 or below, and for the
// Sharpe ratio of returns that do not vary.
Interval gain_difference(const Series& candidate, const Series& other, const Bootstrap& bootstrap = {});
Interval sharpe_difference(const Series& candidate, const Series& other, const Bootstrap& bootstrap = {});

}  // namespace ristretto::evaluation
