// Versions of a deployment: written once, never changed but for what a training goes on from (publish), one of them
// served (deployments.md, "Promotion", "On disk").
//
//   deployments/NAME                               a relative link to the version that is served
//   deployments/.versions/NAME/NNNN-<sha12>/       a version: 0555; its files' hash ends its name
//   deployments/.versions/NAME/NNNN-<sha12>.manifest.json   of a directory that was there before and was adopted
//   deployments/.versions/NAME/history.jsonl, lock; ledger.jsonl is the ledger's (ledger.h)
//
// Whatever instant a process dies at, deployments/NAME opens as one complete version.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "release/manifest.h"

namespace ristretto::release {

inline constexpr const char* kVersions = ".versions";
inline constexpr const char* kHistory = "history.jsonl";
inline constexpr const char* kLock = "lock";
inline constexpr const char* kNightlyLock = "nightly.lock";  // in .versions: one night at a time
inline constexpr std::size_t kVersionDigits = 4;

struct Version {
  std::string id;  // "0007-3f2a91c04b1d"
  int number = 0;
  std::filesystem::path path;
  std::string status;   // of its manifest: "unproven", "better, unproven", "proven"; "damaged" where it cannot be read
  std::string parent;   // "" for none
  std::string created;  // UTC
  bool served = false;
};

// What a version's manifest gets when it is published.
struct Publication {
  std::optional<std::string> parent;  // the version that it was judged against
  std::string status;                 // Verdict::status
  Json gates = Json::array();         // what each decided
};

// What stands at deployments/NAME.
struct Slot {
  enum class Kind { empty, directory, version };
  Kind kind = Kind::empty;
  std::string version;  // of a version
};

struct StoreOptions {
  double lock_wait_seconds = 10;                      // for another promoter of the same name
  std::function<void(const char* step)> before_step;  // called before each write; for tests that die there
};

// All versions of all names under one deployments directory. Changes of a name hold its lock; reading needs none. All
// functions throw Error(usage) for a name that is no plain one, Error(incompatible) where deployments/NAME is a plain
// file, a link that leads nowhere or one that is not ours, and those that change something Error(busy) while another
// process does.
class VersionStore {
 public:
  explicit VersionStore(std::filesystem::path deployments, StoreOptions options = {});

  // Everything deployed, in order: what has versions, and directories that have none yet.
  std::vector<std::string> names() const;
  Slot slot(const std::string& name) const;
  // Whether anything is there as `name`, or it has a version: names() has those too of which nothing ever passed.
  bool deployed(const std::string& name) const;
  // Throws Error(usage) naming those that there are where nothing is deployed as `name`.
  void require_deployed(const std::string& name) const;
  // The version that is served; nothing where the slot is empty or still a plain directory.
  std::optional<std::string> served(const std::string& name) const;
  std::vector<Version> list(const std::string& name) const;  // by number
  // "7", "0007" or the whole id -> the id. Throws Error(usage) naming those that there are.
  std::string find(const std::string& name, const std::string& version) const;
  std::filesystem::path path_of(const std::string& name, const std::string& version) const;
  // What happened, oldest first: {time, event: adoption | publication | promotion | rollback | refusal | removal |
  // found,
  // version, previous, reason, gates}. A line that a crash cut is {event: "unreadable"}.
  std::vector<Json> history(const std::string& name) const;
  // Every version re-hashed, and its modes, and whether what is served was damaged when it was adopted: one sentence a
  // problem.
  std::vector<std::string> check(const std::string& name) const;
  // Whether one is as it was written.
  std::vector<std::string> check(const std::string& name, const std::string& version) const;
  // Throws Error(failed) where the clock is behind what happened last: what is judged now would be of another day.
  void require_clock(const std::string& name) const;

  // Finishes or removes what killed processes left of changes of this name; adopt() and every change begin so.
  void settle(const std::string& name);
  // Takes a plain directory over as a version, by an atomic exchange, its contents unchanged; returns what is served.
  std::optional<std::string> adopt(const std::string& name);
  // Moves a directory written by stage() in as the next version and returns its id. It is not served. Before, leftovers
  // of killed runs are removed and a plain directory is adopted. Throws Error(incompatible) where it does not verify,
  // also from its final place (it is removed then). What a training goes on from (training/) stays in the newest
  // version and in what is or was served; each change of a name removes it from its others.
  std::string publish(const std::string& name, const std::filesystem::path& staged, const Publication& publication);
  // Re-verifies the version and puts it in service. `expected`: what it was judged against (nothing: an empty slot).
  // Throws Error(refused) where something else is served by now, Error(incompatible) where the version does not verify.
  void serve(const std::string& name, const std::string& version, const std::optional<std::string>& expected,
             const std::string& reason, const Json& gates = Json::array());
  // `to`, or what was served before. Throws Error(usage) where there is none, or it is served already,
  // Error(incompatible) where it does not verify.
  std::string rollback_target(const std::string& name, const std::optional<std::string>& to) const;
  // Puts that back in service, also where what was served is gone; returns it.
  std::string rollback(const std::string& name, const std::optional<std::string>& to, const std::string& reason);
  // What was served when the version that is served now was put in service; "" for none.
  std::string before(const std::string& name) const;
  // Removes all but the newest `keep` versions, what is served, its parent, what was served before (what a rollback
  // leads to, and until the last change) and what is proven; the only way in which a version is ever removed. Returns
  // their ids, oldest first; dry_run: the same, and nothing is changed.
  std::vector<std::string> prune(const std::string& name, std::int64_t keep, bool dry_run);
  // Records that a candidate was refused; `version` is null for one that was not published.
  void refuse(const std::string& name, const std::optional<std::string>& version, const std::string& reason,
              const Json& gates = Json::array());

 private:
  class Change;  // a change of one name, under its lock
  std::filesystem::path versions_of(const std::string& name) const;
  static std::filesystem::path link_to(const std::string& name, const std::string& version);  // what the link holds
  std::vector<std::string> ids(const std::string& name) const;
  // The version that the link leads to where it is there no more; rollback puts another in its place.
  std::optional<std::string> linked_but_gone(const std::string& name) const;
  std::string published_as(const std::string& name, const std::string& version) const;  // a status; "" for none
  std::string served_until_now(const std::string& name) const;                          // "" for none
  // What is served, what a rollback leads back to, and what served until the last change: after a rollback these
  // differ.
  std::set<std::string> reachable(const std::string& name) const;

  std::filesystem::path root_;
  StoreOptions options_;
};

// The number of "0007-3f2a91c04b1d"; nothing for what is no version's id.
std::optional<int> version_number(const std::string& id);
// Throws Error(usage): a name is 1 to 100 letters, digits, '.', '_' and '-', and begins with a letter or digit.
void require_name(const std::string& name);

// Throws Error(failed) with both numbers where the directory's file system has less room than `bytes`.
void require_room(const std::filesystem::path& directory, std::int64_t bytes);

}  // namespace ristretto::release
