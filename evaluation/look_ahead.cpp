#include "evaluation/look_ahead.h"

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "env/step_batch.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::evaluation {
namespace {

// Kernels may sum in another order on another run; a leak below this moves no order by more than a millionth.
constexpr double kSameAction = 1e-6;
constexpr int kCuts = 4;                 // bars after which the future is altered
constexpr double kPriceDeviation = 0.5;  // of the logarithm of the factors: far beyond what a model could shrug off

// The market with every price and feature of the rows after `row` altered. Features change rows, size and level: what
// is constant, such as a feature that is 0 everywhere, changes too.
env::Market altered_after(const env::Market& market, std::int64_t row, std::mt19937_64& random) {
  std::normal_distribution<double> normal;
  env::Market out = market;
  at::Tensor price = market.price.to(at::kCPU, at::kDouble).clone().contiguous();
  at::Tensor tech = market.tech.to(at::kCPU, at::kDouble).clone().contiguous();
  const at::Tensor source = tech.clone();
  const std::int64_t n = price.size(1), columns = tech.size(1), rows = market.rows();
  double* p = price.mutable_data_ptr<double>();
  for (std::int64_t at = (row + 1) * n; at < rows * n; ++at) p[at] *= std::exp(kPriceDeviation * normal(random));
  double* x = tech.mutable_data_ptr<double>();
  const double* from = source.const_data_ptr<double>();
  std::uniform_int_distribution<std::int64_t> any_row(row + 1, std::max(row + 1, rows - 1));
  for (std::int64_t r = row + 1; r < rows; ++r) {
    const std::int64_t other = any_row(random);
    for (std::int64_t c = 0; c < columns; ++c) {
      x[r * columns + c] = from[other * columns + c] * std::exp(kPriceDeviation * normal(random)) + normal(random);
    }
  }
  out.price = price.to(market.price.device(), market.price.scalar_type());
  out.tech = tech.to(market.tech.device(), market.tech.scalar_type());
  return out;
}

}  // namespace

std::optional<std::string> look_ahead_violation(const env::Market& market, const env::Layout& layout,
                                                const env::Rules& rules, const ActorOn& actor_on, std::int64_t bars,
                                                std::uint64_t seed) {
  if (market.segments.empty()) throw Error(Fault::usage, "the market has no segment to look for look-ahead in");
  env::Segment window =
      *std::max_element(market.segments.begin(), market.segments.end(),
                        [](const env::Segment& a, const env::Segment& b) { return a.size() < b.size(); });
  const std::int64_t rows = std::min(window.size(), bars + 2 * layout.lookback);
  window.begin += (window.size() - rows) / 2;
  window.end = window.begin + rows;

  const auto actions_on = [&](const env::Market& on) {
    return backtest(on.with_segments({window}), layout, rules, actor_on(on), true).actions;
  };
  const at::Tensor expected = actions_on(market);
  const float* a = expected.const_data_ptr<float>();
  const std::int64_t n = expected.size(1), decided = expected.size(0);
  const std::int64_t first_row = window.begin + env::first_step(layout.lookback);
  std::mt19937_64 random(seed);
  for (int cut = 0; cut < kCuts; ++cut) {
    // The last decision that may still know everything it saw: from the window's first one to its last.
    const std::int64_t last = (decided - 1) * cut / (kCuts - 1);
    const at::Tensor found = actions_on(altered_after(market, first_row + last, random));
    const float* b = found.const_data_ptr<float>();
    for (std::int64_t at = 0; at < (last + 1) * n; ++at) {
      const double change = std::abs(double{a[at]} - double{b[at]});
      if (change <= kSameAction) continue;
      return str("the action for ", layout.assets[at % n], " at the bar of ", iso_utc(market.time[first_row + at / n]),
                 " changes from ", a[at], " to ", b[at], " when only bars after ",
                 iso_utc(market.time[first_row + last]), " are altered");
    }
  }
  return std::nullopt;
}

}  // namespace ristretto::evaluation
