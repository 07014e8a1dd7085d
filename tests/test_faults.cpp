// What is served through faults of disk, process and clock, injected into the program by a preloaded library.
#include <doctest/doctest.h>
#include <sys/stat.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <nlohmann/json.hpp>

#include "prepared_fixture.h"
#include "release/deployment.h"
#include "release/versions.h"

namespace ristretto::train {
namespace {

// Runs the program with one fault set in its environment.
int run_with(const std::string& fault, const std::string& value, const std::vector<std::string>& arguments,
             const std::filesystem::path& directory) {
  setenv("LD_PRELOAD", RISTRETTO_FAULTS, 1);
  setenv("ASAN_OPTIONS", "verify_asan_link_order=0", 1);
  setenv(fault.c_str(), value.c_str(), 1);
  const pid_t child = start(arguments, directory);
  for (const std::string& name : {std::string("LD_PRELOAD"), std::string("ASAN_OPTIONS"), fault}) {
    unsetenv(name.c_str());
  }
  return finish(child);
}

std::vector<std::string> promotion(const std::string& what) {
  return {"promote", "model_0", what, "--bars", kSource + "/data/crypto_1h", "--log-level", "off"};
}

std::vector<std::string> night() {
  return {"nightly",      "--bars",       kSource + "/data/crypto_1h",
          "--portfolios", "64",           "--base-target-step",
          "32",           "--batch-size", "1024",
          "--steps",      "8192",         "--learning-rate",
          "1e-3",         "--device",     "cpu",
          "--quiet",      "--new-bars",   "0"};
}

void check_served(const Copy& copy) { CHECK_NOTHROW(release::verify(copy / "deployments/model_0")); }

// Kills the command at point `first` and every `stride`-th after it, each time on a fresh copy, and starts it again.
void kill_at_every_point(const std::vector<std::string>& arguments, const std::vector<int>& codes, long stride) {
  long points = 0;
  {
    const Copy copy;
    const int code = run_with("FAULT_COUNT", (copy / "points").string(), arguments, copy.directory.path);
    CHECK(std::count(codes.begin(), codes.end(), code) == 1);
    points = static_cast<long>(std::filesystem::file_size(copy / "points"));
  }
  REQUIRE(points > 10);
  MESSAGE(points, " points");
  for (long point = 1; point <= points; point += stride) {
    CAPTURE(point);
    const Copy copy;
    const int code = run_with("FAULT_KILL", std::to_string(point), arguments, copy.directory.path);
    // The number of checkpoints depends on the clock: the last points may lie behind the end.
    CHECK((code == 1000 + SIGKILL || std::count(codes.begin(), codes.end(), code) == 1));
    check_served(copy);
    const int again = finish(start(arguments, copy.directory.path));
    CAPTURE(copy.errors());
    CHECK(std::count(codes.begin(), codes.end(), again) == 1);
    check_served(copy);
    CHECK(copy.store().check("model_0").empty());
  }
}

}  // namespace

TEST_CASE("faults: of two promoters at once one wins, and the other is refused clearly") {
  const Copy copy;
  const pid_t first = start(promotion("candidate"), copy.directory.path, "out1");
  const pid_t second = start(promotion("candidate"), copy.directory.path, "out2");
  std::vector<int> codes = {finish(first), finish(second)};
  std::sort(codes.begin(), codes.end());
  CHECK(codes == std::vector<int>{3, 5});  // 3: the candidate is no better than what is served
  CHECK(copy.errors().find("lock") != std::string::npos);
  CHECK(copy.store().list("model_0").size() == 3);
  check_served(copy);
}

TEST_CASE("faults: a full disk is named, and what is served stays") {
  const Copy copy;
  const std::string before = copy.store().served("model_0").value();
  for (const std::string from : {"1", "4"}) {
    CAPTURE(from);
    CHECK(run_with("FAULT_FULL", from, promotion("candidate"), copy.directory.path) == 1);
    CAPTURE(copy.errors());
    CHECK(copy.errors().find("No space left on device") != std::string::npos);
    CHECK(copy.store().served("model_0") == before);
    // It may fill up behind the publication of a whole version, which is not served then.
    if (from == "1") CHECK(copy.store().list("model_0").size() == 2);
    CHECK(copy.store().check("model_0").empty());
    check_served(copy);
  }
}

TEST_CASE("faults: a directory that cannot be written to is named, and what is served stays") {
  if (geteuid() == 0) {
    MESSAGE("skipped: root writes into every directory");
    return;
  }
  const Copy copy;
  chmod((copy / "deployments/.versions/model_0").c_str(), 0555);
  CHECK(finish(start(promotion("candidate"), copy.directory.path)) == 1);
  CHECK(copy.errors().find("model_0") != std::string::npos);
  check_served(copy);
}

TEST_SUITE("slow") {
  TEST_CASE("faults: a promoter killed at any point leaves a whole version served, and the next one goes on") {
    kill_at_every_point(promotion("candidate"), {3}, 1);
  }

  TEST_CASE("faults: a night killed at any point leaves a whole version served, and the next start goes on") {
    kill_at_every_point(night(), {0, 3}, 5);
  }
}

}  // namespace ristretto::train
