// The tables of an Optuna SQLite file (study.md, "Revisions", "Tables").
#pragma once

#include <SQLiteCpp/Database.h>

#include <string>
#include <vector>

#include "studies/storage.h"

namespace ristretto::studies {

inline constexpr std::int64_t kSchemaVersion = 12;  // version_info.schema_version of every revision

inline constexpr const char* kOldestReadable = "v2.6.0.a";
bool is_readable(const std::string& revision);
bool is_writable(const std::string& revision);

struct Table {
  const char* name;
  std::vector<const char*> columns;
};
// Those that are read, with the columns that all revisions have.
const std::vector<Table>& required_tables();

// Makes the tables of an empty database, of a revision that is written, with the two rows of its version. Inside a
// transaction.
void create_schema(SQLite::Database& database, const NewStorage& wanted);

}  // namespace ristretto::studies
