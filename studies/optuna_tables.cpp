#include "studies/optuna_tables.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <random>
#include <thread>

#include "platform/text.h"
#include "studies/datetime.h"

namespace ristretto::studies {
namespace {

constexpr std::array<std::string_view, 6> kReadable = {"v2.6.0.a", "v3.0.0.a", "v3.0.0.b",
                                                       "v3.0.0.c", "v3.0.0.d", "v3.2.0.a"};
constexpr std::array<std::string_view, 2> kWritable = {"v3.0.0.d", "v3.2.0.a"};

template <class Revisions>
bool has(const Revisions& revisions, const std::string& revision) {
  return std::find(revisions.begin(), revisions.end(), revision) != revisions.end();
}

std::string upgrade_hint(const StorageInfo& info) { return str("optuna storage upgrade --storage ", info.url); }

bool is_strict(const formats::Json& value) {
  if (value.kind == formats::Json::Kind::real && !std::isfinite(value.real)) return false;
  return std::all_of(value.items.begin(), value.items.end(), is_strict) &&
         std::all_of(value.members.begin(), value.members.end(), [](const auto& m) { return is_strict(m.second); });
}

}  // namespace

const std::vector<Table>& required_tables() {
  static const std::vector<Table> all = {
      {"alembic_version", {"version_num"}},
      {"version_info", {"schema_version", "library_version"}},
      {"studies", {"study_id", "study_name"}},
      {"study_directions", {"study_id", "objective", "direction"}},
      {"study_user_attributes", {"study_user_attribute_id", "study_id", "key", "value_json"}},
      {"study_system_attributes", {"study_system_attribute_id", "study_id", "key", "value_json"}},
      {"trials", {"trial_id", "number", "study_id", "state", "datetime_start", "datetime_complete"}},
      {"trial_user_attributes", {"trial_user_attribute_id", "trial_id", "key", "value_json"}},
      {"trial_system_attributes", {"trial_system_attribute_id", "trial_id", "key", "value_json"}},
      {"trial_params", {"param_id", "trial_id", "param_name", "param_value", "distribution_json"}},
      {"trial_values", {"trial_id", "objective", "value"}},
      {"trial_intermediate_values", {"trial_id", "step", "intermediate_value"}},
  };
  return all;
}

void require_readable(const StorageInfo& info, std::int64_t schema_version) {
  if (!has(kReadable, info.revision)) {
    const bool older = info.revision < kReadable.front();
    throw Error(Fault::incompatible,
                str(info.path, " has the schema revision ", info.revision, " of Optuna ", info.library_version, ", ",
                    older ? "older than" : "unknown beside",
                    " those that are read: v2.6.0.a to v3.2.0.a (Optuna 2.6 to ", "5.0)"),
                older ? upgrade_hint(info)
                      : str(upgrade_hint(info), " with Optuna 5.0 makes it v3.2.0.a, unless a newer Optuna made it"));
  }
  if (schema_version != kSchemaVersion) {
    throw Error(Fault::incompatible,
                str(info.path, ": version_info.schema_version is ", schema_version, ", expected ", kSchemaVersion),
                upgrade_hint(info));
  }
}

void require_writable(const StorageInfo& info) {
  if (has(kWritable, info.revision)) return;
  throw Error(Fault::incompatible,
              str(info.path, " has the schema revision ", info.revision, " of Optuna ", info.library_version,
                  ", which is read, but not written; expected v3.0.0.d or v3.2.0.a"),
              upgrade_hint(info));
}

void require_writable(const NewStorage& wanted) {
  if (has(kWritable, wanted.revision)) return;
  throw Error(Fault::usage,
              str("the schema revision '", wanted.revision, "' is not written here, expected v3.2.0.a or v3.0.0.d"));
}

bool is_newest(const NewStorage& wanted) { return wanted.revision == kWritable.back(); }

std::string library_version_of(const NewStorage& wanted) {
  if (!wanted.library_version.empty()) return wanted.library_version;
  return is_newest(wanted) ? "5.0.0" : "3.1.0";
}

void no_table(const StorageInfo& info, const char* table) {
  throw Error(Fault::incompatible, str(info.path, " has no table '", table, "', expected all of Optuna's"),
              "let Optuna open it once (optuna studies --storage URL), or restore it from a copy");
}

// A version that is no number is taken for a new one.
bool is_local(const StorageInfo& info, const StorageOptions& options) {
  if (options.datetimes != Datetimes::by_version) return options.datetimes == Datetimes::local;
  const std::string& version = info.library_version;
  return parse_number<int>(std::string_view(version).substr(0, version.find('.'))).value_or(5) < 5;
}

Instant as_stored(Instant instant) { return std::chrono::floor<std::chrono::microseconds>(instant); }

Stamps stamp(Trial& trial, bool local) {
  if (trial.state == State::waiting) trial.started.reset();
  if (!is_finished(trial.state)) trial.completed.reset();
  const auto stored = [&](std::optional<Instant>& instant, bool needed) {
    if (needed && !instant) instant = now_utc();
    if (instant) instant = as_stored(*instant);
    return instant ? std::optional(datetime_text(*instant, local)) : std::nullopt;
  };
  Stamps stamps;
  stamps.started = stored(trial.started, trial.state != State::waiting);
  stamps.completed = stored(trial.completed, is_finished(trial.state));
  return stamps;
}

Typed typed(double value) {
  if (std::isnan(value)) return {{}, "NAN"};
  if (std::isinf(value)) return {{}, value > 0 ? "INF_POS" : "INF_NEG"};
  return {value, "FINITE"};
}

std::optional<double> number_of_type(std::string_view type) {
  if (type == "INF_POS") return HUGE_VAL;
  if (type == "INF_NEG") return -HUGE_VAL;
  if (type == "NAN") return std::nan("");
  return std::nullopt;
}

bool is_finished(State state) { return state != State::running && state != State::waiting; }

void require_directions(const std::string& name, const std::vector<Direction>& directions) {
  if (!directions.empty() && std::count(directions.begin(), directions.end(), Direction::not_set) == 0) return;
  throw Error(Fault::usage,
              str("study '", name, "' has no direction, expected minimize or maximize of each objective"));
}

void require_strict(const std::string& key, const formats::Json& value) {
  if (is_strict(value)) return;
  throw Error(Fault::usage, str("the attribute '", key, "' is ", formats::write_json(value),
                                ", expected finite numbers: strict readers of JSON refuse the others"));
}

void require_step(std::int64_t step) {
  if (step < 0) throw Error(Fault::usage, str("a report is for the step ", step, ", expected 0 or more"));
}

void require_values(State state, const std::vector<double>& values, std::size_t objectives) {
  const bool fits = state == State::complete ? values.size() == objectives
                                             : values.size() <= (state == State::pruned ? std::size_t{1} : 0);
  if (!fits) {
    throw Error(Fault::usage, str("a trial is ", name_of(state), " with ", values.size(), " values, expected ",
                                  state == State::complete ? str(objectives)
                                  : state == State::pruned ? "none or one"
                                                           : "none"));
  }
  if (std::any_of(values.begin(), values.end(), [](double value) { return std::isnan(value); })) {
    throw Error(Fault::usage, str("a trial is ", name_of(state), " with the value NaN, expected a number"));
  }
}

void require_end(State state, const std::vector<double>& values) {
  if (is_finished(state) && (state == State::complete || values.empty())) return;
  throw Error(Fault::usage, str("a trial cannot end ", name_of(state), " with ", values.size(),
                                " values, expected COMPLETE with values, PRUNED or FAIL"));
}

void unknown_study(const StorageInfo& info, const std::string& name, const std::vector<std::string>& known) {
  throw Error(Fault::usage,
              str("there is no study '", name, "' in ", info.path,
                  ", expected one of its studies: ", known.empty() ? "it has none" : join(known, ", ")),
              known.empty() ? std::string{} : str("did you mean --study-name '", nearest_name(name, known), "'?"));
}

void study_exists(const StorageInfo& info, const std::string& name) {
  throw Error(Fault::usage, str(info.path, " has a study '", name, "' already, expected a new name"),
              "go on with it, or choose another --study-name");
}

void other_directions(const std::string& where, const std::vector<Direction>& found,
                      const std::vector<Direction>& expected) {
  const auto names = [](const std::vector<Direction>& all) {
    std::vector<std::string> texts;
    for (const Direction direction : all) texts.emplace_back(name_of(direction));
    return join(texts, ", ");
  };
  throw Error(Fault::usage, str(where, " has the directions ", names(found), ", expected ", names(expected)));
}

void wait_a_little() {
  thread_local std::minstd_rand generator(std::random_device{}());
  std::this_thread::sleep_for(std::chrono::microseconds(std::uniform_int_distribution(1000, 20000)(generator)));
}

}  // namespace ristretto::studies
