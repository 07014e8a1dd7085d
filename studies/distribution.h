// Optuna's distribution_json and internal values (study.md, "Distributions", "Value forms").
#pragma once

#include <string>
#include <string_view>

#include "agents/hyperparameters.h"
#include "formats/json_text.h"

namespace ristretto::studies {

// Of today's, the legacy (before 3.0) and the abbreviated forms. `high` comes out on the last grid point. Throws
// Error(incompatible) with `origin`.
agents::Range read_distribution(std::string_view json_text, const std::string& origin);

// What the stored number means: the number, the whole number, or the choice at that index. Throws Error(incompatible),
// "is stored as ...", for a fraction where an integer or index is expected, and for an index that there is not.
agents::Value external_value(const agents::Range& distribution, double stored);

// Optuna's text, with `high` on the last grid point. Throws Error(usage) for a range that is none, such as low above
// high.
std::string write_distribution(const agents::Range& distribution);

// The number that is stored for an external value: the inverse of external_value. A choice is looked up as Python's ==
// does: True == 1 == 1.0, the first match. Throws Error(usage) with `origin` where the value is not of the
// distribution's type or none of its choices.
double internal_value(const agents::Range& distribution, const agents::Value& value, const std::string& origin);

// Throws Error(usage) in Optuna's words where a parameter of the distribution `first` may not get `next`: another kind,
// another log, other choices. low, high and step may differ.
void require_compatible(const agents::Range& first, const agents::Range& next, const std::string& origin);

formats::Json json_of(const agents::Value& value);

}  // namespace ristretto::studies
