#include "studies/samplers/parzen.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>
#include <numbers>
#include <numeric>

#include "studies/samplers/random.h"
#include "studies/samplers/truncated_normal.h"

namespace ristretto::studies {
namespace {

constexpr double kLogSqrt2Pi = 0.91893853320467274178;

// ln of the sum of exp(row[i]); overwrites the row. As fast as many calls of std::exp are slow: a plain loop without
// branches, which the compiler turns into one over several elements. exp(x) = 2^k exp(r), |r| <= ln(2) / 2, exp(r) by
// its series to r^12, where 2^-53 is reached.
double log_sum_of_exponentials(std::vector<double>& row) {
  constexpr double kLog2E = std::numbers::log2e, kRound = 0x1.8p52;  // adding kRound leaves k in the last bits
  constexpr double kLn2High = 0x1.62e42fefa38p-1, kLn2Low = 0x1.ef35793c7673p-45;
  constexpr double kSmallest = -700;  // of what e^x is a normal number
  const double largest = *std::max_element(row.begin(), row.end());
  double* x = row.data();
  const std::size_t n = row.size();
  for (std::size_t i = 0; i < n; ++i) {
    double y = x[i] - largest;
    y = y > kSmallest ? y : kSmallest;
    const double t = y * kLog2E + kRound;
    const double k = t - kRound;
    const double r = (y - k * kLn2High) - k * kLn2Low;
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
    x[i] = p * std::bit_cast<double>(power);
  }
  double sums[4] = {};  // four, as each addition waits for the one before
  std::size_t i = 0;
  for (; i + 4 <= n; i += 4) {
    for (std::size_t j = 0; j < 4; ++j) sums[j] += x[i + j];
  }
  for (; i < n; ++i) sums[0] += x[i];
  return largest + std::log((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

double smallest_sigma(double low, double high, std::size_t n) {
  return (high - low) / std::min(100.0, static_cast<double>(n + 2));
}

}  // namespace

std::vector<double> observation_weights(std::size_t n) {
  constexpr std::size_t kFull = 25;  // the newest ones, that count fully
  std::vector<double> weights(n, 1.0);
  if (n <= kFull) return weights;
  // numpy.linspace(1 / n, 1, n - 25)
  const std::size_t ramp = n - kFull;
  const double first = 1.0 / static_cast<double>(n);
  for (std::size_t i = 0; i < ramp; ++i) {
    weights[i] = i == 0 ? first : first + static_cast<double>(i) * ((1.0 - first) / static_cast<double>(ramp - 1));
  }
  return weights;
}

std::vector<double> neighbour_sigmas(const std::vector<double>& observations, double low, double high,
                                     bool prior_is_neighbour) {
  const std::size_t n = observations.size();
  if (n == 0) return {};
  std::vector<double> mus = observations;
  if (prior_is_neighbour) mus.push_back((low + high) / 2);
  const std::size_t count = mus.size();
  std::vector<std::pair<double, std::size_t>> sorted;  // of equal ones the earlier first
  for (std::size_t i = 0; i < count; ++i) sorted.emplace_back(mus[i], i);
  std::sort(sorted.begin(), sorted.end());
  const double smallest = smallest_sigma(low, high, n);
  std::vector<double> sigmas(n);
  for (std::size_t j = 0; j < count; ++j) {
    const auto [mu, index] = sorted[j];
    if (index == n) continue;  // the prior's own
    const double left = mu - (j > 0 ? sorted[j - 1].first : low);
    const double right = (j + 1 < count ? sorted[j + 1].first : high) - mu;
    double sigma = std::max(left, right);
    if (count > 1 && j == 0) sigma = right;
    if (count > 1 && j + 1 == count) sigma = left;
    sigmas[index] = std::clamp(sigma, smallest, high - low);
  }
  return sigmas;
}

// --- One parameter ---------------------------------------------------------------------------------------------------

struct ParzenEstimator::Axis {
  agents::Range range;
  bool categorical;
  // Categorical: the probability of the kernel's own choice and of each other one; the prior's are equal.
  std::size_t choices = 0;
  double own = 0, other = 0;
  std::vector<double> observed;  // [n] indices
  // Numeric, in logs where the range is logarithmic.
  bool log = false;
  double low = 0, high = 0;           // of the range
  double step = 0;                    // of the values; 0: continuous
  bool stepped_density = false;       // the density is that of a step, not of a point
  double cut_low = 0, cut_high = 0;   // where the kernels end
  std::vector<double> mu, sigma;      // [n + 1]
  std::vector<double> inverse_sigma;  // [n + 1]
  std::vector<double> log_norm;       // [n + 1], what the density's exponent is lowered by
  std::vector<std::size_t> same_as;   // [n + 1], stepped: the kernel's place in `distinct`
  std::vector<std::size_t> distinct;  // stepped: one kernel of each mu and sigma

  Axis(const agents::Range& of, const std::vector<double>& observations, std::size_t dimensions, bool multivariate,
       Profile profile);
  double draw(RandomState& random, std::size_t kernel) const;
  // Adds to row[kernel] the kernel's log density at x. `known`: what stepped kernels came to at earlier x, which
  // repeat.
  using Known = std::map<double, std::vector<double>>;
  void add_log_density(double x, std::vector<double>& row, Known& known) const;

 private:
  void prepare_numeric(const std::vector<double>& observations, std::size_t dimensions, bool multivariate,
                       Profile profile);
};

ParzenEstimator::Axis::Axis(const agents::Range& of, const std::vector<double>& observations, std::size_t dimensions,
                            bool multivariate, Profile profile)
    : range(of), categorical(std::holds_alternative<agents::Choices>(of)) {
  if (!categorical) {
    prepare_numeric(observations, dimensions, multivariate, profile);
    return;
  }
  observed = observations;
  choices = std::get<agents::Choices>(of).choices.size();
  const double base = 1.0 / static_cast<double>(observations.size() + 1);
  const double sum = base * static_cast<double>(choices) + 1;
  own = (base + 1) / sum;
  other = base / sum;
}

void ParzenEstimator::Axis::prepare_numeric(const std::vector<double>& observations, std::size_t dimensions,
                                            bool multivariate, Profile profile) {
  if (const auto* real = std::get_if<agents::FloatRange>(&range)) {
    low = real->low, high = real->high, step = real->step, log = real->log;
    stepped_density = step > 0;
  } else {
    const auto& integer = std::get<agents::IntRange>(range);
    low = static_cast<double>(integer.low), high = static_cast<double>(integer.high);
    step = static_cast<double>(integer.step), log = integer.log;
    stepped_density = !log || profile > Profile::optuna_3_1;
  }
  const Scale scale = scale_of(range);
  cut_low = scale.low, cut_high = scale.high;
  const double width = cut_high - cut_low;
  const std::size_t n = observations.size();
  mu = observations;
  if (log) {
    for (double& x : mu) x = std::log(x);
  }
  if (multivariate && profile < Profile::optuna_5_0) {
    const double exponent = -1.0 / static_cast<double>(dimensions + 4);
    const double one = 0.2 * std::pow(static_cast<double>(std::max<std::size_t>(n, 1)), exponent) * width;
    sigma.assign(n, std::clamp(one, smallest_sigma(cut_low, cut_high, n), width));
  } else {
    sigma = neighbour_sigmas(mu, cut_low, cut_high, profile < Profile::optuna_4_9);
  }
  mu.push_back((cut_low + cut_high) / 2);
  sigma.push_back(width);

  const auto log_norm_of = [&](std::size_t k) {
    constexpr double kBeyondRounding = 9;  // less than 2^-62 of the normal is that far out
    const double a = (cut_low - mu[k]) / sigma[k], b = (cut_high - mu[k]) / sigma[k];
    double norm = a < -kBeyondRounding && b > kBeyondRounding ? 0 : log_normal_mass(a, b);
    if (!stepped_density) norm += kLogSqrt2Pi;
    if (!stepped_density && profile > Profile::optuna_3_1) norm += std::log(sigma[k]);
    return norm;
  };
  log_norm.resize(n + 1);
  if (stepped_density) {
    // Observations on a grid repeat, and a kernel of a step costs two logarithms at each point: once for equal ones.
    std::map<std::pair<double, double>, std::size_t> places;
    for (std::size_t k = 0; k <= n; ++k) {
      const auto [place, is_new] = places.try_emplace({mu[k], sigma[k]}, distinct.size());
      if (is_new) {
        distinct.push_back(k);
        log_norm[k] = log_norm_of(k);
      }
      same_as.push_back(place->second);
    }
  } else {
    for (std::size_t k = 0; k <= n; ++k) log_norm[k] = log_norm_of(k);
    for (const double s : sigma) inverse_sigma.push_back(1 / s);
  }
}

double ParzenEstimator::Axis::draw(RandomState& random, std::size_t kernel) const {
  const double u = random.uniform();
  if (categorical) {
    const bool prior = kernel == observed.size();
    double cumulative = 0;
    std::size_t choice = 0;
    for (; choice + 1 < choices; ++choice) {
      const bool its_own = !prior && observed[kernel] == static_cast<double>(choice);
      cumulative += prior ? 1.0 / static_cast<double>(choices) : its_own ? own : other;
      if (!(cumulative < u)) break;
    }
    return static_cast<double>(choice);
  }
  const double m = mu[kernel], s = sigma[kernel];
  double x = m + s * truncated_normal_ppf(u, (cut_low - m) / s, (cut_high - m) / s);
  if (log) x = std::exp(x);
  if (step > 0) x = low + std::nearbyint((x - low) / step) * step;
  return std::clamp(x, low, high);
}

void ParzenEstimator::Axis::add_log_density(double x, std::vector<double>& row, Known& known) const {
  const std::size_t kernels = row.size();
  if (categorical) {
    const double log_own = std::log(own), log_other = std::log(other);
    for (std::size_t k = 0; k + 1 < kernels; ++k) row[k] += observed[k] == x ? log_own : log_other;
    row[kernels - 1] -= std::log(static_cast<double>(choices));
    return;
  }
  if (!stepped_density) {
    const double at = log ? std::log(x) : x;
    // Plain arrays, which the compiler handles several at a time.
    const double *m = mu.data(), *inverse = inverse_sigma.data(), *norm = log_norm.data();
    double* out = row.data();
    for (std::size_t k = 0; k < kernels; ++k) {
      const double z = (at - m[k]) * inverse[k];
      out[k] -= 0.5 * z * z + norm[k];
    }
    return;
  }
  std::vector<double>& of_distinct = known[x];
  if (of_distinct.empty()) {
    double from = x - step / 2, to = x + step / 2;
    if (log) from = std::log(from), to = std::log(to);
    for (const std::size_t k : distinct) {
      of_distinct.push_back(log_normal_mass((from - mu[k]) / sigma[k], (to - mu[k]) / sigma[k]) - log_norm[k]);
    }
  }
  for (std::size_t k = 0; k < kernels; ++k) row[k] += of_distinct[same_as[k]];
}

// --- The mixture -----------------------------------------------------------------------------------------------------

ParzenEstimator::ParzenEstimator(const SearchSpace& space, const std::vector<std::vector<double>>& observations,
                                 bool multivariate, Profile profile)
    : weights_(observation_weights(observations.at(0).size())),
      categorical_uniforms_first_(profile > Profile::optuna_3_1) {
  weights_.push_back(1);
  const double sum = std::accumulate(weights_.begin(), weights_.end(), 0.0);
  for (double& weight : weights_) {
    weight /= sum;
    log_weights_.push_back(std::log(weight));
  }
  for (std::size_t p = 0; p < space.size(); ++p) {
    axes_.emplace_back(space[p].second, observations[p], space.size(), multivariate, profile);
  }
}
ParzenEstimator::~ParzenEstimator() = default;
ParzenEstimator::ParzenEstimator(ParzenEstimator&&) noexcept = default;

Samples ParzenEstimator::sample(RandomState& random, std::size_t count) const {
  std::vector<double> cumulative(weights_.size());
  std::partial_sum(weights_.begin(), weights_.end(), cumulative.begin());
  const double last = cumulative.back();
  for (double& c : cumulative) c /= last;
  std::vector<std::size_t> kernels;
  for (std::size_t i = 0; i < count; ++i) {
    const auto found = std::upper_bound(cumulative.begin(), cumulative.end(), random.uniform());
    kernels.push_back(static_cast<std::size_t>(found - cumulative.begin()));
  }
  Samples samples(axes_.size());
  const auto draw_all = [&](auto wanted) {
    for (std::size_t p = 0; p < axes_.size(); ++p) {
      if (!wanted(axes_[p])) continue;
      for (const std::size_t kernel : kernels) samples[p].push_back(axes_[p].draw(random, kernel));
    }
  };
  if (categorical_uniforms_first_) {
    draw_all([](const Axis& axis) { return axis.categorical; });
    draw_all([](const Axis& axis) { return !axis.categorical; });
  } else {
    draw_all([](const Axis&) { return true; });
  }
  return samples;
}

std::vector<double> ParzenEstimator::log_density(const Samples& samples) const {
  std::vector<double> result;
  std::vector<double> row;
  std::vector<Axis::Known> known(axes_.size());
  for (std::size_t candidate = 0; candidate < samples.at(0).size(); ++candidate) {
    // Candidates repeat where values do.
    const auto same = [&](std::size_t other) {
      return std::all_of(samples.begin(), samples.end(),
                         [&](const std::vector<double>& column) { return column[other] == column[candidate]; });
    };
    std::size_t earlier = 0;
    while (earlier < candidate && !same(earlier)) ++earlier;
    if (earlier < candidate) {
      result.push_back(result[earlier]);
      continue;
    }
    row = log_weights_;
    for (std::size_t p = 0; p < axes_.size(); ++p) axes_[p].add_log_density(samples[p][candidate], row, known[p]);
    result.push_back(log_sum_of_exponentials(row));
  }
  return result;
}

}  // namespace ristretto::studies
