#include "release/trial.h"

#include <memory>

#include "formats/pickle.h"
#include "platform/atomic_file.h"
#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::release {
namespace {

using formats::PicklePointer;
using formats::PickleValue;
using Kind = PickleValue::Kind;

constexpr std::size_t kTrialLimitBytes = std::size_t{64} << 20;
constexpr int kNestingLimit = 64;  // a pickle may contain itself
constexpr int kMostVisits = 1'000'000;

// visits: what may still be met: a value that stands in many places is small in the file, and each place is met.
Json json_of(const PicklePointer& value, const std::string& origin, int& visits, int depth = 0) {
  if (depth > kNestingLimit) {
    throw Error(Fault::incompatible, str(origin, " is nested deeper than ", kNestingLimit, " levels"));
  }
  if (--visits < 0) throw Error(Fault::incompatible, str(origin, " holds more than ", kMostVisits, " values"));
  if (value == nullptr) return nullptr;
  switch (value->kind) {
    case Kind::none:
      return nullptr;
    case Kind::boolean:
      return value->boolean;
    case Kind::integer:
      return value->integer;
    case Kind::real:
      return value->real;
    case Kind::text:
      return value->text;
    case Kind::tuple:
    case Kind::list:
    case Kind::set: {
      Json items = Json::array();
      for (const PicklePointer& item : value->items) items.push_back(json_of(item, origin, visits, depth + 1));
      return items;
    }
    case Kind::dict: {
      Json members = Json::object();
      for (const auto& [key, member] : value->entries) {
        const Json name = json_of(key, origin, visits, depth + 1);
        members[name.is_string() ? name.get<std::string>() : line_of(name)] =
            json_of(member, origin, visits, depth + 1);
      }
      return members;
    }
    case Kind::object:
      return value->items.empty() ? Json("<object>") : json_of(value->items.front(), origin, visits, depth + 1);
    case Kind::global:
      return str("<", value->text, ">");
    case Kind::bytes:
      return "<bytes>";
    case Kind::persistent:
      return "<persistent>";
  }
  return nullptr;
}

PicklePointer pickle_of(const Json& value) {
  auto out = std::make_shared<PickleValue>();
  switch (value.type()) {
    case Json::value_t::boolean:
      out->kind = Kind::boolean;
      out->boolean = value.get<bool>();
      break;
    case Json::value_t::number_integer:
    case Json::value_t::number_unsigned:
      out->kind = Kind::integer;
      out->integer = value.get<std::int64_t>();
      break;
    case Json::value_t::number_float:
      out->kind = Kind::real;
      out->real = value.get<double>();
      break;
    case Json::value_t::string:
      out->kind = Kind::text;
      out->text = value.get<std::string>();
      break;
    case Json::value_t::array:
      out->kind = Kind::list;
      for (const Json& item : value) out->items.push_back(pickle_of(item));
      break;
    case Json::value_t::object:
      out->kind = Kind::dict;
      for (const auto& [key, member] : value.items()) out->entries.emplace_back(pickle_of(key), pickle_of(member));
      break;
    default:
      break;
  }
  return out;
}

}  // namespace

Trial read_trial(const std::filesystem::path& path) {
  const std::string origin = path.string();
  const PicklePointer root = formats::read_pickle(read_file(path, kTrialLimitBytes), origin);
  // Optuna's FrozenTrial keeps the same under a leading underscore, and its value as the first of several.
  const auto field = [&](const std::string& name) {
    const PicklePointer plain = root->find(name);
    return plain != nullptr ? plain : root->find("_" + name);
  };
  Trial trial;
  int visits = kMostVisits;
  const Json number = json_of(field("number"), origin, visits), parameters = json_of(field("params"), origin, visits);
  if (!number.is_number_integer() || !parameters.is_object()) {
    throw Error(Fault::incompatible, str(origin, ": has no number and params, expected a pickled trial"));
  }
  trial.number = number.get<std::int64_t>();
  trial.parameters = parameters;
  const Json attributes = json_of(field("user_attrs"), origin, visits);
  if (attributes.is_object()) trial.user_attributes = attributes;
  Json value = json_of(field("value"), origin, visits);
  if (value.is_null()) value = json_of(field("values"), origin, visits);
  if (value.is_array() && value.size() == 1) value = Json(value[0]);
  if (value.is_number()) trial.value = value.get<double>();
  return trial;
}

std::string trial_bytes(const Trial& trial) {
  PickleValue out;
  out.kind = Kind::object;
  auto type = std::make_shared<PickleValue>();
  type->kind = Kind::global;
  type->text = "types SimpleNamespace";
  out.items.push_back(type);
  const auto add = [&](const char* name, const Json& value) {
    out.entries.emplace_back(pickle_of(name), pickle_of(value));
  };
  add("number", trial.number);
  add("params", trial.parameters);
  add("user_attrs", trial.user_attributes);
  add("value", trial.value ? Json(*trial.value) : Json(nullptr));
  return formats::write_pickle(out);
}

}  // namespace ristretto::release
