#include "studies/postgres_schema.h"

#include <pqxx/pqxx>

#include "platform/text.h"
#include "studies/optuna_tables.h"

namespace ristretto::studies {
namespace {

// SERIAL, PRIMARY KEY and UNIQUE give the sequences and constraints the names that they have in Optuna's.
constexpr const char* kTables = R"(
CREATE TYPE studydirection AS ENUM ('NOT_SET', 'MINIMIZE', 'MAXIMIZE');
CREATE TYPE trialstate AS ENUM ('RUNNING', 'COMPLETE', 'PRUNED', 'FAIL', 'WAITING');
CREATE TYPE trialvaluetype AS ENUM ('FINITE', 'INF_POS', 'INF_NEG');
CREATE TYPE trialintermediatevaluetype AS ENUM ('FINITE', 'INF_POS', 'INF_NEG', 'NAN');
CREATE TABLE alembic_version (
  version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num));
CREATE TABLE studies (study_id SERIAL NOT NULL, study_name VARCHAR(512) NOT NULL, PRIMARY KEY (study_id));
CREATE TABLE version_info (
  version_info_id INTEGER NOT NULL, schema_version INTEGER, library_version VARCHAR(256), PRIMARY KEY (version_info_id),
  CHECK (version_info_id = 1));
CREATE TABLE study_directions (
  study_direction_id SERIAL NOT NULL, direction studydirection NOT NULL, study_id INTEGER NOT NULL, objective INTEGER
  NOT NULL, PRIMARY KEY (study_direction_id), UNIQUE (study_id, objective), FOREIGN KEY (study_id) REFERENCES
  studies (study_id));
CREATE TABLE study_system_attributes (
  study_system_attribute_id SERIAL NOT NULL, study_id INTEGER, key VARCHAR(512), value_json TEXT, PRIMARY KEY
  (study_system_attribute_id), UNIQUE (study_id, key), FOREIGN KEY (study_id) REFERENCES studies (study_id));
CREATE TABLE study_user_attributes (
  study_user_attribute_id SERIAL NOT NULL, study_id INTEGER, key VARCHAR(512), value_json TEXT, PRIMARY KEY
  (study_user_attribute_id), UNIQUE (study_id, key), FOREIGN KEY (study_id) REFERENCES studies (study_id));
CREATE TABLE trials (
  trial_id SERIAL NOT NULL, number INTEGER, study_id INTEGER, state trialstate NOT NULL, datetime_start TIMESTAMP,
  datetime_complete TIMESTAMP, PRIMARY KEY (trial_id), FOREIGN KEY (study_id) REFERENCES studies (study_id));
CREATE TABLE trial_heartbeats (
  trial_heartbeat_id SERIAL NOT NULL, trial_id INTEGER NOT NULL, heartbeat TIMESTAMP NOT NULL, PRIMARY KEY
  (trial_heartbeat_id), UNIQUE (trial_id), FOREIGN KEY (trial_id) REFERENCES trials (trial_id));
CREATE TABLE trial_intermediate_values (
  trial_intermediate_value_id SERIAL NOT NULL, trial_id INTEGER NOT NULL, step INTEGER NOT NULL, intermediate_value
  DOUBLE PRECISION, intermediate_value_type trialintermediatevaluetype NOT NULL, PRIMARY KEY
  (trial_intermediate_value_id), UNIQUE (trial_id, step), FOREIGN KEY (trial_id) REFERENCES trials (trial_id));
CREATE TABLE trial_params (
  param_id SERIAL NOT NULL, trial_id INTEGER, param_name VARCHAR(512), param_value DOUBLE PRECISION, distribution_json
  TEXT, PRIMARY KEY (param_id), UNIQUE (trial_id, param_name), FOREIGN KEY (trial_id) REFERENCES trials (trial_id));
CREATE TABLE trial_system_attributes (
  trial_system_attribute_id SERIAL NOT NULL, trial_id INTEGER, key VARCHAR(512), value_json TEXT, PRIMARY KEY
  (trial_system_attribute_id), UNIQUE (trial_id, key), FOREIGN KEY (trial_id) REFERENCES trials (trial_id));
CREATE TABLE trial_user_attributes (
  trial_user_attribute_id SERIAL NOT NULL, trial_id INTEGER, key VARCHAR(512), value_json TEXT, PRIMARY KEY
  (trial_user_attribute_id), UNIQUE (trial_id, key), FOREIGN KEY (trial_id) REFERENCES trials (trial_id));
CREATE TABLE trial_values (
  trial_value_id SERIAL NOT NULL, trial_id INTEGER NOT NULL, objective INTEGER NOT NULL, value DOUBLE PRECISION,
  value_type trialvaluetype NOT NULL, PRIMARY KEY (trial_value_id), UNIQUE (trial_id, objective), FOREIGN KEY
  (trial_id) REFERENCES trials (trial_id));
CREATE UNIQUE INDEX ix_studies_study_name ON studies (study_name);
)";
// What v3.2.0.a adds.
constexpr const char* kTrialsIndex = "CREATE INDEX ix_trials_study_id ON trials (study_id)";
// Any number, the same in all our processes.
constexpr const char* kLock = "SELECT pg_advisory_xact_lock(7275697374726574)";

}  // namespace

void create_schema(pqxx::transaction_base& transaction, const NewStorage& wanted) {
  const auto missing = [&] {
    // Not to_regclass(), whose cache keeps what it found before the wait for the lock.
    const std::string sql =
        "SELECT count(*) FROM pg_class WHERE relname IN ('studies', 'alembic_version') AND relkind IN ('r', 'p') AND "
        "pg_table_is_visible(oid)";
    return std::string_view(transaction.exec(sql)[0][0].c_str()) == "0";
  };
  if (!missing()) return;
  transaction.exec(std::string(kLock));
  if (!missing()) return;
  transaction.exec(std::string(kTables));
  if (is_newest(wanted)) transaction.exec(std::string(kTrialsIndex));
  transaction.exec_params("INSERT INTO version_info VALUES (1, $1, $2)", str(kSchemaVersion),
                          library_version_of(wanted));
  transaction.exec_params("INSERT INTO alembic_version VALUES ($1)", wanted.revision);
}

}  // namespace ristretto::studies
