// Where studies are kept: an Optuna RDB file, named by Optuna's URL. The interface is free of databases; sqlite.cpp has
// all the SQL of one.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "studies/study.h"

namespace ristretto::studies {

// Optuna up to 4.9 writes a trial's datetimes in local time, from 5.0 in UTC; nothing in the file says which, so the
// version that made it decides, unless this says otherwise.
enum class Datetimes { by_version, utc, local };

struct StorageOptions {
  int busy_timeout_ms = 60000;  // how long a lock of another process is waited for
  Datetimes datetimes = Datetimes::by_version;
};

struct StorageInfo {
  std::string path;             // of the file
  std::string url;              // sqlite:///..., as Optuna names it
  std::string revision;         // alembic's, such as v3.2.0.a
  std::string library_version;  // of the Optuna that made or last upgraded it
};

// One connection: of one thread, and not carried over a fork. Faults of the file are Error(incompatible) with file and
// place, a lock that lasts is Error(busy).
class Storage {
 public:
  virtual ~Storage() = default;
  virtual const StorageInfo& info() const = 0;
  // In the order of their creation.
  virtual std::vector<std::string> study_names() = 0;
  // All of it, from one moment. Throws Error(usage) that lists the known names where `name` is none of them.
  virtual Study read_study(const std::string& name) = 0;
};

// Opens for reading only: not a byte of the file changes. Throws Error(usage) for what url_path refuses and for a file
// that is not there, Error(incompatible) for one that is no Optuna database or of a revision that is not read here
// (study.md, "Revisions").
std::unique_ptr<Storage> open_storage(const std::string& url, const StorageOptions& options = {});

// The path of sqlite:///relative.db, sqlite:////absolute.db or of a plain path. Throws Error(usage) for other
// databases.
std::string url_path(const std::string& url);

}  // namespace ristretto::studies
