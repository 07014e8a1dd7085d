#include "studies/storage.h"

#include <filesystem>

#include "platform/error.h"
#include "platform/text.h"
#include "studies/distribution.h"
#include "studies/postgres.h"
#include "studies/sqlite.h"

namespace ristretto::studies {

std::string url_path(const std::string& url) {
  const char* expected =
      "sqlite:///relative.db, sqlite:////absolute.db, a path, or postgresql://user:password@host:port/dbname";
  std::string path = url;
  if (const std::size_t scheme = url.find("://"); scheme != std::string::npos) {
    const std::string dialect = url.substr(0, url.find_first_of("+:"));
    if (dialect != "sqlite") {
      throw Error(Fault::usage,
                  str("the storage '", url.substr(0, scheme), "://...' is no SQLite file; expected ", expected));
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

std::string without_password(const std::string& text) {
  std::string shown = text;
  if (const std::size_t scheme = shown.find("://"); scheme != std::string::npos) {
    const std::size_t begin = shown.find(':', scheme + 3), end = shown.rfind('@');
    if (begin < end && end != std::string::npos) shown.replace(begin + 1, end - begin - 1, "***");
  }
  const std::string option = "password=";
  for (std::size_t at = shown.find(option); at != std::string::npos; at = shown.find(option, at + option.size())) {
    const std::size_t begin = at + option.size();
    shown.replace(begin, std::min(shown.find('&', begin), shown.size()) - begin, "***");
  }
  return shown;
}

namespace {

// The path of a file that there is.
std::string existing_path(const std::string& url) {
  const std::string path = url_path(url);
  std::error_code ignored;
  const std::filesystem::file_status status = std::filesystem::status(path, ignored);
  if (!std::filesystem::exists(status)) {
    throw Error(Fault::usage, str(path, " does not exist, expected an Optuna database"), "check --storage");
  }
  if (!std::filesystem::is_regular_file(status)) {
    throw Error(Fault::usage, str(path, " is no regular file, expected an Optuna database"), "check --storage");
  }
  return path;
}

}  // namespace

std::unique_ptr<Storage> open_storage(const std::string& url, const StorageOptions& options) {
  if (is_postgres(url)) return open_postgres(url, options);
  return open_sqlite(existing_path(url), options);
}

std::unique_ptr<Storage> open_if_there(const std::string& url) {
  if (is_postgres(url)) {
    try {
      return open_postgres(url, {});
    } catch (const Error& error) {
      if (error.fault() == Fault::incompatible) return nullptr;
      throw;
    }
  }
  const std::string path = url_path(url);
  std::error_code ignored;  // what is no regular file is there, and refused
  if (!std::filesystem::exists(path, ignored)) return nullptr;
  if (std::filesystem::is_regular_file(path, ignored) && std::filesystem::file_size(path, ignored) == 0) return nullptr;
  return open_storage(url);
}

std::unique_ptr<WritableStorage> open_storage_for_writing(const std::string& url, const StorageOptions& options) {
  if (is_postgres(url)) return open_postgres_for_writing(url, options);
  return open_sqlite_for_writing(existing_path(url), options);
}

std::unique_ptr<WritableStorage> create_storage(const std::string& url, const NewStorage& wanted,
                                                const StorageOptions& options) {
  if (is_postgres(url)) return create_postgres(url, wanted, options);
  const std::string path = url_path(url);
  std::error_code ignored;
  if (std::filesystem::exists(path, ignored)) existing_path(url);
  const std::filesystem::path directory = std::filesystem::absolute(path).parent_path();
  if (!std::filesystem::is_directory(directory, ignored)) {
    throw Error(Fault::usage, str(directory.string(), " is no directory, expected the one to make ", path, " in"),
                "check --storage");
  }
  return create_sqlite(path, wanted, options);
}

Trial enqueue(WritableStorage& storage, std::int64_t study_id,
              const std::vector<std::pair<std::string, agents::Value>>& fixed_params,
              const std::vector<Attribute>& user_attributes) {
  Trial trial;
  trial.state = State::waiting;
  trial.user_attributes = user_attributes;
  formats::Json fixed;
  fixed.kind = formats::Json::Kind::object;
  for (const auto& [name, value] : fixed_params) fixed.members.emplace_back(name, json_of(value));
  trial.system_attributes.push_back({"fixed_params", std::move(fixed)});
  return storage.add_trial(study_id, trial);
}

namespace {

// What a trial that runs `failed` again begins with.
Trial another_try(const Trial& failed) {
  Trial trial;
  trial.state = State::waiting;
  trial.params = failed.params;
  trial.user_attributes = failed.user_attributes;
  for (const Attribute& attribute : failed.system_attributes) {
    if (attribute.key.rfind("completed_rung_", 0) != 0) trial.system_attributes.push_back(attribute);
  }
  if (!find(trial.system_attributes, "failed_trial")) {
    trial.system_attributes.push_back({"failed_trial", json_of(failed.number)});
  }
  if (!find(trial.system_attributes, "retry_history")) {
    formats::Json none;
    none.kind = formats::Json::Kind::array;
    trial.system_attributes.push_back({"retry_history", none});
  }
  return trial;
}

}  // namespace

std::optional<Trial> retry(WritableStorage& storage, std::int64_t study_id, const Trial& failed,
                           std::size_t most_retries) {
  Trial trial = another_try(failed);
  for (Attribute& attribute : trial.system_attributes) {
    if (attribute.key != "retry_history") continue;
    if (attribute.value.items.size() >= most_retries) return std::nullopt;
    attribute.value.items.push_back(json_of(failed.number));
  }
  return storage.add_trial(study_id, trial);
}

Trial queue_again(WritableStorage& storage, std::int64_t study_id, const Trial& interrupted) {
  return storage.add_trial(study_id, another_try(interrupted));
}

}  // namespace ristretto::studies
