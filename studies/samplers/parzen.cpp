#include "studies/samplers/parzen.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

#include "studies/samplers/exponential.h"
#include "studies/samplers/random.h"
#include "studies/samplers/truncated_normal.h"

namespace ristretto::studies {
namespace {

constexpr double kLogSqrt2Pi = 0.91893853320467274178;

// ln of the sum of exp(row[i]); overwrites the row.
double log_sum_of_exponentials(std::vector<double>& row) {
  const double largest = *std::max_element(row.begin(), row.end());
  double* x = row.data();
  const std::size_t n = row.size();
  // Two loops: a choice in the second would keep it to one element at a time.
  for (std::size_t i = 0; i < n; ++i) x[i] = std::max(x[i] - largest, kSmallestExponent);
  for (std::size_t i = 0; i < n; ++i) x[i] = exp_of_negative(x[i]);
  double sums[4] = {};  // four, as each addition waits for the one before
  std::size_t i = 0;
  for (; i + 4 <= n; i += 4) {
    for (std::size_t j = 0; j < 4; ++j) sums[j] += x[i + j];
  }
  for (; i < n; ++i) sums[0] += x[i];
  return largest + std::log((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

// The places of the numbers, of which none is NaN, in ascending order; of equal ones the earlier first. By their bytes,
// the last one first: faster than by comparing, and what all numbers share, as small integers do, costs nothing.
std::vector<std::uint32_t> ascending(const std::vector<double>& numbers) {
  constexpr std::size_t kBytes = sizeof(double), kValues = 256;
  struct Item {
    std::uint64_t key;  // ordered as the number is
    std::uint32_t place;
  };
  std::vector<Item> items, sorted(numbers.size());
  std::array<std::array<std::uint32_t, kValues>, kBytes> counts{};
  const auto value_of_byte = [](std::uint64_t key, std::size_t byte) { return (key >> (8 * byte)) % kValues; };
  for (const double number : numbers) {
    const auto bits = std::bit_cast<std::uint64_t>(number + 0.0);  // -0 is 0
    constexpr std::uint64_t kSign = std::uint64_t{1} << 63;
    const std::uint64_t key = bits & kSign ? ~bits : bits | kSign;
    items.push_back({key, static_cast<std::uint32_t>(items.size())});
    for (std::size_t byte = 0; byte < kBytes; ++byte) ++counts[byte][value_of_byte(key, byte)];
  }
  for (std::size_t byte = 0; byte < kBytes; ++byte) {
    std::array<std::uint32_t, kValues>& begins = counts[byte];
    if (std::find(begins.begin(), begins.end(), items.size()) != begins.end()) continue;  // one value
    std::exclusive_scan(begins.begin(), begins.end(), begins.begin(), 0u);
    for (const Item& item : items) sorted[begins[value_of_byte(item.key, byte)]++] = item;
    items.swap(sorted);
  }
  std::vector<std::uint32_t> places;
  for (const Item& item : items) places.push_back(item.place);
  return places;
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
  const std::vector<std::uint32_t> sorted = ascending(mus);
  const double smallest = smallest_sigma(low, high, n);
  std::vector<double> sigmas(n);
  for (std::size_t j = 0; j < count; ++j) {
    const std::size_t index = sorted[j];
    if (index == n) continue;  // the prior's own
    const double left = mus[index] - (j > 0 ? mus[sorted[j - 1]] : low);
    const double right = (j + 1 < count ? mus[sorted[j + 1]] : high) - mus[index];
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
  // The log densities of `distinct` kernels at each x, which repeat; nothing where kernels are not stepped.
  using Stepped = std::map<double, std::vector<double>>;
  Stepped stepped_log_densities(const std::vector<double>& xs) const;
  // Adds to row[kernel] the kernel's log density at x, which is in `stepped`.
  void add_log_density(double x, std::vector<double>& row, const Stepped& stepped) const;

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

  log_norm.resize(n + 1);
  if (stepped_density) {
    // Observations on a grid repeat, and a kernel of a step costs two logarithms at each point: once for equal ones.
    same_as.resize(n + 1);
    std::size_t first_of_mu = 0;
    for (const std::size_t k : ascending(mu)) {
      if (!distinct.empty() && mu[distinct.back()] != mu[k]) first_of_mu = distinct.size();
      std::size_t place = first_of_mu;
      while (place < distinct.size() && sigma[distinct[place]] != sigma[k]) ++place;
      if (place == distinct.size()) {
        distinct.push_back(k);
        log_norm[k] = log_normal_mass((cut_low - mu[k]) / sigma[k], (cut_high - mu[k]) / sigma[k]);
      }
      same_as[k] = place;
    }
    return;
  }
  std::vector<double> cut_below(n + 1), cut_above(n + 1);  // how much of each kernel the range leaves out
  for (std::size_t k = 0; k <= n; ++k) {
    inverse_sigma.push_back(1 / sigma[k]);
    cut_below[k] = (mu[k] - cut_low) * inverse_sigma[k];
    cut_above[k] = (cut_high - mu[k]) * inverse_sigma[k];
  }
  upper_shares(cut_below);
  upper_shares(cut_above);
  double last_sigma = 1, log_sigma = 0;  // widths repeat
  for (std::size_t k = 0; k <= n; ++k) {
    // As no kernel is wider than the range, one inside leaves at least a third of itself there: no digits cancel.
    const bool inside = cut_low <= mu[k] && mu[k] <= cut_high;
    log_norm[k] = inside ? std::log(1 - (cut_below[k] + cut_above[k]))
                         : log_normal_mass((cut_low - mu[k]) / sigma[k], (cut_high - mu[k]) / sigma[k]);
    log_norm[k] += kLogSqrt2Pi;
    if (profile == Profile::optuna_3_1) continue;
    if (sigma[k] != last_sigma) last_sigma = sigma[k], log_sigma = std::log(last_sigma);
    log_norm[k] += log_sigma;
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

ParzenEstimator::Axis::Stepped ParzenEstimator::Axis::stepped_log_densities(const std::vector<double>& xs) const {
  Stepped stepped;
  if (!stepped_density) return stepped;
  for (const double x : xs) stepped[x].reserve(distinct.size());
  // Kernels of one width have one mass in all steps as far away: by width, [whole steps away].
  std::map<double, std::vector<double>> masses;
  constexpr double kMostSteps = 1024, kUnknown = std::numeric_limits<double>::quiet_NaN();
  for (const std::size_t k : distinct) {
    std::vector<double>& known = masses[sigma[k]];
    for (auto& [x, densities] : stepped) {
      const double low_edge = x - step / 2, high_edge = x + step / 2;
      const auto mass = [&](double from, double to) {
        return log_normal_mass((from - mu[k]) / sigma[k], (to - mu[k]) / sigma[k]);
      };
      const double steps = std::abs(x - mu[k]) / step;
      if (log) {
        densities.push_back(mass(std::log(low_edge), std::log(high_edge)) - log_norm[k]);
      } else if (steps > kMostSteps || steps != std::trunc(steps)) {
        densities.push_back(mass(low_edge, high_edge) - log_norm[k]);
      } else {
        const auto i = static_cast<std::size_t>(steps);
        if (i >= known.size()) known.resize(i + 1, kUnknown);
        if (std::isnan(known[i])) known[i] = mass(low_edge, high_edge);
        densities.push_back(known[i] - log_norm[k]);
      }
    }
  }
  return stepped;
}

void ParzenEstimator::Axis::add_log_density(double x, std::vector<double>& row, const Stepped& stepped) const {
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
  const std::vector<double>& of_distinct = stepped.at(x);
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
  std::vector<Axis::Stepped> stepped;
  for (std::size_t p = 0; p < axes_.size(); ++p) stepped.push_back(axes_[p].stepped_log_densities(samples[p]));
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
    for (std::size_t p = 0; p < axes_.size(); ++p) axes_[p].add_log_density(samples[p][candidate], row, stepped[p]);
    result.push_back(log_sum_of_exponentials(row));
  }
  return result;
}

}  // namespace ristretto::studies
