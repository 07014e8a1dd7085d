#include "release/versions.h"

#include <sys/stat.h>

#include <algorithm>
#include <set>

#include "platform/atomic_file.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/file_fault.h"
#include "platform/text.h"

namespace ristretto::release {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kVersionHashDigits = 12, kNameLimit = 100;
constexpr mode_t kWriteBits = 0222;
constexpr std::int64_t kClockSlackSeconds = 60;  // that a time server may step a clock back by

}  // namespace

std::optional<int> version_number(const std::string& id) {
  const std::size_t dash = id.find('-');
  if (dash == std::string::npos || dash < kVersionDigits || id.size() != dash + 1 + kVersionHashDigits ||
      id.find_first_not_of("0123456789abcdef", dash + 1) != std::string::npos ||
      id.find_first_not_of("0123456789") != dash) {
    return std::nullopt;
  }
  return parse_number<int>(id.substr(0, dash));
}

void require_name(const std::string& name) {
  static const std::string kFirst = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
  if (name.empty() || name.size() > kNameLimit || kFirst.find(name[0]) == std::string::npos ||
      name.find_first_not_of(kFirst + "._-") != std::string::npos) {
    throw Error(Fault::usage, str("a deployment cannot be called '", name, "'"),
                str("a name has 1 to ", kNameLimit, " letters, digits, '.', '_' and '-', and a letter or digit first"));
  }
}

VersionStore::VersionStore(fs::path deployments, StoreOptions options)
    : root_(std::move(deployments)), options_(std::move(options)) {}

fs::path VersionStore::versions_of(const std::string& name) const {
  require_name(name);
  return root_ / kVersions / name;
}

fs::path VersionStore::link_to(const std::string& name, const std::string& version) {
  return fs::path(kVersions) / name / version;
}

fs::path VersionStore::path_of(const std::string& name, const std::string& version) const {
  return versions_of(name) / version;
}

std::vector<std::string> VersionStore::ids(const std::string& name) const {
  std::vector<std::pair<int, std::string>> found;
  const fs::path directory = versions_of(name);
  if (fs::exists(directory)) {
    for (const auto& entry : fs::directory_iterator(directory)) {
      const std::string id = entry.path().filename().string();
      // A link of that name is what a killed adoption left.
      if (const auto number = version_number(id); number && fs::is_directory(entry.symlink_status())) {
        found.emplace_back(*number, id);
      }
    }
  }
  std::sort(found.begin(), found.end());
  std::vector<std::string> out;
  for (auto& [number, id] : found) out.push_back(std::move(id));
  return out;
}

std::vector<std::string> VersionStore::names() const {
  std::set<std::string> found;
  const auto collect = [&](const fs::path& directory, bool links) {
    if (!fs::exists(directory)) return;
    for (const auto& entry : fs::directory_iterator(directory)) {
      const std::string name = entry.path().filename().string();
      const auto status = entry.symlink_status();
      if (name.starts_with(".")) continue;
      if (fs::is_directory(status) || (links && fs::is_symlink(status))) found.insert(name);
    }
  };
  collect(root_, true);
  collect(root_ / kVersions, false);
  return {found.begin(), found.end()};
}

Slot VersionStore::slot(const std::string& name) const {
  const fs::path path = root_ / name, versions = versions_of(name);
  const auto status = fs::symlink_status(path);
  if (!fs::exists(status)) return {};
  if (fs::is_directory(status)) {
    std::error_code unreadable;
    if (fs::is_empty(path, unreadable) && !unreadable) {
      throw Error(Fault::incompatible,
                  str(path.string(), " is an empty directory, expected a model or a link to a version"), "remove it");
    }
    return {Slot::Kind::directory, ""};
  }
  if (!fs::is_symlink(status)) {
    throw Error(Fault::incompatible, str(path.string(), " is a file, expected a directory or a link to a version"),
                "move it away");
  }
  const fs::path target = fs::read_symlink(path);
  const std::string id = target.filename().string();
  if (!version_number(id) || target != link_to(name, id)) {
    throw Error(
        Fault::incompatible,
        str(path.string(), " is a link to ", target.string(), ", expected one to ", kVersions, "/", name, "/<version>"),
        "this program did not make it: replace it by the directory that it leads to, which is adopted then");
  }
  if (!fs::is_directory(fs::symlink_status(versions / id))) {
    throw Error(Fault::incompatible, str(path.string(), " is a link to ", target.string(), ", which does not exist"),
                ids(name).empty() ? "remove the link: the next retrain makes a version"
                                  : str("put another version in service: ristretto rollback ", name, " --to VERSION"));
  }
  return {Slot::Kind::version, id};
}

std::optional<std::string> VersionStore::linked_but_gone(const std::string& name) const {
  const fs::path path = root_ / name;
  if (!fs::is_symlink(fs::symlink_status(path))) return std::nullopt;
  const std::string id = fs::read_symlink(path).filename().string();
  const bool ours = version_number(id) && fs::read_symlink(path) == link_to(name, id);
  if (!ours || fs::is_directory(fs::symlink_status(path_of(name, id)))) return std::nullopt;
  return id;
}

bool VersionStore::deployed(const std::string& name) const {
  return fs::exists(fs::symlink_status(root_ / name)) || !ids(name).empty();
}

void VersionStore::require_deployed(const std::string& name) const {
  if (deployed(name)) return;
  const std::vector<std::string> there = names();
  throw Error(Fault::usage, str("there is no deployment '", name, "' in ", root_.string()),
              there.empty() ? "retrain makes one" : "there are: " + join(there, ", "));
}

std::optional<std::string> VersionStore::served(const std::string& name) const {
  const Slot found = slot(name);
  return found.kind == Slot::Kind::version ? std::optional(found.version) : std::nullopt;
}

std::vector<Version> VersionStore::list(const std::string& name) const {
  std::optional<std::string> now;
  try {
    now = served(name);
  } catch (const Error& error) {
    // check() says what is wrong with it.
    if (error.fault() != Fault::incompatible) throw;
  }
  std::vector<Version> out;
  for (const std::string& id : ids(name)) {
    Version version{id, version_number(id).value(), path_of(name, id), "damaged", "", "", id == now};
    try {
      if (const auto manifest = read_manifest(version.path)) {
        version.status = text_field(*manifest, "status");
        if (version.status.empty()) version.status = "unproven";  // adopted with a manifest of its own
        version.parent = text_field(*manifest, "parent");
        version.created = text_field(*manifest, "created");
      }
    } catch (const Error&) {
      // Its status says so; check() says why.
    }
    out.push_back(std::move(version));
  }
  return out;
}

std::string VersionStore::find(const std::string& name, const std::string& version) const {
  const std::vector<std::string> known = ids(name);
  const auto number = parse_number<int>(version);
  for (const std::string& id : known) {
    if (id == version || (number && version_number(id) == number)) return id;
  }
  throw Error(Fault::usage, str(name, " has no version '", version, "'"),
              known.empty() ? str(name, " has no versions") : "there are: " + join(known, ", "));
}

std::vector<Json> VersionStore::history(const std::string& name) const {
  const fs::path path = versions_of(name) / kHistory;
  std::vector<Json> events;
  if (!fs::exists(path)) return events;
  for (const std::string& line : split(read_file(path), '\n')) {
    if (line.empty()) continue;
    Json event = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!event.is_object()) event = {{"event", "unreadable"}, {"line", line}};
    events.push_back(std::move(event));
  }
  return events;
}

std::string VersionStore::published_as(const std::string& name, const std::string& version) const {
  for (const Json& event : history(name)) {
    if (text_field(event, "event") == "publication" && text_field(event, "version") == version) {
      return text_field(event, "reason");
    }
  }
  return "";
}

std::vector<std::string> VersionStore::check(const std::string& name) const {
  std::vector<std::string> problems;
  std::optional<std::string> now;
  try {
    now = served(name);
  } catch (const Error& error) {
    problems.push_back(error.what());
  }
  for (const std::string& id : ids(name)) {
    std::vector<std::string> of_version = check(name, id);
    if (of_version.empty() && id == now) {
      if (const std::string damage = text_field(*read_manifest(path_of(name, id)), "damage"); !damage.empty()) {
        of_version.push_back(str(path_of(name, id).string(), " was taken over as it was: ", damage));
      }
    }
    problems.insert(problems.end(), of_version.begin(), of_version.end());
  }
  return problems;
}

std::vector<std::string> VersionStore::check(const std::string& name, const std::string& version) const {
  std::vector<std::string> problems;
  std::vector<fs::path> writable;
  const auto require_mode = [&](const fs::path& path) {
    struct stat status {};
    if (lstat(path.c_str(), &status) == 0 && (status.st_mode & kWriteBits) != 0) writable.push_back(path);
  };
  const fs::path directory = path_of(name, version);
  require_mode(directory);
  try {
    for (const auto& entry : fs::recursive_directory_iterator(directory)) require_mode(entry.path());
    const auto manifest = read_manifest(directory);
    if (!manifest) throw Error(Fault::incompatible, directory.string() + " has no manifest");
    require_files(directory, *manifest);
    if (!version.ends_with(content_hash(manifest->at("files")))) {
      throw Error(Fault::incompatible, directory.string() + " is not named after its files: its manifest was changed");
    }
    const std::string status = text_field(*manifest, "status"), published = published_as(name, version);
    if (!published.empty() && status != published) {
      throw Error(Fault::incompatible, str(directory.string(), " was published as ", published,
                                           ", and its manifest says ", status, ": it was changed"));
    }
  } catch (const Error& error) {
    problems.push_back(error.what());
  } catch (const fs::filesystem_error& error) {  // it is gone, or nobody may read it
    problems.push_back(message_of(error));
  }
  if (!writable.empty()) {
    problems.insert(problems.begin(),
                    str(directory.string(), ": ", writable.size(), " of its files and directories can be written to (",
                        std::min_element(writable.begin(), writable.end())->string(),
                        "), expected 0444 for files and 0555 for directories: something may write through the link"));
  }
  return problems;
}

void VersionStore::require_clock(const std::string& name) const {
  const std::int64_t now = now_seconds();
  std::int64_t latest = 0;
  for (const Json& event : history(name)) latest = std::max(latest, parse_utc(text_field(event, "time")).value_or(0));
  if (now + kClockSlackSeconds >= latest) return;
  throw Error(Fault::failed,
              str("the clock reads ", iso_utc(now), ", but the last change of ", name, " was at ", iso_utc(latest)),
              "set the clock (timedatectl)");
}

void require_room(const fs::path& directory, std::int64_t bytes) {
  fs::path existing = fs::absolute(directory);
  while (!fs::exists(existing)) existing = existing.parent_path();
  const auto available = static_cast<std::int64_t>(fs::space(existing).available);
  if (available < bytes) {
    throw Error(Fault::failed,
                str(directory.string(), " has room for ", with_thousands(available), " bytes, expected ",
                    with_thousands(bytes)),
                "remove old versions (ristretto prune) and old runs, or choose a smaller network");
  }
}

}  // namespace ristretto::release
