// The tables of an Optuna SQLite file (study.md, "Revisions", "Tables").
#pragma once

#include <SQLiteCpp/Database.h>

#include "studies/storage.h"

namespace ristretto::studies {

// Makes the tables of an empty database, of a revision that is written, with the two rows of its version. Inside a
// transaction.
void create_schema(SQLite::Database& database, const NewStorage& wanted);

}  // namespace ristretto::studies
