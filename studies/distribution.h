// Optuna's distribution_json and internal values (study.md, "Distributions", "Value forms").
#pragma once

#include <string>
#include <string_view>

#include "agents/hyperparameters.h"

namespace ristretto::studies {

// Of today's, the legacy (before 3.0) and the abbreviated forms. `high` comes out on the last grid point. Throws
// Error(incompatible) with `origin`.
agents::Range read_distribution(std::string_view json_text, const std::string& origin);

// What the stored number means: the number, the whole number, or the choice at that index. Throws Error(incompatible)
// with `origin` for a fraction where an integer or index is expected, and for an index that there is not.
agents::Value external_value(const agents::Range& distribution, double stored, const std::string& origin);

}  // namespace ristretto::studies
