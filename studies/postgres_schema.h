// Optuna's tables as SQLAlchemy makes them in PostgreSQL (tests/golden/optuna/ddl_postgresql_v3.2.0.a.sql).
#pragma once

#include <pqxx/transaction_base>

#include "studies/storage.h"

namespace ristretto::studies {

// Makes the tables where there are none of Optuna's, of a revision that is written, with the two rows of its version.
// Of processes that do so at the same time one makes them, and the others wait for it.
void create_schema(pqxx::transaction_base& transaction, const NewStorage& wanted);

}  // namespace ristretto::studies
