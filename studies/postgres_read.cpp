#include <algorithm>
#include <cmath>
#include <limits>

#include "studies/datetime.h"
#include "studies/distribution.h"
#include "studies/postgres_storage.h"

namespace ristretto::studies {
namespace {

constexpr const char* kHead = "SELECT trial_id, number, state, datetime_start, datetime_complete FROM trials";

// A value with its type beside it (from v3.0.0.c and .d on).
template <class Where>
double typed_number(const pqxx::field& value, const pqxx::field& type, bool nan_allowed, const Where& where) {
  const auto type_where = [&] { return str("the type of ", where()); };
  const std::string_view name = text(type, type_where);
  if (name == "FINITE") return number(value, where);
  const std::optional<double> special = number_of_type(name);
  if (special && (nan_allowed || !std::isnan(*special))) return *special;
  damaged(type_where(), type, nan_allowed ? "FINITE, INF_POS, INF_NEG or NAN" : "FINITE, INF_POS or INF_NEG");
}

template <class Where>
Attribute attribute(const pqxx::field& key, const pqxx::field& value, const Where& where) {
  Attribute found;
  found.key = text(key, [&] { return str(where(), ": a key"); });
  const auto place = [&] { return str(where(), ": '", found.key, "'"); };
  found.value = formats::read_json(text(value, place), place());
  return found;
}

template <class Trials>
std::string array_of(const Trials& trials) {
  std::vector<std::string> ids;
  for (const Trial* trial : trials) ids.push_back(str(trial->id));
  return str("{", join(ids, ","), "}");
}

}  // namespace

std::vector<std::string> PostgresStorage::study_names() {
  return reading([&] { return all_names(); });
}

Study PostgresStorage::read_study(const std::string& name) {
  return reading([&] {
    Study study = find_study(name);
    enter_study(study.id);
    read_directions(study);
    apply(read_news(study), study);
    return study;
  });
}

void PostgresStorage::refresh(Study& study) {
  News news = reading([&] {
    enter_study(study.id);
    return read_news(study);
  });
  apply(std::move(news), study);
}

std::vector<std::string> PostgresStorage::all_names() {
  std::vector<std::string> names;
  const pqxx::result found = rows("SELECT study_name FROM studies ORDER BY study_id");
  for (const auto& row : found) {
    names.emplace_back(text(row[0], [&] { return str(info_.path, ": a study's name"); }));
  }
  return names;
}

Study PostgresStorage::find_study(const std::string& name) {
  const pqxx::result found = rows("SELECT study_id FROM studies WHERE study_name = $1", name);
  if (found.empty()) unknown_study(info_, name, all_names());
  Study study;
  study.id = integer(found[0][0]);
  study.name = name;
  return study;
}

std::size_t PostgresStorage::enter_study(std::int64_t study_id, const char* lock) {
  const pqxx::result found =
      rows(str("SELECT study_name, (SELECT count(*) FROM study_directions d WHERE d.study_id = s.study_id) "
               "FROM studies s WHERE study_id = $1",
               lock),
           study_id);
  if (found.empty()) throw Error(Fault::usage, str("there is no study with the id ", study_id, " in ", info_.path));
  where_ = str(info_.path, ": study '", found[0][0].c_str(), "'");
  return static_cast<std::size_t>(integer(found[0][1]));
}

void PostgresStorage::read_directions(Study& study) {
  const pqxx::result found =
      rows("SELECT objective, direction FROM study_directions WHERE study_id = $1 ORDER BY objective", study.id);
  for (const auto& row : found) {
    const std::int64_t objective = integer(row[0], [&] { return str(where_, ": an objective"); });
    if (objective != static_cast<std::int64_t>(study.directions.size())) {
      damaged(str(where_, ": objective ", study.directions.size()), row[0], "objectives 0, 1, ...");
    }
    const auto where = [&] { return str(where_, ": the direction of objective ", objective); };
    const auto direction = parse_direction(text(row[1], where));
    if (!direction) damaged(where(), row[1], "NOT_SET, MINIMIZE or MAXIMIZE");
    study.directions.push_back(*direction);
  }
  if (study.directions.empty()) {
    throw Error(Fault::incompatible, str(where_, " has no row in study_directions, expected one for each objective"));
  }
}

std::vector<Attribute> PostgresStorage::read_study_attributes(const Study& study, Scope scope) {
  const std::string kind = scope == Scope::user ? "study_user_attribute" : "study_system_attribute";
  const pqxx::result found =
      rows(str("SELECT key, value_json FROM ", kind, "s WHERE study_id = $1 ORDER BY ", kind, "_id"), study.id);
  std::vector<Attribute> attributes;
  for (const auto& row : found) {
    attributes.push_back(attribute(row[0], row[1], [&] { return str(where_, ": ", kind, "s"); }));
  }
  return attributes;
}

PostgresStorage::News PostgresStorage::read_news(const Study& study) {
  News news{read_study_attributes(study, Scope::user), read_study_attributes(study, Scope::system), {}};
  std::vector<const Trial*> unfinished;
  for (const Trial& trial : study.trials) {
    if (!is_finished(trial.state)) unfinished.push_back(&trial);
  }
  if (!unfinished.empty()) {
    const pqxx::result again =
        rows(str(kHead, " WHERE trial_id = ANY ($1::integer[]) ORDER BY trial_id"), array_of(unfinished));
    for (const auto& row : again) news.trials.push_back(read_head(row));
    for (std::size_t i = 0; i < unfinished.size(); ++i) {
      if (i < news.trials.size() && news.trials[i].id == unfinished[i]->id) continue;
      throw Error(Fault::incompatible, str(place_of(*unfinished[i]), " was deleted while the study was in use"));
    }
  }
  const std::int64_t last = study.trials.empty() ? 0 : study.trials.back().id;
  const pqxx::result newer =
      rows(str(kHead, " WHERE study_id = $1 AND trial_id > $2 ORDER BY trial_id"), study.id, last);
  for (const auto& row : newer) news.trials.push_back(read_head(row));
  std::vector<Trial*> trials;
  for (Trial& trial : news.trials) trials.push_back(&trial);
  read_contents(trials, study.directions.size());
  return news;
}

void PostgresStorage::apply(News news, Study& study) {
  study.user_attributes = std::move(news.user_attributes);
  study.system_attributes = std::move(news.system_attributes);
  auto next = news.trials.begin();
  for (Trial& trial : study.trials) {
    if (!is_finished(trial.state)) trial = std::move(*next++);
  }
  study.trials.insert(study.trials.end(), std::move_iterator(next), std::move_iterator(news.trials.end()));
}

Trial PostgresStorage::read_head(const pqxx::row& row) const {
  Trial trial;
  trial.id = integer(row[0]);
  trial.number = integer(row[1], [&] { return str(where_, ": the number of the trial with id ", trial.id); });
  const auto where = [&] { return str(place_of(trial), ": the state"); };
  const auto state = parse_state(text(row[2], where));
  if (!state) damaged(where(), row[2], "RUNNING, COMPLETE, PRUNED, FAIL or WAITING");
  trial.state = *state;
  trial.started = datetime(row[3], place_of(trial));
  trial.completed = datetime(row[4], place_of(trial));
  return trial;
}

std::string PostgresStorage::place_of(const Trial& trial) const { return str(where_, ", trial ", trial.number); }

std::optional<Instant> PostgresStorage::datetime(const pqxx::field& field, const std::string& where) const {
  if (field.is_null()) return std::nullopt;
  const auto instant = parse_datetime(field.c_str(), info_.local_datetimes);
  if (!instant) damaged(str(where, ": a datetime"), field, "YYYY-MM-DD HH:MM:SS.ffffff");
  return instant;
}

void PostgresStorage::read_contents(const std::vector<Trial*>& trials, std::size_t objectives) {
  read_values(trials, objectives);
  read_params(trials);
  read_reports(trials);
  read_trial_attributes(trials, Scope::user);
  read_trial_attributes(trials, Scope::system);
}

// Calls row(trial, row) for each row of "SELECT trial_id, <columns> FROM <table>" of the trials.
template <class Row>
void PostgresStorage::for_each(const std::vector<Trial*>& trials, const char* columns, const char* table,
                               const char* order, Row row) {
  if (trials.empty()) return;
  const pqxx::result found = rows(str("SELECT trial_id, ", columns, " FROM ", table,
                                      " WHERE trial_id = ANY ($1::integer[]) ORDER BY trial_id, ", order),
                                  array_of(trials));
  auto at = trials.begin();
  for (const auto& each : found) {
    const std::int64_t id = integer(each[0]);
    while ((*at)->id != id) ++at;
    row(**at, each);
  }
}

void PostgresStorage::read_values(const std::vector<Trial*>& trials, std::size_t objectives) {
  const char* columns = typed_values_ ? "objective, value, value_type" : "objective, value";
  for_each(trials, columns, "trial_values", "objective", [&](Trial& trial, const pqxx::row& row) {
    const bool finished = trial.state == State::complete || trial.state == State::pruned;
    // Before 3.0 a trial under way may have a row without a value.
    if (!typed_values_ && !finished && row[2].is_null()) return;
    const auto where = [&] { return str(place_of(trial), ": value ", trial.values.size()); };
    if (integer(row[1], where) != static_cast<std::int64_t>(trial.values.size())) {
      damaged(str(where(), ": its objective"), row[1], "objectives 0, 1, ...");
    }
    trial.values.push_back(typed_values_ ? typed_number(row[2], row[3], false, where) : number(row[2], where));
  });
  for (const Trial* trial : trials) {
    if (trial->state != State::complete || trial->values.size() == objectives) continue;
    throw Error(Fault::incompatible, str(place_of(*trial), " is COMPLETE with ", trial->values.size(),
                                         " values, expected one for each of ", objectives, " objectives"));
  }
}

template <class Where>
const agents::Range& PostgresStorage::decoded(std::string_view distribution_json, const Where& where) {
  auto found = decoded_.find(distribution_json);
  if (found == decoded_.end()) {
    found = decoded_.emplace(distribution_json, read_distribution(distribution_json, where())).first;
  }
  return found->second;
}

void PostgresStorage::read_params(const std::vector<Trial*>& trials) {
  for_each(trials, "param_name, param_value, distribution_json", "trial_params", "param_id",
           [&](Trial& trial, const pqxx::row& row) {
             Parameter& parameter = trial.params.emplace_back();
             parameter.name = text(row[1], [&] { return str(place_of(trial), ": a parameter's name"); });
             const auto where = [&] { return str(place_of(trial), ": parameter '", parameter.name, "'"); };
             parameter.distribution = decoded(text(row[3], [&] { return str(where(), ": its distribution"); }), where);
             const double stored = number(row[2], where);
             try {
               parameter.value = external_value(parameter.distribution, stored);
             } catch (const Error& error) {
               throw Error(error.fault(), str(where(), " ", error.what()));
             }
           });
}

void PostgresStorage::read_reports(const std::vector<Trial*>& trials) {
  const char* columns =
      typed_reports_ ? "step, intermediate_value, intermediate_value_type" : "step, intermediate_value";
  for_each(trials, columns, "trial_intermediate_values", "step", [&](Trial& trial, const pqxx::row& row) {
    const std::int64_t step = integer(row[1], [&] { return str(place_of(trial), ": a step"); });
    const auto where = [&] { return str(place_of(trial), ": intermediate value of step ", step); };
    double value = std::numeric_limits<double>::quiet_NaN();
    if (typed_reports_) {
      value = typed_number(row[2], row[3], true, where);
    } else if (!row[2].is_null()) {  // v3.0.0.b: NaN is NULL
      value = number(row[2], where);
    }
    trial.reports.push_back({step, value});
  });
}

void PostgresStorage::read_trial_attributes(const std::vector<Trial*>& trials, Scope scope) {
  const bool user = scope == Scope::user;
  const char* table = user ? "trial_user_attributes" : "trial_system_attributes";
  const auto attributes = user ? &Trial::user_attributes : &Trial::system_attributes;
  for_each(
      trials, "key, value_json", table, user ? "trial_user_attribute_id" : "trial_system_attribute_id",
      [&](Trial& trial, const pqxx::row& row) {
        (trial.*attributes).push_back(attribute(row[1], row[2], [&] { return str(place_of(trial), ": ", table); }));
      });
}

}  // namespace ristretto::studies
