#include <algorithm>
#include <cmath>

#include "platform/text.h"
#include "studies/datetime.h"
#include "studies/distribution.h"
#include "studies/sqlite_storage.h"

namespace ristretto::studies {
namespace {

void bind(SQLite::Statement& query, int index, std::int64_t value) { query.bind(index, value); }
void bind(SQLite::Statement& query, int index, double value) { query.bind(index, value); }
void bind(SQLite::Statement& query, int index, const std::string& value) { query.bind(index, value); }
void bind(SQLite::Statement& query, int index, const char* value) { query.bind(index, value); }
template <class T>
void bind(SQLite::Statement& query, int index, const std::optional<T>& value) {
  if (value) {
    bind(query, index, *value);
  } else {
    query.bind(index);
  }
}

}  // namespace

// Runs one statement that gives no rows; the number of rows that it changed.
template <class... Values>
int SqliteStorage::execute(const std::string& sql, const Values&... values) {
  SQLite::Statement statement(database_, sql);
  int index = 0;
  (bind(statement, ++index, values), ...);
  return statement.exec();
}

void SqliteStorage::together(const std::function<void()>& work) {
  writing([&] {
    together_ = true;
    try {
      work();
    } catch (...) {
      together_ = false;
      throw;
    }
    together_ = false;
    return true;
  });
}

std::int64_t SqliteStorage::create_study(const std::string& name, const std::vector<Direction>& directions,
                                         IfExists if_exists) {
  require_directions(name, directions);
  return writing([&]() -> std::int64_t {
    SQLite::Statement query(database_, "SELECT study_id FROM studies WHERE study_name = ?");
    query.bind(1, name);
    if (query.executeStep()) {
      if (if_exists == IfExists::refuse) study_exists(info_, name);
      Study study;
      study.id = query.getColumn(0).getInt64();
      enter_study(study.id);
      read_directions(study);
      if (study.directions == directions) return study.id;
      other_directions(where_, study.directions, directions);
    }
    execute("INSERT INTO studies (study_name) VALUES (?)", name);
    const std::int64_t id = database_.getLastInsertRowid();
    for (std::size_t i = 0; i < directions.size(); ++i) {
      execute("INSERT INTO study_directions (direction, study_id, objective) VALUES (?, ?, ?)", name_of(directions[i]),
              id, static_cast<std::int64_t>(i));
    }
    return id;
  });
}

void SqliteStorage::upsert(const char* owner, std::int64_t id, Scope scope, const std::string& key,
                           const formats::Json& value) {
  const char* kind = scope == Scope::user ? "user" : "system";
  execute(str("INSERT INTO ", owner, "_", kind, "_attributes (", owner, "_id, key, value_json) VALUES (?, ?, ?) ",
              "ON CONFLICT (", owner, "_id, key) DO UPDATE SET value_json = excluded.value_json"),
          id, key, formats::write_json(value));
}

void SqliteStorage::set_study_attribute(std::int64_t study_id, Scope scope, const std::string& key,
                                        const formats::Json& value) {
  require_strict(key, value);
  writing([&] {
    enter_study(study_id);
    upsert("study", study_id, scope, key, value);
    return true;
  });
}

void SqliteStorage::set_trial_attribute(std::int64_t trial_id, Scope scope, const std::string& key,
                                        const formats::Json& value) {
  require_strict(key, value);
  writing([&] {
    require_unfinished(trial_id);
    upsert("trial", trial_id, scope, key, value);
    return true;
  });
}

Trial SqliteStorage::create_trial(std::int64_t study_id) {
  Trial trial;
  trial.state = State::running;
  return add_trial(study_id, trial);
}

Trial SqliteStorage::add_trial(std::int64_t study_id, const Trial& content) {
  Trial trial = content;
  for (const Report& report : trial.reports) require_step(report.step);
  const Stamps stamps = stamp(trial, info_.local_datetimes);
  return writing([&] {
    const std::size_t objectives = enter_study(study_id);
    require_values(trial.state, trial.values, objectives);
    // Readers of other processes see nothing of it before the end, where its state is what was asked for.
    execute("INSERT INTO trials (study_id, state, datetime_start, datetime_complete) VALUES (?, ?, ?, ?)", study_id,
            name_of(trial.state), stamps.started, stamps.completed);
    trial.id = database_.getLastInsertRowid();
    execute(
        "UPDATE trials SET number = (SELECT count(*) FROM trials WHERE study_id = ?1 AND trial_id < ?2) "
        "WHERE trial_id = ?2",
        study_id, trial.id);
    trial.number = database_.execAndGet(str("SELECT number FROM trials WHERE trial_id = ", trial.id)).getInt64();
    insert_values(trial.id, trial.values);
    for (const Parameter& parameter : trial.params) insert_param(study_id, trial.id, place_of(trial), parameter);
    for (const Attribute& attribute : trial.user_attributes) {
      upsert("trial", trial.id, Scope::user, attribute.key, attribute.value);
    }
    for (const Attribute& attribute : trial.system_attributes) {
      upsert("trial", trial.id, Scope::system, attribute.key, attribute.value);
    }
    for (const Report& report : trial.reports) insert_report(trial.id, report.step, report.value);
    return trial;
  });
}

std::optional<Trial> SqliteStorage::claim_waiting(std::int64_t study_id) {
  const auto oldest = [&]() -> std::optional<std::int64_t> {
    SQLite::Statement query(database_,
                            "SELECT trial_id FROM trials WHERE study_id = ? AND state = 'WAITING' ORDER BY trial_id "
                            "LIMIT 1");
    query.bind(1, study_id);
    return query.executeStep() ? std::optional(query.getColumn(0).getInt64()) : std::nullopt;
  };
  // Most often none waits, and then nobody needs to be locked out.
  const bool waits = reading([&] {
    enter_study(study_id);
    return oldest().has_value();
  });
  if (!waits) return std::nullopt;
  std::string started;
  std::optional<Trial> claimed = writing([&]() -> std::optional<Trial> {
    const std::size_t objectives = enter_study(study_id);
    const std::optional<std::int64_t> id = oldest();
    if (!id) return std::nullopt;
    started = datetime_text(now_utc(), info_.local_datetimes);
    execute("UPDATE trials SET state = 'RUNNING', datetime_start = ? WHERE trial_id = ? AND state = 'WAITING'", started,
            *id);
    return read_trial(*id, objectives);
  });
  if (claimed) claims_[claimed->id] = started;
  return claimed;
}

Trial SqliteStorage::read_trial(std::int64_t trial_id, std::size_t objectives) {
  SQLite::Statement query(
      database_,
      "SELECT trial_id, number, state, datetime_start, datetime_complete FROM trials WHERE trial_id "
      "= ?");
  query.bind(1, trial_id);
  query.executeStep();
  Trial trial = read_head(query);
  read_contents({&trial}, objectives);
  return trial;
}

// Throws TrialLost for a trial that may not be written (any more).
SqliteStorage::Head SqliteStorage::require_unfinished(std::int64_t trial_id) {
  SQLite::Statement query(database_, "SELECT study_id, number, state, datetime_start FROM trials WHERE trial_id = ?");
  query.bind(1, trial_id);
  if (!query.executeStep()) {
    throw Error(Fault::usage, str("there is no trial with the id ", trial_id, " in ", info_.path));
  }
  const auto state = parse_state(query.getColumn(2).getString());
  const Head head{query.getColumn(0).getInt64(), query.getColumn(1).getInt64(), state.value_or(State::fail)};
  if (is_finished(head.state)) {
    throw TrialLost(str("Trial#", head.number, " has already finished and can not be updated."));
  }
  const auto claim = claims_.find(trial_id);
  if (claim != claims_.end() && (head.state != State::running || query.getColumn(3).getString() != claim->second)) {
    throw TrialLost(str("Trial#", head.number, " was claimed by another process after us."));
  }
  return head;
}

void SqliteStorage::insert_param(std::int64_t study_id, std::int64_t trial_id, const std::string& where,
                                 const Parameter& parameter) {
  const std::string place = str(where, ": parameter '", parameter.name, "'");
  const double stored = internal_value(parameter.distribution, parameter.value, place);
  const auto key = std::pair(study_id, parameter.name);
  auto first = first_distribution_.find(key);
  if (first == first_distribution_.end()) {
    SQLite::Statement query(database_,
                            "SELECT p.distribution_json FROM trial_params p JOIN trials t ON t.trial_id = p.trial_id "
                            "WHERE t.study_id = ? AND p.param_name = ? ORDER BY p.param_id LIMIT 1");
    query.bind(1, study_id);
    query.bind(2, parameter.name);
    if (query.executeStep()) {
      const auto json = text(query.getColumn(0), [&] { return str(place, ": its first distribution"); });
      first = first_distribution_.emplace(key, read_distribution(json, place)).first;
    }
  }
  if (first != first_distribution_.end()) require_compatible(first->second, parameter.distribution, place);
  if (execute("INSERT INTO trial_params (trial_id, param_name, param_value, distribution_json) VALUES (?, ?, ?, ?) "
              "ON CONFLICT (trial_id, param_name) DO NOTHING",
              trial_id, parameter.name, stored, write_distribution(parameter.distribution)) == 0) {
    throw Error(Fault::usage, str(place, " is set already, expected a new name"));
  }
}

void SqliteStorage::set_param(std::int64_t trial_id, const std::string& name, const agents::Value& value,
                              const agents::Range& distribution) {
  writing([&] {
    const Head head = require_unfinished(trial_id);
    insert_param(head.study_id, trial_id, str("trial ", head.number), {name, value, distribution});
    return true;
  });
}

bool SqliteStorage::insert_report(std::int64_t trial_id, std::int64_t step, double value) {
  const Typed stored = typed(value);
  return execute(
             "INSERT INTO trial_intermediate_values (trial_id, step, intermediate_value, intermediate_value_type) "
             "VALUES (?, ?, ?, ?) ON CONFLICT (trial_id, step) DO NOTHING",
             trial_id, step, stored.value, stored.type) == 1;
}

bool SqliteStorage::report(std::int64_t trial_id, std::int64_t step, double value) {
  require_step(step);
  return writing([&] {
    require_unfinished(trial_id);
    return insert_report(trial_id, step, value);
  });
}

void SqliteStorage::insert_values(std::int64_t trial_id, const std::vector<double>& values) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    const Typed stored = typed(values[i]);
    execute("INSERT INTO trial_values (trial_id, objective, value, value_type) VALUES (?, ?, ?, ?)", trial_id,
            static_cast<std::int64_t>(i), stored.value, stored.type);
  }
}

// The report of the last step, unless it is NaN: the value of a pruned trial.
std::vector<double> SqliteStorage::last_report(std::int64_t trial_id) {
  SQLite::Statement query(database_,
                          "SELECT intermediate_value, intermediate_value_type FROM trial_intermediate_values "
                          "WHERE trial_id = ? ORDER BY step DESC LIMIT 1");
  query.bind(1, trial_id);
  if (!query.executeStep()) return {};
  const std::string type = query.getColumn(1).getString();
  if (type == "FINITE") return {query.getColumn(0).getDouble()};
  const std::optional<double> value = number_of_type(type);
  return value && !std::isnan(*value) ? std::vector{*value} : std::vector<double>{};
}

State SqliteStorage::finish(std::int64_t trial_id, State state, const std::vector<double>& values) {
  require_end(state, values);
  const State ended = writing([&] {
    const Head head = require_unfinished(trial_id);
    if (head.state == State::waiting) {
      throw Error(Fault::usage, str("trial ", head.number, " is WAITING, expected a claim before its end"));
    }
    const std::size_t objectives = enter_study(head.study_id);
    const bool nan = std::any_of(values.begin(), values.end(), [](double value) { return std::isnan(value); });
    const State stored = nan && values.size() == objectives ? State::fail : state;
    if (stored == state) require_values(state, values, objectives);
    if (stored == State::complete) insert_values(trial_id, values);
    if (stored == State::pruned && objectives == 1) insert_values(trial_id, last_report(trial_id));
    execute("UPDATE trials SET state = ?, datetime_complete = ? WHERE trial_id = ? AND state = 'RUNNING'",
            name_of(stored), datetime_text(now_utc(), info_.local_datetimes), trial_id);
    return stored;
  });
  if (!together_) claims_.erase(trial_id);
  return ended;
}

bool SqliteStorage::beat(std::int64_t trial_id) {
  return writing([&] {
    return execute(
               "INSERT INTO trial_heartbeats (trial_id, heartbeat) SELECT trial_id, CURRENT_TIMESTAMP FROM trials "
               "WHERE trial_id = ? AND state = 'RUNNING' "
               "ON CONFLICT (trial_id) DO UPDATE SET heartbeat = CURRENT_TIMESTAMP",
               trial_id) == 1;
  });
}

std::vector<std::int64_t> SqliteStorage::fail_stale(std::int64_t study_id, std::int64_t grace_seconds) {
  return writing([&] {
    enter_study(study_id);
    SQLite::Statement update(
        database_,
        "UPDATE trials SET state = 'FAIL', datetime_complete = ? WHERE study_id = ? AND state = 'RUNNING' AND trial_id "
        "IN (SELECT trial_id FROM trial_heartbeats "
        "WHERE strftime('%s', 'now') - strftime('%s', heartbeat) > ?) RETURNING number");
    update.bind(1, datetime_text(now_utc(), info_.local_datetimes));
    update.bind(2, study_id);
    update.bind(3, grace_seconds);
    std::vector<std::int64_t> numbers;
    while (update.executeStep()) numbers.push_back(update.getColumn(0).getInt64());
    std::sort(numbers.begin(), numbers.end());
    return numbers;
  });
}

}  // namespace ristretto::studies
