#include "train/price_sum.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "platform/text.h"

namespace ristretto::train {
namespace {

const std::string kLabel = "sum of prices ";

}  // namespace

std::string price_sum(const env::Market& market, std::int64_t rows) {
  const at::Tensor prices = market.price.narrow(0, 0, rows).to(at::kCPU, at::kDouble).contiguous();  // [rows, n]
  const double* const numbers = prices.const_data_ptr<double>();
  return str(kLabel, static_cast<double>(std::accumulate(numbers, numbers + prices.numel(), 0.0L)));
}

bool same_but_for_the_order(const std::string& one, const std::string& other) {
  constexpr double kRounding = 16 * std::numeric_limits<double>::epsilon();
  const std::size_t at = one.find(kLabel);
  if (one == other || at == std::string::npos) return one == other;
  const std::size_t begin = at + kLabel.size();
  if (one.compare(0, begin, other, 0, begin) != 0) return false;
  const auto end_of = [&](const std::string& text) {
    return std::min(text.find_first_not_of("0123456789.e+", begin), text.size());
  };
  const std::size_t end = end_of(one), other_end = end_of(other);
  const auto sum = parse_number<double>(one.substr(begin, end - begin));
  const auto other_sum = parse_number<double>(other.substr(begin, other_end - begin));
  return sum && other_sum && std::abs(*sum - *other_sum) <= kRounding * std::abs(*sum) &&
         one.substr(end) == other.substr(other_end);
}

}  // namespace ristretto::train
