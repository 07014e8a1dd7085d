#include <thread>

#include "storage_scenarios.h"
#include "studies/datetime.h"

using namespace ristretto;
using namespace ristretto::studies;

namespace {

// A new file and the storage that writes it.
struct Sqlite {
  Scratch scratch;
  std::string path = (scratch.path / "new.db").string();
  Fresh fresh{path,
              [this](const std::string& sql) {
                SQLite::Database database(path, SQLite::OPEN_READWRITE);
                SQLite::Statement statement(database, sql);
                return statement.executeStep() && !statement.getColumn(0).isNull() ? statement.getColumn(0).getString()
                                                                                   : "";
              },
              [this] { return bytes_of(path); },
              {"datetime('now', '-61 seconds')", "datetime('now', '-61 seconds') || '.000000'"}};
};

void run(void (*check)(Fresh&)) {
  Sqlite sqlite;
  check(sqlite.fresh);
}

}  // namespace

TEST_CASE("storage: what is written of a trial is what is read, and what Optuna's tables hold") {
  Sqlite sqlite;
  Fresh& fresh = sqlite.fresh;
  scenario::written_is_read(fresh);
  CHECK(fresh.asked("SELECT group_concat(distribution_json, ';') FROM trial_params") ==
        R"({"name": "FloatDistribution", "attributes": {"step": null, "low": 1e-06, "high": 0.001, "log": true}};)"
        R"({"name": "IntDistribution", "attributes": {"log": false, "step": 64, "low": 128, "high": 960}};)"
        R"({"name": "CategoricalDistribution", "attributes": {"choices": ["relu", "tanh", null, 2.5]}})");
  CHECK(fresh.asked("SELECT group_concat(typeof(param_value) || param_value) FROM trial_params") ==
        "real1.0e-05,real512.0,real1.0");
  CHECK(fresh.asked("SELECT group_concat(ifnull(intermediate_value, 'NULL') || intermediate_value_type) FROM "
                    "(SELECT * FROM trial_intermediate_values ORDER BY step)") == "0.5FINITE,NULLINF_NEG,NULLNAN");
  CHECK(fresh.asked("SELECT datetime_start FROM trials") == datetime_text(*fresh.read().trials[0].started, false));
  CHECK(fresh.asked("PRAGMA integrity_check") == "ok");
}

TEST_CASE("storage: a finished trial is never written again") { run(scenario::finished_stays); }

TEST_CASE("storage: how a trial can end") { run(scenario::ends); }

TEST_CASE("storage: a parameter's distributions may differ in range alone, values must fit") {
  run(scenario::params_fit);
}

TEST_CASE("storage: studies are made once, and used again only with their directions") { run(scenario::studies_once); }

TEST_CASE("storage: waiting trials are claimed oldest first, and a claim that another process took over is noticed") {
  run(scenario::claims);
}

TEST_CASE("storage: trials with content keep all of it, wherever it is from") {
  for (const char* version : {"4.9.0", "5.0.0"}) {
    Scratch scratch;
    const std::string path = (scratch.path / "copy.db").string();
    NewStorage wanted;
    wanted.library_version = version;
    const auto storage = create_storage(path, wanted);
    const auto source = open_storage(str(kGolden, "everything_v", version, ".db"));
    for (const std::string& name : source->study_names()) {
      const Study study = source->read_study(name);
      const std::int64_t id = storage->create_study(name, study.directions);
      for (const Trial& trial : study.trials) storage->add_trial(id, trial);
      const Study copy = storage->read_study(name);
      REQUIRE(copy.trials.size() == study.trials.size());
      for (std::size_t i = 0; i < copy.trials.size(); ++i) {
        CHECK(shown(trial_json(copy.trials[i])) == shown(trial_json(study.trials[i])));
      }
    }
    // Distributions and attributes byte for byte, but for the floats that Python wrote as such.
    SQLite::Database database(path, SQLite::OPEN_READWRITE);
    database.exec(str("ATTACH '", kGolden, "everything_v", version, ".db' AS golden"));
    for (const char* rows : {"distribution_json FROM #trial_params", "value_json FROM #trial_user_attributes",
                             "value_json FROM #trial_system_attributes", "param_value FROM #trial_params",
                             "value || value_type FROM #trial_values", "state FROM #trials", "number FROM #trials",
                             "datetime_start FROM #trials", "datetime_complete FROM #trials"}) {
      std::string ours = rows, theirs = rows;
      ours.replace(ours.find('#'), 1, "main.");
      theirs.replace(theirs.find('#'), 1, "golden.");
      INFO(rows);
      CHECK(database.execAndGet(str("SELECT count(*) FROM (SELECT ", theirs, " EXCEPT SELECT ", ours, ")")).getInt() ==
            0);
      CHECK(database.execAndGet(str("SELECT count(*) FROM (SELECT ", ours, " EXCEPT SELECT ", theirs, ")")).getInt() ==
            0);
    }
  }
}

TEST_CASE("storage: a retry is queued with the failed trial's parameters and its history") { run(scenario::retries); }
TEST_CASE("storage: what is written together is written or not") { run(scenario::together); }

TEST_CASE("storage: the reaper fails RUNNING trials whose heartbeat is older than the grace, and no others") {
  run(scenario::reaper);
}

TEST_CASE("storage: a refresh reads what is new, and of finished trials nothing") { run(scenario::refresh_reads_news); }

TEST_CASE("storage: a lock is waited for, and one that lasts is busy") {
  Sqlite sqlite;
  Fresh& fresh = sqlite.fresh;
  SQLite::Database holder(fresh.url, SQLite::OPEN_READWRITE);
  StorageOptions impatient;
  impatient.busy_timeout_ms = 50;
  const auto storage = open_storage_for_writing(fresh.url, impatient);
  holder.exec("BEGIN IMMEDIATE");
  const Caught found = caught([&] { storage->create_trial(fresh.study); });
  CHECK(found.fault == Fault::busy);
  CHECK(contains(found.text, "stayed locked by another process, expected to write it"));
  CHECK(storage->read_study("a").trials.empty());
  std::thread release([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    holder.exec("COMMIT");
  });
  CHECK(fresh.storage->create_trial(fresh.study).number == 0);
  release.join();
  CHECK(storage->create_trial(fresh.study).number == 1);
}

TEST_CASE("storage: eight threads with a connection each write one file, numbers without a gap") {
  run(scenario::threads_share);
}
