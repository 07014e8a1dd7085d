// Optuna's tables in a PostgreSQL database (study.md, "PostgreSQL").
#pragma once

#include <memory>
#include <string>

#include "studies/storage.h"

namespace ristretto::studies {

bool is_postgres(const std::string& url);

// libpq's connection string for SQLAlchemy's postgresql://user:password@host:port/dbname?key=value, each part optional
// and percent-encoded, with any driver behind a '+'. Throws Error(usage), without the password.
std::string connection_string(const std::string& url, bool writable, const StorageOptions& options);

// As open_storage, open_storage_for_writing and create_storage, of a database that there is. Error(failed) for a server
// that cannot be reached or refuses us; a connection that is lost later is made again until the timeout for locks is
// over, then it is Error(busy).
std::unique_ptr<Storage> open_postgres(const std::string& url, const StorageOptions& options);
std::unique_ptr<WritableStorage> open_postgres_for_writing(const std::string& url, const StorageOptions& options);
std::unique_ptr<WritableStorage> create_postgres(const std::string& url, const NewStorage& wanted,
                                                 const StorageOptions& options);

}  // namespace ristretto::studies
