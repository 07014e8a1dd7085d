#include <doctest/doctest.h>

#include <cmath>
#include <fstream>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>

#include "evaluation/statistics.h"
#include "platform/error.h"

using namespace ristretto;
using namespace ristretto::evaluation;

namespace {

// algorithms.md 7, tests 13 and 14.
constexpr double kOverfittingTolerance = 1e-9, kSharpeTolerance = 1e-10;
// Against the same formula in Python: the order of sums differs.
constexpr double kSameFormula = 1e-9;

nlohmann::json golden(const char* file) {
  std::ifstream stream(std::string(RISTRETTO_GOLDEN "/algorithms/") + file);
  REQUIRE(stream.good());
  return nlohmann::json::parse(stream);
}

void check_close(double value, double expected, double tolerance) {
  CHECK_MESSAGE(std::abs(value - expected) <= tolerance * std::max(1.0, std::abs(expected)), value, " against ",
                expected);
}

// Sums of four uniform numbers of a linear congruential generator, less 2: the same in any language.
Series noise(std::size_t bars, std::uint64_t state) {
  Series out(bars);
  for (double& x : out) {
    x = -2;
    for (int k = 0; k < 4; ++k) {
      state = state * 6364136223846793005ULL + 1442695040888963407ULL;
      x += std::ldexp(static_cast<double>(state >> 11), -53);
    }
  }
  return out;
}

// x_t = phi x_(t-1) + noise.
Series autoregression(std::size_t bars, std::uint64_t seed, double phi) {
  Series out = noise(bars, seed);
  for (std::size_t t = 1; t < bars; ++t) out[t] += phi * out[t - 1];
  return out;
}

Series returns(std::size_t bars, std::uint64_t seed, double sharpe) {
  Series out = noise(bars, seed);
  for (double& x : out) x = 0.01 * (x / std::sqrt(1.0 / 3) + sharpe);
  return out;
}

}  // namespace

TEST_CASE("statistics: the deflated Sharpe ratio of the paper's examples") {
  for (const auto& row : golden("dsr.json").at("paper")) {
    const SharpeSample sample{row.at("sr"), row.at("skew"), row.at("kurt"), row.at("T")};
    const double trials = row.at("N"), variance = row.at("V");
    check_close(expected_maximum_sharpe(trials, variance), row.at("sr0"), kSharpeTolerance);
    check_close(deflated_sharpe(sample, trials, variance), row.at("dsr"), kSharpeTolerance);
  }
}

TEST_CASE("statistics: the probabilistic Sharpe ratio and the minimum track record, none where it is undefined") {
  int undefined = 0;
  const auto grid = golden("dsr.json").at("grid");
  CHECK(grid.size() == 24);
  for (const auto& row : grid) {
    const SharpeSample sample{row.at("sr"), row.at("skew"), row.at("kurt"), row.at("T")};
    check_close(probabilistic_sharpe(sample, row.at("bench")), row.at("psr"), kSharpeTolerance);
    const auto length = minimum_track_record(sample, row.at("bench"));
    REQUIRE(length.has_value() == !row.at("mintrl95").is_null());
    if (length) {
      check_close(*length, row.at("mintrl95"), kSharpeTolerance);
    } else {
      ++undefined;
    }
  }
  CHECK(undefined > 0);
}

TEST_CASE("statistics: one trial has nothing to deflate, and fewer than two never raise the ratio") {
  const SharpeSample sample{0.1, 0, 3, 1000};
  CHECK(expected_maximum_sharpe(1, 0.01) == 0);
  CHECK(expected_maximum_sharpe(1.1, 0.01) == 0);
  CHECK(deflated_sharpe(sample, 1, 0.01) == probabilistic_sharpe(sample, 0));
  CHECK(deflated_sharpe(sample, 100, 0) == probabilistic_sharpe(sample, 0));
  CHECK(deflated_sharpe(sample, 100, 0.001) < deflated_sharpe(sample, 10, 0.001));
}

TEST_CASE("statistics: moments as SciPy's, the kurtosis not the excess") {
  Series series = autoregression(1000, 7, 0.1);
  for (double& x : series) x = 0.01 * x + 0.0005;
  const SharpeSample sample = sharpe_sample(series);
  check_close(sample.sharpe, 0.07373229800053331, kSameFormula);
  check_close(sample.skewness, 0.03961656122568178, kSameFormula);  // scipy.stats.skew
  check_close(sample.kurtosis, 2.8303748423161132, kSameFormula);   // scipy.stats.kurtosis(fisher=False)
  CHECK(sample.bars == 1000);
  check_close(sharpe_of(series), sample.sharpe, 1e-15);
  CHECK(sharpe_of(Series(50, 0.001)) == 0);
}

TEST_CASE("statistics: the normal distribution and its quantiles, also far out") {
  check_close(normal_quantile(0.975), 1.959963984540054, 1e-14);
  check_close(normal_quantile(1e-10), -6.361340902404056, 1e-13);
  CHECK(normal_quantile(0.5) == 0);
  check_close(normal_cdf(1.6448536269514722), 0.95, 1e-15);
  check_close(normal_cdf(-8) / 6.22096057427178e-16, 1, 1e-12);
}

TEST_CASE("statistics: overfitting by combinatorially symmetric cross-validation") {
  int checked = 0;
  for (const auto& row : golden("pbo.json")) {
    const auto rows = row.at("M").get<std::vector<Series>>();  // [T][N]
    std::vector<Series> trials(rows[0].size());
    for (const Series& bar : rows) {
      for (std::size_t k = 0; k < bar.size(); ++k) trials[k].push_back(bar[k]);
    }
    const Overfitting found = overfitting(trials, row.at("S"));
    double sum = 0;
    for (const double logit : found.logits) sum += logit;
    CHECK(found.logits.size() == row.at("n"));
    check_close(found.probability, row.at("pbo"), kOverfittingTolerance);
    check_close(sum, row.at("logits_sum"), kOverfittingTolerance);
    check_close(found.slope.value(), row.at("slope"), kOverfittingTolerance);
    check_close(found.probability_of_loss, row.at("prob_oos_loss"), kOverfittingTolerance);
    ++checked;
  }
  CHECK(checked == 3);
}

TEST_CASE("statistics: overfitting drops bars from the front, takes the first best and shares ranks among equals") {
  std::vector<Series> trials = {returns(160, 1, 0.5), returns(160, 2, 0), returns(160, 3, 0)};
  const Overfitting whole = overfitting(trials, 4);
  for (Series& trial : trials) trial.insert(trial.begin(), 3, 100.0);
  CHECK(overfitting(trials, 4).logits == whole.logits);
  // Three equal trials: rank 2 of 3, logit 0, which counts as overfit.
  const Overfitting equal = overfitting({trials[0], trials[0], trials[0]}, 4);
  CHECK(equal.probability == 1);
  CHECK(equal.logits == Series(6, 0.0));
  // A trial that does nothing has a Sharpe ratio of 0 in every half.
  const Overfitting idle = overfitting({Series(160, 0.0), returns(160, 4, -5)}, 4);
  CHECK(idle.probability == 0);
  CHECK(idle.probability_of_loss == 0);
  CHECK_FALSE(idle.slope.has_value());
}

TEST_CASE("statistics: the best of equally good trials is no better than their median") {
  std::vector<Series> trials;
  for (std::uint64_t seed = 1; seed <= 10; ++seed) trials.push_back(returns(3000, seed, 0.1));
  const Overfitting found = overfitting(trials, 16);
  CHECK(found.logits.size() == 12870);
  CHECK(found.probability > 0.2);
  CHECK(found.probability_of_loss == 0);
}

TEST_CASE("statistics: as many effective trials as NumPy's eigenvalues and SciPy's average linkage say") {
  const Series common = noise(400, 11);
  const Series loads = {.9, .9, .8, .7, .3, .0, -.8, .5};
  std::vector<Series> trials;
  for (std::size_t k = 0; k < loads.size(); ++k) {
    trials.push_back(noise(400, 20 + k));
    for (std::size_t t = 0; t < 400; ++t) {
      trials[k][t] = loads[k] * common[t] + std::sqrt(1 - loads[k] * loads[k]) * trials[k][t];
    }
  }
  const EffectiveTrials found = effective_trials(trials);
  check_close(found.participation_ratio, 3.3294786499302256, kSameFormula);
  CHECK(found.clusters == 5);
  trials.assign(4, common);
  check_close(effective_trials(trials).participation_ratio, 1, 1e-12);
  CHECK(effective_trials(trials).clusters == 1);
  trials.assign(4, Series(400, 0.001));
  check_close(effective_trials(trials).participation_ratio, 4, 1e-12);
  CHECK(effective_trials(trials).clusters == 4);
}

TEST_CASE("statistics: the mean block length is that of arch 8.0.0") {
  const auto check = [](std::size_t bars, std::uint64_t seed, double phi, double expected) {
    check_close(mean_block_length(autoregression(bars, seed, phi)), std::max(expected, 1.0), kSameFormula);
  };
  check(500, 1, 0.0, 0.816895699400858);
  check(500, 2, 0.5, 7.685726488331835);
  check(2000, 3, 0.9, 45.19092553089182);
  check(4000, 4, -0.3, 11.842708604231095);
  check(25, 5, 0.2, 1.1755021482856332);
  check(300, 6, 0.99, 23.172862086047235);
  CHECK(mean_block_length(Series(100, 0.5)) == 1);
}

TEST_CASE("statistics: replicates of the stationary bootstrap vary as its definition says") {
  const Series series = autoregression(300, 9, 0.6);
  const double bars = 300;
  double mean = 0;
  for (const double x : series) mean += x / bars;
  for (const double block : {1.0, 4.0, 20.0}) {
    // Two bars k apart are neighbours in the original with probability (1 - 1/b)^k, else independent.
    double expected = 0;
    for (std::size_t k = 0; k < 300; ++k) {
      double covariance = 0;
      for (std::size_t t = 0; t < 300; ++t) covariance += (series[t] - mean) * (series[(t + k) % 300] - mean) / bars;
      const double lag = static_cast<double>(k);
      expected += (k == 0 ? 1 : 2) * (1 - lag / bars) * std::pow(1 - 1 / block, lag) * covariance / bars;
    }
    const std::vector<Series> means = bootstrap_means({series, series}, block, {20'000, 0.95, 3});
    CHECK(means[0] == means[1]);  // the same bars
    double average = 0, variance = 0;
    for (const double m : means[0]) average += m / 20'000;
    for (const double m : means[0]) variance += (m - average) * (m - average) / 20'000;
    // A variance of 20,000 numbers is known to 1 %.
    CHECK_MESSAGE(std::abs(variance / expected - 1) < 0.04, block, ": ", variance, " against ", expected);
    CHECK(std::abs(average - mean) < 4 * std::sqrt(expected / 20'000));
  }
}

TEST_CASE("statistics: intervals of paired differences hold the truth about as often as they say") {
  int gain_covered = 0, sharpe_covered = 0;
  constexpr int kSeries = 200;
  for (std::uint64_t seed = 0; seed < kSeries; ++seed) {
    Series other = autoregression(400, 1000 + seed, 0.3), candidate = autoregression(400, 5000 + seed, 0.3);
    for (std::size_t t = 0; t < other.size(); ++t) {
      other[t] = std::expm1(0.01 * other[t]);
      candidate[t] = std::expm1(0.005 * candidate[t] + 0.5 * std::log1p(other[t]));
    }
    const Interval gain = gain_difference(candidate, other, {400, 0.95, seed});
    const Interval sharpe = sharpe_difference(candidate, other, {400, 0.95, seed});
    gain_covered += gain.low <= 0 && 0 <= gain.high;
    sharpe_covered += sharpe.low <= 0 && 0 <= sharpe.high;
    CHECK(gain.low < gain.high);
    double sum = 0;
    for (std::size_t t = 0; t < other.size(); ++t) sum += std::log1p(candidate[t]) - std::log1p(other[t]);
    check_close(gain.estimate, sum, 1e-12);
    check_close(sharpe.estimate, sharpe_of(candidate) - sharpe_of(other), 1e-12);
  }
  MESSAGE("covered, of ", kSeries, ": gain ", gain_covered, ", Sharpe ", sharpe_covered);
  // 95 % of them, less what 400 correlated bars cost; two standard errors are 3 %.
  CHECK(gain_covered >= 176);
  CHECK(gain_covered <= 198);
  CHECK(sharpe_covered >= 176);
  CHECK(sharpe_covered <= 198);
}

TEST_CASE("statistics: intervals are those of arch 8.0.0's StationaryBootstrap, other random numbers apart") {
  const Series a = returns(500, 1, 0.1), b = returns(500, 2, 0);
  // Four standard errors of the difference of two 2.5 % points of 10,000 replicates each: 0.16 of the statistic's.
  const Interval gain = gain_difference(a, b), sharpe = sharpe_difference(a, b);
  CHECK(std::abs(gain.low - 0.0421988) < 0.05);
  CHECK(std::abs(gain.high - 1.28422038) < 0.05);
  CHECK(std::abs(sharpe.low - 0.01167987) < 0.01);
  CHECK(std::abs(sharpe.high - 0.25965198) < 0.01);
  check_close(gain.estimate, 0.6619871110077923, kSameFormula);
  check_close(sharpe.estimate, 0.1331353005936269, kSameFormula);
  check_close(gain.mean_block, 1.4643324954132528, kSameFormula);
  check_close(sharpe.mean_block, 1.131464888926853, kSameFormula);
}

TEST_CASE("statistics: the same seed gives the same interval, exchanged series the mirrored one's estimate") {
  const Series a = returns(500, 1, 0.1), b = returns(500, 2, 0);
  const Interval first = gain_difference(a, b), again = gain_difference(a, b);
  CHECK(first.low == again.low);
  CHECK(first.high == again.high);
  CHECK(first.low < first.estimate);
  CHECK(first.estimate < first.high);
  check_close(gain_difference(b, a).estimate, -first.estimate, 1e-12);
  const Interval itself = sharpe_difference(a, a);
  CHECK(itself.estimate == 0);
  CHECK(itself.low == 0);
  CHECK(itself.high == 0);
}

TEST_CASE("statistics: what has no answer is refused in words") {
  const auto message = [](const std::function<void()>& body) {
    try {
      body();
    } catch (const Error& error) {
      CHECK((error.fault() == Fault::usage));
      return std::string(error.what());
    }
    return std::string("nothing");
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const Series good = returns(64, 1, 0);
  Series bad = good;
  bad[5] = nan;
  CHECK(message([] { sharpe_sample({0.1}); }) == "1 bars have no Sharpe ratio, expected at least 2");
  CHECK(message([] { sharpe_sample(Series(10, 0.1)); }) == "the returns do not vary: no Sharpe ratio");
  CHECK(message([&] { sharpe_sample(bad); }) == "the return of bar 5 is nan, expected a finite number");
  CHECK(message([] { expected_maximum_sharpe(0, 0.1); }) == "there are 0 trials, expected at least 1");
  CHECK(message([&] { expected_maximum_sharpe(10, nan); }) ==
        "the variance of the trials' Sharpe ratios is nan, expected at least 0");
  CHECK(message([] {
          probabilistic_sharpe({0.5, 4, 5, 100}, 0);
        }) == "a Sharpe ratio of 0.5 with skewness 4 and kurtosis 5 has no sampling error");
  CHECK(message([] { normal_quantile(1); }) ==
        "the normal quantile of 1 was asked for, expected a number between 0 and 1");
  CHECK(message([&] { overfitting({good}, 4); }) == "overfitting among 1 trials was asked for, expected at least 2");
  CHECK(message([&] {
          overfitting({good, good}, 5);
        }) == "overfitting over 5 blocks was asked for, expected an even number from 2 to 20");
  CHECK(message([&] { overfitting({good, Series(63)}, 4); }) == "series 1 has 63 bars, expected 64 as the first has");
  CHECK(message([&] { overfitting({good, bad}, 4); }) == "the return of bar 5 is nan, expected a finite number");
  CHECK(message([&] { overfitting({Series(7), Series(7)}, 4); }) == "7 bars make 4 blocks, expected at least 8 bars");
  CHECK(message([&] { gain_difference(good, Series(63)); }) ==
        "the two series have 64 and 63 bars, expected the same bars");
  CHECK(message([] { gain_difference(Series(64, -1.0), Series(64)); }) ==
        "the returns of bar 0 are -1 and 0, expected more than -1");
  CHECK(message([&] { gain_difference(bad, good); }).find("bar 5") != std::string::npos);
  CHECK(message([&] {
          gain_difference(good, good, {100, 1.0});
        }) == "a confidence of 1 was asked for, expected a number between 0 and 1");
  CHECK(message([] { gain_difference(Series(19), Series(19)); }) ==
        "an interval over 19 bars was asked for, expected at least 20");
}
