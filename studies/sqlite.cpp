#include "studies/sqlite.h"

#include <sqlite3.h>

#include "platform/text.h"
#include "studies/sqlite_schema.h"
#include "studies/sqlite_storage.h"

namespace ristretto::studies {

namespace {

std::string shown(const SQLite::Column& column) {
  return column.isNull() ? "NULL" : column.isText() ? str("'", column.getString(), "'") : column.getString();
}

template <class Work>
auto guarded(const std::string& path, const char* aim, Work work) {
  try {
    return work();
  } catch (const SQLite::Exception& error) {
    refuse(path, error, aim);
  }
}

// Makes the tables where the file has none at all; whoever gets the lock first does.
void make_tables(const std::string& path, const NewStorage& wanted, const StorageOptions& options) {
  require_writable(wanted);
  SQLite::Database database(path, SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE, options.busy_timeout_ms);
  const auto empty = [&] { return database.execAndGet("SELECT count(*) FROM sqlite_master").getInt() == 0; };
  if (!empty()) return;
  SQLite::Transaction transaction(database, SQLite::TransactionBehavior::IMMEDIATE);
  if (!empty()) return;
  create_schema(database, wanted);
  transaction.commit();
}

// What a writer that was killed left in the journal has to be undone before anybody can read, and a connection for
// reading may not.
void roll_back_journal(const std::string& path, const StorageOptions& options) {
  SQLite::Database database(path, SQLite::OPEN_READWRITE, options.busy_timeout_ms);
  database.execAndGet("SELECT count(*) FROM sqlite_master");
}

}  // namespace

void damaged(const std::string& where, const SQLite::Column& column, const char* expected) {
  throw Error(Fault::incompatible, str(where, " is ", shown(column), ", expected ", expected));
}

bool is_busy(const SQLite::Exception& error) {
  return error.getErrorCode() == SQLITE_BUSY || error.getErrorCode() == SQLITE_LOCKED;
}

void refuse(const std::string& path, const SQLite::Exception& error, const char* aim) {
  const std::string verb = aim;
  switch (error.getErrorCode()) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      throw Error(Fault::busy, str(path, " stayed locked by another process, expected to ", verb, " it"),
                  "try again later");
    case SQLITE_NOTADB:
      throw Error(Fault::incompatible, str(path, " is no SQLite database, expected one of Optuna's"));
    case SQLITE_CORRUPT:
      throw Error(Fault::incompatible, str(path, " is a damaged SQLite database (", error.what(), ")"),
                  "restore it from a copy");
    case SQLITE_CANTOPEN:
    case SQLITE_READONLY:
    case SQLITE_PERM:
      if (verb == "write") {
        throw Error(Fault::failed, str(path, " cannot be written (", error.what(), ")"),
                    "the file and its directory, where SQLite keeps its journal, must be writable");
      }
      throw Error(Fault::failed, str(path, " cannot be opened for reading (", error.what(), ")"),
                  "the file and, in WAL mode or after a crash of its writer, its directory must be accessible");
    default:
      throw Error(Fault::failed, str(path, ": SQLite says '", error.what(), "'"));
  }
}

SqliteStorage::SqliteStorage(const std::string& path, bool writable, const StorageOptions& options)
    : database_(path, writable ? SQLite::OPEN_READWRITE : SQLite::OPEN_READONLY, options.busy_timeout_ms),
      busy_timeout_ms_(options.busy_timeout_ms) {
  info_.path = path;
  info_.url = str("sqlite:///", path);
  if (writable) database_.exec("PRAGMA foreign_keys = ON");
  SQLite::Transaction transaction(database_, SQLite::TransactionBehavior::DEFERRED);
  check_revision();
  check_columns();
  if (writable) check_writable();
  typed_values_ = has_column("trial_values", "value_type");
  typed_reports_ = has_column("trial_intermediate_values", "intermediate_value_type");
  info_.local_datetimes = is_local(info_, options);
}

bool SqliteStorage::has_column(const std::string& table, const std::string& column) {
  SQLite::Statement query(database_, "SELECT 1 FROM pragma_table_info(?) WHERE name = ?");
  query.bind(1, table);
  query.bind(2, column);
  return query.executeStep();
}

bool SqliteStorage::has_table(const std::string& table) {
  SQLite::Statement query(database_, "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?");
  query.bind(1, table);
  return query.executeStep();
}

void SqliteStorage::require_table(const char* table) {
  if (has_table(table)) return;
  if (!has_table("studies")) {
    throw Error(Fault::incompatible, str(info_.path, " is a database without the table 'studies', expected Optuna's"));
  }
  no_table(info_, table);
}

void SqliteStorage::check_revision() {
  require_table("alembic_version");
  require_table("version_info");
  const std::string hint = str("optuna storage upgrade --storage ", info_.url);
  SQLite::Statement revision(database_, "SELECT version_num FROM alembic_version");
  if (!revision.executeStep()) {
    throw Error(Fault::incompatible, str(info_.path, " names no schema revision, expected one in alembic_version"),
                hint);
  }
  info_.revision = text(revision.getColumn(0), [&] { return str(info_.path, ": the schema revision"); });
  SQLite::Statement version(database_, "SELECT schema_version, library_version FROM version_info");
  if (!version.executeStep()) {
    throw Error(Fault::incompatible, str(info_.path, ": version_info is empty, expected Optuna's version"));
  }
  info_.library_version = text(version.getColumn(1), [&] { return str(info_.path, ": the library version"); });
  require_readable(info_,
                   integer(version.getColumn(0), [&] { return str(info_.path, ": version_info.schema_version"); }));
}

void SqliteStorage::check_columns() {
  for (const Table& table : required_tables()) {
    require_table(table.name);
    for (const char* column : table.columns) {
      if (has_column(table.name, column)) continue;
      throw Error(Fault::incompatible, str(info_.path, ": the table '", table.name, "' has no column '", column, "'"));
    }
  }
}

void SqliteStorage::check_writable() {
  // SQLite opens a file without write permission for reading, silently.
  if (sqlite3_db_readonly(database_.getHandle(), "main") != 0) {
    throw Error(Fault::failed, str(info_.path, " may not be written by this user"), "check the file's permissions");
  }
  require_writable(info_);
  require_table("trial_heartbeats");
}

std::unique_ptr<Storage> open_sqlite(const std::string& path, const StorageOptions& options) {
  return guarded(path, "read", [&] {
    try {
      return std::make_unique<SqliteStorage>(path, false, options);
    } catch (const SQLite::Exception& error) {
      if (error.getExtendedErrorCode() != SQLITE_READONLY_ROLLBACK) throw;
      roll_back_journal(path, options);
      return std::make_unique<SqliteStorage>(path, false, options);
    }
  });
}

std::unique_ptr<WritableStorage> open_sqlite_for_writing(const std::string& path, const StorageOptions& options) {
  return guarded(path, "write", [&] { return std::make_unique<SqliteStorage>(path, true, options); });
}

std::unique_ptr<WritableStorage> create_sqlite(const std::string& path, const NewStorage& wanted,
                                               const StorageOptions& options) {
  guarded(path, "write", [&] { make_tables(path, wanted, options); });
  return open_sqlite_for_writing(path, options);
}

}  // namespace ristretto::studies
