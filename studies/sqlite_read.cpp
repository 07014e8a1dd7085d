#include <algorithm>
#include <cmath>
#include <limits>

#include "platform/text.h"
#include "studies/datetime.h"
#include "studies/distribution.h"
#include "studies/sqlite_storage.h"

namespace ristretto::studies {
namespace {

constexpr const char* kHead = "SELECT trial_id, number, state, datetime_start, datetime_complete FROM trials";

// A value with its type beside it (from v3.0.0.c and .d on).
template <class Where>
double typed_number(const SQLite::Column& value, const SQLite::Column& type, bool nan_allowed, const Where& where) {
  const auto type_where = [&] { return str("the type of ", where()); };
  const std::string_view name = text(type, type_where);
  if (name == "FINITE") return number(value, where);
  const std::optional<double> special = number_of_type(name);
  if (special && (nan_allowed || !std::isnan(*special))) return *special;
  damaged(type_where(), type, nan_allowed ? "FINITE, INF_POS, INF_NEG or NAN" : "FINITE, INF_POS or INF_NEG");
}

// One without: infinities are REAL Inf, or the largest float32.
template <class Where>
double untyped_number(const SQLite::Column& value, const Where& where) {
  const double found = number(value, where);
  constexpr double kLargest = std::numeric_limits<float>::max();
  return std::abs(found) == kLargest ? std::copysign(std::numeric_limits<double>::infinity(), found) : found;
}

template <class Where>
Attribute attribute(SQLite::Statement& query, int column, const Where& where) {
  Attribute found;
  found.key = text(query.getColumn(column), [&] { return str(where(), ": a key"); });
  const auto place = [&] { return str(where(), ": '", found.key, "'"); };
  found.value = formats::read_json(text(query.getColumn(column + 1), place), place());
  return found;
}

}  // namespace

std::vector<std::string> SqliteStorage::study_names() {
  return reading([&] { return all_names(); });
}

Study SqliteStorage::read_study(const std::string& name) {
  return reading([&] {
    Study study = find_study(name);
    enter_study(study.id);
    read_directions(study);
    read_news(study);
    return study;
  });
}

void SqliteStorage::refresh(Study& study) {
  reading([&] {
    enter_study(study.id);
    read_news(study);
  });
}

std::vector<std::string> SqliteStorage::all_names() {
  std::vector<std::string> names;
  SQLite::Statement query(database_, "SELECT study_name FROM studies ORDER BY study_id");
  while (query.executeStep()) {
    names.emplace_back(text(query.getColumn(0), [&] { return str(info_.path, ": a study's name"); }));
  }
  return names;
}

Study SqliteStorage::find_study(const std::string& name) {
  SQLite::Statement query(database_, "SELECT study_id FROM studies WHERE study_name = ?");
  query.bind(1, name);
  if (query.executeStep()) {
    Study study;
    study.id = query.getColumn(0).getInt64();
    study.name = name;
    return study;
  }
  unknown_study(info_, name, all_names());
}

std::size_t SqliteStorage::enter_study(std::int64_t study_id) {
  SQLite::Statement query(database_,
                          "SELECT study_name, (SELECT count(*) FROM study_directions d WHERE d.study_id = s.study_id) "
                          "FROM studies s WHERE study_id = ?");
  query.bind(1, study_id);
  if (!query.executeStep()) {
    throw Error(Fault::usage, str("there is no study with the id ", study_id, " in ", info_.path));
  }
  where_ = str(info_.path, ": study '", query.getColumn(0).getString(), "'");
  return static_cast<std::size_t>(query.getColumn(1).getInt64());
}

void SqliteStorage::read_directions(Study& study) {
  SQLite::Statement query(database_,
                          "SELECT objective, direction FROM study_directions WHERE study_id = ? ORDER BY objective");
  query.bind(1, study.id);
  while (query.executeStep()) {
    const std::int64_t objective = integer(query.getColumn(0), [&] { return str(where_, ": an objective"); });
    if (objective != static_cast<std::int64_t>(study.directions.size())) {
      damaged(str(where_, ": objective ", study.directions.size()), query.getColumn(0), "objectives 0, 1, ...");
    }
    const auto where = [&] { return str(where_, ": the direction of objective ", objective); };
    const auto direction = parse_direction(text(query.getColumn(1), where));
    if (!direction) damaged(where(), query.getColumn(1), "NOT_SET, MINIMIZE or MAXIMIZE");
    study.directions.push_back(*direction);
  }
  if (study.directions.empty()) {
    throw Error(Fault::incompatible, str(where_, " has no row in study_directions, expected one for each objective"));
  }
}

void SqliteStorage::read_study_attributes(const Study& study, Scope scope, std::vector<Attribute>& attributes) {
  const std::string kind = scope == Scope::user ? "study_user_attribute" : "study_system_attribute";
  SQLite::Statement query(database_,
                          str("SELECT key, value_json FROM ", kind, "s WHERE study_id = ? ORDER BY ", kind, "_id"));
  query.bind(1, study.id);
  attributes.clear();
  while (query.executeStep()) attributes.push_back(attribute(query, 0, [&] { return str(where_, ": ", kind, "s"); }));
}

// Attributes; trials that were unfinished or are newer than the last one, which is all of them for a new study.
void SqliteStorage::read_news(Study& study) {
  read_study_attributes(study, Scope::user, study.user_attributes);
  read_study_attributes(study, Scope::system, study.system_attributes);
  std::vector<std::size_t> news;
  SQLite::Statement one(database_, str(kHead, " WHERE trial_id = ?"));
  for (std::size_t i = 0; i < study.trials.size(); ++i) {
    Trial& trial = study.trials[i];
    if (trial.state != State::running && trial.state != State::waiting) continue;
    one.reset();
    one.bind(1, trial.id);
    if (!one.executeStep()) {
      throw Error(Fault::incompatible, str(place_of(trial), " was deleted while the study was in use"));
    }
    trial = read_head(one);
    news.push_back(i);
  }
  SQLite::Statement newer(database_, str(kHead, " WHERE study_id = ? AND trial_id > ? ORDER BY trial_id"));
  newer.bind(1, study.id);
  newer.bind(2, study.trials.empty() ? std::int64_t{-1} : study.trials.back().id);
  while (newer.executeStep()) {
    news.push_back(study.trials.size());
    study.trials.push_back(read_head(newer));
  }
  std::vector<Trial*> trials;
  for (const std::size_t i : news) trials.push_back(&study.trials[i]);
  read_contents(trials, study.directions.size());
}

Trial SqliteStorage::read_head(SQLite::Statement& query) const {
  Trial trial;
  trial.id = query.getColumn(0).getInt64();
  trial.number =
      integer(query.getColumn(1), [&] { return str(where_, ": the number of the trial with id ", trial.id); });
  const auto where = [&] { return str(place_of(trial), ": the state"); };
  const auto state = parse_state(text(query.getColumn(2), where));
  if (!state) damaged(where(), query.getColumn(2), "RUNNING, COMPLETE, PRUNED, FAIL or WAITING");
  trial.state = *state;
  trial.started = datetime(query.getColumn(3), trial);
  trial.completed = datetime(query.getColumn(4), trial);
  return trial;
}

std::string SqliteStorage::place_of(const Trial& trial) const { return str(where_, ", trial ", trial.number); }

std::optional<Instant> SqliteStorage::datetime(const SQLite::Column& column, const Trial& trial) const {
  if (column.isNull()) return std::nullopt;
  const auto instant = parse_datetime(column.getText(), info_.local_datetimes);
  if (!instant) damaged(str(place_of(trial), ": a datetime"), column, "YYYY-MM-DD HH:MM:SS.ffffff");
  return instant;
}

void SqliteStorage::read_contents(const std::vector<Trial*>& trials, std::size_t objectives) {
  read_values(trials, objectives);
  read_params(trials);
  read_reports(trials);
  read_trial_attributes(trials, Scope::user);
  read_trial_attributes(trials, Scope::system);
}

// Calls row(trial, query) for each row of "SELECT trial_id, <columns> FROM <table>" of the trials.
template <class Row>
void SqliteStorage::for_each(const std::vector<Trial*>& trials, const char* columns, const char* table,
                             const char* order, Row row) {
  if (trials.empty()) return;
  const std::string select = str("SELECT trial_id, ", columns, " FROM ", table);
  const auto all = static_cast<std::size_t>(database_.execAndGet("SELECT max(trial_id) FROM trials").getInt64());
  if (trials.size() < all / 4) {  // few of the file's: by the index on trial_id
    SQLite::Statement query(database_, str(select, " WHERE trial_id = ? ORDER BY ", order));
    for (Trial* trial : trials) {
      query.reset();
      query.bind(1, trial->id);
      while (query.executeStep()) row(*trial, query);
    }
    return;
  }
  // The whole table once, in its own order, beside the trials in theirs.
  SQLite::Statement query(database_, str(select, " ORDER BY ", order));
  auto at = trials.begin();
  while (query.executeStep()) {
    const std::int64_t id = query.getColumn(0).getInt64();
    if (at == trials.end() || (*at)->id != id) {
      at = std::lower_bound(trials.begin(), trials.end(), id, [](const Trial* t, std::int64_t i) { return t->id < i; });
      if (at == trials.end() || (*at)->id != id) continue;
    }
    row(**at, query);
  }
}

void SqliteStorage::read_values(const std::vector<Trial*>& trials, std::size_t objectives) {
  const char* columns = typed_values_ ? "objective, value, value_type" : "objective, value";
  for_each(trials, columns, "trial_values", "trial_id, objective", [&](Trial& trial, SQLite::Statement& query) {
    const bool finished = trial.state == State::complete || trial.state == State::pruned;
    // Before 3.0 a trial under way may have a row without a value.
    if (!typed_values_ && !finished && query.getColumn(2).isNull()) return;
    const auto where = [&] { return str(place_of(trial), ": value ", trial.values.size()); };
    if (integer(query.getColumn(1), where) != static_cast<std::int64_t>(trial.values.size())) {
      damaged(str(where(), ": its objective"), query.getColumn(1), "objectives 0, 1, ...");
    }
    trial.values.push_back(typed_values_ ? typed_number(query.getColumn(2), query.getColumn(3), false, where)
                                         : untyped_number(query.getColumn(2), where));
  });
  for (const Trial* trial : trials) {
    if (trial->state != State::complete || trial->values.size() == objectives) continue;
    throw Error(Fault::incompatible, str(place_of(*trial), " is COMPLETE with ", trial->values.size(),
                                         " values, expected one for each of ", objectives, " objectives"));
  }
}

template <class Where>
const agents::Range& SqliteStorage::decoded(std::string_view distribution_json, const Where& where) {
  auto found = decoded_.find(distribution_json);
  if (found == decoded_.end()) {
    found = decoded_.emplace(distribution_json, read_distribution(distribution_json, where())).first;
  }
  return found->second;
}

void SqliteStorage::read_params(const std::vector<Trial*>& trials) {
  std::size_t most = 0;  // of a trial; most have equally many
  for_each(trials, "param_name, param_value, distribution_json", "trial_params", "param_id",
           [&](Trial& trial, SQLite::Statement& query) {
             if (trial.params.empty()) trial.params.reserve(most);
             Parameter& parameter = trial.params.emplace_back();
             parameter.name = text(query.getColumn(1), [&] { return str(place_of(trial), ": a parameter's name"); });
             const auto where = [&] { return str(place_of(trial), ": parameter '", parameter.name, "'"); };
             parameter.distribution =
                 decoded(text(query.getColumn(3), [&] { return str(where(), ": its distribution"); }), where);
             const double stored = number(query.getColumn(2), where);
             try {
               parameter.value = external_value(parameter.distribution, stored);
             } catch (const Error& error) {
               throw Error(error.fault(), str(where(), " ", error.what()));
             }
             most = std::max(most, trial.params.size());
           });
}

void SqliteStorage::read_reports(const std::vector<Trial*>& trials) {
  const char* columns =
      typed_reports_ ? "step, intermediate_value, intermediate_value_type" : "step, intermediate_value";
  for_each(trials, columns, "trial_intermediate_values", "trial_id, step", [&](Trial& trial, SQLite::Statement& query) {
    const std::int64_t step = integer(query.getColumn(1), [&] { return str(place_of(trial), ": a step"); });
    const auto where = [&] { return str(place_of(trial), ": intermediate value of step ", step); };
    double value = std::numeric_limits<double>::quiet_NaN();
    if (typed_reports_) {
      value = typed_number(query.getColumn(2), query.getColumn(3), true, where);
    } else if (!query.getColumn(2).isNull()) {  // v3.0.0.b: NaN is NULL
      value = untyped_number(query.getColumn(2), where);
    }
    trial.reports.push_back({step, value});
  });
}

void SqliteStorage::read_trial_attributes(const std::vector<Trial*>& trials, Scope scope) {
  const bool user = scope == Scope::user;
  const char* table = user ? "trial_user_attributes" : "trial_system_attributes";
  const auto attributes = user ? &Trial::user_attributes : &Trial::system_attributes;
  for_each(trials, "key, value_json", table, user ? "trial_user_attribute_id" : "trial_system_attribute_id",
           [&](Trial& trial, SQLite::Statement& query) {
             (trial.*attributes).push_back(attribute(query, 1, [&] { return str(place_of(trial), ": ", table); }));
           });
}

}  // namespace ristretto::studies
