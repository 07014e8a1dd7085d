#include <unistd.h>

#include "optuna_files.h"
#include "studies/datetime.h"
#include "studies/storage.h"

using namespace ristretto;
using namespace ristretto::studies;

TEST_CASE("storage: a new file is Optuna's, of either revision, and a file that is there is left as it is") {
  for (const std::string revision : {"v3.0.0.d", "v3.2.0.a"}) {
    Scratch scratch;
    const std::string path = (scratch.path / "new.db").string();
    NewStorage wanted;
    wanted.revision = revision;
    CHECK(create_storage(path, wanted)->info().revision == revision);
    const std::string before = bytes_of(path);
    CHECK(create_storage("sqlite:///" + path)->info().revision == revision);
    CHECK(bytes_of(path) == before);
    CHECK(fs::exists(path + "-journal") == false);
    SQLite::Database ours(path, SQLite::OPEN_READONLY);
    SQLite::Database theirs(kGolden + (revision == "v3.0.0.d" ? "optuna_v3.1.0.db" : "optuna_v4.9.0.db"),
                            SQLite::OPEN_READONLY);
    const auto rows = [](SQLite::Database& database, const std::string& sql) {
      std::string all;
      SQLite::Statement query(database, sql);
      while (query.executeStep()) {
        for (int i = 0; i < query.getColumnCount(); ++i) all += query.getColumn(i).getString() + "|";
        all += "\n";
      }
      return all;
    };
    const std::string names = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name";
    CHECK(rows(ours, names) == rows(theirs, names));
    for (const std::string& table : split(rows(theirs, names), '\n')) {
      if (table.empty()) continue;
      const std::string name = table.substr(0, table.size() - 1);
      INFO(name);
      for (const char* pragma : {"table_info", "index_list", "foreign_key_list"}) {
        const std::string sql = str("PRAGMA ", pragma, "(", name, ")");
        CHECK(rows(ours, sql) == rows(theirs, sql));
      }
      const std::string columns = str("SELECT l.name, i.name FROM pragma_index_list('", name,
                                      "') l, pragma_index_info(l.name) i ORDER BY l.name, i.seqno");
      CHECK(rows(ours, columns) == rows(theirs, columns));
    }
    for (const char* pragma :
         {"PRAGMA journal_mode", "PRAGMA user_version", "PRAGMA application_id", "PRAGMA encoding"}) {
      CHECK(rows(ours, pragma) == rows(theirs, pragma));
    }
    CHECK(rows(ours, "SELECT * FROM version_info") == (revision == "v3.0.0.d" ? "1|12|3.1.0|\n" : "1|12|5.0.0|\n"));
  }
}

TEST_CASE("storage: what cannot be written is said so, and nothing of it changes") {
  Scratch scratch;
  const auto unchanged = [&](const std::string& path, Fault fault, const char* part, bool create) {
    const std::string before = bytes_of(path);
    const Caught found = caught([&] { create ? create_storage(path) : open_storage_for_writing(path); });
    INFO(found.text);
    CHECK(found.fault == fault);
    CHECK(contains(found.text, part));
    CHECK(bytes_of(path) == before);
    CHECK_FALSE(fs::exists(path + "-journal"));
  };
  const std::string text = (scratch.path / "text.db").string();
  std::ofstream(text) << std::string(5000, 'x');
  const std::string other = (scratch.path / "other.db").string();
  SQLite::Database(other, SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE).exec("CREATE TABLE mine (x)");
  for (const bool create : {false, true}) {
    unchanged(text, Fault::incompatible, "is no SQLite database", create);
    unchanged(other, Fault::incompatible, "without the table 'studies'", create);
    unchanged(scratch.changed("optuna_v2.10.1.db", ""), Fault::incompatible,
              "revision v2.6.0.a of Optuna 2.10.1, which is read, but not written", create);
    unchanged(scratch.changed("optuna_v5.0.0.db", "UPDATE alembic_version SET version_num = 'v6.0.0.a'"),
              Fault::incompatible, "revision v6.0.0.a of Optuna 5.0.0, unknown", create);
    unchanged(scratch.changed("optuna_v4.9.0.db", "DROP TABLE trial_heartbeats"), Fault::incompatible,
              "no table 'trial_heartbeats'", create);
  }
  const std::string none = (scratch.path / "none.db").string();
  CHECK(caught([&] { open_storage_for_writing(none); }).fault == Fault::usage);
  CHECK_FALSE(fs::exists(none));
  CHECK(contains(caught([&] { create_storage((scratch.path / "no" / "none.db").string()); }).text, "is no directory"));
  CHECK(caught([&] { create_storage(scratch.path.string()); }).fault == Fault::usage);
  NewStorage wanted;
  wanted.revision = "v2.6.0.a";
  CHECK(contains(caught([&] { create_storage(none, wanted); }).text, "'v2.6.0.a' is not written here"));
  CHECK_FALSE(fs::exists(none));
}

TEST_CASE("storage: a file without write permission is refused for writing") {
  Scratch scratch;
  const std::string path = scratch.changed("optuna_v4.9.0.db", "");
  fs::permissions(path, fs::perms::owner_read | fs::perms::group_read | fs::perms::others_read);
  fs::permissions(scratch.path, fs::perms::all);
  const uid_t user = geteuid();
  if (user == 0) REQUIRE(seteuid(65534) == 0);  // root may write everything
  const Caught found = caught([&] { open_storage_for_writing(path); });
  const std::size_t studies = open_storage(path)->study_names().size();
  if (user == 0) REQUIRE(seteuid(0) == 0);
  CHECK(found.fault == Fault::failed);
  CHECK(contains(found.text, "may not be written"));
  CHECK(studies == 1);
}

TEST_CASE("storage: datetimes are written in the file's convention") {
  use_time_zone("Asia/Tokyo");
  for (const bool local : {false, true}) {
    Scratch scratch;
    const std::string path = (scratch.path / "new.db").string();
    NewStorage wanted;
    wanted.library_version = local ? "4.9.0" : "5.0.0";
    const auto storage = create_storage(path, wanted);
    Trial trial;
    trial.state = State::complete;
    trial.values = {1};
    trial.started = parse_datetime("2026-11-21 23:59:59.999999", false);
    trial.completed = parse_datetime("2026-11-22 00:00:00", false);
    storage->add_trial(storage->create_study("a", {Direction::minimize}), trial);
    SQLite::Database database(path, SQLite::OPEN_READONLY);
    CHECK(database.execAndGet("SELECT datetime_start FROM trials").getString() ==
          (local ? "2026-11-22 08:59:59.999999" : "2026-11-21 23:59:59.999999"));
    CHECK(database.execAndGet("SELECT datetime_complete FROM trials").getString() ==
          (local ? "2026-11-22 09:00:00.000000" : "2026-11-22 00:00:00.000000"));
    CHECK(storage->read_study("a").trials[0].started == trial.started);
  }
  use_time_zone("UTC");
}
