// What is served through faults of disk, process, clock, bars and studies, injected into the program by a preloaded
// library (fault_preload.cpp).
#include <doctest/doctest.h>
#include <sys/stat.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "beatable_fixture.h"
#include "platform/clock.h"
#include "release/ledger.h"
#include "release/sha256.h"
#include "studies/storage.h"

namespace ristretto::train {
namespace {

namespace fs = std::filesystem;
using Faults = std::map<std::string, std::string>;

constexpr int kKilled = 1000 + SIGKILL;

// Runs the program with faults set in its environment.
int run_with(Faults faults, const std::vector<std::string>& arguments, const fs::path& directory) {
  faults["LD_PRELOAD"] = RISTRETTO_FAULTS;
  faults["ASAN_OPTIONS"] = "verify_asan_link_order=0";
  for (const auto& [name, value] : faults) setenv(name.c_str(), value.c_str(), 1);
  const pid_t child = start(arguments, directory);
  for (const auto& [name, value] : faults) unsetenv(name.c_str());
  return finish(child);
}

int run(const std::vector<std::string>& arguments, const Copy& copy) {
  return finish(start(arguments, copy.directory.path));
}

std::vector<std::string> promotion(const std::string& what, const std::vector<std::string>& more = {}) {
  std::vector<std::string> arguments = {"promote", "model_0", what, "--bars", "bars", "--json", "--log-level", "off"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

std::vector<std::string> night(const std::vector<std::string>& more = {}) {
  std::vector<std::string> arguments = {
      "nightly", "--bars",     "bars", "--portfolios",    "64",   "--base-target-step", "32",  "--batch-size",
      "1024",    "--steps",    "4096", "--learning-rate", "1e-3", "--device",           "cpu", "--quiet",
      "--json",  "--new-bars", "0",    "--seed",          "0"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

// Its study is to be named.
std::vector<std::string> retraining() {
  std::vector<std::string> arguments = small_retrain("model_0");
  *(std::find(arguments.begin(), arguments.end(), "--bars") + 1) = "bars";
  const auto study = std::find(arguments.begin(), arguments.end(), "--storage");
  arguments.erase(study, study + 4);
  return arguments;
}

nlohmann::json document(const Copy& copy) { return nlohmann::json::parse(read_file(copy / "out"), nullptr, false); }

// What the history says is served: its last event that changed it.
std::string recorded(const Copy& copy) {
  std::string version;
  for (const release::Json& event : copy.store().history("model_0")) {
    const std::string kind = release::text_field(event, "event");
    if (kind == "promotion" || kind == "found" || kind == "adoption" || kind == "rollback") {
      version = release::text_field(event, "version");
    }
  }
  return version;
}

// That a consumer opens one complete version, and what it is; "": nothing is served.
std::string check_served(const Copy& copy) {
  if (!fs::exists(fs::symlink_status(copy / "deployments/model_0"))) return "";
  CHECK_NOTHROW(release::verify(copy / "deployments/model_0"));
  return copy.store().served("model_0").value_or("a directory");
}

// Versions are numbered in the order in which killed and whole runs made them; the same files end in the same hash.
std::string files_of_version(const std::string& id) { return id.substr(std::min<std::size_t>(id.size(), 5)); }

// One "call path" a line.
std::vector<std::string> points_of(const Copy& copy) {
  std::vector<std::string> lines = split(read_file(copy / "points"), '\n');
  while (!lines.empty() && lines.back().empty()) lines.pop_back();
  return lines;
}

// Everything below deployments/ but the locks' files: names, modes, links, contents.
std::map<std::string, std::string> tree(const Copy& copy) {
  std::map<std::string, std::string> out;
  for (const auto& entry : fs::recursive_directory_iterator(copy / "deployments")) {
    const std::string name = entry.path().filename().string();
    if (name == release::kLock || name == release::kNightlyLock) continue;
    struct stat status {};
    REQUIRE(lstat(entry.path().c_str(), &status) == 0);
    std::string text = str(status.st_mode, " ");
    if (entry.is_symlink()) {
      text += fs::read_symlink(entry.path()).string();
    } else if (entry.is_regular_file()) {
      text += release::sha256_of_file(entry.path());
    }
    out[entry.path().lexically_relative(copy / "deployments").string()] = text;
  }
  return out;
}

}  // namespace

TEST_CASE("faults: of two promoters at once one wins, and the other is refused clearly") {
  // With one directory of runs the second is turned away at once; with two, both judge.
  for (const bool shared : {true, false}) {
    CAPTURE(shared);
    const Copy copy(beatable());
    const std::string before = copy.store().served("model_0").value();
    const auto other = shared ? promotion("candidate") : promotion("candidate", {"--runs", "other"});
    const pid_t first = start(promotion("candidate"), copy.directory.path, "out1", "err1");
    const pid_t second = start(other, copy.directory.path, "out2", "err2");
    const std::vector<int> codes = {finish(first), finish(second)};
    CAPTURE(codes[0]);
    CAPTURE(codes[1]);
    REQUIRE(std::count(codes.begin(), codes.end(), 0) == 1);
    const int winner = codes[0] == 0 ? 1 : 2, loser = 3 - winner;
    const auto won = nlohmann::json::parse(read_file(copy / str("out", winner)));
    CHECK(won["served"] == true);
    CHECK(copy.store().served("model_0") == won["version"]);
    CHECK(copy.store().served("model_0") != before);
    const int code = codes[static_cast<std::size_t>(loser - 1)];
    if (code == 5) {
      CHECK(read_file(copy / str("err", loser)).find("is locked by process") != std::string::npos);
    } else {
      CHECK(code == 3);
      const std::string reason = nlohmann::json::parse(read_file(copy / str("out", loser)))["reason"];
      CAPTURE(reason);
      const bool late = reason.find("by now, and version") != std::string::npos;
      CHECK((late || reason.find("not better: ") != std::string::npos));
    }
    CHECK(recorded(copy) == check_served(copy));
    CHECK(copy.store().check("model_0").empty());
  }
}

namespace {

struct FaultCase {
  std::string name;
  std::string text;  // what is said of it, on standard output or error
  Faults faults = {};
  std::function<void(const Copy&)> harm = [](const Copy&) {};
  std::vector<std::string> more = {};
};

constexpr const char* kReadOnlyDeployments = "deployments";  // FAULT_READONLY, below the copy

void damage(const fs::path& file) {
  fs::permissions(file, fs::perms{0644});
  std::ofstream(file, std::ios::app) << "x";
  fs::permissions(file, fs::perms{0444});
}

// A study without trials, and one whose only trial failed.
void write_studies(const Copy& copy) {
  const auto storage = studies::create_storage("sqlite:///" + (copy / "studies.db").string());
  storage->create_study("empty", {studies::Direction::maximize});
  const std::int64_t failed = storage->create_study("failed", {studies::Direction::maximize});
  storage->finish(storage->create_trial(failed).id, studies::State::fail);
}

// Faults of disk, clock and bars that every command answers alike.
std::vector<FaultCase> common_faults() {
  const auto cut = [](std::size_t bytes) {
    return [bytes](const Copy& copy) { fs::resize_file(copy / "bars/LTC_USD.csv", bytes); };
  };
  const auto shorten = [](const Copy& copy) {
    std::vector<std::string> lines = split(read_file(copy / "bars/LTC_USD.csv"), '\n');
    lines.resize(lines.size() / 2);
    write_file_atomically(copy / "bars/LTC_USD.csv", join(lines, "\n") + "\n");
  };
  return {
      {"full disk", "No space left on device", {{"FAULT_FULL", "1"}}},
      {"read-only", "Read-only file system", {{"FAULT_READONLY", kReadOnlyDeployments}}},
      {"clock set back", "the clock reads 20", {{"FAULT_CLOCK", "-86400"}}},
      {"no CSV", "LTC_USD.csv: there is no such file", {}, [](const Copy& of) { fs::remove(of / "bars/LTC_USD.csv"); }},
      {"a CSV cut within a line", "LTC_USD.csv:", {}, cut(100'000)},
      {"a CSV cut between lines", "LTC_USD.csv ends at 2023-", {}, shorten},
  };
}

const std::vector<std::string> kExampleStudy = {"--storage", kSource + "/data/studies/example.db", "--study-name",
                                                "cappuccino_maxgpu"};

std::vector<FaultCase> study_faults() {
  const auto of_study = [](const std::string& name) {
    return std::vector<std::string>{"--storage", "sqlite:///studies.db", "--study-name", name};
  };
  return {
      {"a study without trials", "study 'empty' has no COMPLETE trial", {}, write_studies, of_study("empty")},
      {"a study without COMPLETE ones", "study 'failed' has no COMPLETE trial", {}, write_studies, of_study("failed")}};
}

// Each fault is named, and not a byte below deployments/ is another.
void check_faults(const std::vector<std::string>& command, const std::vector<FaultCase>& faults) {
  for (const FaultCase& fault : faults) {
    CAPTURE(command[0]);
    CAPTURE(fault.name);
    const Copy copy(beatable());
    Faults environment = fault.faults;
    if (environment.count("FAULT_READONLY") > 0) environment["FAULT_READONLY"] = (copy / kReadOnlyDeployments).string();
    fault.harm(copy);
    const auto before = tree(copy);
    std::vector<std::string> arguments = command;
    arguments.insert(arguments.end(), fault.more.begin(), fault.more.end());
    const int code = run_with(environment, arguments, copy.directory.path);
    const std::string said = read_file(copy / "out") + copy.errors();
    CAPTURE(said);
    CHECK((code == 1 || code == 2 || code == 4));
    CHECK(said.find(fault.text) != std::string::npos);
    CHECK(said.find("internal error") == std::string::npos);
    CHECK(said.find("filesystem error") == std::string::npos);
    CHECK(tree(copy) == before);
  }
}

}  // namespace

TEST_CASE("faults: promote names each of them, and what is deployed stays as it is") {
  std::vector<FaultCase> faults = common_faults();
  faults.push_back(
      {"a damaged candidate", "candidate/actor.pth", {}, [](const Copy& of) { damage(of / "candidate/actor.pth"); }});
  check_faults(promotion("candidate"), faults);
}

TEST_CASE("faults: the night names each of them, and what is deployed stays as it is") {
  std::vector<FaultCase> faults = common_faults();
  for (FaultCase& fault : study_faults()) faults.push_back(std::move(fault));
  faults.push_back({"a damaged version in service", "what is served is damaged: ", {}, [](const Copy& of) {
                      damage(of / "deployments/model_0/actor.pth");
                    }});
  check_faults(night(), faults);
}

TEST_CASE("faults: retrain names each of them, and what is deployed stays as it is") {
  std::vector<FaultCase> faults = common_faults();
  for (FaultCase& fault : faults) fault.more = kExampleStudy;
  for (FaultCase& fault : study_faults()) faults.push_back(std::move(fault));
  check_faults(retraining(), faults);
}

TEST_CASE("faults: a damaged version in service gives way to the first whole candidate, and that is said") {
  const Copy copy(beatable());
  const std::string before = copy.store().served("model_0").value();
  damage(copy / "deployments/model_0/actor.pth");
  CHECK(run(promotion("candidate"), copy) == 0);
  CHECK(document(copy)["reason"] == "what is served fails integrity");
  CHECK(check_served(copy) == document(copy)["version"]);
  CHECK(recorded(copy) == check_served(copy));
  CHECK(copy.store().history("model_0").back()["previous"] == before);
}

TEST_CASE("faults: a directory that cannot be written to is named, with what to do") {
  const Copy copy(beatable());
  const auto says = [&](const std::string& text) {
    const std::string errors = copy.errors();
    CAPTURE(errors);
    CHECK(errors.find(text) != std::string::npos);
    CHECK(errors.find("hint: make it writable") != std::string::npos);
    check_served(copy);
  };
  const std::string versions = "deployments/.versions/model_0";
  CHECK(run_with({{"FAULT_READONLY", (copy / versions).string()}}, promotion("candidate"), copy.directory.path) == 1);
  says(versions + "/lock: cannot be opened: Read-only file system");
  CHECK(run_with({{"FAULT_READONLY", (copy / "runs").string()}}, promotion("candidate"), copy.directory.path) == 1);
  says("runs/.model_0.lock: cannot be opened: Read-only file system");
  CHECK(run_with({{"FAULT_READONLY", (copy / "there").string()}}, promotion("candidate", {"--runs", "there/runs"}),
                 copy.directory.path) == 1);
  says("ristretto: there");
  says(": Read-only file system");
  if (geteuid() == 0) {
    MESSAGE("skipped: root writes into every directory, whatever its mode");
    return;
  }
  chmod((copy / versions).c_str(), 0555);
  CHECK(run(promotion("candidate"), copy) == 1);
  says(versions);
}

namespace {

// Runs the command whole and returns how many points it passes.
std::vector<std::string> points(const std::vector<std::string>& arguments, const Copy& copy, int code) {
  CAPTURE(copy.directory.path);
  const int ended = run_with({{"FAULT_LOG", (copy / "points").string()}}, arguments, copy.directory.path);
  CAPTURE(copy.errors());
  REQUIRE(ended == code);
  return points_of(copy);
}

// Kills a promotion at every point from the first whose path holds `from` until the first that holds `until`, each time
// on a fresh copy that `arrange` has changed, and starts it again.
void kill_promotion(const std::vector<std::string>& arguments, const std::function<void(const Copy&)>& arrange,
                    const std::string& from = "", const std::string& until = "\n") {
  std::vector<std::string> all;
  std::string better;
  std::size_t versions = 0;
  {
    const Copy copy(beatable());
    arrange(copy);
    all = points(arguments, copy, 0);
    better = files_of_version(check_served(copy));
    versions = copy.store().list("model_0").size();
  }
  const auto count_of = [&](const std::string& text) {
    return std::count_if(all.begin(), all.end(),
                         [&](const std::string& point) { return point.find(text) != std::string::npos; });
  };
  CHECK(count_of("symlink ") > 0);
  CHECK(count_of("rename") > 0);
  CHECK(count_of("fsync") > 0);
  const auto holds = [](const std::string& text) {
    return [text](const std::string& point) { return point.find(text) != std::string::npos; };
  };
  const auto begin = std::find_if(all.begin(), all.end(), holds(from));
  const auto end = std::find_if(begin, all.end(), holds(until));
  MESSAGE(str(end - begin, " of ", all.size(), " points"));
  CHECK(end - begin > 5);
  long after_the_switch = 0;
  for (auto at = begin; at != end; ++at) {
    const std::size_t point = static_cast<std::size_t>(at - all.begin()) + 1;
    CAPTURE(*at);
    CAPTURE(point);
    const Copy copy(beatable());
    arrange(copy);
    CHECK(run_with({{"FAULT_KILL", str(point)}}, arguments, copy.directory.path) == kKilled);
    const bool is_served = files_of_version(check_served(copy)) == better;
    after_the_switch += is_served;
    const int again = run(arguments, copy);
    CAPTURE(copy.errors());
    CHECK(again == 0);
    CHECK(copy.store().list("model_0").size() == versions);
    CHECK(files_of_version(check_served(copy)) == better);
    CHECK(recorded(copy) == check_served(copy));
    CHECK(copy.store().check("model_0").empty());
  }
  if (end == all.end()) CHECK(after_the_switch > 0);
}

void remove_service(const Copy& copy) { fs::remove(copy / "deployments/model_0"); }

// As the existing trainer leaves it: a directory, and no versions.
void as_plain_directory(const Copy& copy) {
  release::copy_tree(copy / "deployments/model_0/.", copy / "plain");
  release::remove_tree(copy / "deployments");
  fs::create_directory(copy / "deployments");
  fs::rename(copy / "plain", copy / "deployments/model_0");
}

}  // namespace

TEST_SUITE("slow") {
  // Started again behind the switch, it is served already.
  TEST_CASE("faults: a promoter killed at any point leaves a whole version served, and the next one ends its work") {
    SUBCASE("of a staged candidate") {
      kill_promotion(promotion("candidate"), [](const Copy&) {});
    }
    SUBCASE("of a version") {
      kill_promotion(promotion("1"), [](const Copy&) {});
    }
    // Only where they differ from the first: the switch to a name that is free, and the adoption.
    SUBCASE("into an empty slot") { kill_promotion(promotion("candidate"), remove_service, "renameat2 "); }
    SUBCASE("in place of a plain directory") {
      kill_promotion(promotion("candidate"), as_plain_directory, "", release::kLedger);
    }
  }

  TEST_CASE("faults: a disk that is full from any write on is named, and what is served is whole") {
    for (int from = 1;; ++from) {
      CAPTURE(from);
      REQUIRE(from < 1000);
      const Copy copy(beatable());
      const std::string before = copy.store().served("model_0").value();
      const auto tree_before = tree(copy);
      const int code = run_with({{"FAULT_FULL", str(from)}}, promotion("candidate"), copy.directory.path);
      if (code == 0) {
        MESSAGE(str(from - 1, " writes"));
        CHECK(from > 10);
        break;
      }
      const std::string errors = copy.errors();
      CAPTURE(errors);
      CHECK(code == 1);
      CHECK(errors.find("No space left on device") != std::string::npos);
      CHECK(errors.find("hint: free space") != std::string::npos);
      CHECK(errors.find("internal error") == std::string::npos);
      const std::string served = check_served(copy);
      CHECK(copy.store().check("model_0").empty());
      // The ledger's look and the history grow, a whole version may be there; all else is as it was.
      for (const auto& [name, text] : tree_before) {
        if (name == "model_0" || name.ends_with(release::kLedger) || name.ends_with(release::kHistory)) continue;
        CAPTURE(name);
        CHECK(tree(copy).at(name) == text);
      }
      CHECK((served == before || served == copy.store().list("model_0").back().id));
      if (served != before && recorded(copy) != served) {
        CHECK(errors.find(str("serves version ", served, " now, but that could not be recorded")) != std::string::npos);
      }
      CHECK(run(promotion("candidate"), copy) == 0);
      CHECK(recorded(copy) == check_served(copy));
    }
  }
}

namespace {

// What a night must be after all, started again or not: journal, history and link agree.
void check_night(const Copy& copy, int code, const std::string& before) {
  const auto journal = nlohmann::json::parse(read_file(copy / "runs/nightly/journal.json"));
  CHECK(journal["finished"].is_string());
  REQUIRE(journal["models"].size() == 1);
  const auto& model = journal["models"][0];
  CAPTURE(model["reason"]);
  const std::string served = check_served(copy);
  CHECK(recorded(copy) == served);
  CHECK(copy.store().check("model_0").empty());
  if (model["state"] == "served") {
    CHECK(code == 0);
    CHECK(served == model["version"]);
    CHECK(served != before);
    CHECK(model["reason"].get<std::string>().find("judge it again") == std::string::npos);
  } else {
    CHECK(model["state"] == "kept");
    CHECK(code == 3);
    CHECK(served == before);
    CHECK(copy.store().history("model_0").back()["event"] == "refusal");
  }
  // One look and one version a night, however often it was started.
  const release::LedgerRecord record = release::Ledger(copy / "deployments", "model_0").read();
  CHECK(record.looks(fs::path(model["run"].get<std::string>()).filename().string()) == 1);
  CHECK(record.openings.back().result);
  CHECK(copy.store().list("model_0").size() == 3);
}

}  // namespace

TEST_SUITE("slow") {
  TEST_CASE("faults: a night killed at any point leaves a whole version served, and the next start ends it") {
    std::string before;
    std::vector<std::string> all;
    {
      const Copy copy(beatable());
      before = copy.store().served("model_0").value();
      all = points(night(), copy, 0);
      check_night(copy, 0, before);
    }
    MESSAGE(all.size(), " points");
    for (std::size_t point = 1; point <= all.size(); ++point) {
      CAPTURE(all[point - 1]);
      CAPTURE(point);
      const Copy copy(beatable());
      // The number of checkpoints depends on the clock: the last points may lie behind the end.
      const int code = run_with({{"FAULT_KILL", str(point)}}, night(), copy.directory.path);
      CHECK((code == kKilled || (code == 0 && point + 3 > all.size())));
      check_served(copy);
      // A night that had ended but for its process's end is another night's beginning.
      const auto journal = copy / "runs/nightly/journal.json";
      if (code == 0 || (fs::exists(journal) && nlohmann::json::parse(read_file(journal))["finished"].is_string())) {
        check_night(copy, 0, before);
        continue;
      }
      const int again = run(night(), copy);
      CAPTURE(copy.errors());
      CHECK(again == 0);
      check_night(copy, again, before);
    }
  }
  // A night that first adds a trial to a study commits to the database hundreds of times: of each kind of call on each
  // of its files the first, one in the middle and the last.
  TEST_CASE("faults: a night killed while it writes its study leaves the study whole, and the next start ends it") {
    const auto with_study = [](const Copy& copy) {
      fs::copy_file(kSource + "/data/studies/example.db", copy / "example.db");
      fs::permissions(copy / "example.db", fs::perms{0644});
      return night({"--storage", "sqlite:///example.db", "--study-name", "cappuccino_maxgpu", "--sweep-trials", "1",
                    "--net-dimension", "16"});
    };
    std::map<std::string, std::vector<std::size_t>> kinds;  // of points: their numbers
    std::vector<std::string> all;
    {
      const Copy copy(beatable());
      const auto arguments = with_study(copy);
      all = points(arguments, copy, 0);
      check_night(copy, 0, copy.store().list("model_0")[1].id);
    }
    for (std::size_t point = 1; point <= all.size(); ++point) {
      if (all[point - 1].find("example.db") != std::string::npos) kinds[all[point - 1]].push_back(point);
    }
    std::vector<std::size_t> chosen;
    for (const auto& [kind, of_kind] : kinds) {
      const std::string call = kind.substr(0, kind.find(' '));
      MESSAGE(call, " ", fs::path(kind.substr(call.size() + 1)).filename().string(), ": ", of_kind.size(), " times");
      for (const std::size_t point : {of_kind.front(), of_kind[of_kind.size() / 2], of_kind.back()}) {
        if (std::count(chosen.begin(), chosen.end(), point) == 0) chosen.push_back(point);
      }
    }
    CHECK(kinds.size() >= 4);  // pwrite and fdatasync of the database and of its journal, and the journal's end
    for (const std::size_t point : chosen) {
      CAPTURE(all[point - 1]);
      CAPTURE(point);
      const Copy copy(beatable());
      const std::string before = copy.store().served("model_0").value();
      const auto arguments = with_study(copy);
      CHECK(run_with({{"FAULT_KILL", str(point)}}, arguments, copy.directory.path) == kKilled);
      check_served(copy);
      const int again = run(arguments, copy);
      CAPTURE(copy.errors());
      // Another trial than the one that was cut: its model may be no better.
      CHECK((again == 0 || again == 3));
      check_night(copy, again, before);
      const auto storage = studies::open_storage("sqlite:///" + (copy / "example.db").string());
      std::int64_t complete = 0;
      for (const std::string& name : storage->study_names()) {
        const studies::Study study = storage->read_study(name);
        if (name == "cappuccino_maxgpu") continue;
        complete += std::count_if(study.trials.begin(), study.trials.end(),
                                  [](const studies::Trial& trial) { return trial.state == studies::State::complete; });
      }
      CHECK(complete >= 1);
    }
  }
}

}  // namespace ristretto::train
