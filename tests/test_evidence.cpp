#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <functional>
#include <limits>
#include <map>
#include <random>

#include "platform/clock.h"
#include "platform/error.h"
#include "platform/text.h"
#include "release/evidence.h"
#include "release_fixture.h"

using namespace ristretto;
using namespace ristretto::release;
using evaluation::Series;

namespace {

// Of which the deflated Sharpe ratio needs some: the spread of ten trials of which one has skill counts as spread of
// luck. Of 3,000 bars, 87 in 100 pass that have a Sharpe ratio of 0.10.
constexpr std::size_t kBars = 4500;
constexpr double kVolatility = 0.01, kMarketShare = 0.7, kCostSharpe = 0.01;
constexpr int kTrials = 10;

// Standard normal, the same with every library.
struct Noise {
  std::mt19937_64 generator;
  double operator()() {
    const auto uniform = [&] { return std::ldexp(static_cast<double>((generator() >> 11) + 1), -53); };
    const double radius = std::sqrt(-2 * std::log(uniform()));
    return radius * std::cos(6.283185307179586 * uniform());
  }
};

Series less(Series returns, double cost) {
  for (double& r : returns) r -= cost;
  return returns;
}

// Accounts in one market without drift. Of ten trials the best on these bars is the candidate; one of them, and each of
// its seeds, has the skill `sharpe` a bar.
Evidence synthetic(std::uint64_t seed, double sharpe) {
  Noise noise{std::mt19937_64(seed)};
  Evidence evidence;
  for (std::size_t t = 0; t < kBars; ++t) evidence.equal_weight.push_back(kVolatility * noise());
  const auto account = [&](double skill) {
    Series out;
    for (const double market : evidence.equal_weight) {
      const double own = std::sqrt(1 - kMarketShare * kMarketShare) * noise();
      out.push_back(kMarketShare * market + kVolatility * (own + skill));
    }
    return out;
  };
  for (int trial = 0; trial < kTrials; ++trial) {
    evidence.trials.push_back(account(trial == 0 ? sharpe : 0));
    evidence.trial_sharpes.push_back(evaluation::sharpe_of(evidence.trials.back()));
  }
  const auto best = std::max_element(evidence.trial_sharpes.begin(), evidence.trial_sharpes.end());
  evidence.candidate = evidence.trials[static_cast<std::size_t>(best - evidence.trial_sharpes.begin())];
  evidence.trial_count = kTrials;
  evidence.champion = account(0);
  evidence.seeds = {evidence.candidate};
  for (int k = 0; k < 4; ++k) evidence.seeds.push_back(account(sharpe));
  // The account pays more often than one that is bought once.
  const double cost = kCostSharpe * kVolatility;
  evidence.costs_2x = {less(evidence.candidate, cost), evidence.equal_weight};
  evidence.costs_3x = {less(evidence.candidate, 2 * cost), evidence.equal_weight};
  evidence.last_bar = parse_utc("2026-01-01T00:00:00Z");
  evidence.judged_at = parse_utc("2026-01-02T12:00:00Z");
  evidence.looks = 1;
  return evidence;
}

const Evidence& good() {
  static const Evidence evidence = synthetic(1, 0.2);
  return evidence;
}

// Of few replicates, so that the tests are fast.
Thresholds quick() {
  Thresholds thresholds;
  thresholds.replicates = 100;
  return thresholds;
}

// Names of those that did not pass; "name?" where there was no evidence.
std::string refused(const std::vector<GateResult>& gates) {
  std::string names;
  for (const GateResult& gate : gates) {
    if (gate.passed) {
      CHECK_FALSE(gate.no_evidence);
      CHECK(gate.reason.empty());
      CHECK_FALSE(gate.value.empty());
      continue;
    }
    CHECK_FALSE(gate.reason.empty());
    names += str(names.empty() ? "" : " ", gate.name, gate.no_evidence ? "?" : "");
  }
  return names;
}

std::string refused_with(const std::function<void(Evidence&)>& change) {
  Evidence evidence = good();
  change(evidence);
  return refused(evidence_gates(evidence, quick()));
}

std::string reason_of(const Evidence& evidence, const std::string& name) {
  for (const GateResult& gate : evidence_gates(evidence, quick())) {
    if (gate.name == name) return gate.reason;
  }
  return "no such gate";
}

}  // namespace

TEST_CASE("evidence: a skilful candidate passes all twelve with the thresholds of the table") {
  const auto gates = evidence_gates(good());
  CHECK(gates.size() == 12);
  CHECK_MESSAGE(all_passed(gates), refusals(gates));
  CHECK(json_of(gates)[0].at("verdict") == "passed");
}

TEST_CASE("evidence: what the deflated Sharpe ratio was computed from stands beside it as numbers") {
  const Json gates = json_of(evidence_gates(good(), quick()));
  const Json numbers = gates[1].at("numbers");
  CHECK(gates[1].at("name") == "deflated_sharpe");
  CHECK(numbers.at("trials") == kTrials);
  CHECK(numbers.at("bars") == kBars);
  const double variance = numbers.at("sharpe_variance");
  CHECK(variance > 0);
  CHECK(numbers.at("expected_maximum_sharpe") == evaluation::expected_maximum_sharpe(kTrials, variance));
  const evaluation::SharpeSample sample = evaluation::sharpe_sample(good().candidate);
  CHECK(numbers.at("deflated_sharpe") == evaluation::deflated_sharpe(sample, kTrials, variance));
  CHECK(numbers.at("effective_trials").at("of") == kTrials);
  CHECK(numbers.at("effective_trials").at("participation_ratio").get<double>() > 1);
  CHECK_FALSE(gates[0].contains("numbers"));
}

TEST_CASE("evidence: what does not exist counts as refused, gate by gate") {
  const auto gates = evidence_gates({});
  CHECK(refused(gates) ==
        "overfitting? deflated_sharpe? against_champion? against_equal_weight? against_cash? drawdown? costs_1x? "
        "costs_2x? costs_3x? seeds? freshness? holdout?");
  CHECK_FALSE(all_passed(gates));
  CHECK(json_of(gates)[0].at("verdict") == "no_evidence");
  CHECK(refused_with([](Evidence& e) { e.champion.clear(); }) == "against_champion? drawdown?");
  CHECK(refused_with([](Evidence& e) { e.equal_weight.clear(); }) == "against_equal_weight? costs_1x? seeds?");
  CHECK(refused_with([](Evidence& e) { e.costs_2x = {}; }) == "costs_2x?");
  CHECK(refused_with([](Evidence& e) { e.costs_3x.equal_weight.clear(); }) == "costs_3x?");
  CHECK(refused_with([](Evidence& e) { e.seeds.pop_back(); }) == "seeds?");
  CHECK(refused_with([](Evidence& e) { e.trials.resize(1); }) == "overfitting?");
  CHECK(refused_with([](Evidence& e) { e.trial_count.reset(); }) == "deflated_sharpe?");
  CHECK(refused_with([](Evidence& e) { e.trial_count = 9; }) == "deflated_sharpe?");
  Evidence few = good();
  few.trial_sharpes.resize(2);
  for (const GateResult& result : evidence_gates(few)) {
    if (result.name != "deflated_sharpe") continue;
    CHECK(result.no_evidence);
    CHECK(result.numbers == Json{{"trials", kTrials}, {"trials_with_sharpe", 2}});
  }
  CHECK(refused_with([](Evidence& e) { e.trial_sharpes.resize(4); }) == "deflated_sharpe?");
  CHECK(refused_with([](Evidence& e) { e.last_bar.reset(); }) == "freshness?");
  CHECK(refused_with([](Evidence& e) { e.looks.reset(); }) == "holdout?");
  CHECK(refused_with([](Evidence& e) { e.origin_unknown = "the study does not say"; }) == "holdout?");
}

TEST_CASE("evidence: each gate refuses what it is there for, and that alone") {
  CHECK(refused_with([](Evidence& e) { e.trial_count = 100'000'000'000'000; }) == "deflated_sharpe");
  CHECK(refused_with([](Evidence& e) { e.champion = e.candidate; }) == "against_champion");
  // The best of ten equal trials is no better than their median.
  CHECK(refused_with([](Evidence& e) { e.trials.assign(10, e.candidate); }) == "overfitting");
  CHECK(refused_with([](Evidence& e) { e.champion = Series(kBars, 0.0); }) == "drawdown");
  CHECK(refused_with([](Evidence& e) { e.costs_2x.candidate = less(e.candidate, 0.004); }) == "costs_2x");
  CHECK(refused_with([](Evidence& e) { e.costs_3x.candidate = less(e.candidate, 0.004); }) == "costs_3x");
  CHECK(refused_with([](Evidence& e) { e.seeds[3] = e.seeds[4] = less(e.candidate, 0.004); }) == "seeds");
  CHECK(refused_with([](Evidence& e) { e.judged_at = *e.last_bar + 8 * 86400; }) == "freshness");
  CHECK(refused_with([](Evidence& e) { e.judged_at = *e.last_bar - 1; }) == "freshness");
  CHECK(refused_with([](Evidence& e) { e.looks = 2; }) == "holdout");
  CHECK(refused_with([](Evidence& e) { e.looks = 0; }) == "holdout");
  // Equal weight that does better, with one seed's fate bound to the others'.
  CHECK(refused_with([](Evidence& e) {
          e.equal_weight = e.costs_2x.equal_weight = e.costs_3x.equal_weight = less(e.candidate, -0.001);
          for (Series& seed : e.seeds) seed = e.candidate;
        }) == "against_equal_weight costs_1x costs_2x costs_3x seeds");
}

TEST_CASE("evidence: series that are too short, broken or of other bars are no evidence") {
  Evidence evidence = good();
  evidence.candidate[7] = std::numeric_limits<double>::quiet_NaN();
  CHECK(reason_of(evidence, "against_cash") == "the return of the candidate at bar 7 is nan, expected more than -1");
  CHECK(reason_of(evidence, "deflated_sharpe") == reason_of(evidence, "against_cash"));
  evidence = good();
  evidence.champion.pop_back();
  CHECK(reason_of(evidence, "drawdown") == "the champion has 4499 bars and the candidate 4500, expected the same bars");
  evidence.candidate.resize(249);
  CHECK(reason_of(evidence, "against_cash") == "the candidate has 249 bars, expected at least 250");
  evidence.candidate.assign(300, 0.001);
  CHECK(reason_of(evidence, "deflated_sharpe") == "the returns do not vary: no Sharpe ratio");
  evidence = good();
  evidence.trials[3].pop_back();
  CHECK(reason_of(evidence, "overfitting") == "series 3 has 4499 bars, expected 4500 as the first has");
  CHECK(reason_of(evidence, "seeds").empty());
}

TEST_CASE("evidence: trials that are alike are taken to differ by what one Sharpe ratio is uncertain by") {
  Evidence evidence = good();
  evidence.trial_count = 200;
  evidence.trial_sharpes.assign(5, 0.03);  // five seeds of one training
  const auto value = [&] {
    for (const GateResult& gate : evidence_gates(evidence)) {
      if (gate.name == "deflated_sharpe") return gate.value;
    }
    return std::string();
  };
  const std::string alike = value();
  CHECK(alike.find(str("V ", 1.0 / (kBars - 1)).substr(0, 8)) != std::string::npos);
  const double spread = std::sqrt(1.0 / (kBars - 1));
  evidence.trial_sharpes = {0.03, 0.03 + 3 * spread, 0.03 - 3 * spread, 0.03, 0.03};  // more than that stands
  CHECK(value() != alike);
}

TEST_CASE("evidence: drawdown is from the highest value so far, the beginning included") {
  Evidence evidence = good();
  evidence.candidate.assign(kBars, 0);
  evidence.candidate[0] = -0.1;
  evidence.candidate[1] = 0.5;
  evidence.candidate[2] = -0.11;
  evidence.champion.assign(kBars, 0);
  evidence.champion[5] = -0.1001;
  CHECK(reason_of(evidence, "drawdown").empty());  // 0.11 is at most 1.1 * 0.1001
  evidence.champion[5] = -0.0999;
  CHECK(reason_of(evidence, "drawdown") == "it falls deeper than the champion");
}

TEST_CASE("evidence: without skill at most 5 % pass, with a Sharpe ratio of 0.10 a bar at least 90 %") {
  constexpr int kNull = 200, kPlanted = 100;
  const auto passes = [](int count, std::uint64_t first_seed, double sharpe, std::map<std::string, int>& of_gate) {
    int passed = 0;
    for (int k = 0; k < count; ++k) {
      const auto gates = evidence_gates(synthetic(first_seed + static_cast<std::uint64_t>(k), sharpe), quick());
      passed += all_passed(gates);
      for (const GateResult& gate : gates) of_gate[gate.name] += gate.passed;
    }
    return passed;
  };
  std::map<std::string, int> null_gates, planted_gates;
  const int null = passes(kNull, 10'000, 0, null_gates), planted = passes(kPlanted, 20'000, 0.1, planted_gates);
  std::string line;
  for (const auto& [name, count] : null_gates) line += str(" ", name, " ", count, "/", planted_gates[name]);
  MESSAGE("passed without skill, of ", kNull, ": ", null, "; with, of ", kPlanted, ": ", planted, "; by gate:", line);
  CHECK(null <= kNull / 20);
  CHECK(planted >= kPlanted * 9 / 10);
  // The candidate is the best of ten on the very bars that it is judged on: this gate alone must see that.
  CHECK(null_gates["deflated_sharpe"] <= kNull / 20);
}

TEST_CASE("evidence: thresholds from a file, the table's where it says nothing") {
  const Scratch scratch;
  const auto read = [&](const std::string& text) {
    std::ofstream(scratch / "gates.ini", std::ios::trunc) << text;
    return read_thresholds(scratch / "gates.ini");
  };
  const auto error_of = [&](const std::string& text) {
    try {
      read(text);
    } catch (const Error& error) {
      CHECK((error.fault() == Fault::usage));
      const std::string message = error.what();
      return message.substr(message.find("gates.ini")) + (error.hint().empty() ? "" : " | " + error.hint());
    }
    return std::string("nothing");
  };
  for (const std::filesystem::path& absent : {scratch / "absent.ini", scratch.path()}) {
    CHECK_THROWS_WITH_AS(read_thresholds(absent), doctest::Contains("is no file"), Error);
  }
  CHECK(read("").deflated_sharpe_minimum == 0.95);
  const Thresholds found =
      read("; ours\n[gates]\ndeflated_sharpe_minimum = 0.99  ; strict\n\noverfitting_blocks=10\r\n");
  CHECK(found.deflated_sharpe_minimum == 0.99);
  CHECK(found.overfitting_blocks == 10);
  CHECK(found.overfitting_maximum == 0.10);
  CHECK(error_of("deflated_sharp = 0.9\n") ==
        "gates.ini:1: there is no threshold 'deflated_sharp' | did you mean 'deflated_sharpe_minimum'?");
  CHECK(error_of("\nconfidence\n") == "gates.ini:2 is 'confidence', expected name = value");
  CHECK(error_of("confidence = 95\n") == "gates.ini:1: confidence is '95', expected a number from 0.5 to 0.9999");
  CHECK(error_of("confidence = nan\n") == "gates.ini:1: confidence is 'nan', expected a number from 0.5 to 0.9999");
  CHECK(error_of("replicates = 1000.5\n") ==
        "gates.ini:1: replicates is '1000.5', expected a whole number from 100 to 1e+07");
  CHECK(error_of("confidence = 0.9\nconfidence = 0.8\n") == "gates.ini:2: confidence is given a second time");
  CHECK(error_of("overfitting_blocks = 7\n") == "gates.ini: overfitting_blocks is 7, expected an even number");
  CHECK_THROWS_AS(read_thresholds(scratch / "absent.ini"), Error);
  // Every default lies in its own range.
  const Thresholds defaults;
  for (const ThresholdRow& row : threshold_table()) {
    CHECK(defaults.*row.member >= row.least);
    CHECK(defaults.*row.member <= row.most);
  }
  CHECK(threshold_table().size() == sizeof(Thresholds) / sizeof(double));
}
