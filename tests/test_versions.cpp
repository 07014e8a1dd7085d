#include <ATen/Parallel.h>
#include <doctest/doctest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <functional>
#include <random>
#include <thread>

#include "agents/checkpoint.h"
#include "agents/policy.h"
#include "env/layout.h"
#include "platform/atomic_file.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/lock.h"
#include "release/sha256.h"
#include "release/start.h"
#include "release/versions.h"
#include "release_fixture.h"

using namespace ristretto;
using namespace ristretto::release;
namespace fs = std::filesystem;

namespace {

const fs::path kGolden = fs::path(RISTRETTO_GOLDEN) / "deployments";
const std::string kName = "model";

// A forked child may not use a thread pool that its parent started.
const bool kOneThread = [] {
  at::set_num_threads(1);
  return true;
}();

fs::path staged(const Scratch& scratch, double tag) {
  const fs::path directory = scratch / "staged";
  if (fs::exists(directory)) remove_tree(directory);
  stage(small_content(agents::Network::mlp, tag), directory);
  return directory;
}

// Publishes a version that answers to `tag` and serves it.
std::string promote(VersionStore& store, const Scratch& scratch, double tag) {
  const auto champion = store.adopt(kName);
  const std::string id = store.publish(kName, staged(scratch, tag), {champion, "unproven", Json::array()});
  store.serve(kName, id, champion, "a test");
  return id;
}

void copy_golden(const std::string& name, const fs::path& to) {
  fs::create_directories(to.parent_path());
  fs::copy(kGolden / name, to);
  for (const auto& entry : fs::directory_iterator(to)) fs::permissions(entry.path(), fs::perms{0644});
  fs::permissions(to, fs::perms{0755});
}

std::vector<std::string> events_of(const VersionStore& store) {
  std::vector<std::string> events;
  for (const Json& event : store.history(kName)) events.push_back(text_field(event, "event"));
  return events;
}

Fault fault_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& error) {
    return error.fault();
  }
  FAIL("no error");
  return Fault::failed;
}

mode_t mode_of(const fs::path& path) {
  struct stat status {};
  REQUIRE(lstat(path.c_str(), &status) == 0);
  return status.st_mode & 07777;
}

// Runs the body in a process of its own; true where it ended by itself and well.
bool run_forked(const std::function<void()>& body, const std::function<void(pid_t)>& meanwhile = {}) {
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    try {
      body();
    } catch (...) {
      _exit(1);
    }
    _exit(0);
  }
  if (meanwhile) meanwhile(child);
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  REQUIRE_MESSAGE((WIFSIGNALED(status) || WEXITSTATUS(status) == 0), "the child failed");
  return WIFEXITED(status);
}

}  // namespace

TEST_CASE("versions: a name without a directory is created: version 1, no parent, no champion") {
  const Scratch scratch;
  VersionStore store(scratch / "deployments");
  CHECK((store.slot(kName).kind == Slot::Kind::empty));
  CHECK_FALSE(store.adopt(kName));
  const std::string id = promote(store, scratch, 0.25);
  CHECK(id.substr(0, 5) == "0001-");
  CHECK(id.size() == 17);
  CHECK(store.served(kName) == id);
  CHECK(fs::read_symlink(scratch / "deployments/model") == ".versions/model/" + id);
  CHECK(tag_of(load(scratch / "deployments/model")) == 0.25);
  CHECK_FALSE(fs::exists(scratch / "staged"));

  const Json manifest = read_manifest(store.path_of(kName, id)).value();
  CHECK(manifest["name"] == kName);
  CHECK(manifest["version"] == id);
  CHECK(manifest["status"] == "unproven");
  CHECK(manifest["parent"].is_null());
  CHECK(id.substr(5) == content_hash(manifest["files"]));
  CHECK(mode_of(store.path_of(kName, id)) == 0555);
  CHECK(mode_of(store.path_of(kName, id) / "actor.pth") == 0444);
  CHECK(fs::hard_link_count(store.path_of(kName, id) / "actor.pth") == 2);
  CHECK(store.check(kName).empty());
  CHECK((events_of(store) == std::vector<std::string>{"publication", "promotion"}));
  CHECK((store.names() == std::vector<std::string>{kName}));
}

TEST_CASE("versions: a second version has the first as parent, and rollback goes there and back") {
  const Scratch scratch;
  VersionStore store(scratch / "deployments");
  const std::string first = promote(store, scratch, 0.25), second = promote(store, scratch, 0.5);
  const std::vector<Version> versions = store.list(kName);
  REQUIRE(versions.size() == 2);
  CHECK(versions[1].id == second);
  CHECK(versions[1].number == 2);
  CHECK(versions[1].parent == first);
  CHECK(versions[1].status == "unproven");
  CHECK(versions[1].served);
  CHECK_FALSE(versions[0].served);

  CHECK(store.rollback(kName, std::nullopt, "it lost") == first);
  CHECK(tag_of(load(scratch / "deployments/model")) == 0.25);
  CHECK((fault_of([&] { store.rollback(kName, std::nullopt, "again"); }) == Fault::usage));
  CHECK(store.rollback(kName, "2", "it was not the model") == second);
  CHECK(tag_of(load(scratch / "deployments/model")) == 0.5);
  const Json last = store.history(kName).back();
  CHECK(last["event"] == "rollback");
  CHECK(last["previous"] == first);
  CHECK(last["version"] == second);
  CHECK(last["reason"] == "it was not the model");
  CHECK(parse_utc(last["time"].get<std::string>()).has_value());
  CHECK((fault_of([&] { store.rollback(kName, "7", ""); }) == Fault::usage));
}

TEST_CASE("versions: what a training goes on from stays in the newest version and in what is or was served") {
  const Scratch scratch;
  VersionStore store(scratch / "deployments");
  const auto publish = [&](double tag, const std::optional<std::string>& champion) {
    const fs::path directory = scratch / "staged";
    fs::create_directories(directory / kTrainingDirectory);
    for (const char* file : {agents::kCheckpointFile, kStartFile, "evidence.json"}) {
      std::ofstream(directory / kTrainingDirectory / file) << tag;
    }
    stage(small_content(agents::Network::mlp, tag), directory);
    return store.publish(kName, directory, {champion, "unproven", Json::array()});
  };
  const auto kept = [&](const std::string& id) {
    const fs::path training = store.path_of(kName, id) / kTrainingDirectory;
    CHECK(fs::exists(training / "evidence.json"));
    CHECK(mode_of(training) == 0555);
    CHECK(fs::exists(training / agents::kCheckpointFile) == fs::exists(training / kStartFile));
    return fs::exists(training / kStartFile);
  };
  const std::string first = publish(0.25, std::nullopt);
  store.serve(kName, first, std::nullopt, "a test");
  const std::string second = publish(0.5, first), third = publish(0.75, first);
  CHECK(kept(second));  // until the next change
  store.refuse(kName, third, "a test");
  CHECK(kept(first));
  CHECK_FALSE(kept(second));
  CHECK(kept(third));
  CHECK(store.check(kName).empty());

  store.serve(kName, third, first, "a test");
  const std::string fourth = publish(0.875, third);
  store.serve(kName, fourth, third, "a test");
  CHECK(kept(first));  // until the next change
  store.settle(kName);
  CHECK_FALSE(kept(first));
  CHECK(kept(third));  // a rollback leads there
  CHECK(kept(fourth));
  CHECK(store.check(kName).empty());

  // A process that died in the midst left it open.
  fs::permissions(store.path_of(kName, first) / kTrainingDirectory, fs::perms{0755});
  CHECK_FALSE(store.check(kName).empty());
  CHECK(store.rollback(kName, first, "a test") == first);
  CHECK_FALSE(kept(first));
  CHECK(kept(fourth));
  CHECK(store.check(kName).empty());
}

TEST_CASE("versions: the newest version that a training can go on from stays one where a later one has nothing") {
  const Scratch scratch;
  VersionStore store(scratch / "deployments");
  const std::string first = promote(store, scratch, 0.25);
  const fs::path directory = scratch / "staged";
  fs::create_directories(directory / kTrainingDirectory);
  std::ofstream(directory / kTrainingDirectory / agents::kCheckpointFile) << "a";
  stage(small_content(agents::Network::mlp, 0.5), directory);
  const std::string second = store.publish(kName, directory, {first, "unproven", Json::array()});
  promote(store, scratch, 0.75);
  store.settle(kName);
  CHECK(fs::exists(store.path_of(kName, second) / kTrainingDirectory / agents::kCheckpointFile));
}

TEST_CASE("versions: a version judged a second time rolls back to what it replaced, which prune leaves") {
  const Scratch scratch;
  VersionStore store(scratch / "deployments");
  const std::string first = promote(store, scratch, 0.25);
  const std::string second = store.publish(kName, staged(scratch, 0.5), {first, "unproven", {}});
  const std::string third = promote(store, scratch, 0.75);
  store.serve(kName, second, third, "better, when it was judged again");
  CHECK(store.before(kName) == third);
  promote(store, scratch, 0.875);
  store.rollback(kName, std::nullopt, "it lost");
  CHECK(store.served(kName) == second);
  CHECK(store.before(kName) == third);
  const std::vector<std::string> removed = store.prune(kName, 1, false);
  CHECK(removed.empty());  // the newest, what is served, what was before it and its parent
  CHECK(store.rollback(kName, std::nullopt, "it lost too") == third);
}

TEST_CASE("versions: a promoter that died behind the switch finds its version served") {
  const Scratch scratch;
  VersionStore store(scratch / "deployments");
  const std::string first = promote(store, scratch, 0.25);
  const std::string second = store.publish(kName, staged(scratch, 0.5), {first, "unproven", {}});
  struct Died {};
  StoreOptions dying;
  bool switched = false;
  dying.before_step = [&](const char* step) {
    if (switched && std::string(step) == "history") throw Died{};
    switched = switched || std::string(step) == "serve: switch";
  };
  VersionStore other(scratch / "deployments", dying);
  CHECK_THROWS_AS(other.serve(kName, second, first, "better"), Died);
  CHECK(store.served(kName) == second);
  CHECK_NOTHROW(store.serve(kName, second, first, "better"));
  CHECK(store.served(kName) == second);
  CHECK((events_of(store).back() == "found"));
  CHECK(store.before(kName) == first);
}

TEST_CASE("versions: a rollback that died behind the switch is not undone by asking again") {
  const Scratch scratch;
  VersionStore store(scratch / "deployments");
  const std::string first = promote(store, scratch, 0.25), second = promote(store, scratch, 0.5);
  struct Died {};
  StoreOptions dying;
  bool switched = false;
  dying.before_step = [&](const char* step) {
    if (switched && std::string(step) == "history") throw Died{};
    switched = switched || std::string(step) == "serve: switch";
  };
  VersionStore other(scratch / "deployments", dying);
  CHECK_THROWS_AS(other.rollback(kName, std::nullopt, "it lost"), Died);
  CHECK(store.served(kName) == first);
  CHECK((fault_of([&] { store.rollback(kName, std::nullopt, "it lost"); }) == Fault::usage));
  CHECK(store.served(kName) == first);
  CHECK(events_of(store).back() == "found");
}

TEST_CASE("versions: rollback leaves a version whose manifest is destroyed") {
  const Scratch scratch;
  VersionStore store(scratch / "deployments");
  const std::string first = promote(store, scratch, 0.25), second = promote(store, scratch, 0.5);
  fs::permissions(store.path_of(kName, second), fs::perms{0755});
  fs::remove(store.path_of(kName, second) / kManifest);
  std::ofstream(store.path_of(kName, second) / kManifest) << "{";
  CHECK(store.list(kName)[1].status == "damaged");
  CHECK(store.rollback(kName, std::nullopt, "") == first);
  CHECK(tag_of(load(scratch / "deployments/model")) == 0.25);
}

TEST_CASE("versions: a promotion fails if what it was judged against is served no more") {
  const Scratch scratch;
  VersionStore store(scratch / "deployments");
  const std::string first = promote(store, scratch, 0.25);
  const std::string late = store.publish(kName, staged(scratch, 0.5), {first, "unproven", {}});
  const std::string second = promote(store, scratch, 0.75);
  CHECK((fault_of([&] { store.serve(kName, late, first, ""); }) == Fault::refused));
  CHECK((fault_of([&] { store.serve(kName, late, std::nullopt, ""); }) == Fault::refused));
  CHECK(store.served(kName) == second);
  CHECK_NOTHROW(store.serve(kName, late, second, ""));
  CHECK(store.served(kName) == late);
}

TEST_CASE("versions: one promoter at a time") {
  const Scratch scratch;
  VersionStore store(scratch / "deployments", {.lock_wait_seconds = 0, .before_step = {}});
  const std::string id = promote(store, scratch, 0.25);
  const fs::path waiting = staged(scratch, 0.5);
  const FileLock other(scratch / "deployments/.versions/model/lock", "another promoter");
  CHECK((fault_of([&] { store.publish(kName, waiting, {}); }) == Fault::busy));
  CHECK((fault_of([&] { store.serve(kName, id, id, ""); }) == Fault::busy));
  CHECK((fault_of([&] { store.rollback(kName, std::nullopt, ""); }) == Fault::busy));
  CHECK((fault_of([&] { store.refuse(kName, std::nullopt, ""); }) == Fault::busy));
  CHECK(fs::exists(waiting / kManifest));
  CHECK(store.list(kName).size() == 1);
}

TEST_CASE("versions: an existing directory becomes version 1 with its contents unchanged") {
  const Scratch scratch;
  VersionStore store(scratch / "deployments");
  const fs::path place = scratch / "deployments/model";
  copy_golden("mlp_106", place);
  const Json before = files_of(place);
  const ino_t inode = [&] {
    struct stat status {};
    stat(place.c_str(), &status);
    return status.st_ino;
  }();
  CHECK((store.slot(kName).kind == Slot::Kind::directory));
  CHECK((store.names() == std::vector<std::string>{kName}));

  const auto id = store.adopt(kName);
  REQUIRE(id);
  CHECK(fs::is_symlink(place));
  struct stat status {};
  stat(place.c_str(), &status);
  CHECK(status.st_ino == inode);
  CHECK(files_of(store.path_of(kName, *id)) == before);
  CHECK(fs::exists(scratch / "deployments/.versions/model" / (*id + ".manifest.json")));
  CHECK(mode_of(store.path_of(kName, *id)) == 0555);
  CHECK(load(place).architecture.observation == 106);
  CHECK_NOTHROW(verify(place));
  CHECK(store.list(kName)[0].status == "unproven");
  CHECK((events_of(store) == std::vector<std::string>{"adoption"}));
  CHECK(store.check(kName).empty());
  CHECK(store.adopt(kName) == id);

  const std::string second = promote(store, scratch, 0.5);
  CHECK(store.list(kName)[1].parent == *id);
  CHECK(store.rollback(kName, std::nullopt, "") == *id);
  CHECK(load(place).architecture.observation == 106);
}

TEST_CASE("versions: publishing adopts first; a directory put in a link's place becomes the next version") {
  const Scratch scratch;
  VersionStore store(scratch / "deployments");
  copy_golden("mlp_106", scratch / "deployments/model");
  const std::string second = store.publish(kName, staged(scratch, 0.25), {std::nullopt, "refused", {}});
  CHECK(second.substr(0, 4) == "0002");
  CHECK(store.served(kName)->substr(0, 4) == "0001");

  fs::remove(scratch / "deployments/model");
  copy_golden("mlp_239", scratch / "deployments/model");
  CHECK(store.adopt(kName)->substr(0, 4) == "0003");
  CHECK(load(scratch / "deployments/model").architecture.observation == 239);
}

TEST_CASE("versions: a damaged directory is adopted as it is, gives way, and is not served again") {
  const Scratch scratch;
  VersionStore store(scratch / "deployments");
  copy_golden("broken/stale_act_target", scratch / "deployments/model");
  const std::string first = store.adopt(kName).value();
  CHECK(read_manifest(store.path_of(kName, first))->at("damage").get<std::string>().find("act_target.pth") !=
        std::string::npos);
  const std::string second = promote(store, scratch, 0.5);
  CHECK((fault_of([&] { store.rollback(kName, std::nullopt, ""); }) == Fault::incompatible));
  CHECK(store.served(kName) == second);
}

TEST_CASE("versions: a directory with links in it is left alone") {
  const Scratch scratch;
  VersionStore store(scratch / "deployments");
  copy_golden("mlp_106", scratch / "deployments/model");
  fs::remove(scratch / "deployments/model/actor.pth");
  fs::create_symlink("act_target.pth", scratch / "deployments/model/actor.pth");
  CHECK((fault_of([&] { store.adopt(kName); }) == Fault::incompatible));
  CHECK(fs::is_directory(fs::symlink_status(scratch / "deployments/model")));
}

TEST_CASE("versions: plain files, links that lead nowhere and links of others are refused, and nothing is moved") {
  const Scratch scratch;
  VersionStore store(scratch / "deployments");
  const fs::path place = scratch / "deployments/model";
  const fs::path waiting = staged(scratch, 0.5);
  fs::create_directories(place.parent_path());
  const auto all_refuse = [&] {
    CHECK((fault_of([&] { store.slot(kName); }) == Fault::incompatible));
    CHECK((fault_of([&] { store.adopt(kName); }) == Fault::incompatible));
    CHECK((fault_of([&] { store.publish(kName, waiting, {}); }) == Fault::incompatible));
    CHECK((fault_of([&] { store.rollback(kName, std::nullopt, ""); }) == Fault::incompatible));
    CHECK(store.check(kName).size() == 1);
    CHECK(fs::exists(waiting / kManifest));
    fs::remove(place);
  };
  std::ofstream(place) << "x";
  all_refuse();
  fs::create_symlink(".versions/model/0001-0123456789ab", place);
  all_refuse();
  fs::create_directories(scratch / "elsewhere");
  fs::create_symlink(scratch / "elsewhere", place);
  all_refuse();
  fs::create_directories(scratch / "deployments/.versions/other/0001-0123456789ab");
  fs::create_symlink(".versions/other/0001-0123456789ab", place);
  all_refuse();
  fs::create_symlink(".versions/model/../other/0001-0123456789ab", place);
  all_refuse();
}

TEST_CASE("versions: names are plain") {
  const Scratch scratch;
  const VersionStore store(scratch / "deployments");
  for (const char* name : {"", ".", "..", ".hidden", "a/b", "../x", "-n", "a b", "a\n", "\xc3\xa4"}) {
    CAPTURE(name);
    CHECK((fault_of([&] { store.slot(name); }) == Fault::usage));
  }
  CHECK((fault_of([&] { store.slot(std::string(101, 'a')); }) == Fault::usage));
  for (const char* name : {"a", "cappuccino_ft-16gb.2", "7"}) CHECK_NOTHROW(store.slot(name));
}

TEST_CASE("versions: what was written into is found, and not served") {
  const Scratch scratch;
  VersionStore store(scratch / "deployments");
  const std::string first = promote(store, scratch, 0.25), second = promote(store, scratch, 0.5);
  const fs::path actor = store.path_of(kName, first) / "best_trial";
  const std::string whole = read_file(actor);
  fs::permissions(actor, fs::perms{0644});
  CHECK(store.check(kName).size() == 1);
  fs::permissions(store.path_of(kName, first) / "metadata.json", fs::perms{0644});
  REQUIRE(store.check(kName).size() == 1);
  CHECK(store.check(kName)[0].find(": 2 of its files and directories can be written to") != std::string::npos);
  std::ofstream(actor, std::ios::app) << "x";
  CHECK(store.check(kName).size() == 2);
  CHECK(store.check(kName)[1].find("best_trial has sha256") != std::string::npos);
  CHECK((fault_of([&] { store.serve(kName, first, second, ""); }) == Fault::incompatible));
  CHECK(store.served(kName) == second);

  // Both file and manifest: the name still tells.
  Json manifest = read_manifest(store.path_of(kName, first)).value();
  manifest["files"]["best_trial"]["sha256"] = sha256(whole + "x");
  fs::permissions(store.path_of(kName, first), fs::perms{0755});
  write_manifest(store.path_of(kName, first) / kManifest, manifest);
  const auto problems = store.check(kName);
  CHECK(problems.back().find("is not named after its files") != std::string::npos);

  const auto gone = store.check(kName, "0009-0123456789ab");
  REQUIRE(gone.size() == 1);
  CHECK(gone[0].find("0009-0123456789ab") != std::string::npos);
}

TEST_CASE("versions: a staged directory that does not verify is not taken") {
  const Scratch scratch;
  VersionStore store(scratch / "deployments");
  const fs::path directory = staged(scratch, 0.5);
  fs::remove(directory / "policy.pt");
  CHECK((fault_of([&] { store.publish(kName, directory, {}); }) == Fault::incompatible));
  CHECK(store.list(kName).empty());
  CHECK(fs::exists(directory));
}

TEST_CASE("versions: refusals are recorded, and a line that a crash cut spoils no other") {
  const Scratch scratch;
  VersionStore store(scratch / "deployments");
  promote(store, scratch, 0.25);
  std::ofstream(scratch / "deployments/.versions/model/history.jsonl", std::ios::app) << "{\"event\": \"prom";
  store.refuse(kName, std::nullopt, "orders: none", {{{"name", "orders"}, {"passed", false}}});
  CHECK((events_of(store) == std::vector<std::string>{"publication", "promotion", "unreadable", "refusal"}));
  const Json last = store.history(kName).back();
  CHECK(last["reason"] == "orders: none");
  CHECK(last["gates"][0]["name"] == "orders");
  CHECK(last["version"].is_null());
}

TEST_CASE("versions: leftovers of killed runs are removed, and numbers are never used twice") {
  const Scratch scratch;
  VersionStore store(scratch / "deployments");
  const std::string first = promote(store, scratch, 0.25), second = promote(store, scratch, 0.5);
  store.rollback(kName, "1", "");
  remove_tree(store.path_of(kName, second));
  const fs::path versions = scratch / "deployments/.versions/model";
  fs::create_directories(versions / ".tmp-publish");
  std::ofstream(versions / ".tmp-publish/actor.pth") << "half";
  make_read_only(versions / ".tmp-publish");
  fs::create_symlink("nowhere", versions / ".tmp-link");
  fs::create_symlink(".versions/model/0009-0123456789ab", versions / "0009-0123456789ab");
  std::ofstream(versions / "0009-0123456789ab.manifest.json") << "{}";
  const std::string third = promote(store, scratch, 0.75);
  CHECK(third.substr(0, 4) == "0003");
  std::vector<std::string> left;
  for (const auto& entry : fs::directory_iterator(versions)) left.push_back(entry.path().filename());
  std::sort(left.begin(), left.end());
  const std::vector<std::string> expected{first, third, "history.jsonl", "lock"};
  CHECK(left == expected);
}

TEST_CASE("versions: pruning keeps the newest, what is served, its parent and what is proven; numbers stay used") {
  const Scratch scratch;
  VersionStore store(scratch / "deployments");
  std::vector<std::string> ids;
  for (int k = 0; k < 6; ++k) {
    const auto parent = ids.empty() ? std::nullopt : std::optional(ids.back());
    ids.push_back(
        store.publish(kName, staged(scratch, 0.1 * (k + 1)), {parent, k == 1 ? "proven" : "unproven", Json::array()}));
    if (k == 3) store.serve(kName, ids[3], std::nullopt, "first");
  }
  CHECK(store.prune(kName, 1, true) == std::vector<std::string>{ids[0], ids[4]});
  CHECK(store.list(kName).size() == 6);
  CHECK(store.prune(kName, 1, false) == std::vector<std::string>{ids[0], ids[4]});
  std::vector<std::string> left;
  for (const Version& version : store.list(kName)) left.push_back(version.id);
  CHECK(left == std::vector<std::string>{ids[1], ids[2], ids[3], ids[5]});
  CHECK(store.served(kName) == ids[3]);
  CHECK(store.check(kName).empty());
  CHECK(store.prune(kName, 1, false).empty());
  CHECK(text_field(store.history(kName).back(), "event") == "removal");
  CHECK(version_number(store.publish(kName, staged(scratch, 0.9), {ids[3], "unproven", Json::array()})) == 7);
}

TEST_CASE("versions: pruning keeps what a rollback took out of service") {
  const Scratch scratch;
  VersionStore store(scratch / "deployments");
  std::vector<std::string> ids;
  for (int k = 0; k < 4; ++k) ids.push_back(promote(store, scratch, 0.1 * (k + 1)));
  store.rollback(kName, "1", "");
  store.rollback(kName, "2", "");
  store.rollback(kName, "1", "");
  CHECK(store.prune(kName, 1, false) == std::vector<std::string>{ids[2]});
  CHECK(store.rollback(kName, "2", "") == ids[1]);
}

TEST_CASE("versions: a rollback that cannot be leaves a directory from before the versions alone") {
  const Scratch scratch;
  VersionStore store(scratch / "deployments");
  fs::create_directories(scratch / "deployments/notes");
  CHECK((fault_of([&] { store.rollback("notes", std::nullopt, ""); }) == Fault::incompatible));
  CHECK((fault_of([&] { store.adopt("notes"); }) == Fault::incompatible));  // it is empty
  std::ofstream(scratch / "deployments/notes/todo.txt") << "x";
  CHECK((fault_of([&] { store.rollback("notes", std::nullopt, ""); }) == Fault::usage));
  CHECK((fault_of([&] { store.rollback("notes", "99", ""); }) == Fault::usage));
  CHECK(fs::is_directory(fs::symlink_status(scratch / "deployments/notes")));
  CHECK_FALSE(fs::exists(scratch / "deployments/.versions"));
  // Nor for a version that is damaged.
  const std::string first = promote(store, scratch, 0.25);
  fs::permissions(store.path_of(kName, first) / "best_trial", fs::perms{0644});
  std::ofstream(store.path_of(kName, first) / "best_trial", std::ios::app) << "x";
  fs::remove(scratch / "deployments/model");
  copy_golden("mlp_106", scratch / "deployments/model");
  CHECK((fault_of([&] { store.rollback(kName, "1", ""); }) == Fault::incompatible));
  CHECK(fs::is_directory(fs::symlink_status(scratch / "deployments/model")));
  CHECK(store.list(kName).size() == 1);
  // Taken over, it is known to be no model.
  store.adopt("notes");
  const auto problems = store.check("notes");
  REQUIRE(problems.size() == 1);
  CHECK(problems[0].find("was taken over as it was: ") != std::string::npos);
}

TEST_CASE("versions: one that is gone stops neither the list nor a rollback to another") {
  const Scratch scratch;
  VersionStore store(scratch / "deployments");
  const std::string first = promote(store, scratch, 0.25), second = promote(store, scratch, 0.5);
  remove_tree(store.path_of(kName, second));
  CHECK(store.list(kName).size() == 1);
  CHECK(store.check(kName).size() == 1);
  CHECK((fault_of([&] { store.rollback(kName, std::nullopt, ""); }) == Fault::incompatible));
  CHECK((fault_of([&] { store.rollback(kName, "2", ""); }) == Fault::usage));
  CHECK(store.prune("nothing", 1, false).empty());
  CHECK(store.rollback(kName, "1", "") == first);
  CHECK(store.served(kName) == first);
  CHECK(text_field(store.history(kName).back(), "previous") == second);
  CHECK(store.check(kName).empty());
}

TEST_CASE("versions: a status that was edited is found") {
  const Scratch scratch;
  VersionStore store(scratch / "deployments");
  const std::string id = promote(store, scratch, 0.25);
  Json manifest = read_manifest(store.path_of(kName, id)).value();
  manifest["status"] = "proven";
  fs::permissions(store.path_of(kName, id), fs::perms{0755});
  write_manifest(store.path_of(kName, id) / kManifest, manifest);
  make_read_only(store.path_of(kName, id));
  const auto problems = store.check(kName);
  REQUIRE(problems.size() == 1);
  CHECK(problems[0].find("was published as unproven, and its manifest says proven") != std::string::npos);
}

TEST_CASE("versions: too little room is an error with both numbers") {
  const Scratch scratch;
  const std::filesystem::path directory = scratch / "not/yet/there";
  CHECK_NOTHROW(require_room(directory, 1));
  CHECK_THROWS_WITH_AS(require_room(directory, std::int64_t{1} << 60), doctest::Contains("1,152,921,504,606,846,976"),
                       Error);
}

TEST_CASE("versions: a staged directory on another file system is copied, hard links as links") {
  const fs::path memory = "/dev/shm";
  struct stat there {
  }, here{};
  if (stat(memory.c_str(), &there) != 0 || access(memory.c_str(), W_OK) != 0 ||
      stat(fs::temp_directory_path().c_str(), &here) != 0 || there.st_dev == here.st_dev) {
    MESSAGE("skipped: /dev/shm is no other file system here");
    return;
  }
  const Scratch scratch;
  const fs::path directory = memory / ("ristretto_release_" + std::to_string(getpid()));
  stage(small_content(agents::Network::mlp, 0.5), directory);
  fs::create_directories(directory / "training");
  VersionStore store(scratch / "deployments");
  const std::string id = store.publish(kName, directory, {std::nullopt, "unproven", {}});
  CHECK(fs::hard_link_count(store.path_of(kName, id) / "actor.pth") == 2);
  CHECK_FALSE(fs::exists(directory));
}

TEST_CASE("versions: a process that dies before any write leaves a complete version served, and the next one goes on") {
  // What was there, and what the dying process does to it.
  struct Scenario {
    const char* name;
    std::function<void(VersionStore&, const Scratch&)> prepare;
    std::function<void(VersionStore&, const Scratch&)> act;
    std::size_t least_steps;
  };
  const auto promote_half = [](VersionStore& store, const Scratch& scratch) { promote(store, scratch, 0.5); };
  const Scenario scenarios[] = {
      {"first version", [](VersionStore&, const Scratch&) {}, promote_half, 11},
      {"next version", [](VersionStore& store, const Scratch& scratch) { promote(store, scratch, 0.25); }, promote_half,
       11},
      {"adoption", [](VersionStore&, const Scratch& scratch) { copy_golden("mlp_106", scratch / "deployments/model"); },
       promote_half, 17},
      {"rollback",
       [](VersionStore& store, const Scratch& scratch) {
         promote(store, scratch, 0.25);
         promote(store, scratch, 0.5);
       },
       [](VersionStore& store, const Scratch&) { store.rollback(kName, std::nullopt, "test"); }, 4},
  };
  for (const Scenario& scenario : scenarios) {
    CAPTURE(scenario.name);
    std::size_t steps = 0;
    for (bool finished = false; !finished; ++steps) {
      CAPTURE(steps);
      const Scratch scratch;
      const fs::path place = scratch / "deployments/model";
      VersionStore store(scratch / "deployments");
      scenario.prepare(store, scratch);
      const bool served_before = fs::exists(fs::symlink_status(place));
      finished = run_forked([&] {
        std::size_t at = 0;
        VersionStore dying(scratch / "deployments", {.lock_wait_seconds = 0, .before_step = [&](const char*) {
                                                       if (at++ == steps) kill(getpid(), SIGKILL);
                                                     }});
        scenario.act(dying, scratch);
      });
      const bool served = fs::exists(fs::symlink_status(place));
      CHECK((served || !served_before));
      if (served) CHECK_NOTHROW(load(place));
      const std::string next = promote(store, scratch, 0.75);
      CHECK(tag_of(load(place)) == 0.75);
      CHECK(store.served(kName) == next);
      CHECK(store.check(kName).empty());
      for (const auto& entry : fs::directory_iterator(scratch / "deployments/.versions/model")) {
        CHECK_FALSE(entry.path().filename().string().starts_with(".tmp-"));
        CHECK_FALSE(entry.is_symlink());
      }
      // Every switch has its record, if not by the process that made it.
      std::string recorded;
      for (const Json& event : store.history(kName)) {
        if (event["event"] != "publication") recorded = text_field(event, "version");
        if (event["event"] == "promotion" && !event["previous"].is_null()) CHECK(event["previous"] != event["version"]);
      }
      CHECK(recorded == next);
    }
    CHECK(steps > scenario.least_steps);
  }
}

TEST_SUITE("slow") {
  TEST_CASE("versions: killed at random instants, deployments/NAME opens as one complete version") {
    constexpr int kKills = 40;
    constexpr std::size_t kLeastVersions = 10;  // with fewer, no kill met a promotion; a busy machine makes some 60
    constexpr double kLongestSeconds = 0.25;    // several promotions
    const Scratch scratch;
    const fs::path place = scratch / "deployments/model";
    VersionStore store(scratch / "deployments");
    promote(store, scratch, 0);
    std::mt19937 random(1);
    std::uniform_real_distribution<double> seconds(0, kLongestSeconds);
    int loads = 0;
    for (int round = 1; round <= kKills; ++round) {
      CAPTURE(round);
      const auto promote_for_ever = [&] {
        for (double tag = round;; tag += 1.0 / 1024) {
          VersionStore dying(scratch / "deployments");
          promote(dying, scratch, tag);
        }
      };
      const double limit = seconds(random);
      const bool ended = run_forked(promote_for_ever, [&](pid_t child) {
        const Stopwatch watch;
        do {
          CHECK_NOTHROW(load(place));  // while it promotes
          ++loads;
        } while (watch.seconds() < limit);
        kill(child, SIGKILL);
      });
      CHECK_FALSE(ended);
      CHECK_NOTHROW(verify(fs::canonical(place)));
    }
    const std::size_t versions = store.list(kName).size();
    MESSAGE(kKills, " kills, ", versions, " versions, ", loads, " loads meanwhile");
    CHECK(versions > kLeastVersions);
    promote(store, scratch, -1);
    CHECK(tag_of(load(place)) == -1);
    CHECK(store.check(kName).empty());
  }
}
