// Optuna's SQLite files (study.md).
#pragma once

#include <memory>
#include <string>

#include "studies/storage.h"

namespace ristretto::studies {

// As open_storage, of an existing regular file.
std::unique_ptr<Storage> open_sqlite(const std::string& path, const StorageOptions& options);

}  // namespace ristretto::studies
