#include "studies/samplers/search_space.h"

#include <algorithm>
#include <cmath>

namespace ristretto::studies {
namespace {

using agents::Choices;
using agents::FloatRange;
using agents::IntRange;
using agents::Value;

// As Python's float(value); nothing for None and texts.
std::optional<double> number_of(const Value& value) {
  if (const bool* flag = std::get_if<bool>(&value)) return *flag ? 1.0 : 0.0;
  if (const auto* integer = std::get_if<std::int64_t>(&value)) return static_cast<double>(*integer);
  if (const double* real = std::get_if<double>(&value)) return *real;
  return std::nullopt;
}

bool equal_in_python(const Value& a, const Value& b) {
  // Choices are mostly texts, and every trial's are compared.
  if (const auto* text = std::get_if<std::string>(&a)) {
    const auto* other = std::get_if<std::string>(&b);
    return other && *text == *other;
  }
  if (a == b) return true;
  const std::optional<double> x = number_of(a), y = number_of(b);
  return x && y && (*x == *y || (std::isnan(*x) && std::isnan(*y)));
}

bool equal_choices(const Choices& a, const Choices& b) {
  return std::equal(a.choices.begin(), a.choices.end(), b.choices.begin(), b.choices.end(), equal_in_python);
}

bool finished(const Trial& trial) { return trial.state == State::complete || trial.state == State::pruned; }

}  // namespace

std::optional<double> internal_value(const agents::Range& range, const Value& value) {
  if (const auto* categorical = std::get_if<Choices>(&range)) {
    const auto& choices = categorical->choices;
    const auto found = std::find_if(choices.begin(), choices.end(),
                                    [&](const Value& choice) { return equal_in_python(choice, value); });
    if (found == choices.end()) return std::nullopt;
    return static_cast<double>(found - choices.begin());
  }
  const std::optional<double> number = number_of(value);
  if (!number || std::isnan(*number)) return std::nullopt;
  if (std::holds_alternative<IntRange>(range) && std::trunc(*number) != *number) return std::nullopt;
  return number;
}

Value value_of(const agents::Range& range, double internal) {
  if (std::holds_alternative<FloatRange>(range)) return internal;
  const auto whole = static_cast<std::int64_t>(std::nearbyint(internal));
  if (const auto* categorical = std::get_if<Choices>(&range)) {
    return categorical->choices[static_cast<std::size_t>(whole)];
  }
  return whole;
}

bool contains(const agents::Range& range, double internal) {
  if (const auto* real = std::get_if<FloatRange>(&range)) {
    if (!(real->low <= internal && internal <= real->high)) return false;
    constexpr double kOnTheGrid = 1e-8;
    const double k = real->step > 0 ? (internal - real->low) / real->step : 0;
    return std::abs(k - std::nearbyint(k)) < kOnTheGrid;
  }
  if (const auto* integer = std::get_if<IntRange>(&range)) {
    const auto low = static_cast<double>(integer->low);
    return low <= internal && internal <= static_cast<double>(integer->high) &&
           std::fmod(internal - low, static_cast<double>(integer->step)) == 0;
  }
  return internal >= 0 && internal < static_cast<double>(std::get<Choices>(range).choices.size());
}

std::optional<Value> single_value(const agents::Range& range) {
  if (const auto* real = std::get_if<FloatRange>(&range)) {
    if (real->low == real->high || (real->step > 0 && real->high - real->low < real->step)) return real->low;
  } else if (const auto* integer = std::get_if<IntRange>(&range)) {
    if (integer->low == integer->high || integer->high - integer->low < integer->step) return integer->low;
  } else if (const auto& choices = std::get<Choices>(range).choices; choices.size() == 1) {
    return choices[0];
  }
  return std::nullopt;
}

bool compatible(const agents::Range& a, const agents::Range& b) {
  if (a.index() != b.index()) return false;
  if (const auto* real = std::get_if<FloatRange>(&a)) return real->log == std::get<FloatRange>(b).log;
  if (const auto* integer = std::get_if<IntRange>(&a)) return integer->log == std::get<IntRange>(b).log;
  return equal_choices(std::get<Choices>(a), std::get<Choices>(b));
}

bool equal(const agents::Range& a, const agents::Range& b) {
  if (!compatible(a, b)) return false;
  if (const auto* x = std::get_if<FloatRange>(&a)) {
    const auto& y = std::get<FloatRange>(b);
    return x->low == y.low && x->high == y.high && x->step == y.step;
  }
  if (const auto* x = std::get_if<IntRange>(&a)) {
    const auto& y = std::get<IntRange>(b);
    return x->low == y.low && x->high == y.high && x->step == y.step;
  }
  return true;
}

SearchSpace intersection_space(const Study& study, bool sorted) {
  const auto newest = std::find_if(study.trials.rbegin(), study.trials.rend(), finished);
  SearchSpace space;
  if (newest == study.trials.rend()) return space;
  std::vector<const Parameter*> everywhere;
  for (const Parameter& parameter : newest->params) {
    if (!single_value(parameter.distribution)) everywhere.push_back(&parameter);
  }
  for (const Trial& trial : study.trials) {
    if (!finished(trial)) continue;
    std::erase_if(everywhere, [&](const Parameter* parameter) {
      // Trials mostly have the same names in the same order.
      const auto i = static_cast<std::size_t>(parameter - newest->params.data());
      const bool here = i < trial.params.size() && trial.params[i].name == parameter->name;
      const Parameter* other = here ? &trial.params[i] : trial.find_param(parameter->name);
      return !other || !equal(other->distribution, parameter->distribution);
    });
  }
  for (const Parameter* parameter : everywhere) space.emplace_back(parameter->name, parameter->distribution);
  if (sorted) {
    std::sort(space.begin(), space.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  }
  return space;
}

std::vector<SearchSpace> grouped_spaces(const Study& study) {
  std::vector<SearchSpace> parts;
  for (const Trial& trial : study.trials) {
    if (!finished(trial)) continue;
    std::vector<SearchSpace> next;
    SearchSpace fresh;
    for (const Parameter& parameter : trial.params) {
      const bool known = std::any_of(parts.begin(), parts.end(),
                                     [&](const SearchSpace& part) { return find_range(part, parameter.name); });
      if (!known) fresh.emplace_back(parameter.name, parameter.distribution);
    }
    for (SearchSpace& part : parts) {
      SearchSpace inside, outside;
      for (auto& item : part) (trial.find_param(item.first) ? inside : outside).push_back(std::move(item));
      next.push_back(std::move(inside));
      next.push_back(std::move(outside));
    }
    next.push_back(std::move(fresh));
    std::erase_if(next, [](const SearchSpace& part) { return part.empty(); });
    parts = std::move(next);
  }
  for (SearchSpace& part : parts) {
    std::erase_if(part, [](const auto& item) { return single_value(item.second).has_value(); });
    std::sort(part.begin(), part.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  }
  std::erase_if(parts, [](const SearchSpace& part) { return part.empty(); });
  return parts;
}

Value value_of_json(const formats::Json& json) {
  switch (json.kind) {
    case formats::Json::Kind::boolean:
      return json.boolean;
    case formats::Json::Kind::integer:
      return json.integer;
    case formats::Json::Kind::real:
      return json.real;
    case formats::Json::Kind::text:
      return json.text;
    default:
      return std::monostate{};
  }
}

const agents::Range* find_range(const SearchSpace& space, std::string_view name) {
  for (const auto& item : space) {
    if (item.first == name) return &item.second;
  }
  return nullptr;
}

}  // namespace ristretto::studies
