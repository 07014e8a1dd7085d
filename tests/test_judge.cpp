#include <doctest/doctest.h>

#include "platform/atomic_file.h"
#include "platform/error.h"
#include "release_fixture.h"
#include "train/contenders.h"
#include "train/judge.h"
#include "train/record.h"

namespace ristretto::train {

TEST_CASE("contenders: the candidate is the median seed of the trial whose median seed is best, never the luckiest") {
  CHECK(choose({0.3, 0.1, 0.2}, {0, 0, 0}) == 2);
  CHECK(choose({0.4, 0.1, 0.3, 0.2}, {0, 0, 0, 0}) == 3);  // of two in the middle the worse
  CHECK(choose({0.7}, {0}) == 0);
  // Trial 0 has the luckiest seed, trial 1 the better median.
  CHECK(choose({0.9, 0.1, 0.0, 0.2, 0.4, 0.3}, {0, 0, 0, 1, 1, 1}) == 5);
}

TEST_CASE("judge: series are compared on the bars that all of them have") {
  const TimedReturns a{{10, 20, 30, 50}, {0.1, 0.2, 0.3, 0.5}}, b{{20, 30, 40, 50}, {1.2, 1.3, 1.4, 1.5}};
  const std::vector<std::int64_t> bars = common_bars({&a, &b});
  CHECK(bars == std::vector<std::int64_t>{20, 30, 50});
  CHECK(returns_at(a, bars) == evaluation::Series{0.2, 0.3, 0.5});
  CHECK(returns_at(b, bars) == evaluation::Series{1.2, 1.3, 1.5});
  CHECK(common_bars({}).empty());
}

TEST_CASE("judge: what a candidate was chosen among is read back as it was written, and damage is named") {
  const release::Scratch scratch;
  const std::filesystem::path file = scratch / "evidence.json";
  CHECK_FALSE(read_background(file));
  Background written;
  written.seeds = {{{10, 20}, {0.125, -0.5}}};
  written.trials = {{{1, 2, 3}, {0, 0.25, 1e-17}}};
  written.trial_count = 41;
  written.studies = {{"swept begun 2026-07-01", 30}, {"", 10}};
  written.trial_sharpes = {0.01, -0.02};
  write_background(file, written);
  const Background read = read_background(file).value();
  CHECK(read.seeds[0].time == written.seeds[0].time);
  CHECK(read.seeds[0].returns == written.seeds[0].returns);
  CHECK(read.trials[0].returns == written.trials[0].returns);
  CHECK(read.trial_count == 41);
  CHECK(read.studies == written.studies);
  CHECK(read.trial_sharpes == written.trial_sharpes);
  for (const char* damaged :
       {"", "{}", R"({"format":2})",
        R"({"format":1,"seeds":[{"time":[2,1],"returns":[0,0]}],"trials":[],"trial_count":1,"trial_sharpes":[]})",
        R"({"format":1,"seeds":[{"time":[1],"returns":[0,0]}],"trials":[],"trial_count":1,"trial_sharpes":[]})"}) {
    CAPTURE(damaged);
    write_file_atomically(file, damaged);
    CHECK_THROWS_WITH_AS(read_background(file), doctest::Contains("evidence.json"), Error);
  }
}

TEST_CASE("judge: every gate of both kinds is printed with its verdict, value, threshold and reason") {
  const std::string text =
      text_of({{"orders", false, "1 orders", "at least 10", "it hardly trades"}},
              {{"seeds", false, "", "at least 5", "none", true}, {"costs_1x", true, "0.5", "0", ""}});
  CHECK(text ==
        "\nintegrity: 0 of 1 gates passed\n"
        "  orders               refused     1 orders; at least 10: it hardly trades\n"
        "evidence: 1 of 2 gates passed\n"
        "  seeds                no evidence at least 5: none\n"
        "  costs_1x             passed      0.5; 0\n");
}

TEST_CASE("judge: what a proven version does not give way to is refused for the gates that it did not pass") {
  Judgement judgement;
  judgement.champion.state = release::Served::proven;
  judgement.evidence = {
      {"overfitting", false, "", "", "none"}, {"drawdown", true, "", "", ""}, {"seeds", false, "", "", "none", true}};
  const release::Verdict verdict = decide(judgement, {{"loads", true, "", "", ""}}).verdict;
  CHECK_FALSE(verdict.serve);
  CHECK(verdict.reason.ends_with("gives way to evidence only; it did not pass overfitting, seeds"));
  CHECK(decide(judgement, {{"loads", false, "", "", "none"}}).verdict.reason == "it fails integrity");
}

TEST_CASE("judge: integrity and evidence stand in one list, each with its kind") {
  const release::Json gates =
      gates_json({{"loads", true, "mlp", "as served", ""}}, {{"seeds", false, "", "at least 5", "none", true}});
  REQUIRE(gates.size() == 2);
  CHECK(gates[0]["kind"] == "integrity");
  CHECK(gates[0]["verdict"] == "passed");
  CHECK(gates[1]["kind"] == "evidence");
  CHECK(gates[1]["verdict"] == "no_evidence");
}

}  // namespace ristretto::train
