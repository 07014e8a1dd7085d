// Names and ranges that are sampled together, and what Optuna asks of a range (study.md, "Distributions").
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "studies/study.h"

namespace ristretto::studies {

using SearchSpace = std::vector<std::pair<std::string, agents::Range>>;
using NamedValues = std::vector<std::pair<std::string, agents::Value>>;

// The number that stands for the value: itself, or the index of the first choice that equals it in Python (True == 1 ==
// 1.0, NaN equals NaN). Nothing for a value of another type, a fraction in an integer range or an unknown choice.
std::optional<double> internal_value(const agents::Range& range, const agents::Value& value);
// The value that a number of the range stands for; an integer is rounded.
agents::Value value_of(const agents::Range& range, double internal);
bool contains(const agents::Range& range, double internal);
// The only value of a range that has one.
std::optional<agents::Value> single_value(const agents::Range& range);
// May stand under one name in one study: the same kind and `log`; choices must be equal.
bool compatible(const agents::Range& a, const agents::Range& b);
bool equal(const agents::Range& a, const agents::Range& b);

// What every COMPLETE or PRUNED trial has with an equal range, without single ones: by name or, as in Optuna 3.1, in
// the newest such trial's order.
SearchSpace intersection_space(const Study& study, bool sorted);
// The names of COMPLETE and PRUNED trials in parts, so that each trial has all or nothing of a part, without single
// ranges; a part is sorted by name, and a range is the one that its name had first.
std::vector<SearchSpace> grouped_spaces(const Study& study);

// Of an attribute that holds a parameter's value; lists and objects give None. Back: json_of (distribution.h).
agents::Value value_of_json(const formats::Json& json);

// nullptr where there is none.
const agents::Range* find_range(const SearchSpace& space, std::string_view name);

}  // namespace ristretto::studies
