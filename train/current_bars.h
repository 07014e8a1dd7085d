// Whether the bars of all assets reach as far.
#pragma once

#include <string>
#include <vector>

namespace ristretto::train {

// Only bars that all assets have are used, so one file that is cut short would have a model judged by old bars. Throws
// Error(incompatible) where an asset's bars end over a day before another's, and as env::read_bars.
void require_current_bars(const std::string& directory, const std::vector<std::string>& assets);

}  // namespace ristretto::train
