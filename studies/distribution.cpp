#include "studies/distribution.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "formats/json_text.h"
#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::studies {
namespace {

using agents::Choices;
using agents::FloatRange;
using agents::IntRange;
using formats::Json;
using Kind = Json::Kind;

// One distribution's JSON object, with the errors that name it.
struct Reader {
  const Json& attributes;
  std::string_view text;
  const std::string& origin;

  [[noreturn]] void refuse(const std::string& fault) const {
    throw Error(Fault::incompatible, str(origin, ": the distribution ", text, " ", fault));
  }

  const Json& attribute(std::string_view name) const {
    const Json* found = attributes.find(name);
    if (!found) refuse(str("has no '", name, "'"));
    return *found;
  }

  double number(std::string_view name) const {
    const Json& found = attribute(name);
    if ((found.kind != Kind::real && found.kind != Kind::integer) || !std::isfinite(found.real)) {
      refuse(str("has a '", name, "' that is no finite number"));
    }
    return found.real;
  }

  // Python wrote some whole bounds as floats.
  std::int64_t whole(std::string_view name) const {
    const Json& found = attribute(name);
    if (found.kind == Kind::integer) return found.integer;
    const double value = number(name);
    constexpr double kLimit = 9.2e18;  // inside int64
    if (std::trunc(value) != value || std::abs(value) > kLimit) refuse(str("has a '", name, "' that is no integer"));
    return static_cast<std::int64_t>(value);
  }

  bool given(std::string_view name) const {
    const Json* found = attributes.find(name);
    return found && found->kind != Kind::null;
  }

  bool log() const {
    if (!given("log")) return false;
    const Json& found = attribute("log");
    if (found.kind != Kind::boolean) refuse("has a 'log' that is neither true nor false");
    return found.boolean;
  }
};

int decimals_of(double value) {
  const std::string text = str(value);  // shortest: 0.05, 1e-06
  const std::size_t exponent = text.find('e'), point = text.find('.');
  const std::size_t mantissa_end = std::min(exponent, text.size());
  const int behind = point == std::string::npos ? 0 : static_cast<int>(mantissa_end - point - 1);
  if (exponent == std::string::npos) return behind;
  const std::size_t digits = exponent + (text[exponent + 1] == '+' ? 2 : 1);
  return std::max(0, behind - *parse_number<int>(std::string_view(text).substr(digits)));
}

// The last of low, low + step, ... up to high, in decimal arithmetic on the shortest decimal text of the numbers: 0.88
// to 0.99 by 0.01 ends at 0.99, though 0.88 + 11 * 0.01 in doubles is another number.
double last_grid_point(double low, double high, double step) {
  const int decimals = std::max(decimals_of(low), decimals_of(step));
  constexpr int kMostDecimals = 80;  // what fixed() has room for beside the largest double
  if (decimals > kMostDecimals) return high;
  const auto point = [&](double k) { return *parse_number<double>(fixed(low + k * step, decimals)); };
  double k = std::round((high - low) / step);
  while (k > 0 && point(k) > high) --k;
  return point(k);
}

FloatRange read_float(const Reader& reader, bool log, const char* step_name) {
  FloatRange range{reader.number("low"), reader.number("high"), 0, log};
  if (reader.given(step_name)) range.step = reader.number(step_name);
  if (range.low > range.high) reader.refuse("has low above high");
  if (range.step < 0 || (reader.given(step_name) && range.step == 0)) reader.refuse("has a step that is not above 0");
  if (log && (range.step != 0 || range.low <= 0))
    reader.refuse("is logarithmic with a step or a low that is not above 0");
  if (range.step > 0) range.high = last_grid_point(range.low, range.high, range.step);
  return range;
}

IntRange read_int(const Reader& reader, bool log) {
  IntRange range{reader.whole("low"), reader.whole("high"), 1, log};
  if (reader.given("step")) range.step = reader.whole("step");
  if (range.low > range.high) reader.refuse("has low above high");
  if (range.step < 1) reader.refuse("has a step below 1");
  if (log && range.low < 1) reader.refuse("is logarithmic with a low below 1");
  const std::uint64_t width = static_cast<std::uint64_t>(range.high) - static_cast<std::uint64_t>(range.low);
  range.high -= static_cast<std::int64_t>(width % static_cast<std::uint64_t>(range.step));
  return range;
}

Choices read_choices(const Reader& reader) {
  const Json& list = reader.attribute("choices");
  if (list.kind != Kind::array || list.items.empty()) reader.refuse("has no list of choices");
  Choices choices;
  for (const Json& item : list.items) {
    switch (item.kind) {
      case Kind::null:
        choices.choices.emplace_back(std::monostate{});
        break;
      case Kind::boolean:
        choices.choices.emplace_back(item.boolean);
        break;
      case Kind::integer:
        choices.choices.emplace_back(item.integer);
        break;
      case Kind::real:
        choices.choices.emplace_back(item.real);
        break;
      case Kind::text:
        choices.choices.emplace_back(item.text);
        break;
      default:
        reader.refuse("has a choice that is a list or an object");
    }
  }
  return choices;
}

// A row's number as index or integer.
std::optional<std::int64_t> whole(double stored) {
  constexpr double kLimit = 9.2e18;  // inside int64
  if (!(std::abs(stored) < kLimit) || std::trunc(stored) != stored) return std::nullopt;
  return static_cast<std::int64_t>(stored);
}

// As Python's == sees it, where true is 1.
std::optional<double> number_of(const agents::Value& value) {
  if (const bool* flag = std::get_if<bool>(&value)) return *flag ? 1.0 : 0.0;
  if (const auto* integer = std::get_if<std::int64_t>(&value)) return static_cast<double>(*integer);
  if (const double* real = std::get_if<double>(&value)) return *real;
  return std::nullopt;
}

// Python's ==, but NaN equals NaN, as Optuna compares choices.
bool same_choice(const agents::Value& a, const agents::Value& b) {
  if (a.index() == b.index() && a == b) return true;
  const std::optional<double> x = number_of(a), y = number_of(b);
  if (!x || !y) return false;
  return std::isnan(*x) ? std::isnan(*y) : a.index() != b.index() && *x == *y;
}

}  // namespace

agents::Range read_distribution(std::string_view json_text, const std::string& origin) {
  const Json json = formats::read_json(json_text, origin);
  const Json* name = json.find("name");
  const Json* abbreviated = json.find("type");
  const Json* attributes = name ? json.find("attributes") : &json;
  const std::string kind = name ? name->text : abbreviated ? abbreviated->text : std::string{};
  if (!attributes)
    throw Error(Fault::incompatible, str(origin, ": the distribution ", json_text, " has no attributes"));
  const Reader reader{*attributes, json_text, origin};
  if (name) {
    if (kind == "FloatDistribution") return read_float(reader, reader.log(), "step");
    if (kind == "IntDistribution") return read_int(reader, reader.log());
    if (kind == "CategoricalDistribution") return read_choices(reader);
    if (kind == "UniformDistribution") return read_float(reader, false, "step");
    if (kind == "LogUniformDistribution") return read_float(reader, true, "step");
    if (kind == "DiscreteUniformDistribution") return read_float(reader, false, "q");
    if (kind == "IntUniformDistribution") return read_int(reader, false);
    if (kind == "IntLogUniformDistribution") return read_int(reader, true);
  } else {
    if (kind == "float") return read_float(reader, reader.log(), "step");
    if (kind == "int") return read_int(reader, reader.log());
    if (kind == "categorical") return read_choices(reader);
  }
  reader.refuse("is of no known kind, expected Float-, Int- or CategoricalDistribution or one of before Optuna 3");
}

agents::Value external_value(const agents::Range& distribution, double stored) {
  if (std::holds_alternative<FloatRange>(distribution)) return stored;
  const std::optional<std::int64_t> number = whole(stored);
  if (const auto* categorical = std::get_if<Choices>(&distribution)) {
    const std::vector<agents::Value>& choices = categorical->choices;
    if (number && *number >= 0 && *number < static_cast<std::int64_t>(choices.size())) {
      return choices[static_cast<std::size_t>(*number)];
    }
    throw Error(Fault::incompatible,
                str("is stored as ", stored, ", expected the index of one of its ", choices.size(), " choices"));
  }
  if (!number) throw Error(Fault::incompatible, str("is stored as ", stored, ", expected an integer"));
  return *number;
}

formats::Json json_of(const agents::Value& value) {
  Json json;
  if (const bool* flag = std::get_if<bool>(&value)) {
    json.kind = Kind::boolean;
    json.boolean = *flag;
  } else if (const auto* integer = std::get_if<std::int64_t>(&value)) {
    json.kind = Kind::integer;
    json.integer = *integer;
    json.real = static_cast<double>(*integer);
  } else if (const double* real = std::get_if<double>(&value)) {
    json.kind = Kind::real;
    json.real = *real;
  } else if (const auto* text = std::get_if<std::string>(&value)) {
    json.kind = Kind::text;
    json.text = *text;
  }
  return json;
}

std::string write_distribution(const agents::Range& distribution) {
  const auto text_of = [](const agents::Range& range) {
    const auto json = [](const agents::Value& value) { return formats::write_json(json_of(value)); };
    if (const auto* real = std::get_if<FloatRange>(&range)) {
      return str(R"({"name": "FloatDistribution", "attributes": {"step": )",
                 real->step == 0 ? "null" : json(real->step), R"(, "low": )", json(real->low), R"(, "high": )",
                 json(real->high), R"(, "log": )", real->log, "}}");
    }
    if (const auto* whole = std::get_if<IntRange>(&range)) {
      return str(R"({"name": "IntDistribution", "attributes": {"log": )", whole->log, R"(, "step": )", whole->step,
                 R"(, "low": )", whole->low, R"(, "high": )", whole->high, "}}");
    }
    std::vector<std::string> choices;
    for (const agents::Value& choice : std::get<Choices>(range).choices) choices.push_back(json(choice));
    return str(R"({"name": "CategoricalDistribution", "attributes": {"choices": [)", join(choices, ", "), "]}}");
  };
  try {
    return text_of(read_distribution(text_of(distribution), "a parameter"));
  } catch (const Error& error) {
    throw Error(Fault::usage, error.what());
  }
}

double internal_value(const agents::Range& distribution, const agents::Value& value, const std::string& origin) {
  const auto refuse = [&](const char* expected) {
    throw Error(Fault::usage, str(origin, " is ", formats::write_json(json_of(value)), ", expected ", expected));
  };
  const std::optional<double> number = number_of(value);
  if (const auto* categorical = std::get_if<Choices>(&distribution)) {
    const std::vector<agents::Value>& choices = categorical->choices;
    const auto found = std::find_if(choices.begin(), choices.end(),
                                    [&](const agents::Value& choice) { return same_choice(value, choice); });
    if (found == choices.end()) refuse("one of its choices");
    return static_cast<double>(found - choices.begin());
  }
  if (!number || std::holds_alternative<bool>(value) || !std::isfinite(*number)) refuse("a finite number");
  if (std::holds_alternative<IntRange>(distribution) && !whole(*number)) refuse("an integer");
  return *number;
}

void require_compatible(const agents::Range& first, const agents::Range& next, const std::string& origin) {
  const auto refuse = [&](const char* message) { throw Error(Fault::usage, str(origin, ": ", message)); };
  if (first.index() != next.index()) {
    refuse("Cannot set different distribution kind to the same parameter name.");
  }
  const auto log = [](const agents::Range& range) {
    if (const auto* real = std::get_if<FloatRange>(&range)) return real->log;
    const auto* integer = std::get_if<IntRange>(&range);
    return integer && integer->log;
  };
  if (log(first) != log(next)) refuse("Cannot set different log configuration to the same parameter name.");
  const auto* choices = std::get_if<Choices>(&first);
  if (!choices) return;
  const std::vector<agents::Value>& others = std::get<Choices>(next).choices;
  if (!std::equal(choices->choices.begin(), choices->choices.end(), others.begin(), others.end(), same_choice)) {
    refuse("CategoricalDistribution does not support dynamic value space.");
  }
}

}  // namespace ristretto::studies
