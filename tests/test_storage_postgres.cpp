// Optuna's tables in PostgreSQL: our own rules, and real Optunas on the same database (study.md, "PostgreSQL").
#include <atomic>

#include "postgres_server.h"
#include "storage_scenarios.h"
#include "studies/postgres.h"

using namespace ristretto;
using namespace ristretto::studies;
using agents::FloatRange;

namespace {

Fresh fresh_on(PostgresServer& server) {
  const std::string url = server.new_database();
  const auto ask = [&server, url](const std::string& sql) { return server.ask(url, sql); };
  return {url,
          ask,
          [url] {
            std::string all;
            const auto storage = open_storage(url);
            for (const std::string& name : storage->study_names()) all += shown(study_json(storage->read_study(name)));
            return all;
          },
          {"LOCALTIMESTAMP - interval '61 seconds'", "LOCALTIMESTAMP - interval '61 seconds'"}};
}

// The versions that are installed with a driver for PostgreSQL.
std::vector<std::string> with_driver(const std::vector<std::string>& versions) {
  std::vector<std::string> found = installed(versions);
  std::erase_if(found, [](const std::string& version) {
    const bool missing =
        Process({optuna_bin(version) + "python", "-c", "import psycopg2"}, {}, "/dev/null", true).wait() != 0;
    if (missing) MESSAGE("skipped: Optuna " << version << " has no psycopg2; scripts/setup --interop installs it");
    return missing;
  });
  return found;
}

// pg_dump's text in the form of the golden file.
std::string plain_dump(const std::string& text) {
  std::vector<std::string> lines;
  for (const std::string& line : split(text, '\n')) {
    const auto starts = [&](const char* prefix) { return line.rfind(prefix, 0) == 0; };
    if (line.empty() || starts("--") || starts("SET ") || starts("SELECT pg_catalog.set_config") || starts("\\"))
      continue;
    lines.push_back(line);
  }
  return join(lines, "\n");
}

void check_whole(const Study& study) {
  for (std::size_t i = 0; i < study.trials.size(); ++i) {
    CHECK(study.trials[i].number == static_cast<std::int64_t>(i));
    if (study.trials[i].state != State::complete) continue;
    CHECK(study.trials[i].params.size() == 2);
    CHECK(study.trials[i].reports.size() == 3);
    CHECK(study.trials[i].user_attributes.size() == 1);
  }
}

}  // namespace

// What worker() starts.
TEST_CASE("worker" * doctest::skip()) { run_worker(); }

TEST_CASE("postgres: URLs are SQLAlchemy's, and a password is shown nowhere") {
  const auto has = [](const std::string& url, const std::string& part) {
    INFO(url << " has " << part);
    CHECK(is_postgres(url));
    CHECK(contains(connection_string(url, true, {}), part));
  };
  has("postgresql://me:pw@host:5433/db", "user='me' password='pw' dbname='db' host='host' port='5433' ");
  has("postgresql+psycopg2://me:a%40b%27%5C+c@host/db", R"(user='me' password='a@b\'\\+c' dbname='db' host='host' )");
  has("postgresql://me@corp:pw@host/db", "user='me@corp' password='pw' ");
  has("postgresql://me@host:5433/db", "user='me' dbname='db' host='host' port='5433' ");
  has("postgresql://host/db", "dbname='db' host='host' ");
  has("postgresql://me:p/w@[::1]:5433/db", "password='p/w' dbname='db' host='::1' port='5433' ");
  has("postgresql+psycopg://me@/db?host=/run/a%20b&sslmode=require&options=-c%20work_mem=1MB",
      "host='/run/a b' sslmode='require' ");
  has("postgresql://me@/db?options=-c%20work_mem=1MB", " -c work_mem=1MB' ");
  CHECK(contains(connection_string("postgresql://h/d", false, {}), "default_transaction_read_only=on"));
  CHECK_FALSE(is_postgres("postgresql.db"));
  CHECK_FALSE(is_postgres("sqlite:///a.db"));
  for (const char* url :
       {"postgresql://me:secret@host:54x3/db", "postgresql://me:secret@host:543333/db", "postgresql://me:secret%zz@h/d",
        "postgresql://me:secret@secret@host/db", "postgresql://me:secret@[::1/db", "postgresql://me:secret@h/d?x",
        "postgresql://me:secret%00@h/d"}) {
    INFO(url);
    const Caught found = caught([&] { open_storage(url); });
    CHECK(found.fault == Fault::usage);
    CHECK(contains(found.text, "expected postgresql://user:password@host:port/dbname"));
    CHECK_FALSE(contains(found.text, "secret"));
  }
  CHECK(without_password("postgresql://me:secret@host:5433/db") == "postgresql://me:***@host:5433/db");
  CHECK(without_password("--storage=postgresql://me:se@/cret@h/d?a=b") == "--storage=postgresql://me:***@h/d?a=b");
  CHECK(without_password("postgresql://h:5433/d?user=u&password=secret&sslpassword=secret") ==
        "postgresql://h:5433/d?user=u&password=***&sslpassword=***");
  for (const char* same : {"postgresql://me@host:5433/db", "sqlite:///a.db", "/a/b@c:d.db", "--gamma=0.5"}) {
    CHECK(without_password(same) == same);
  }
}

TEST_SUITE("interop") {
  TEST_CASE("postgres: every scenario of a storage holds") {
    PostgresServer* server = PostgresServer::get();
    if (!server) return;
    for (const auto scenario : scenario::kAll) {
      Fresh fresh = fresh_on(*server);
      scenario(fresh);
    }
  }

  TEST_CASE("postgres: our tables are those that Optuna makes") {
    PostgresServer* server = PostgresServer::get();
    if (!server) return;
    const Scratch scratch;
    const std::string out = (scratch.path / "ddl.sql").string();
    std::string golden = plain_dump(bytes_of(kGolden + "ddl_postgresql_v3.2.0.a.sql"));
    for (const auto& [revision, version] : {std::pair("v3.2.0.a", "5.0.0"), std::pair("v3.0.0.d", "3.1.0")}) {
      INFO(revision);
      const std::string url = server->new_database();
      NewStorage wanted;
      wanted.revision = revision;
      CHECK(create_storage(url, wanted)->info().revision == revision);
      CHECK(create_storage(url)->info().library_version == version);  // as it is
      CHECK(server->run("pg_dump", {"-s", "--no-owner", "-d", server->plain_url(url)}, out) == 0);
      if (wanted.revision == "v3.0.0.d") {
        const std::string index = "CREATE INDEX ix_trials_study_id ON public.trials USING btree (study_id);\n";
        golden.erase(golden.find(index), index.size());
      }
      CHECK(plain_dump(bytes_of(out)) == golden);
    }
  }

  TEST_CASE("postgres: what is no database of Optuna's that we know is refused, the server's word is passed on") {
    PostgresServer* server = PostgresServer::get();
    if (!server) return;
    const std::string empty = server->new_database(), url = server->new_database();
    const Caught none = caught([&] { open_storage(empty); });
    CHECK(none.fault == Fault::incompatible);
    CHECK(contains(none.text, "is a database without the table 'studies', expected Optuna's"));
    NewStorage unknown;
    unknown.revision = "v2.6.0.a";
    CHECK(caught([&] { create_storage(empty, unknown); }).fault == Fault::usage);
    create_storage(url)->create_study("a", {Direction::minimize});
    const auto changed = [&](const char* sql) {
      server->ask(url, sql);
      return caught([&] { open_storage(url); }).text;
    };
    CHECK(changed("UPDATE alembic_version SET version_num = 'v2.6.0.a'") == "");
    CHECK(contains(caught([&] { open_storage_for_writing(url); }).text, "which is read, but not written"));
    CHECK(contains(changed("UPDATE alembic_version SET version_num = 'v2.4.0.a'"), "older than those that are read"));
    CHECK(contains(changed("UPDATE alembic_version SET version_num = 'v9.0.0.a'"), "unknown beside"));
    CHECK(contains(changed("UPDATE alembic_version SET version_num = 'v3.2.0.a'; UPDATE version_info SET "
                           "schema_version = 13"),
                   "schema_version is 13, expected 12"));
    CHECK(contains(changed("UPDATE version_info SET schema_version = 12; ALTER TABLE trials RENAME number TO n"),
                   "the table 'trials' has no column 'number'"));
    CHECK(contains(changed("ALTER TABLE trials RENAME n TO number; DROP TABLE trial_params"),
                   "has no table 'trial_params', expected all of Optuna's"));

    const Caught missing = caught([&] { open_storage(server->socket_url("nothing")); });
    CHECK(missing.fault == Fault::failed);
    CHECK(contains(missing.text, "cannot connect to postgresql+psycopg2://optuna@/nothing?host="));
    CHECK(contains(missing.text, "database \"nothing\" does not exist"));

    const std::string name = empty.substr(empty.find("@/") + 2, empty.find('?') - empty.find("@/") - 2);
    const auto storage = create_storage(server->network_url(name, PostgresServer::kPassword));
    CHECK(contains(storage->info().url, "postgresql://optuna:***@127.0.0.1:"));
    CHECK_FALSE(contains(caught([&] { storage->read_study("x"); }).text, PostgresServer::kPassword));
    const Caught wrong = caught([&] { open_storage(server->network_url(name, "wrong-secret")); });
    CHECK(wrong.fault == Fault::failed);
    CHECK(contains(wrong.text, "password authentication failed"));
    CHECK_FALSE(contains(wrong.text, "secret"));
    server->ask(server->socket_url(name),
                "CREATE USER reader PASSWORD 'r'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader");
    std::string reader = server->network_url(name, "r");
    reader.replace(reader.find("optuna"), 6, "reader");
    CHECK(open_storage(reader)->study_names().empty());
    CHECK(contains(caught([&] { open_storage_for_writing(reader); }).text, "may not be written by this user"));
    const Caught text = caught([&] { storage->create_study(std::string("a\0b", 3), {Direction::minimize}); });
    CHECK(text.fault == Fault::usage);
    CHECK(contains(text.text, "the character NUL"));
    const Caught length = caught([&] { storage->create_study(std::string(513, 'a'), {Direction::minimize}); });
    CHECK(length.fault == Fault::usage);
    CHECK(contains(length.text, "value too long"));
  }

  TEST_CASE("postgres: a lock is waited for, and one that lasts is busy; the loser of a deadlock tries again") {
    PostgresServer* server = PostgresServer::get();
    if (!server) return;
    Fresh fresh = fresh_on(*server);
    const Trial trial = fresh.storage->create_trial(fresh.study);
    StorageOptions impatient;
    impatient.busy_timeout_ms = 50;
    const auto storage = open_storage_for_writing(fresh.url, impatient);
    const auto holding = [&](const std::string& first, const std::string& then) {
      pqxx::connection connection(server->plain_url(fresh.url));
      pqxx::work holder(connection);
      holder.exec("SET LOCAL deadlock_timeout = '60s'");
      holder.exec(first);
      const Caught found = caught([&] { storage->create_trial(fresh.study); });
      CHECK(found.fault == Fault::busy);
      CHECK(contains(found.text, "stayed locked by another process, expected to write it"));
      CHECK(storage->read_study("a").trials.size() == 1);
      std::thread writer([&] { fresh.storage->set_param(trial.id, "x", 0.5, FloatRange{0, 1}); });
      sleep_ms(200);
      holder.exec(then);
      holder.commit();
      writer.join();
    };
    holding("SELECT 1 FROM studies FOR UPDATE", "SELECT 1 FROM trials FOR UPDATE");
    CHECK(fresh.read().trials[0].params.size() == 1);
    CHECK(storage->create_trial(fresh.study).number == 1);
  }

  TEST_CASE("postgres: a lost connection is made again, and busy where the server stays away") {
    PostgresServer* server = PostgresServer::get();
    if (!server) return;
    Fresh fresh = fresh_on(*server);
    StorageOptions impatient;
    impatient.busy_timeout_ms = 300;
    const auto storage = open_storage_for_writing(fresh.url, impatient);
    const auto cut = [&] {
      server->ask(server->socket_url("postgres"),
                  "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'ristretto'");
    };
    cut();
    CHECK(storage->create_trial(fresh.study).number == 0);
    cut();
    CHECK(storage->read_study("a").trials.size() == 1);
    server->stop();
    for (const auto& work : std::vector<std::function<void()>>{[&] { storage->create_trial(fresh.study); },
                                                               [&] { storage->read_study("a"); }}) {
      const Caught found = caught(work);
      CHECK(found.fault == Fault::busy);
      CHECK(contains(found.text, "the connection to postgresql+psycopg2://optuna@/"));
      CHECK(contains(found.text, " was lost "));
    }
    std::thread writer([&] { fresh.storage->create_trial(fresh.study); });  // has 60 s
    sleep_ms(1000);
    server->start();
    writer.join();
    CHECK(storage->create_trial(fresh.study).number == 2);
  }

  TEST_CASE("postgres: 8 processes that make one new storage at once make one schema, one version and one study") {
    PostgresServer* server = PostgresServer::get();
    if (!server) return;
    const Scratch scratch;
    const std::string url = server->new_database(), go = (scratch.path / "go").string();
    std::vector<Process> workers;
    for (int i = 0; i < 8; ++i) workers.push_back(worker("create", url, 0, go));
    sleep_ms(200);
    std::ofstream{go};
    for (Process& process : workers) CHECK(process.wait() == 0);
    CHECK(server->ask(url, "SELECT count(*) FROM alembic_version") == "1");
    CHECK(server->ask(url, "SELECT count(*) FROM version_info") == "1");
    CHECK(server->ask(url, "SELECT count(*) FROM study_directions") == "1");
    CHECK(open_storage(url)->read_study("s").trials.size() == 8);
  }

  TEST_CASE("postgres: of our processes and Optuna's that claim waiting trials none gets one twice") {
    PostgresServer* server = PostgresServer::get();
    if (!server) return;
    for (const std::string& version : with_driver({"4.9.0", "5.0.0"})) {
      INFO(version);
      const Scratch scratch;
      const std::string url = server->new_database(), log = (scratch.path / "log").string();
      const auto storage = create_storage(url);
      const std::int64_t study = storage->create_study("s", {Direction::minimize});
      constexpr std::int64_t kWaiting = 300;
      // Python's start takes seconds, so it has some of the trials only if there are many.
      for (int i = 0; i < kWaiting; ++i) enqueue(*storage, study, {{"x", 0.5}});
      std::vector<Process> workers;
      for (int i = 0; i < 2; ++i) {
        workers.push_back(optuna_peer(version, {"claim", url, "s", log + ".python"}));
        workers.push_back(worker("claim", url, 0, log));
      }
      for (Process& process : workers) CHECK(process.wait() == 0);
      std::multiset<std::int64_t> all = numbers_in(log);
      MESSAGE(version << ": " << all.size() << " ours, " << numbers_in(log + ".python").size() << " Optuna's");
      all.merge(numbers_in(log + ".python"));
      CHECK(numbers_in(log + ".lost").empty());
      all.erase(all.lower_bound(kWaiting), all.end());  // Optuna's, made where it came too late for the last one
      CHECK(all.size() == kWaiting);
      CHECK(std::set(all.begin(), all.end()).size() == kWaiting);
    }
  }

  TEST_CASE("postgres: Optuna reads all that we write, and we all that it writes") {
    PostgresServer* server = PostgresServer::get();
    if (!server) return;
    for (const std::string& version : with_driver({"4.9.0", "5.0.0"})) {
      for (const char* zone : {"UTC", "Asia/Tokyo"}) {
        INFO(version << " " << zone);
        use_time_zone(zone);
        const Scratch scratch;
        const std::string out = (scratch.path / "dump.json").string();
        const std::string ours = server->new_database(), theirs = server->new_database();
        NewStorage wanted;
        wanted.library_version = version;
        scenario::write_everything(*create_storage(ours, wanted));
        CHECK(disagreement(version, ours, out, zone) == "");
        REQUIRE(optuna_peer(version, {"corpus", theirs}, "/dev/null", zone).wait() == 0);
        CHECK(disagreement(version, theirs, out, zone) == "");
        use_time_zone("UTC");
      }
    }
  }

  TEST_CASE("postgres: Optuna goes on with a study of ours, and we read it back") {
    PostgresServer* server = PostgresServer::get();
    if (!server) return;
    for (const std::string& version : with_driver({"4.9.0", "5.0.0"})) {
      INFO(version);
      const Scratch scratch;
      const std::string url = server->new_database(), out = (scratch.path / "out").string();
      NewStorage wanted;
      wanted.library_version = version;
      const auto storage = create_storage(url, wanted);
      const std::int64_t study = storage->create_study("s", {Direction::minimize});
      scenario::six_trials(*storage, study);
      CHECK(optuna_peer(version, {"go_on", url, "s", "20"}).wait() == 0);
      const Study read = storage->read_study("s");
      CHECK(read.trials.size() == 26);
      CHECK(std::any_of(read.trials.begin() + 6, read.trials.end(), [](const Trial& trial) {
        return find(trial.system_attributes, "completed_rung_0") != nullptr;
      }));
      CHECK(disagreement(version, url, out) == "");
    }
  }

  TEST_CASE("postgres: 3 of our processes and 3 of Optuna's share a study") {
    PostgresServer* server = PostgresServer::get();
    if (!server) return;
    for (const std::string& version : with_driver({"4.9.0", "5.0.0"})) {
      INFO(version);
      const Scratch scratch;
      const std::string url = server->new_database(), log = (scratch.path / "log").string();
      create_storage(url)->create_study("s", {Direction::minimize});
      constexpr std::size_t kGoal = 200;
      std::vector<Process> workers;
      // Python, which takes seconds to start, first.
      for (int i = 0; i < 3; ++i)
        workers.push_back(optuna_peer(version, {"work", url, "s", str(kGoal), log + ".python"}));
      for (int i = 0; i < 600 && numbers_in(log + ".python").empty(); ++i) sleep_ms(100);
      for (int i = 0; i < 3; ++i) workers.push_back(worker("work", url, kGoal, log));
      for (Process& process : workers) CHECK(process.wait() == 0);
      const Study study = open_storage(url)->read_study("s");
      CHECK(finished(study) == study.trials.size());
      CHECK(study.trials.size() >= kGoal);
      const std::size_t ours = numbers_in(log).size(), theirs = numbers_in(log + ".python").size();
      MESSAGE(version << ": " << ours << " trials ours, " << theirs << " Optuna's");
      CHECK(ours > 0);
      CHECK(ours + theirs == study.trials.size());
      check_whole(study);
    }
  }

  TEST_CASE("postgres: a killed worker's trial is reaped, by us and by Optuna, and no beating one") {
    PostgresServer* server = PostgresServer::get();
    if (!server) return;
    std::vector<std::string> reapers = with_driver({"4.9.0", "5.0.0"});
    reapers.insert(reapers.begin(), "");
    for (const std::string& reaper : reapers) {
      INFO("reaper: " << (reaper.empty() ? "ours" : reaper));
      const Scratch scratch;
      const std::string url = server->new_database(), log = (scratch.path / "log").string();
      const auto storage = create_storage(url);
      const std::int64_t study = storage->create_study("s", {Direction::minimize});
      const Trial beating = storage->create_trial(study), silent = storage->create_trial(study);
      Process killed = worker("beat_once", url, 0, log);
      for (int i = 0; i < 600 && numbers_in(log).empty(); ++i) sleep_ms(100);
      killed.kill();
      std::atomic<bool> stopped = false;
      std::thread heart([&] {
        const auto own = open_storage_for_writing(url);
        while (!stopped) {
          own->beat(beating.id);
          sleep_ms(300);
        }
      });
      sleep_ms(3500);
      std::vector<std::int64_t> failed;
      if (reaper.empty()) {
        CHECK(storage->fail_stale(study, 60).empty());
        failed = storage->fail_stale(study, 2);
      } else {
        CHECK(optuna_peer(reaper, {"reap", url, "s"}).wait() == 0);
      }
      stopped = true;
      heart.join();
      if (reaper.empty()) CHECK(failed == std::vector<std::int64_t>{2});
      const Study read = storage->read_study("s");
      REQUIRE(read.trials.size() == 3);
      CHECK(read.trials[2].state == State::fail);
      CHECK_THROWS_AS(storage->report(read.trials[2].id, 0, 1), TrialLost);
      CHECK(storage->report(beating.id, 0, 1));
      CHECK(storage->report(silent.id, 0, 1));
    }
  }
}
