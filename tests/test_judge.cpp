#include <doctest/doctest.h>

#include <algorithm>

#include "agents/checkpoint.h"
#include "env/step.h"
#include "platform/atomic_file.h"
#include "platform/error.h"
#include "platform/text.h"
#include "program_fixture.h"
#include "release_fixture.h"
#include "train/contenders.h"
#include "train/judge.h"
#include "train/record.h"
#include "train/resolve.h"

namespace ristretto::train {
namespace {

// A training of a moment with the default hyperparameters.
Resolved small_trial(const std::string& learning_rate, const std::string& steps) {
  std::vector<Given> given;
  for (const auto& [name, text] : {std::pair<const char*, std::string>{"bars", kSource + "/data/crypto_1h"},
                                   {"net_dimension", "16"},
                                   {"portfolios", "64"},
                                   {"base_target_step", "32"},
                                   {"batch_size", "1024"},
                                   {"learning_rate", learning_rate},
                                   {"steps", steps}}) {
    given.push_back({name, text, "a test"});
  }
  return resolve(std::nullopt, std::nullopt, given);
}

}  // namespace

TEST_CASE("contenders: the candidate is the median seed of the trial whose median seed is best, never the luckiest") {
  CHECK(choose({0.3, 0.1, 0.2}, {0, 0, 0}) == 2);
  CHECK(choose({0.4, 0.1, 0.3, 0.2}, {0, 0, 0, 0}) == 3);  // of two in the middle the worse
  CHECK(choose({0.7}, {0}) == 0);
  // Trial 0 has the luckiest seed, trial 1 the better median.
  CHECK(choose({0.9, 0.1, 0.0, 0.2, 0.4, 0.3}, {0, 0, 0, 1, 1, 1}) == 5);
}

TEST_CASE("contenders: a trial of which a seed diverges is given up, and the others are trained") {
  const TemporaryDirectory directory;
  Profile profile;
  const std::vector<Resolved> trials = {small_trial("1e30", "4096"), small_trial("1e-3", "4096")};
  const std::vector<Contender> contenders = train_contenders(trials, 2, directory.path / "two", profile);
  REQUIRE(contenders.size() == 2);
  for (const Contender& contender : contenders) CHECK(contender.trial == 1);
  CHECK(background_of(contenders, trials).trials.size() == 1);
  CHECK_THROWS_AS(train_contenders({trials[0]}, 1, directory.path / "one", profile), Diverged);
}

TEST_CASE("contenders: what was interrupted goes on with its schedule of the learning rate") {
  const TemporaryDirectory directory;
  Profile profile;
  train_contenders({small_trial("1e-3", "4096")}, 1, directory.path, profile);
  // As if it had been cut when three quarters of its time were over, and is to have more.
  std::filesystem::remove(directory.path / "finished");
  agents::Checkpoint saved = agents::read_checkpoint(directory.path / "checkpoint");
  CHECK(saved.fields.at("progress") == "1");
  saved.fields["progress"] = "0.75";
  agents::write_checkpoint(directory.path / "checkpoint", saved);
  std::vector<Resolved> longer = {small_trial("1e-3", "40960")};
  longer[0].settings.apply({"time_budget", "1h", "a test"});
  const std::vector<Contender> contenders = train_contenders(longer, 1, directory.path, profile);
  CHECK(contenders.at(0).outcome.environment_steps == 40960);
  CHECK(contenders[0].outcome.reward_term_shares.size() == env::kRewardTermCount);  // of the first process
  const std::vector<std::string> lines = split(read_file(directory.path / "logs" / "updates_2.csv"), '\n');
  const std::vector<std::string> names = split(lines.at(0), ','), first = split(lines.at(1), ',');
  const auto column = std::find(names.begin(), names.end(), "train/learning_rate") - names.begin();
  const double rate = parse_number<double>(first.at(static_cast<std::size_t>(column))).value();
  CHECK(rate > 0.2e-3);
  CHECK(rate <= 0.25e-3);
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
