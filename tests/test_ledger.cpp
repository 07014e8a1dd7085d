#include <doctest/doctest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <fstream>
#include <functional>
#include <limits>
#include <set>

#include "platform/atomic_file.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/lock.h"
#include "platform/text.h"
#include "release/ledger.h"
#include "release/versions.h"
#include "release_fixture.h"

using namespace ristretto;
using namespace ristretto::release;

namespace {

Opening look(const std::string& candidate, std::int64_t trials = 1) {
  Opening opening;
  opening.candidate = candidate;
  opening.question_sha256 = std::string(64, 'c');
  opening.first_bar = parse_utc("2024-01-01").value();
  opening.last_bar = parse_utc("2024-05-31T07:00:00Z").value();
  opening.bars = 3632;
  opening.data_sha256 = std::string(64, 'a');
  opening.trials = trials;
  return opening;
}

std::string message_of(const std::function<void()>& body, Fault fault) {
  try {
    body();
  } catch (const Error& error) {
    CHECK((error.fault() == fault));
    return error.what();
  }
  return "nothing";
}

}  // namespace

TEST_CASE("ledger: an opening is on the disk before its result, and both read back") {
  const Scratch scratch;
  Ledger ledger(scratch / "deployments", "cappuccino");
  CHECK(ledger.read().openings.empty());
  CHECK(ledger.read().trials() == 0);
  CHECK(ledger.path() == scratch / "deployments/.versions/cappuccino/ledger.jsonl");
  CHECK(ledger.open(look("first", 5)) == 1);
  CHECK(ledger.open(look("second")) == 2);
  CHECK_FALSE(ledger.read().openings[0].result.has_value());
  ledger.conclude(1, {0.021, -0.4, "refused"});
  const LedgerRecord record = Ledger(scratch / "deployments", "cappuccino").read();
  REQUIRE(record.openings.size() == 2);
  const Opening& first = record.openings[0];
  CHECK(first.candidate == "first");
  CHECK(first.first_bar == look("").first_bar);
  CHECK(first.last_bar == look("").last_bar);
  CHECK(first.bars == 3632);
  CHECK(first.data_sha256 == std::string(64, 'a'));
  CHECK(first.trials == 5);
  CHECK(first.time > look("").last_bar);
  REQUIRE(first.result.has_value());
  CHECK(first.result->sharpe == 0.021);
  CHECK(first.result->log_gain == -0.4);
  CHECK(first.result->verdict == "refused");
  // One whose process died while it looked counts like any other.
  CHECK(record.trials() == 6);
  CHECK(record.sharpes_before(1 << 20) == std::vector<double>{0.021});
  CHECK(record.looks("second") == 1);
  CHECK(record.looks("third") == 0);
  CHECK(record.unreadable == 0);
}

TEST_CASE("ledger: an evaluation counts as a look and a trial, its Sharpe ratio as none of theirs") {
  const Scratch scratch;
  Ledger ledger(scratch / "deployments", "cappuccino");
  ledger.conclude(ledger.open(look("first")), {0.021, 0.4, "refused"});
  Opening watched = look("first");
  watched.purpose = kEvaluation;
  ledger.conclude(ledger.open(watched), {0.5, 0.1, "evaluated"});  // of other, perhaps few bars
  const LedgerRecord record = ledger.read();
  CHECK(record.trials() == 2);
  CHECK(record.looks("first") == 2);
  CHECK(record.sharpes_before(1 << 20) == std::vector<double>{0.021});
  CHECK(record.openings[0].purpose == kJudgement);
  CHECK(record.openings[1].purpose == kEvaluation);
}

TEST_CASE("ledger: to ask the same again is the same look, whatever became of it; anything else is another") {
  const Scratch scratch;
  Ledger ledger(scratch / "deployments", "cappuccino");
  CHECK(ledger.open(look("first", 5)) == 1);
  const std::string before = read_file(ledger.path());
  CHECK(ledger.open(look("first", 5)) == 1);
  CHECK(read_file(ledger.path()) == before);
  CHECK(ledger.read().looks("first") == 1);
  // Whatever else is asked is another look.
  Opening other = look("first", 5);
  other.last_bar += 3600;
  CHECK(ledger.open(other) == 2);
  other = look("first", 5);
  other.data_sha256[0] = 'b';
  CHECK(ledger.open(other) == 3);
  other = look("first", 5);
  other.purpose = kEvaluation;
  CHECK(ledger.open(other) == 4);
  CHECK(ledger.open(look("first", 6)) == 5);
  CHECK(ledger.open(look("second", 5)) == 6);
  other = look("first", 5);
  other.question_sha256[0] = 'd';  // trained on, other costs, other thresholds
  CHECK(ledger.open(other) == 7);
  other.question_sha256.clear();  // as of a version of this program that did not write it
  CHECK(ledger.open(other) == 8);
  CHECK(ledger.open(other) == 9);
  // Two that look at once see the same, but for a rounding: the first result stands.
  ledger.conclude(1, {0.021, 0.4, "refused"});
  const std::string concluded = read_file(ledger.path());
  ledger.conclude(1, {0.0211, 0.4, "refused"});
  CHECK(read_file(ledger.path()) == concluded);
  CHECK(ledger.open(look("first", 5)) == 1);
}

TEST_CASE("ledger: a study's trials are behind every night that chose among them, and count once") {
  const Scratch scratch;
  Ledger ledger(scratch / "deployments", "cappuccino");
  const auto night = [&](const std::string& candidate, const std::string& study, std::int64_t count) {
    Opening opening = look(candidate, count + 2);  // and two trainings of the night's own
    opening.studies = {{study, count}};
    ledger.conclude(ledger.open(opening), {0, 0, "refused"});
    return ledger.read().trials();
  };
  CHECK(night("monday", "swept begun 2026-07-01 02:00:00", 200) == 202);
  CHECK(night("tuesday", "swept begun 2026-07-01 02:00:00", 200) == 204);
  CHECK(night("wednesday", "swept begun 2026-07-01 02:00:00", 230) == 236);  // it has grown
  CHECK(night("thursday", "swept begun 2026-07-01 02:00:00", 210) == 238);   // a copy from before
  CHECK(night("friday", "swept begun 2026-07-24 02:00:00", 50) == 290);      // another of the same name
  CHECK(night("saturday", "", 50) == 342);                                   // not known which
  CHECK(night("sunday", "", 50) == 394);
  // One that began with the best of two others.
  Opening opening = look("monday", 261);
  opening.studies = {{"new begun 2026-08-01", 30}, {"swept begun 2026-07-01 02:00:00", 210}, {"unknown", 20}};
  ledger.open(opening);
  CHECK(ledger.read().trials() == 394 + 1 + 30 + 20);
  CHECK(ledger.read().openings.back().studies == opening.studies);
}

TEST_CASE("ledger: a look that is taken again sees what the first saw, and looks as another name count") {
  const Scratch scratch;
  Ledger ledger(scratch / "deployments", "one"), other(scratch / "deployments", "other");
  ledger.conclude(ledger.open(look("first")), {0.1, 0, "refused"});
  Opening second = look("second");
  second.holdout_from = second.first_bar - 3600;
  ledger.conclude(ledger.open(second), {0.2, 0, "refused"});
  ledger.conclude(ledger.open(look("third")), {0.3, 0, "refused"});
  CHECK(ledger.read().sharpes_before(ledger.open(second)) == std::vector<double>{0.1});
  CHECK(ledger.read().openings[1].holdout_from == second.holdout_from);
  CHECK_FALSE(ledger.read().openings[0].holdout_from);
  CHECK(ledger.looks("second") == 1);
  other.open(look("second"));
  CHECK(ledger.looks("second") == 2);
  CHECK(other.looks("second") == 2);
  CHECK(other.looks("third") == 1);
}

TEST_CASE("ledger: a damaged line costs no other and counts as a trial") {
  const Scratch scratch;
  Ledger ledger(scratch / "deployments", "m");
  ledger.open(look("first", 5));
  ledger.conclude(1, {0.5, 0.5, "refused"});
  ledger.open(look("second", 7));
  const std::string whole = read_file(ledger.path());
  const std::size_t last = whole.rfind('\n', whole.size() - 2) + 1;
  // Cut anywhere in its last line, as by a full disk or a power cut.
  for (std::size_t length = last + 1; length < whole.size(); length += 7) {
    std::ofstream(ledger.path(), std::ios::trunc) << whole.substr(0, length);
    LedgerRecord record = ledger.read();
    const bool complete = length == whole.size() - 1;
    CHECK(record.openings.size() == (complete ? 2 : 1));
    CHECK(record.unreadable == (complete ? 0 : 1));
    CHECK(record.trials() == (complete ? 12 : 6));
    CHECK(ledger.open(look("third")) == 3);
    ledger.conclude(3, {0.25, 0.1, "proven"});
    record = ledger.read();
    CHECK(record.openings.back().candidate == "third");
    CHECK(record.sharpes_before(1 << 20) == std::vector<double>{0.5, 0.25});
    CHECK(record.trials() == (complete ? 13 : 7));
  }
}

TEST_CASE("ledger: lines that mean nothing are damage, lines of a later format an error") {
  const Scratch scratch;
  Ledger ledger(scratch / "deployments", "m");
  ledger.open(look("first"));
  const std::string line = read_file(ledger.path());
  for (const char* other : {"[]", "null", "{}", "{\"format\": 1}",
                            "{\"format\": 1, \"event\": \"result\", \"number\": 9}", "{\"format\": \"1\"}", "\xff\xfe",
                            "{\"format\": 1, \"event\": \"opening\", \"number\": 2, "
                            "\"time\": \"never\"}"}) {
    std::ofstream(ledger.path(), std::ios::trunc) << line << other << "\n";
    CHECK(ledger.read().unreadable == 1);
    CHECK(ledger.read().trials() == 2);
  }
  std::ofstream(ledger.path(), std::ios::trunc) << line << line;  // a number twice
  CHECK(ledger.read().unreadable == 1);
  std::ofstream(ledger.path(), std::ios::trunc) << line << "{\"format\": 2, \"event\": \"other\"}\n";
  const auto opened = [&] { ledger.open(look("second")); };
  CHECK(message_of([&] { ledger.read(); }, Fault::incompatible) ==
        str(ledger.path().string(), ":2 is of format 2, expected 1"));
  CHECK(message_of(opened, Fault::incompatible) == str(ledger.path().string(), ":2 is of format 2, expected 1"));
}

TEST_CASE("ledger: processes that look at once get numbers of their own, and no line is lost") {
  const Scratch scratch;
  constexpr int kProcesses = 4, kLooks = 6;
  std::vector<pid_t> children;
  for (int process = 0; process < kProcesses; ++process) {
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      try {
        Ledger ledger(scratch / "deployments", "m", 60);
        for (int k = 0; k < kLooks; ++k) {
          const auto number = ledger.open(look(str(process, "-", k), 2));
          ledger.conclude(number, {0.01 * process, 0, "refused"});
        }
      } catch (...) {
        _exit(1);
      }
      _exit(0);
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
  }
  const LedgerRecord record = Ledger(scratch / "deployments", "m").read();
  CHECK(record.unreadable == 0);
  CHECK(record.trials() == 2 * kProcesses * kLooks);
  CHECK(record.sharpes_before(1 << 20).size() == kProcesses * kLooks);
  std::int64_t expected = 0;
  std::set<std::string> candidates;
  for (const Opening& opening : record.openings) {
    CHECK(opening.number == ++expected);
    candidates.insert(opening.candidate);
  }
  CHECK(candidates.size() == kProcesses * kLooks);
}

TEST_CASE("ledger: the lock is the deployment's, and bad input is refused in words") {
  const Scratch scratch;
  Ledger ledger(scratch / "deployments", "m", 0);
  ledger.open(look("first"));
  {
    const FileLock lock(scratch / "deployments/.versions/m/lock", "a promotion");
    CHECK(message_of([&] { ledger.open(look("second")); }, Fault::busy).find("a promotion") != std::string::npos);
    CHECK(ledger.read().openings.size() == 1);
  }
  const auto usage = [&](const std::function<void()>& body) { return message_of(body, Fault::usage); };
  const auto with = [&](const std::function<void(Opening&)>& change) {
    Opening opening = look("second");
    change(opening);
    return usage([&] { ledger.open(opening); });
  };
  CHECK(with([](Opening& o) { o.candidate.clear(); }) == "a look at the hold-out names no candidate");
  CHECK(with([](Opening& o) { o.bars = 0; }).find("is no range of bars") != std::string::npos);
  CHECK(with([](Opening& o) { o.last_bar = 0; }).find("is no range of bars") != std::string::npos);
  CHECK(with([](Opening& o) { o.data_sha256 = "abc"; }) == "the data's hash is 'abc', expected 64 hexadecimal digits");
  CHECK(with([](Opening& o) { o.trials = 0; }) == "the candidate is one of 0 trials, expected at least 1");
  CHECK(usage([&] { ledger.conclude(2, {}); }) == ledger.path().string() + " has no look 2");
  ledger.conclude(1, {});
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK(usage([&] { ledger.conclude(1, {nan, 0, ""}); }).find("expected finite numbers") != std::string::npos);
  CHECK(usage([&] { Ledger(scratch / "deployments", "../m"); }).find("cannot be called") != std::string::npos);
  CHECK(ledger.read().trials() == 1);
}

TEST_CASE("ledger: a store with a ledger works as one without") {
  const Scratch scratch;
  Ledger ledger(scratch / "deployments", "m");
  ledger.open(look("first"));
  VersionStore store(scratch / "deployments");
  CHECK(store.list("m").empty());
  CHECK((store.slot("m").kind == Slot::Kind::empty));
  store.refuse("m", std::nullopt, "no evidence");
  CHECK(store.history("m").size() == 1);
  CHECK(ledger.read().trials() == 1);
}
