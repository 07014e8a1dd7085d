#include "optuna_files.h"
#include "studies/storage.h"

using namespace ristretto;
using namespace ristretto::studies;

TEST_CASE("storage: files of 3.1, 4.9, 5.0 and its candidate read alike, and not a byte of them changes") {
  for (const char* version : {"3.1.0", "4.9.0", "5.0.0-rc1", "5.0.0"}) {
    INFO(version);
    Scratch scratch;
    const std::string path = scratch.changed(str("optuna_v", version, ".db"), "");
    const std::string before = bytes_of(path);
    const auto storage = open_storage(path);
    CHECK(storage->info().revision == (std::string(version) == "3.1.0" ? "v3.0.0.d" : "v3.2.0.a"));
    CHECK(storage->study_names() == std::vector<std::string>{"a"});
    const Study study = storage->read_study("a");
    CHECK(study.directions == std::vector<Direction>{Direction::minimize});
    REQUIRE(study.trials.size() == 3);
    for (const Trial& trial : study.trials) {
      CHECK(trial.state == State::complete);
      REQUIRE(trial.params.size() == 3);
      const double x = std::get<double>(trial.params[0].value);
      const auto y = std::get<std::int64_t>(trial.params[1].value);
      CHECK(trial.values == std::vector<double>{x * x + static_cast<double>(y)});
      const auto& choices = std::get<agents::Choices>(trial.find_param("c")->distribution).choices;
      CHECK(choices == std::vector<agents::Value>{"a", {}, std::int64_t{3}, 2.5, true});
      REQUIRE(trial.reports.size() == 3);
      CHECK(trial.reports[0].value == 0.5);
      CHECK(std::isnan(trial.reports[1].value));
      CHECK(trial.reports[2].value == kInfinity);
      CHECK(formats::write_json(*find(trial.user_attributes, "u")) == "{\"k\": [1, 2, NaN]}");
      CHECK((trial.completed > trial.started));
    }
    CHECK(bytes_of(path) == before);
    CHECK(std::distance(fs::directory_iterator(scratch.path), {}) == 1);
  }
}

TEST_CASE("storage: a file of 2.10 with legacy distributions and without types reads as the same file upgraded") {
  const Trial old = open_storage(kGolden + "optuna_v2.10.1.db")->read_study("a").trials.at(0);
  const Trial upgraded = open_storage(kGolden + "optuna_v2.10.1_upgraded.db")->read_study("a").trials.at(0);
  CHECK(shown(trial_json(old)) == shown(trial_json(upgraded)));
  CHECK(old.state == State::fail);
  CHECK(old.values.empty());
  REQUIRE(old.params.size() == 3);
  CHECK(old.params[0].value == agents::Value(4.163244307721779));
  CHECK(old.params[1].value == agents::Value(std::int64_t{3}));
  CHECK(old.params[2].value == agents::Value(true));
  REQUIRE(old.reports.size() == 1);
  CHECK(old.reports[0].value == 0.5);
}

TEST_CASE("storage: before 3.0 infinities are REAL or the largest float32, and trials under way may have empty rows") {
  Scratch scratch;
  const std::string path =
      scratch.changed("optuna_v2.10.1.db",
                      "UPDATE trials SET state = 'COMPLETE';"
                      "INSERT INTO trial_values (trial_id, objective, value) VALUES (1, 0, 9e999);"
                      "INSERT INTO trial_intermediate_values (trial_id, step, intermediate_value) VALUES (1, 1, "
                      "-3.4028234663852886e+38);"
                      "ALTER TABLE trial_values RENAME TO strict;"
                      "CREATE TABLE trial_values (trial_value_id INTEGER PRIMARY KEY, trial_id INTEGER, objective "
                      "INTEGER, value FLOAT);"
                      "INSERT INTO trial_values SELECT * FROM strict;"
                      "INSERT INTO trials (trial_id, number, study_id, state) VALUES (2, 1, 1, 'RUNNING');"
                      "INSERT INTO trial_values (trial_id, objective, value) VALUES (2, 0, NULL);");
  const Study study = open_storage(path)->read_study("a");
  CHECK(study.trials[0].values == std::vector<double>{kInfinity});
  CHECK(study.trials[0].reports[1].value == -kInfinity);
  CHECK(study.trials[1].values.empty());
}

TEST_CASE("storage: damage and strangeness are refused with file, place and value") {
  struct Case {
    const char* sql;
    const char* part;  // of message and hint
  };
  const Case cases[] = {
      {"UPDATE alembic_version SET version_num = 'v2.4.0.a'", "revision v2.4.0.a of Optuna 4.9.0, older than"},
      {"UPDATE alembic_version SET version_num = 'v2.4.0.a'", "optuna storage upgrade --storage sqlite:////"},
      {"UPDATE alembic_version SET version_num = 'v6.0.0.a'", "revision v6.0.0.a of Optuna 4.9.0, unknown"},
      {"UPDATE alembic_version SET version_num = 'v6.0.0.a'", "optuna storage upgrade --storage sqlite:////"},
      {"DELETE FROM alembic_version", "names no schema revision"},
      {"UPDATE version_info SET schema_version = 11", "schema_version is 11, expected 12"},
      {"DROP TABLE trial_params", "has no table 'trial_params'"},
      {"DROP TABLE alembic_version", "has no table 'alembic_version'"},
      {"DROP TABLE studies", "without the table 'studies'"},
      {"ALTER TABLE trials DROP COLUMN datetime_start", "'trials' has no column 'datetime_start'"},
      {"UPDATE trials SET number = NULL WHERE trial_id = 2", "the number of the trial with id 2 is NULL"},
      {"UPDATE trials SET state = 'PAUSED' WHERE trial_id = 2",
       "study 'a', trial 1: the state is 'PAUSED', expected RUN"},
      {"UPDATE study_directions SET direction = 'UP'", "the direction of objective 0 is 'UP', expected NOT_SET, MIN"},
      {"DELETE FROM study_directions", "has no row in study_directions"},
      {"UPDATE study_directions SET objective = 1", "objective 0 is 1"},
      {"UPDATE trial_values SET value = NULL WHERE trial_id = 1", "trial 0: value 0 is NULL, expected a number"},
      {"UPDATE trial_values SET value_type = 'NAN' WHERE trial_id = 1", "trial 0: value 0 is 'NAN', expected FINITE"},
      {"UPDATE trial_values SET objective = 1 WHERE trial_id = 1", "value 0: its objective is 1"},
      {"DELETE FROM trial_values WHERE trial_id = 1", "trial 0 is COMPLETE with 0 values, expected one for each of 1"},
      {"UPDATE trial_intermediate_values SET intermediate_value_type = 'X'", "step 0 is 'X', expected FINITE, INF_POS"},
      {"UPDATE trial_params SET param_value = 5.0 WHERE param_name = 'c'", "'c' is stored as 5, expected the index"},
      {"UPDATE trial_params SET param_value = 0.5 WHERE param_name = 'y'", "'y' is stored as 0.5, expected an integer"},
      {"UPDATE trial_params SET param_value = NULL WHERE param_name = 'x'",
       "trial 0: parameter 'x' is NULL, expected a n"},
      {"UPDATE trial_params SET param_value = 'abc' WHERE param_name = 'x'",
       "parameter 'x' is 'abc', expected a number"},
      {"UPDATE trial_params SET distribution_json = substr(distribution_json, 1, 40)", "trial 0: parameter 'x'"},
      {"UPDATE trial_params SET distribution_json = '{\"name\": \"Beta\", \"attributes\": {}}'", "is of no known kind"},
      {"UPDATE trial_user_attributes SET value_json = '{\"k\": [1, 2, Na'", "trial_user_attributes: 'u'"},
      {"UPDATE trial_user_attributes SET value_json = NULL", "trial_user_attributes: 'u' is NULL, expected a text"},
      {"UPDATE trials SET datetime_start = 'yesterday'", "trial 0: a datetime is 'yesterday', expected YYYY-MM-DD"},
  };
  Scratch scratch;
  for (const Case& item : cases) {
    INFO(item.sql);
    const std::string path = scratch.changed("optuna_v4.9.0.db", item.sql);
    const Caught found = caught([&] { open_storage(path)->read_study("a"); });
    CHECK(found.fault == Fault::incompatible);
    CHECK(contains(found.text, path));
    INFO(found.text);
    CHECK(contains(found.text, item.part));
  }
}

TEST_CASE("storage: what is no file, no database or no known study is said so") {
  Scratch scratch;
  const Caught missing = caught([&] { open_storage((scratch.path / "none.db").string()); });
  CHECK(missing.fault == Fault::usage);
  CHECK(contains(missing.text, "none.db does not exist"));
  CHECK_FALSE(fs::exists(scratch.path / "none.db"));
  const Caught directory = caught([&] { open_storage(scratch.path.string()); });
  CHECK(directory.fault == Fault::usage);

  const std::string text = (scratch.path / "text.db").string();
  std::ofstream(text) << std::string(5000, 'x');
  const Caught no_database = caught([&] { open_storage(text); });
  CHECK(no_database.fault == Fault::incompatible);
  CHECK(contains(no_database.text, "text.db is no SQLite database"));

  const std::string empty = (scratch.path / "empty.db").string();
  std::ofstream{empty};
  const Caught nothing = caught([&] { open_storage(empty); });
  CHECK(nothing.fault == Fault::incompatible);
  CHECK(contains(nothing.text, "without the table 'studies'"));

  const std::string cut = scratch.changed("optuna_v4.9.0.db", "");
  fs::resize_file(cut, 30000);
  const Caught damaged = caught([&] { open_storage(cut)->read_study("a"); });
  CHECK(damaged.fault == Fault::incompatible);
  CHECK(contains(damaged.text, "damaged"));

  const Caught unknown = caught([&] { open_storage(kExample)->read_study("cappuccino_maxcpu"); });
  CHECK(unknown.fault == Fault::usage);
  CHECK(contains(unknown.text, "no study 'cappuccino_maxcpu'"));
  CHECK(contains(unknown.text, "cappuccino_maxgpu, cappuccino_ft_16gb_optimized"));
  CHECK(contains(unknown.text, "did you mean --study-name 'cappuccino_maxgpu'?"));
}

TEST_CASE("storage: URLs are Optuna's, a plain path is taken, other databases are refused") {
  CHECK(url_path("sqlite:///databases/a.db") == "databases/a.db");
  CHECK(url_path("sqlite:////abs/a.db") == "/abs/a.db");
  CHECK(url_path("sqlite+pysqlite:///a.db") == "a.db");
  CHECK(url_path("databases/a.db") == "databases/a.db");
  CHECK(open_storage("sqlite:///" + kExample)->info().url == "sqlite:///" + kExample);
  const Caught mysql = caught([] { open_storage("mysql://user:secret@host/db"); });
  CHECK(mysql.fault == Fault::usage);
  CHECK(contains(mysql.text, "the storage 'mysql://...' is no SQLite file; expected sqlite:///relative.db"));
  CHECK(contains(mysql.text, "or postgresql://user:password@host:port/dbname"));
  CHECK_FALSE(contains(mysql.text, "secret"));
  for (const char* url : {"mysql://h/db", "redis://h", "sqlite://", "sqlite:///", "sqlite:///:memory:", "",
                          "sqlite://a.db", "sqlite:///a.db?timeout=3"}) {
    INFO(url);
    const Caught found = caught([&] { url_path(url); });
    CHECK(found.text != "");
    CHECK(found.fault == Fault::usage);
  }
}

TEST_CASE("storage: a file in WAL mode reads with what its log holds, a lasting lock is busy") {
  Scratch scratch;
  const std::string path = scratch.changed("optuna_v4.9.0.db", "PRAGMA journal_mode = WAL");
  {
    SQLite::Database writer(path, SQLite::OPEN_READWRITE);
    writer.exec("UPDATE trials SET state = 'FAIL' WHERE trial_id = 3");
    CHECK(open_storage(path)->read_study("a").trials[2].state == State::fail);
  }
  const std::string locked = scratch.changed("optuna_v3.1.0.db", "");
  SQLite::Database writer(locked, SQLite::OPEN_READWRITE);
  writer.exec("BEGIN EXCLUSIVE");
  StorageOptions impatient;
  impatient.busy_timeout_ms = 50;
  const Caught found = caught([&] { open_storage(locked, impatient); });
  CHECK(found.fault == Fault::busy);
  writer.exec("COMMIT");
  CHECK(open_storage(locked, impatient)->study_names().size() == 1);
}

TEST_CASE("storage: datetimes up to 4.9 are local and from 5.0 on UTC, unless a setting says otherwise") {
  const auto started = [](const char* version, Datetimes datetimes) {
    StorageOptions options;
    options.datetimes = datetimes;
    const auto storage = open_storage(str(kGolden, "optuna_v", version, ".db"), options);
    return datetime_json(storage->read_study("a").trials[0].started).text;
  };
  use_time_zone("Asia/Tokyo");
  CHECK(started("4.9.0", Datetimes::by_version) == "2026-11-20 16:56:10.543824");
  CHECK(started("4.9.0", Datetimes::utc) == "2026-11-21 01:56:10.543824");
  CHECK(started("5.0.0-rc1", Datetimes::by_version) == "2026-11-21 01:56:11.367966");
  CHECK(started("5.0.0", Datetimes::local) == "2026-11-20 22:14:57.148807");
  use_time_zone("UTC");
  CHECK(started("4.9.0", Datetimes::by_version) == "2026-11-21 01:56:10.543824");
}
