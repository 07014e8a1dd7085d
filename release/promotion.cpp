// Every change of what is deployed: adopt, publish, serve, rollback, refuse. The order of writes is what keeps
// deployments/NAME whole (deployments.md, "Promotion").
#include <algorithm>
#include <cstring>
#include <set>

#include "agents/checkpoint.h"
#include "platform/atomic_file.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/file_fault.h"
#include "platform/lock.h"
#include "platform/log.h"
#include "platform/text.h"
#include "release/deployment.h"
#include "release/directories.h"
#include "release/start.h"
#include "release/versions.h"

namespace ristretto::release {
namespace {

namespace fs = std::filesystem;

constexpr const char* kTemporary = ".tmp-";
constexpr const char* kManifestSuffix = ".manifest.json";

std::string id_of(int number, const std::string& hash) {
  const std::string digits = str(number);
  return str(std::string(kVersionDigits - std::min(kVersionDigits, digits.size()), '0'), digits, '-', hash);
}

std::string now_text() { return iso_utc(now_seconds()); }

Json json_or_null(const std::optional<std::string>& text) { return text ? Json(*text) : Json(nullptr); }

}  // namespace

// Holds the lock of one name. Constructing it finishes or removes what killed runs left.
class VersionStore::Change {
 public:
  // spared: the version that is about to be served.
  Change(VersionStore& store, const std::string& name, const std::string& purpose, const std::string& spared = "")
      : store_(store),
        name_(name),
        versions_(store.versions_of(name)),
        lock_((make_directories(versions_), versions_ / kLock), purpose, store.options_.lock_wait_seconds) {
    remove_leftovers();
    settle();
    trim(spared);
  }

  void adopt() {
    if (store_.slot(name_).kind != Slot::Kind::directory) return;
    const fs::path directory = store_.root_ / name_;
    require_own(directory);
    const Json files = files_of(directory);
    const std::string id = next_id(content_hash(files));
    Json manifest{{"schema_version", kSchemaVersion},
                  {"name", name_},
                  {"version", id},
                  {"status", "unproven"},
                  {"created", now_text()},
                  {"parent", nullptr},
                  {"adopted", true},
                  {"files", files}};
    try {
      manifest["architecture"] = section_of(load(directory).architecture);
    } catch (const Error& error) {
      manifest["damage"] = error.what();  // it is taken over as it is; serving it again will be refused
    }
    step("adopt: manifest");
    write_manifest(versions_ / (id + kManifestSuffix), manifest);
    step("adopt: link");
    fs::create_symlink(link_to(name_, id), versions_ / id);
    sync_path(versions_);
    step("adopt: exchange");
    exchange(directory, versions_ / id);
    step("adopt: sync");
    sync_path(versions_);
    sync_path(store_.root_);
    step("adopt: modes");
    make_read_only(versions_ / id);
    record("adoption", id, std::nullopt, "the directory was there before", Json::array());
  }

  std::string publish(const fs::path& staged, const Publication& publication) {
    verify(staged);
    const fs::path temporary = versions_ / str(kTemporary, "publish");
    step("publish: move");
    move_tree(staged, temporary);
    Json manifest = read_manifest(temporary).value();
    const std::string id = next_id(content_hash(manifest.at("files")));
    manifest["name"] = name_;
    manifest["version"] = id;
    manifest["status"] = publication.status;
    manifest["parent"] = json_or_null(publication.parent);
    manifest["gates"] = publication.gates;
    step("publish: manifest");
    write_manifest(temporary / kManifest, manifest);
    step("publish: modes");
    make_read_only(temporary);
    step("publish: sync");
    sync_tree(temporary);
    step("publish: rename");
    const fs::path final_path = versions_ / id;
    rename_new(temporary, final_path);
    step("publish: sync parent");
    sync_path(versions_);
    step("publish: verify");
    try {
      verify(final_path);
    } catch (const Error&) {
      rename_over(final_path, temporary);
      remove_tree(temporary);
      throw;
    }
    record("publication", id, publication.parent, publication.status, publication.gates);
    return id;
  }

  void serve(const char* event, const std::string& id, const std::string& reason, const Json& gates) {
    const auto gone = store_.linked_but_gone(name_);
    const auto previous = gone ? gone : store_.served(name_);
    verify(versions_ / id);
    const fs::path link = versions_ / str(kTemporary, "link"), place = store_.root_ / name_;
    step("serve: link");
    fs::create_symlink(link_to(name_, id), link);
    step("serve: switch");
    if (previous) {
      rename_over(link, place);
    } else {
      rename_new(link, place);
    }
    step("serve: sync");
    sync_path(store_.root_);
    record(event, id, previous, reason, gates);
  }

  // First to a name that the next change removes, so that no version is ever half there.
  void remove(const std::string& id) {
    const fs::path temporary = versions_ / str(kTemporary, "remove");
    step("prune: rename");
    rename_over(versions_ / id, temporary);
    step("prune: sync");
    sync_path(versions_);
    record("removal", id, std::nullopt, "pruned", Json::array());
    step("prune: remove");
    remove_tree(temporary);
    fs::remove(versions_ / (id + kManifestSuffix));
  }

  void record(const char* event, const std::optional<std::string>& version, const std::optional<std::string>& previous,
              const std::string& reason, const Json& gates) {
    Json line{{"time", now_text()},
              {"event", event},
              {"version", json_or_null(version)},
              {"previous", json_or_null(previous)},
              {"reason", reason}};
    if (!gates.empty()) line["gates"] = gates;
    step("history");
    append_line(versions_ / kHistory, line_of(line));
  }

 private:
  void step(const char* what) const {
    if (store_.options_.before_step) store_.options_.before_step(what);
  }

  // Numbers are never used twice, also after the version was pruned.
  std::string next_id(const std::string& hash) const {
    int last = 0;
    for (const std::string& id : store_.ids(name_)) last = std::max(last, version_number(id).value());
    for (const Json& event : store_.history(name_)) {
      last = std::max(last, version_number(text_field(event, "version")).value_or(0));
    }
    return id_of(last + 1, hash);
  }

  // Everything temporary here was made under the lock, which is ours now: its maker is gone.
  void remove_leftovers() const {
    std::vector<fs::path> leftovers;
    for (const auto& entry : fs::directory_iterator(versions_)) {
      const std::string file = entry.path().filename().string();
      const bool orphan =
          file.ends_with(kManifestSuffix) &&
          !fs::is_directory(fs::symlink_status(versions_ / file.substr(0, file.size() - std::strlen(kManifestSuffix))));
      if (file.starts_with(kTemporary) || entry.is_symlink() || orphan) leftovers.push_back(entry.path());
    }
    for (const fs::path& path : leftovers) remove_tree(path);
  }

  // A run that died behind the switch left no record of it, nor the modes of a directory that it adopted.
  void settle() {
    if (store_.linked_but_gone(name_)) return;
    const auto now = store_.served(name_);
    if (!now) return;
    std::string recorded;
    for (const Json& event : store_.history(name_)) {
      const std::string kind = text_field(event, "event");
      if (kind != "publication" && kind != "refusal" && kind != "removal" && kind != "unreadable") {
        recorded = text_field(event, "version");
      }
    }
    if (recorded == *now) return;
    make_read_only(versions_ / *now);
    record("found", now, recorded.empty() ? std::nullopt : std::optional(recorded),
           "in service without a record: the process that put it there died before it wrote one", Json::array());
  }

  // What a training goes on from is kept of the newest version that has it, of what is or was served, and of `spared`
  // (deployments.md, "On disk"): it is two thirds of an MLP's version. The evidence beside it stays, for a later
  // promotion, and adopted directories as they are.
  void trim(const std::string& spared) {
    if (store_.linked_but_gone(name_)) return;
    std::set<std::string> kept = store_.reachable(name_);
    kept.insert(spared);
    const std::vector<std::string> all = store_.ids(name_);
    const auto newest = std::find_if(all.rbegin(), all.rend(), [&](const std::string& id) {
      return fs::exists(versions_ / id / kTrainingDirectory / agents::kCheckpointFile);
    });
    if (newest != all.rend()) kept.insert(*newest);
    for (const std::string& id : all) {
      const fs::path training = versions_ / id / kTrainingDirectory;
      if (!fs::is_directory(training) || fs::exists(versions_ / (id + kManifestSuffix))) continue;
      try {
        // Where a process died in here.
        const bool open = (fs::status(training).permissions() & fs::perms::owner_write) != fs::perms::none;
        if (open) make_read_only(training);
        if (kept.count(id) > 0) continue;
        for (const char* file : {agents::kCheckpointFile, kStartFile}) {
          if (!fs::exists(training / file)) continue;
          step("trim");
          remove_from_read_only(training / file);
        }
      } catch (const std::exception& error) {  // another user's: that costs room, and is no reason against a change
        log::warning("versions", message_of(error));
      }
    }
  }

  VersionStore& store_;
  std::string name_;
  fs::path versions_;
  FileLock lock_;
};

std::optional<std::string> VersionStore::adopt(const std::string& name) {
  if (slot(name).kind == Slot::Kind::directory) {
    Change(*this, name, "adopt").adopt();
  } else {
    settle(name);
  }
  return served(name);
}

std::string VersionStore::publish(const std::string& name, const fs::path& staged, const Publication& publication) {
  slot(name);  // refuses before anything is moved
  Change change(*this, name, "publish");
  change.adopt();
  return change.publish(staged, publication);
}

void VersionStore::serve(const std::string& name, const std::string& version,
                         const std::optional<std::string>& expected, const std::string& reason, const Json& gates) {
  const std::string id = find(name, version);
  Change change(*this, name, "promote", id);
  change.adopt();
  const auto now = served(name);
  if (now == id) return;  // also where a process died behind the switch and is asked again
  if (now != expected) {
    throw Error(Fault::refused,
                str(name, " serves ", now.value_or("nothing"), " by now, and version ", id, " was judged against ",
                    expected.value_or("nothing")),
                "judge it again, against what is served");
  }
  change.serve("promotion", id, reason, gates);
}

std::string VersionStore::before(const std::string& name) const {
  const auto now = served(name);
  if (!now) return "";
  const std::vector<Json> events = history(name);
  // What was served when it was put in service: not what it was judged against first, if it was judged twice.
  for (auto event = events.rbegin(); event != events.rend(); ++event) {
    const std::string kind = text_field(*event, "event");
    if (text_field(*event, "version") != *now || (kind != "promotion" && kind != "found")) continue;
    const std::string previous = text_field(*event, "previous");
    // "found" of a later version than itself: a rollback that died behind the switch.
    const bool rolled_back = kind == "found" && version_number(previous) > version_number(*now);
    if (!previous.empty() && !rolled_back && fs::exists(versions_of(name) / previous)) return previous;
  }
  for (const Json& event : events) {  // what it was judged against
    if (text_field(event, "event") == "publication" && text_field(event, "version") == *now) {
      return text_field(event, "previous");
    }
  }
  return "";
}

std::set<std::string> VersionStore::reachable(const std::string& name) const {
  return {served(name).value_or(""), before(name), served_until_now(name)};
}

std::string VersionStore::served_until_now(const std::string& name) const {
  std::string previous;
  for (const Json& event : history(name)) {
    const std::string kind = text_field(event, "event");
    if (kind == "promotion" || kind == "rollback" || kind == "found") previous = text_field(event, "previous");
  }
  return previous;
}

std::string VersionStore::rollback_target(const std::string& name, const std::optional<std::string>& to) const {
  require_deployed(name);
  const std::string target = to ? find(name, *to) : before(name);
  const auto now = to && linked_but_gone(name) ? std::nullopt : served(name);
  if (target.empty()) {
    throw Error(Fault::usage, str(name, " serves ", now.value_or("nothing"), ", which has no version before it"),
                "name the version that is meant (--to)");
  }
  if (target == now) throw Error(Fault::usage, str(name, " serves ", target, " already"));
  const std::string id = find(name, target);
  verify(path_of(name, id));
  return id;
}

std::string VersionStore::rollback(const std::string& name, const std::optional<std::string>& to,
                                   const std::string& reason) {
  const bool gone = linked_but_gone(name).has_value();
  // A directory from before the versions stays as it is where nothing can take its place; a change makes the name's.
  if (gone || slot(name).kind != Slot::Kind::version) rollback_target(name, to);
  Change change(*this, name, "rollback", to ? find(name, *to) : std::string());
  const std::string target = rollback_target(name, to);
  if (!gone) change.adopt();
  change.serve("rollback", target, reason, Json::array());
  return target;
}

std::vector<std::string> VersionStore::prune(const std::string& name, std::int64_t keep, bool dry_run) {
  if (ids(name).empty()) return {};
  const auto removable = [&] {
    const std::vector<Version> all = list(name);
    std::set<std::string> kept = reachable(name);
    for (const Version& version : all) {
      if (version.served) kept.insert(version.parent);
    }
    std::vector<std::string> ids;
    for (std::size_t k = 0; k < all.size(); ++k) {
      const bool newest = static_cast<std::int64_t>(all.size() - k) <= keep;
      if (!newest && kept.count(all[k].id) == 0 && all[k].status != "proven") ids.push_back(all[k].id);
    }
    return ids;
  };
  if (dry_run) return removable();
  Change change(*this, name, "prune");
  const std::vector<std::string> ids = removable();
  for (const std::string& id : ids) change.remove(id);
  return ids;
}

void VersionStore::settle(const std::string& name) {
  if (!ids(name).empty()) Change(*this, name, "settle");
}

void VersionStore::refuse(const std::string& name, const std::optional<std::string>& version, const std::string& reason,
                          const Json& gates) {
  Change change(*this, name, "refuse");
  change.record("refusal", version, served(name), reason, gates);
}

}  // namespace ristretto::release
