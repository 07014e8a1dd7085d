#include "studies/storage.h"

#include <filesystem>

#include "platform/error.h"
#include "platform/text.h"
#include "studies/sqlite.h"

namespace ristretto::studies {

std::string url_path(const std::string& url) {
  const char* expected = "sqlite:///relative.db, sqlite:////absolute.db or a path";
  std::string path = url;
  if (const std::size_t scheme = url.find("://"); scheme != std::string::npos) {
    const std::string dialect = url.substr(0, url.find_first_of("+:"));
    if (dialect != "sqlite") {
      throw Error(Fault::usage,
                  str("the storage '", url.substr(0, scheme),
                      "://...' is no SQLite file, the only kind that this version ", "supports; expected ", expected));
    }
    path = url.substr(scheme + 3);
    if (path.empty() || path[0] != '/') {
      throw Error(Fault::usage, str("the storage '", url, "' names no file, expected ", expected));
    }
    path.erase(0, 1);
    if (path.find('?') != std::string::npos) {
      throw Error(Fault::usage, str("the storage '", url, "' has options behind '?', expected ", expected));
    }
  }
  if (path.empty() || path == ":memory:") {
    throw Error(Fault::usage, str("the storage '", url, "' names no file, expected ", expected));
  }
  return path;
}

std::unique_ptr<Storage> open_storage(const std::string& url, const StorageOptions& options) {
  const std::string path = url_path(url);
  std::error_code ignored;
  const std::filesystem::file_status status = std::filesystem::status(path, ignored);
  if (!std::filesystem::exists(status)) {
    throw Error(Fault::usage, str(path, " does not exist, expected an Optuna database"), "check --storage");
  }
  if (!std::filesystem::is_regular_file(status)) {
    throw Error(Fault::usage, str(path, " is no regular file, expected an Optuna database"), "check --storage");
  }
  return open_sqlite(path, options);
}

}  // namespace ristretto::studies
