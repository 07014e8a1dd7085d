// Several processes, ours and Optuna's, on one file (study.md, "Conformance tests", C).
#include <atomic>
#include <thread>

#include "storage_workers.h"
#include "studies/storage.h"

using namespace ristretto;
using namespace ristretto::studies;

namespace {

std::string asked(const std::string& path, const std::string& sql) {
  SQLite::Database database(path, SQLite::OPEN_READWRITE, 60000);
  SQLite::Statement query(database, sql);
  return query.executeStep() ? query.getColumn(0).getString() : "";
}

// Numbers 0, 1, ... without a gap, finished trials whole, no damage.
void check_whole(const std::string& path, const Study& study) {
  for (std::size_t i = 0; i < study.trials.size(); ++i) {
    CHECK(study.trials[i].number == static_cast<std::int64_t>(i));
    if (study.trials[i].state != State::complete) continue;
    CHECK(study.trials[i].params.size() == 2);
    CHECK(study.trials[i].reports.size() == 3);
    CHECK(study.trials[i].user_attributes.size() == 1);
  }
  CHECK(asked(path, "PRAGMA integrity_check") == "ok");
  CHECK(asked(path, "PRAGMA foreign_key_check") == "");
  CHECK(asked(path, "SELECT count(*) FROM trials WHERE number IS NULL") == "0");
}

// Where a commit waits for no disk. Workers that do nothing but write would saturate one, and Python gives up a write
// after 5 s without the lock.
fs::path memory() { return fs::exists("/dev/shm") ? "/dev/shm" : fs::temp_directory_path(); }

// Within a minute.
bool appears(const std::string& file) {
  for (int i = 0; i < 600 && !fs::exists(file); ++i) sleep_ms(100);
  return fs::exists(file);
}

std::string new_study(const Scratch& scratch, bool wal = false, const std::string& revision = "v3.2.0.a") {
  const std::string path = (scratch.path / "shared.db").string();
  NewStorage wanted;
  wanted.revision = revision;
  create_storage(path, wanted)->create_study("s", {Direction::minimize});
  if (wal) asked(path, "PRAGMA journal_mode = WAL");
  return path;
}

}  // namespace

// What worker() starts.
TEST_CASE("worker" * doctest::skip()) { run_worker(); }

TEST_CASE("storage: 8 processes that make one new file at once make one schema, one version and one study") {
  for (int round = 0; round < 3; ++round) {
    const Scratch scratch;
    const std::string path = (scratch.path / "new.db").string(), go = (scratch.path / "go").string();
    std::vector<Process> workers;
    for (int i = 0; i < 8; ++i) workers.push_back(worker("create", path, 0, go));
    sleep_ms(100);
    std::ofstream{go};
    for (Process& process : workers) CHECK(process.wait() == 0);
    CHECK(asked(path, "SELECT count(*) FROM alembic_version") == "1");
    CHECK(asked(path, "SELECT count(*) FROM version_info") == "1");
    CHECK(asked(path, "SELECT count(*) FROM study_directions") == "1");
    CHECK(open_storage(path)->read_study("s").trials.size() == 8);
    CHECK(asked(path, "PRAGMA integrity_check") == "ok");
  }
}

TEST_CASE("storage: of 4 processes that claim waiting trials none gets one twice") {
  const Scratch scratch;
  const std::string path = new_study(scratch), log = (scratch.path / "log").string();
  {
    const auto storage = open_storage_for_writing(path);
    for (int i = 0; i < 40; ++i) enqueue(*storage, 1, {{"x", 0.5}});
  }
  std::vector<Process> workers;
  for (int i = 0; i < 4; ++i) workers.push_back(worker("claim", path, 0, log));
  for (Process& process : workers) CHECK(process.wait() == 0);
  const std::multiset<std::int64_t> done = numbers_in(log);
  CHECK(done.size() == 40);
  CHECK(std::set(done.begin(), done.end()).size() == 40);
  CHECK(numbers_in(log + ".lost").empty());
}

TEST_SUITE("interop") {
  TEST_CASE("storage: 3 of our processes and 3 of Optuna's share a file, in both journal modes") {
    for (const std::string& version : installed({"3.1.0", "4.9.0", "5.0.0"})) {
      for (const bool wal : {false, true}) {
        INFO(version << (wal ? " WAL" : " delete"));
        const Scratch scratch(memory());
        const std::string path = new_study(scratch, wal, revision_of(version)), log = (scratch.path / "log").string();
        constexpr std::size_t kGoal = 60;
        std::vector<Process> workers;
        for (int i = 0; i < 3; ++i) {
          workers.push_back(worker("work", path, kGoal, log));
          workers.push_back(optuna_peer(version, {"work", path, "s", str(kGoal), log}));
        }
        for (Process& process : workers) CHECK(process.wait() == 0);
        const Study study = open_storage(path)->read_study("s");
        CHECK(finished(study) == study.trials.size());
        CHECK(study.trials.size() >= kGoal);
        CHECK(numbers_in(log).size() == study.trials.size());
        check_whole(path, study);
      }
    }
  }

  TEST_CASE("storage: a trial of ours that Optuna claims as well is lost to us") {
    for (const std::string& version : installed({"3.1.0", "4.9.0", "5.0.0"})) {
      INFO(version);
      const Scratch scratch;
      const std::string path = new_study(scratch, false, revision_of(version));
      const std::string ready = (scratch.path / "ready").string(), go = (scratch.path / "go").string();
      const std::string out = (scratch.path / "out").string();
      const auto storage = open_storage_for_writing(path);
      const std::int64_t study = storage->read_study("s").id;
      enqueue(*storage, study, {{"x", 0.5}});
      Process peer = optuna_peer(version, {"claim_late", path, "s", ready, go}, out);
      REQUIRE(appears(ready));
      const std::optional<Trial> ours = storage->claim_waiting(study);  // Optuna has read that it waits
      REQUIRE(ours.has_value());
      std::ofstream{go};
      CHECK(peer.wait() == 0);
      CHECK(bytes_of(out) == str(ours->number, "\n"));
      CHECK_THROWS_AS(storage->finish(ours->id, State::complete, {1}), TrialLost);
      CHECK(storage->read_study("s").trials.at(0).state == State::running);
    }
  }

  TEST_CASE("storage: processes of ours and of Optuna that claim the same waiting trials") {
    for (const std::string& version : installed({"3.1.0", "4.9.0", "5.0.0"})) {
      // Not in WAL, where Optuna takes over trials that are finished (study.md, "Rules for every write", 7).
      INFO(version);
      const Scratch scratch;
      const std::string path = new_study(scratch, false, revision_of(version)), log = (scratch.path / "log").string();
      const std::string python_log = log + ".python";
      {
        const auto storage = open_storage_for_writing(path);
        for (int i = 0; i < 60; ++i) enqueue(*storage, 1, {{"x", 0.5}});
      }
      std::vector<Process> workers;
      for (int i = 0; i < 2; ++i) {
        workers.push_back(optuna_peer(version, {"claim", path, "s", python_log}));
        workers.push_back(worker("claim", path, 0, log));
      }
      for (Process& process : workers) CHECK(process.wait() == 0);
      const std::multiset<std::int64_t> ours = numbers_in(log), theirs = numbers_in(python_log);
      CHECK(!ours.empty());
      for (const std::int64_t number : ours) {
        CHECK(ours.count(number) == 1);  // theirs too, where Optuna read that it waits, and wrote after we had ended it
      }
      const Study study = open_storage(path)->read_study("s");
      for (const Trial& trial : study.trials) {
        if (trial.state == State::complete) CHECK(ours.count(trial.number) + theirs.count(trial.number) >= 1);
      }
    }
  }

  TEST_CASE("storage: Optuna's reaper fails a stopped trial of ours and leaves one that beats") {
    for (const std::string& version : installed({"3.1.0", "4.9.0", "5.0.0"})) {
      INFO(version);
      const Scratch scratch;
      const std::string path = new_study(scratch, false, revision_of(version));
      const auto storage = open_storage_for_writing(path);
      const Trial stopped = storage->create_trial(1), beating = storage->create_trial(1),
                  silent = storage->create_trial(1);
      CHECK(storage->beat(stopped.id));
      std::atomic<bool> reaped = false;
      std::thread heart([&] {
        const auto own = open_storage_for_writing(path);
        for (; !reaped; sleep_ms(300)) own->beat(beating.id);
      });
      sleep_ms(4000);
      CHECK(optuna_peer(version, {"reap", path, "s"}).wait() == 0);
      reaped = true;
      heart.join();
      CHECK_THROWS_AS(storage->report(stopped.id, 0, 1), TrialLost);
      CHECK_FALSE(storage->beat(stopped.id));
      CHECK(storage->report(beating.id, 0, 1));
      CHECK(storage->report(silent.id, 0, 1));
      CHECK(storage->read_study("s").trials[0].state == State::fail);
    }
  }

  TEST_CASE("storage: Optuna notices that our reaper failed its trial") {
    for (const std::string& version : installed({"3.1.0", "4.9.0", "5.0.0"})) {
      INFO(version);
      const Scratch scratch;
      const std::string path = new_study(scratch, false, revision_of(version));
      const std::string ready = (scratch.path / "ready").string(), go = (scratch.path / "go").string();
      const std::string out = (scratch.path / "out").string();
      Process peer = optuna_peer(version, {"report_late", path, "s", ready, go}, out);
      REQUIRE(appears(ready));
      const auto storage = open_storage_for_writing(path);
      CHECK(storage->fail_stale(1, 60).empty());
      sleep_ms(2100);
      CHECK(storage->fail_stale(1, 1) == std::vector<std::int64_t>{0});
      std::ofstream{go};
      CHECK(peer.wait() == 0);
      const std::string error = version == "3.1.0" ? "RuntimeError" : "UpdateFinishedTrialError";
      CHECK(bytes_of(out) == error + " Trial#0 has already finished and can not be updated.\n");
    }
  }

  TEST_CASE("storage: 4 of our workers and 4 of Optuna's share 400 trials, and one of each is killed on the way") {
    const std::vector<std::string> versions = installed({"4.9.0", "5.0.0"});
    if (versions.size() < 2) return;
    const Scratch scratch(memory());
    const std::string path = new_study(scratch);
    const auto log = [&](std::size_t i) { return str(scratch.path.string(), "/log", i); };
    constexpr std::size_t kGoal = 400, kNever = 1000000;
    const std::string go = (scratch.path / "go").string();
    // 0 to 3 are Optuna's, 4 to 7 ours, and the first of each is to be killed: however slow it is against the others,
    // it has not come to its end by then. All begin once Python, which takes seconds to start, is there.
    const auto goal = [](std::size_t i) { return i % 4 == 0 ? kNever : kGoal; };
    std::vector<Process> workers;
    for (std::size_t i = 0; i < 4; ++i) {
      workers.push_back(optuna_peer(versions[i % 2], {"work", path, "s", str(goal(i)), log(i), log(i) + ".ready", go}));
    }
    for (std::size_t i = 0; i < 4; ++i) REQUIRE(appears(log(i) + ".ready"));
    std::ofstream{go};
    for (std::size_t i = 4; i < 8; ++i) workers.push_back(worker("work", path, goal(i), log(i)));
    REQUIRE(appears(log(0)));
    REQUIRE(appears(log(4)));
    workers[4].kill();
    workers[0].kill();
    for (const std::size_t i : {1, 2, 3, 5, 6, 7}) CHECK(workers[i].wait() == 0);
    const Study study = open_storage(path)->read_study("s");
    CHECK(finished(study) >= kGoal);
    CHECK(study.trials.size() - finished(study) <= 2);  // what the killed ones left
    check_whole(path, study);
    std::size_t noted = 0;
    for (std::size_t i = 0; i < 8; ++i) {
      for (const std::int64_t number : numbers_in(log(i))) {
        CHECK(study.trials[static_cast<std::size_t>(number)].state == State::complete);
        ++noted;
      }
    }
    CHECK(noted + 2 >= finished(study));  // a killed one may not have noted its last
  }

  TEST_CASE("storage: a worker that is killed at 100 random points leaves whole trials") {
    const Scratch scratch;
    const std::string path = new_study(scratch), log = (scratch.path / "log").string();
    std::minstd_rand generator(11);
    for (int i = 0; i < 100; ++i) {
      const std::size_t before = numbers_in(log).size();
      Process process = worker("work", path, 1000000, log);
      // Once it is at work, somewhere in its next trials.
      for (int k = 0; k < 2000 && numbers_in(log).size() == before; ++k) sleep_ms(1);
      std::this_thread::sleep_for(std::chrono::microseconds(std::uniform_int_distribution(0, 30000)(generator)));
      process.kill();
    }
    const auto storage = open_storage_for_writing(path);
    Study study = storage->read_study("s");
    check_whole(path, study);
    const std::size_t left = study.trials.size() - finished(study);
    CHECK(left > 20);
    CHECK(left <= 100);
    for (const std::int64_t number : numbers_in(log)) {
      CHECK(study.trials[static_cast<std::size_t>(number)].state == State::complete);
    }
    sleep_ms(2100);
    const auto with_heartbeat = *parse_number<std::size_t>(
        asked(path, "SELECT count(*) FROM trials JOIN trial_heartbeats USING (trial_id) WHERE state = 'RUNNING'"));
    CHECK(storage->fail_stale(1, 1).size() == with_heartbeat);
    storage->refresh(study);
    CHECK(study.trials.size() - finished(study) == left - with_heartbeat);
    for (const std::string& version : installed({"5.0.0"})) {
      const Json dump = dump_of(version, path, path + ".json");
      CHECK(difference(plain(study_json(study)), dump.find("studies")->items.at(0)) == "");
    }
  }
}

TEST_SUITE("slow") {
  TEST_CASE("storage: our locks are short, and a foreign lock of 20 s is survived") {
    const Scratch scratch(memory());  // what is measured is how long we hold a lock, not how long a busy disk takes
    const std::string path = new_study(scratch), log = (scratch.path / "log").string();
    {
      // Long enough a study for reading it to show.
      SQLite::Database database(path, SQLite::OPEN_READWRITE);
      database.exec(
          "WITH RECURSIVE k(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM k WHERE n < 4999) "
          "INSERT INTO trials (number, study_id, state) SELECT n, 1, 'FAIL' FROM k");
    }
    Process process = worker("work", path, 5200, log);
    SQLite::Database watcher(path, SQLite::OPEN_READWRITE);  // without patience
    double longest = 0;
    std::optional<Stopwatch> locked;
    while (numbers_in(log).size() < 200) {
      try {
        watcher.exec("BEGIN IMMEDIATE; ROLLBACK");
        locked.reset();
      } catch (const SQLite::Exception&) {
        if (!locked) locked.emplace();
        longest = std::max(longest, locked->seconds());
      }
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    CHECK(process.wait() == 0);
    MESSAGE("longest lock seen: " << longest * 1000 << " ms");
    CHECK(longest < 0.1);

    watcher.exec("BEGIN EXCLUSIVE");
    Process waiting = worker("work", path, 5210, log);
    sleep_ms(20000);
    CHECK(numbers_in(log).size() == 200);
    watcher.exec("COMMIT");
    CHECK(waiting.wait() == 0);
    CHECK(finished(open_storage(path)->read_study("s")) == 5210);
  }
}
