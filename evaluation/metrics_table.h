// Metrics as JSON and as a table for people.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "evaluation/metrics.h"

namespace ristretto::evaluation {

// What is not finite (a ratio without a loss) is null: JSON has no such number.
nlohmann::ordered_json json_of(const Metrics& metrics);

// A table of fixed width: a header, and one line a model; names up to 24 characters.
std::string table_header();
std::string table_line(const std::string& name, const Metrics& metrics);

}  // namespace ristretto::evaluation
