// Optuna's SQLite files (study.md).
#pragma once

#include <memory>
#include <string>

#include "studies/storage.h"

namespace ristretto::studies {

// As open_storage and open_storage_for_writing, of an existing regular file.
std::unique_ptr<Storage> open_sqlite(const std::string& path, const StorageOptions& options);
std::unique_ptr<WritableStorage> open_sqlite_for_writing(const std::string& path, const StorageOptions& options);
// As create_storage, in a directory that there is.
std::unique_ptr<WritableStorage> create_sqlite(const std::string& path, const NewStorage& wanted,
                                               const StorageOptions& options);

}  // namespace ristretto::studies
