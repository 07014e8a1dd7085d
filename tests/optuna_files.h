// What the tests of studies share: copies of Optuna's files, and a reading in the form of golden/optuna/dump.py.txt.
// SQLiteCpp and formats/json_text.h come with the room.
#pragma once

#include <SQLiteCpp/SQLiteCpp.h>
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>

#include "platform/error.h"
#include "platform/text.h"
#include "studies/study.h"
#include "temporary_directory.h"

namespace ristretto::studies {

using formats::Json;
namespace fs = std::filesystem;

inline const std::string kGolden = RISTRETTO_GOLDEN "/optuna/";
inline const std::string kExample = RISTRETTO_SOURCE "/data/studies/example.db";
inline constexpr double kInfinity = std::numeric_limits<double>::infinity();

inline std::string bytes_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  REQUIRE(file.good());
  return {std::istreambuf_iterator<char>(file), {}};
}

struct Scratch : TemporaryDirectory {
  using TemporaryDirectory::TemporaryDirectory;
  // A copy of a golden file, changed by SQL.
  std::string changed(const std::string& golden, const std::string& sql) const {
    const fs::path copy = path / golden;
    fs::copy_file(kGolden + golden, copy, fs::copy_options::overwrite_existing);
    fs::permissions(copy, fs::perms::owner_write, fs::perm_options::add);
    SQLite::Database database(copy.string(), SQLite::OPEN_READWRITE);
    database.exec(sql);
    return copy.string();
  }
};

inline void use_time_zone(const char* name) {
  setenv("TZ", name, 1);
  tzset();
}

// The fault, message and hint of what throws; "" where nothing does.
struct Caught {
  Fault fault = Fault::failed;
  std::string text;
};
template <class Work>
Caught caught(Work work) {
  try {
    work();
  } catch (const Error& error) {
    return {error.fault(), str(error.what(), " | ", error.hint())};
  }
  return {};
}

inline bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// --- Our reading in the form of golden/optuna/dump.py.txt -----------------------------------------------------------

inline Json text_json(std::string text) {
  Json json;
  json.kind = Json::Kind::text;
  json.text = std::move(text);
  return json;
}
inline Json number_json(double value) {
  if (!std::isfinite(value)) return text_json(std::isnan(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity");
  Json json;
  json.kind = Json::Kind::real;
  json.real = value;
  return json;
}
inline Json integer_json(std::int64_t value) {
  Json json;
  json.kind = Json::Kind::integer;
  json.integer = value;
  json.real = static_cast<double>(value);
  return json;
}
inline Json boolean_json(bool value) {
  Json json;
  json.kind = Json::Kind::boolean;
  json.boolean = value;
  return json;
}
inline Json object_json(std::vector<std::pair<std::string, Json>> members) {
  Json json;
  json.kind = Json::Kind::object;
  json.members = std::move(members);
  return json;
}
inline Json array_json(std::vector<Json> items) {
  Json json;
  json.kind = Json::Kind::array;
  json.items = std::move(items);
  return json;
}
inline Json value_json(const agents::Value& value) {
  if (const bool* flag = std::get_if<bool>(&value)) return boolean_json(*flag);
  if (const auto* integer = std::get_if<std::int64_t>(&value)) return integer_json(*integer);
  if (const double* number = std::get_if<double>(&value)) return number_json(*number);
  if (const auto* text = std::get_if<std::string>(&value)) return text_json(*text);
  return {};
}

// NaN and infinities as texts, members sorted: the dump's attributes come in the order of an index.
inline Json plain(Json json) {
  if (json.kind == Json::Kind::real) return number_json(json.real);
  for (Json& item : json.items) item = plain(item);
  for (auto& member : json.members) member.second = plain(member.second);
  std::sort(json.members.begin(), json.members.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  return json;
}

inline Json range_json(const agents::Range& range) {
  if (const auto* real = std::get_if<agents::FloatRange>(&range)) {
    return object_json({{"name", text_json("FloatDistribution")},
                        {"attributes", object_json({{"step", real->step > 0 ? number_json(real->step) : Json{}},
                                                    {"low", number_json(real->low)},
                                                    {"high", number_json(real->high)},
                                                    {"log", boolean_json(real->log)}})}});
  }
  if (const auto* integer = std::get_if<agents::IntRange>(&range)) {
    return object_json({{"name", text_json("IntDistribution")},
                        {"attributes", object_json({{"log", boolean_json(integer->log)},
                                                    {"step", integer_json(integer->step)},
                                                    {"low", integer_json(integer->low)},
                                                    {"high", integer_json(integer->high)}})}});
  }
  std::vector<Json> choices;
  for (const agents::Value& choice : std::get<agents::Choices>(range).choices) choices.push_back(value_json(choice));
  return object_json({{"name", text_json("CategoricalDistribution")},
                      {"attributes", object_json({{"choices", array_json(choices)}})}});
}

inline Json attributes_json(const std::vector<Attribute>& attributes) {
  std::vector<std::pair<std::string, Json>> members;
  for (const Attribute& attribute : attributes) members.emplace_back(attribute.key, attribute.value);
  return object_json(members);
}

inline Json datetime_json(const std::optional<Instant>& instant) {
  if (!instant) return {};
  const auto micros = std::chrono::duration_cast<std::chrono::microseconds>(instant->time_since_epoch()).count();
  const std::time_t seconds = micros / 1000000;
  char buffer[40];
  std::strftime(buffer, sizeof buffer, "%Y-%m-%d %H:%M:%S", std::gmtime(&seconds));
  const std::string fraction = std::to_string(1000000 + micros % 1000000).substr(1);
  return text_json(str(buffer, ".", fraction));
}

inline Json trial_json(const Trial& trial) {
  std::vector<Json> values;
  for (const double value : trial.values) values.push_back(number_json(value));
  std::vector<std::pair<std::string, Json>> params, distributions, reports;
  for (const Parameter& parameter : trial.params) {
    params.emplace_back(parameter.name, value_json(parameter.value));
    distributions.emplace_back(parameter.name, range_json(parameter.distribution));
  }
  for (const Report& report : trial.reports) reports.emplace_back(str(report.step), number_json(report.value));
  return object_json({{"number", integer_json(trial.number)},
                      {"state", text_json(name_of(trial.state))},
                      {"values", values.empty() ? Json{} : array_json(values)},
                      {"params", object_json(params)},
                      {"distributions", object_json(distributions)},
                      {"user_attrs", attributes_json(trial.user_attributes)},
                      {"system_attrs", attributes_json(trial.system_attributes)},
                      {"intermediate_values", object_json(reports)},
                      {"started", datetime_json(trial.started)},
                      {"completed", datetime_json(trial.completed)}});
}

inline std::string shown(const Json& json) { return formats::write_json(plain(json)); }

}  // namespace ristretto::studies
