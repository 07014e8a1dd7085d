#include "studies/sqlite.h"

#include <SQLiteCpp/SQLiteCpp.h>
#include <sqlite3.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <limits>
#include <unordered_map>

#include "platform/error.h"
#include "platform/text.h"
#include "studies/datetime.h"
#include "studies/distribution.h"

namespace ristretto::studies {
namespace {

constexpr std::array<const char*, 6> kReadable = {"v2.6.0.a", "v3.0.0.a", "v3.0.0.b",
                                                  "v3.0.0.c", "v3.0.0.d", "v3.2.0.a"};
constexpr std::int64_t kSchemaVersion = 12;

struct Table {
  const char* name;
  std::vector<const char*> columns;
};

const std::vector<Table>& tables() {
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

std::string shown(const SQLite::Column& column) {
  return column.isNull() ? "NULL" : column.isText() ? str("'", column.getString(), "'") : column.getString();
}

[[noreturn]] void damaged(const std::string& where, const SQLite::Column& column, const char* expected) {
  throw Error(Fault::incompatible, str(where, " is ", shown(column), ", expected ", expected));
}

std::int64_t integer(const SQLite::Column& column, const std::string& where) {
  if (!column.isInteger()) damaged(where, column, "an integer");
  return column.getInt64();
}

double number(const SQLite::Column& column, const std::string& where) {
  if (!column.isFloat() && !column.isInteger()) damaged(where, column, "a number");
  return column.getDouble();
}

std::string text(const SQLite::Column& column, const std::string& where) {
  if (!column.isText()) damaged(where, column, "a text");
  return column.getString();
}

// A value with its type beside it (from v3.0.0.c and .d on).
double typed_number(const SQLite::Column& value, const SQLite::Column& type, bool nan_allowed,
                    const std::string& where) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const std::string name = text(type, str("the type of ", where));
  if (name == "FINITE") return number(value, where);
  if (name == "INF_POS") return kInfinity;
  if (name == "INF_NEG") return -kInfinity;
  if (name == "NAN" && nan_allowed) return std::numeric_limits<double>::quiet_NaN();
  damaged(str("the type of ", where), type,
          nan_allowed ? "FINITE, INF_POS, INF_NEG or NAN" : "FINITE, INF_POS or INF_NEG");
}

// One without: infinities are REAL Inf, or the largest float32.
double untyped_number(const SQLite::Column& value, const std::string& where) {
  const double found = number(value, where);
  constexpr double kLargest = std::numeric_limits<float>::max();
  return std::abs(found) == kLargest ? std::copysign(std::numeric_limits<double>::infinity(), found) : found;
}

[[noreturn]] void refuse(const std::string& path, const SQLite::Exception& error) {
  switch (error.getErrorCode()) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      throw Error(Fault::busy, str(path, " stayed locked by another process, expected to read it"), "try again later");
    case SQLITE_NOTADB:
      throw Error(Fault::incompatible, str(path, " is no SQLite database, expected one of Optuna's"));
    case SQLITE_CORRUPT:
      throw Error(Fault::incompatible, str(path, " is a damaged SQLite database (", error.what(), ")"),
                  "restore it from a copy");
    case SQLITE_CANTOPEN:
    case SQLITE_READONLY:
      throw Error(Fault::failed, str(path, " cannot be opened for reading (", error.what(), ")"),
                  "the file and, in WAL mode or after a crash of its writer, its directory must be accessible");
    default:
      throw Error(Fault::failed, str(path, ": SQLite says '", error.what(), "'"));
  }
}

template <class Work>
auto guarded(const std::string& path, Work work) {
  try {
    return work();
  } catch (const SQLite::Exception& error) {
    refuse(path, error);
  }
}

class SqliteStorage final : public Storage {
 public:
  SqliteStorage(const std::string& path, const StorageOptions& options)
      : database_(path, SQLite::OPEN_READONLY, options.busy_timeout_ms) {
    info_.path = path;
    info_.url = str("sqlite:///", path);
    SQLite::Transaction transaction(database_, SQLite::TransactionBehavior::DEFERRED);
    check_revision();
    check_columns();
    typed_values_ = has_column("trial_values", "value_type");
    typed_reports_ = has_column("trial_intermediate_values", "intermediate_value_type");
    local_ = options.datetimes == Datetimes::local || (options.datetimes == Datetimes::by_version && made_before_5());
  }

  const StorageInfo& info() const override { return info_; }

  std::vector<std::string> study_names() override {
    return guarded(info_.path, [&] { return all_names(); });
  }

  Study read_study(const std::string& name) override {
    return guarded(info_.path, [&] { return read(name); });
  }

 private:
  std::vector<std::string> all_names() {
    std::vector<std::string> names;
    SQLite::Statement query(database_, "SELECT study_name FROM studies ORDER BY study_id");
    while (query.executeStep()) names.push_back(text(query.getColumn(0), str(info_.path, ": a study's name")));
    return names;
  }

  Study read(const std::string& name) {
    SQLite::Transaction transaction(database_, SQLite::TransactionBehavior::DEFERRED);
    Study study = find_study(name);
    where_ = str(info_.path, ": study '", name, "'");
    read_directions(study);
    read_study_attributes(study, "study_user_attributes", "study_user_attribute_id", study.user_attributes);
    read_study_attributes(study, "study_system_attributes", "study_system_attribute_id", study.system_attributes);
    read_trials(study);
    read_values(study);
    read_params(study);
    read_reports(study);
    read_trial_attributes(study, "trial_user_attributes", "trial_user_attribute_id", &Trial::user_attributes);
    read_trial_attributes(study, "trial_system_attributes", "trial_system_attribute_id", &Trial::system_attributes);
    return study;
  }

  bool has_column(const std::string& table, const std::string& column) {
    SQLite::Statement query(database_, "SELECT 1 FROM pragma_table_info(?) WHERE name = ?");
    query.bind(1, table);
    query.bind(2, column);
    return query.executeStep();
  }

  bool has_table(const std::string& table) {
    SQLite::Statement query(database_, "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?");
    query.bind(1, table);
    return query.executeStep();
  }

  void require_table(const char* table) {
    if (has_table(table)) return;
    if (!has_table("studies")) {
      throw Error(Fault::incompatible,
                  str(info_.path, " is a database without the table 'studies', expected Optuna's"));
    }
    throw Error(Fault::incompatible, str(info_.path, " has no table '", table, "', expected all of Optuna's"),
                "let Optuna open the file once (optuna studies --storage URL), or restore it from a copy");
  }

  void check_revision() {
    require_table("alembic_version");
    require_table("version_info");
    const std::string hint = str("optuna storage upgrade --storage ", info_.url);
    SQLite::Statement revision(database_, "SELECT version_num FROM alembic_version");
    if (!revision.executeStep()) {
      throw Error(Fault::incompatible, str(info_.path, " names no schema revision, expected one in alembic_version"),
                  hint);
    }
    info_.revision = text(revision.getColumn(0), str(info_.path, ": the schema revision"));
    SQLite::Statement version(database_, "SELECT schema_version, library_version FROM version_info");
    if (!version.executeStep()) {
      throw Error(Fault::incompatible, str(info_.path, ": version_info is empty, expected Optuna's version"));
    }
    info_.library_version = text(version.getColumn(1), str(info_.path, ": the library version"));
    if (std::find(kReadable.begin(), kReadable.end(), info_.revision) == kReadable.end()) {
      const bool older = info_.revision < kReadable.front();
      throw Error(Fault::incompatible,
                  str(info_.path, " has the schema revision ", info_.revision, " of Optuna ", info_.library_version,
                      ", ", older ? "older than" : "unknown beside",
                      " those that are read: v2.6.0.a to v3.2.0.a (Optuna 2.6 to ", "5.0)"),
                  older ? hint : str(hint, " with Optuna 5.0 makes it v3.2.0.a, unless a newer Optuna made the file"));
    }
    const std::int64_t schema = integer(version.getColumn(0), str(info_.path, ": version_info.schema_version"));
    if (schema != kSchemaVersion) {
      throw Error(Fault::incompatible,
                  str(info_.path, ": version_info.schema_version is ", schema, ", expected ", kSchemaVersion), hint);
    }
  }

  void check_columns() {
    for (const Table& table : tables()) {
      require_table(table.name);
      for (const char* column : table.columns) {
        if (has_column(table.name, column)) continue;
        throw Error(Fault::incompatible,
                    str(info_.path, ": the table '", table.name, "' has no column '", column, "'"));
      }
    }
  }

  // A version that is no number is taken for a new one.
  bool made_before_5() const {
    const std::string& version = info_.library_version;
    return parse_number<int>(std::string_view(version).substr(0, version.find('.'))).value_or(5) < 5;
  }

  Study find_study(const std::string& name) {
    SQLite::Statement query(database_, "SELECT study_id FROM studies WHERE study_name = ?");
    query.bind(1, name);
    if (query.executeStep()) {
      Study study;
      study.id = query.getColumn(0).getInt64();
      study.name = name;
      return study;
    }
    const std::vector<std::string> known = all_names();
    throw Error(Fault::usage,
                str("there is no study '", name, "' in ", info_.path,
                    ", expected one of its studies: ", known.empty() ? "it has none" : join(known, ", ")),
                known.empty() ? std::string{} : str("did you mean --study-name '", nearest_name(name, known), "'?"));
  }

  void read_directions(Study& study) {
    SQLite::Statement query(database_,
                            "SELECT objective, direction FROM study_directions WHERE study_id = ? ORDER BY objective");
    query.bind(1, study.id);
    while (query.executeStep()) {
      const std::int64_t objective = integer(query.getColumn(0), str(where_, ": an objective"));
      if (objective != static_cast<std::int64_t>(study.directions.size())) {
        damaged(str(where_, ": objective ", study.directions.size()), query.getColumn(0), "objectives 0, 1, ...");
      }
      const std::string where = str(where_, ": the direction of objective ", objective);
      const auto direction = parse_direction(text(query.getColumn(1), where));
      if (!direction) damaged(where, query.getColumn(1), "NOT_SET, MINIMIZE or MAXIMIZE");
      study.directions.push_back(*direction);
    }
    if (study.directions.empty()) {
      throw Error(Fault::incompatible, str(where_, " has no row in study_directions, expected one for each objective"));
    }
  }

  void read_study_attributes(const Study& study, const std::string& table, const std::string& id,
                             std::vector<Attribute>& attributes) {
    SQLite::Statement query(database_, str("SELECT key, value_json FROM ", table, " WHERE study_id = ? ORDER BY ", id));
    query.bind(1, study.id);
    while (query.executeStep()) attributes.push_back(attribute(query, 0, str(where_, ": ", table)));
  }

  static Attribute attribute(SQLite::Statement& query, int column, const std::string& where) {
    Attribute found;
    found.key = text(query.getColumn(column), str(where, ": a key"));
    const std::string place = str(where, ": '", found.key, "'");
    found.value = formats::read_json(text(query.getColumn(column + 1), place), place);
    return found;
  }

  void read_trials(Study& study) {
    index_of_.clear();
    SQLite::Statement query(database_,
                            "SELECT trial_id, number, state, datetime_start, datetime_complete FROM trials "
                            "WHERE study_id = ? ORDER BY trial_id");
    query.bind(1, study.id);
    while (query.executeStep()) {
      Trial trial;
      trial.id = query.getColumn(0).getInt64();
      trial.number = integer(query.getColumn(1), str(where_, ": the number of the trial with id ", trial.id));
      const std::string where = place_of(trial);
      const auto state = parse_state(text(query.getColumn(2), str(where, ": the state")));
      if (!state) damaged(str(where, ": the state"), query.getColumn(2), "RUNNING, COMPLETE, PRUNED, FAIL or WAITING");
      trial.state = *state;
      trial.started = datetime(query.getColumn(3), where);
      trial.completed = datetime(query.getColumn(4), where);
      index_of_[trial.id] = study.trials.size();
      study.trials.push_back(std::move(trial));
    }
  }

  std::string place_of(const Trial& trial) const { return str(where_, ", trial ", trial.number); }

  std::optional<Instant> datetime(const SQLite::Column& column, const std::string& where) const {
    if (column.isNull()) return std::nullopt;
    const auto instant = parse_datetime(column.getString(), local_);
    if (!instant) damaged(str(where, ": a datetime"), column, "YYYY-MM-DD HH:MM:SS.ffffff");
    return instant;
  }

  // Calls row(trial, query) for each row of "SELECT c.trial_id, <columns> FROM <table>" of the study's trials.
  template <class Row>
  void for_each(Study& study, const std::string& columns, const std::string& table, const std::string& order, Row row) {
    SQLite::Statement query(database_,
                            str("SELECT c.trial_id, ", columns, " FROM ", table,
                                " c JOIN trials t ON t.trial_id = c.trial_id WHERE t.study_id = ? ORDER BY ", order));
    query.bind(1, study.id);
    while (query.executeStep()) row(study.trials[index_of_.at(query.getColumn(0).getInt64())], query);
  }

  void read_values(Study& study) {
    const char* columns = typed_values_ ? "c.objective, c.value, c.value_type" : "c.objective, c.value";
    for_each(study, columns, "trial_values", "c.trial_id, c.objective", [&](Trial& trial, SQLite::Statement& query) {
      const bool finished = trial.state == State::complete || trial.state == State::pruned;
      // Before 3.0 a trial under way may have a row without a value.
      if (!typed_values_ && !finished && query.getColumn(2).isNull()) return;
      const std::string where = str(place_of(trial), ": value ", trial.values.size());
      if (integer(query.getColumn(1), where) != static_cast<std::int64_t>(trial.values.size())) {
        damaged(str(where, ": its objective"), query.getColumn(1), "objectives 0, 1, ...");
      }
      trial.values.push_back(typed_values_ ? typed_number(query.getColumn(2), query.getColumn(3), false, where)
                                           : untyped_number(query.getColumn(2), where));
    });
    for (const Trial& trial : study.trials) {
      if (trial.state != State::complete || trial.values.size() == study.directions.size()) continue;
      throw Error(Fault::incompatible,
                  str(place_of(trial), " is COMPLETE with ", trial.values.size(), " values, expected one for each of ",
                      study.directions.size(), " objectives"));
    }
  }

  void read_params(Study& study) {
    std::unordered_map<std::string, agents::Range> decoded;  // most rows of a name have the same text
    for_each(study, "c.param_name, c.param_value, c.distribution_json", "trial_params", "c.param_id",
             [&](Trial& trial, SQLite::Statement& query) {
               Parameter parameter;
               parameter.name = text(query.getColumn(1), str(place_of(trial), ": a parameter's name"));
               const std::string where = str(place_of(trial), ": parameter '", parameter.name, "'");
               const std::string json = text(query.getColumn(3), str(where, ": its distribution"));
               auto found = decoded.find(json);
               if (found == decoded.end()) found = decoded.emplace(json, read_distribution(json, where)).first;
               parameter.distribution = found->second;
               parameter.value = external_value(found->second, number(query.getColumn(2), where), where);
               trial.params.push_back(std::move(parameter));
             });
  }

  void read_reports(Study& study) {
    const char* columns =
        typed_reports_ ? "c.step, c.intermediate_value, c.intermediate_value_type" : "c.step, c.intermediate_value";
    for_each(study, columns, "trial_intermediate_values", "c.trial_id, c.step",
             [&](Trial& trial, SQLite::Statement& query) {
               const std::int64_t step = integer(query.getColumn(1), str(place_of(trial), ": a step"));
               const std::string where = str(place_of(trial), ": intermediate value of step ", step);
               double value = std::numeric_limits<double>::quiet_NaN();
               if (typed_reports_) {
                 value = typed_number(query.getColumn(2), query.getColumn(3), true, where);
               } else if (!query.getColumn(2).isNull()) {  // v3.0.0.b: NaN is NULL
                 value = untyped_number(query.getColumn(2), where);
               }
               trial.reports.push_back({step, value});
             });
  }

  void read_trial_attributes(Study& study, const std::string& table, const std::string& id,
                             std::vector<Attribute> Trial::*attributes) {
    for_each(study, "c.key, c.value_json", table, str("c.", id), [&](Trial& trial, SQLite::Statement& query) {
      (trial.*attributes).push_back(attribute(query, 1, str(place_of(trial), ": ", table)));
    });
  }

  SQLite::Database database_;
  StorageInfo info_;
  bool typed_values_ = false, typed_reports_ = false, local_ = false;
  std::string where_;                                       // of the study that is being read
  std::unordered_map<std::int64_t, std::size_t> index_of_;  // of its trials, by id
};

}  // namespace

std::unique_ptr<Storage> open_sqlite(const std::string& path, const StorageOptions& options) {
  return guarded(path, [&]() -> std::unique_ptr<Storage> { return std::make_unique<SqliteStorage>(path, options); });
}

}  // namespace ristretto::studies
