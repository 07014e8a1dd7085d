#include <algorithm>
#include <cmath>

#include "studies/datetime.h"
#include "studies/distribution.h"
#include "studies/postgres_storage.h"

namespace ristretto::studies {
namespace {

// Keeps other writers out until the end of the transaction; rows that refer to the locked one can be added.
constexpr const char* kLock = " FOR NO KEY UPDATE";

}  // namespace

void PostgresStorage::together(const std::function<void()>& work) {
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

std::int64_t PostgresStorage::create_study(const std::string& name, const std::vector<Direction>& directions,
                                           IfExists if_exists) {
  require_directions(name, directions);
  return writing([&]() -> std::int64_t {
    const auto existing = [&] { return rows("SELECT study_id FROM studies WHERE study_name = $1", name); };
    pqxx::result found = existing();
    if (found.empty()) {
      // Waits for another process that makes a study of this name, and then does nothing.
      const pqxx::result made = rows(
          "INSERT INTO studies (study_name) VALUES ($1) ON CONFLICT (study_name) DO NOTHING RETURNING study_id", name);
      if (!made.empty()) {
        const std::int64_t id = integer(made[0][0]);
        for (std::size_t i = 0; i < directions.size(); ++i) {
          execute("INSERT INTO study_directions (direction, study_id, objective) VALUES ($1, $2, $3)",
                  name_of(directions[i]), id, static_cast<std::int64_t>(i));
        }
        return id;
      }
      found = existing();
    }
    if (if_exists == IfExists::refuse || found.empty()) study_exists(info_, name);
    Study study;
    study.id = integer(found[0][0]);
    enter_study(study.id);
    read_directions(study);
    if (study.directions != directions) other_directions(where_, study.directions, directions);
    return study.id;
  });
}

void PostgresStorage::upsert(const char* owner, std::int64_t id, Scope scope, const std::string& key,
                             const formats::Json& value) {
  const char* kind = scope == Scope::user ? "user" : "system";
  execute(str("INSERT INTO ", owner, "_", kind, "_attributes (", owner, "_id, key, value_json) VALUES ($1, $2, $3) ",
              "ON CONFLICT (", owner, "_id, key) DO UPDATE SET value_json = excluded.value_json"),
          id, key, formats::write_json(value));
}

void PostgresStorage::set_study_attribute(std::int64_t study_id, Scope scope, const std::string& key,
                                          const formats::Json& value) {
  require_strict(key, value);
  writing([&] {
    enter_study(study_id);
    upsert("study", study_id, scope, key, value);
    return true;
  });
}

void PostgresStorage::set_trial_attribute(std::int64_t trial_id, Scope scope, const std::string& key,
                                          const formats::Json& value) {
  require_strict(key, value);
  writing([&] {
    require_unfinished(trial_id);
    upsert("trial", trial_id, scope, key, value);
    return true;
  });
}

Trial PostgresStorage::create_trial(std::int64_t study_id) {
  Trial trial;
  trial.state = State::running;
  return add_trial(study_id, trial);
}

Trial PostgresStorage::add_trial(std::int64_t study_id, const Trial& content) {
  Trial trial = content;
  for (const Report& report : trial.reports) require_step(report.step);
  const Stamps stamps = stamp(trial, info_.local_datetimes);
  return writing([&] {
    // As Optuna does: with the study's row locked, so that numbers are counted one after another.
    const std::size_t objectives = enter_study(study_id, kLock);
    require_values(trial.state, trial.values, objectives);
    trial.id =
        integer(rows("INSERT INTO trials (study_id, state, datetime_start, datetime_complete) "
                     "VALUES ($1, $2, $3, $4) RETURNING trial_id",
                     study_id, name_of(trial.state), stamps.started, stamps.completed)[0][0]);
    trial.number =
        integer(rows("UPDATE trials SET number = (SELECT count(*) FROM trials WHERE study_id = $1 AND "
                     "trial_id < $2) WHERE trial_id = $2 RETURNING number",
                     study_id, trial.id)[0][0]);
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

std::optional<Trial> PostgresStorage::claim_waiting(std::int64_t study_id) {
  std::optional<Trial> claimed = writing([&]() -> std::optional<Trial> {
    const std::size_t objectives = enter_study(study_id);
    // Trials that another process is about to claim are passed over.
    const pqxx::result found = rows(
        "UPDATE trials SET state = 'RUNNING', datetime_start = $2 WHERE state = 'WAITING' AND trial_id = (SELECT "
        "trial_id FROM trials WHERE study_id = $1 AND state = 'WAITING' ORDER BY trial_id LIMIT 1 FOR NO KEY UPDATE "
        "SKIP LOCKED) RETURNING trial_id, number, state, datetime_start, datetime_complete",
        study_id, datetime_text(now_utc(), info_.local_datetimes));
    if (found.empty()) return std::nullopt;
    Trial trial = read_head(found[0]);
    read_contents({&trial}, objectives);
    return trial;
  });
  if (claimed) claims_[claimed->id] = *claimed->started;
  return claimed;
}

// Locks the trial's row, so that nobody ends it before we are done. Throws TrialLost for a trial that may not be
// written (any more).
PostgresStorage::Head PostgresStorage::require_unfinished(std::int64_t trial_id) {
  const pqxx::result found =
      rows(str("SELECT study_id, number, state, datetime_start FROM trials WHERE trial_id = $1", kLock), trial_id);
  if (found.empty()) throw Error(Fault::usage, str("there is no trial with the id ", trial_id, " in ", info_.path));
  const auto state = parse_state(found[0][2].c_str());
  const Head head{integer(found[0][0]), integer(found[0][1]), state.value_or(State::fail)};
  if (is_finished(head.state)) {
    throw TrialLost(str("Trial#", head.number, " has already finished and can not be updated."));
  }
  const auto claim = claims_.find(trial_id);
  if (claim != claims_.end() && (head.state != State::running ||
                                 datetime(found[0][3], str(info_.path, ", trial ", head.number)) != claim->second)) {
    throw TrialLost(str("Trial#", head.number, " was claimed by another process after us."));
  }
  return head;
}

void PostgresStorage::insert_param(std::int64_t study_id, std::int64_t trial_id, const std::string& where,
                                   const Parameter& parameter) {
  const std::string place = str(where, ": parameter '", parameter.name, "'");
  const double stored = internal_value(parameter.distribution, parameter.value, place);
  const auto key = std::pair(study_id, parameter.name);
  auto first = first_distribution_.find(key);
  if (first == first_distribution_.end()) {
    // Two processes that are the first with this name come one after the other.
    enter_study(study_id, kLock);
    const pqxx::result found = rows(
        "SELECT p.distribution_json FROM trial_params p JOIN trials t ON t.trial_id = p.trial_id "
        "WHERE t.study_id = $1 AND p.param_name = $2 ORDER BY p.param_id LIMIT 1",
        study_id, parameter.name);
    if (!found.empty()) {
      const auto json = text(found[0][0], [&] { return str(place, ": its first distribution"); });
      first = first_distribution_.emplace(key, read_distribution(json, place)).first;
    }
  }
  if (first != first_distribution_.end()) require_compatible(first->second, parameter.distribution, place);
  if (execute("INSERT INTO trial_params (trial_id, param_name, param_value, distribution_json) VALUES ($1, $2, $3, $4) "
              "ON CONFLICT (trial_id, param_name) DO NOTHING",
              trial_id, parameter.name, stored, write_distribution(parameter.distribution)) == 0) {
    throw Error(Fault::usage, str(place, " is set already, expected a new name"));
  }
}

void PostgresStorage::set_param(std::int64_t trial_id, const std::string& name, const agents::Value& value,
                                const agents::Range& distribution) {
  writing([&] {
    const Head head = require_unfinished(trial_id);
    insert_param(head.study_id, trial_id, str("trial ", head.number), {name, value, distribution});
    return true;
  });
}

bool PostgresStorage::insert_report(std::int64_t trial_id, std::int64_t step, double value) {
  const Typed stored = typed(value);
  return execute(
             "INSERT INTO trial_intermediate_values (trial_id, step, intermediate_value, intermediate_value_type) "
             "VALUES ($1, $2, $3, $4) ON CONFLICT (trial_id, step) DO NOTHING",
             trial_id, step, stored.value, stored.type) == 1;
}

bool PostgresStorage::report(std::int64_t trial_id, std::int64_t step, double value) {
  require_step(step);
  return writing([&] {
    require_unfinished(trial_id);
    return insert_report(trial_id, step, value);
  });
}

void PostgresStorage::insert_values(std::int64_t trial_id, const std::vector<double>& values) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    const Typed stored = typed(values[i]);
    execute("INSERT INTO trial_values (trial_id, objective, value, value_type) VALUES ($1, $2, $3, $4)", trial_id,
            static_cast<std::int64_t>(i), stored.value, stored.type);
  }
}

// The report of the last step, unless it is NaN: the value of a pruned trial.
std::vector<double> PostgresStorage::last_report(std::int64_t trial_id) {
  const pqxx::result found = rows(
      "SELECT intermediate_value, intermediate_value_type FROM trial_intermediate_values WHERE trial_id = $1 "
      "ORDER BY step DESC LIMIT 1",
      trial_id);
  if (found.empty()) return {};
  const std::string_view type = found[0][1].c_str();
  if (type == "FINITE") return {number(found[0][0], [] { return std::string("the last report"); })};
  const std::optional<double> value = number_of_type(type);
  return value && !std::isnan(*value) ? std::vector{*value} : std::vector<double>{};
}

State PostgresStorage::finish(std::int64_t trial_id, State state, const std::vector<double>& values) {
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
    execute("UPDATE trials SET state = $1, datetime_complete = $2 WHERE trial_id = $3 AND state = 'RUNNING'",
            name_of(stored), datetime_text(now_utc(), info_.local_datetimes), trial_id);
    return stored;
  });
  if (!together_) claims_.erase(trial_id);
  return ended;
}

bool PostgresStorage::beat(std::int64_t trial_id) {
  return writing([&] {
    return execute(
               "INSERT INTO trial_heartbeats (trial_id, heartbeat) SELECT trial_id, CURRENT_TIMESTAMP FROM trials "
               "WHERE trial_id = $1 AND state = 'RUNNING' "
               "ON CONFLICT (trial_id) DO UPDATE SET heartbeat = CURRENT_TIMESTAMP",
               trial_id) == 1;
  });
}

std::vector<std::int64_t> PostgresStorage::fail_stale(std::int64_t study_id, std::int64_t grace_seconds) {
  return writing([&] {
    enter_study(study_id);
    const pqxx::result found = rows(
        "UPDATE trials SET state = 'FAIL', datetime_complete = $1 WHERE study_id = $2 AND state = 'RUNNING' AND "
        "trial_id IN (SELECT trial_id FROM trial_heartbeats WHERE LOCALTIMESTAMP - heartbeat > make_interval(secs => "
        "$3)) RETURNING number",
        datetime_text(now_utc(), info_.local_datetimes), study_id, grace_seconds);
    std::vector<std::int64_t> numbers;
    for (const auto& row : found) numbers.push_back(integer(row[0]));
    std::sort(numbers.begin(), numbers.end());
    return numbers;
  });
}

}  // namespace ristretto::studies
