// The sum of a market's prices, by which runs and studies know the bars that they are of.
#pragma once

#include <cstdint>
#include <string>

#include "env/market.h"

namespace ristretto::train {

// "sum of prices 626979354.5781", of the first `rows` rows: the same with any number of threads and on any device.
std::string price_sum(const env::Market& market, std::int64_t rows);

// Whether two texts that hold one are the same but for its last digits: older ones were summed in another order.
bool same_but_for_the_order(const std::string& one, const std::string& other);

}  // namespace ristretto::train
