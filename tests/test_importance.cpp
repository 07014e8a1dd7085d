#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <random>

#include "platform/atomic_file.h"
#include "platform/error.h"
#include "platform/text.h"
#include "studies/distribution.h"
#include "studies/importance.h"

using namespace ristretto;
using namespace ristretto::studies;
using formats::Json;

namespace {

// Two forests of different random numbers, and ours cuts categories as such where Optuna cuts one column for each.
constexpr double kShareTolerance = 0.1;

double uniform(std::mt19937_64& random) { return std::ldexp(static_cast<double>(random() >> 11), -53); }

Trial complete(std::int64_t number, double value, std::vector<Parameter> params) {
  Trial trial;
  trial.id = trial.number = number;
  trial.state = State::complete;
  trial.values = {value};
  trial.params = std::move(params);
  return trial;
}
Study minimized(std::vector<Trial> trials) {
  Study study;
  study.name = "s";
  study.directions = {Direction::minimize};
  study.trials = std::move(trials);
  return study;
}
const agents::FloatRange kUnit{0, 1};

double share_of(const std::vector<Importance>& all, const std::string& name) {
  for (const Importance& importance : all) {
    if (importance.name == name) return importance.share;
  }
  FAIL("no importance of ", name);
  return 0;
}
double sum_of(const std::vector<Importance>& all) {
  double sum = 0;
  for (const Importance& importance : all) sum += importance.share;
  return sum;
}

}  // namespace

TEST_CASE("importance: order and shares are those of Optuna's fANOVA") {
  const std::string path = RISTRETTO_GOLDEN "/optuna_importance/fanova.jsonl";
  std::size_t studies = 0;
  for (const std::string& line : split(read_file(path), '\n')) {
    if (line.empty()) continue;
    const Json json = formats::read_json(line, path);
    Study study = minimized({});
    study.name = json.find("study")->text;
    study.directions = {*parse_direction(json.find("direction")->text)};
    for (const Json& recorded : json.find("trials")->items) {
      std::vector<Parameter> params;
      for (const auto& [name, distribution] : json.find("distributions")->members) {
        const agents::Range range = read_distribution(distribution.text, path);
        const double stored = recorded.items[0].items[params.size()].real;
        params.push_back({name, external_value(range, stored), range});
      }
      study.trials.push_back(complete(static_cast<std::int64_t>(study.trials.size()), recorded.items[1].real, params));
    }
    const std::vector<Importance> ours = importances(study);
    CHECK(sum_of(ours) == doctest::Approx(1));
    const auto& expected = json.find("importance")->members;  // the largest first
    REQUIRE(ours.size() == expected.size());
    for (std::size_t i = 0; i < expected.size(); ++i) {
      INFO(study.name, " ", expected[i].first, ": ", expected[i].second.real, ", ours ", ours[i].name, ": ",
           ours[i].share);
      CHECK(ours[i].name == expected[i].first);
      CHECK(std::abs(ours[i].share - expected[i].second.real) < kShareTolerance);
    }
    ++studies;
  }
  CHECK(studies == 2);
}

TEST_CASE("importance: the same seed gives the same shares, another seed others") {
  std::mt19937_64 random(1);
  std::vector<Trial> trials;
  for (int i = 0; i < 60; ++i) {
    const double a = uniform(random), b = uniform(random);
    trials.push_back(complete(i, a + 2 * b, {{"a", a, kUnit}, {"b", b, kUnit}}));
  }
  const Study study = minimized(trials);
  const auto first = importances(study, 5), again = importances(study, 5), other = importances(study, 6);
  CHECK(share_of(first, "a") == share_of(again, "a"));
  CHECK(share_of(first, "a") != share_of(other, "a"));
  // Variances 1/12 and 4/12.
  CHECK(share_of(first, "b") == doctest::Approx(0.8).epsilon(0.05));
}

TEST_CASE("importance: a logarithmic parameter counts by its logarithm") {
  std::mt19937_64 random(2);
  std::vector<Trial> trials;
  const agents::FloatRange rate{1e-6, 1, 0, true};
  for (int i = 0; i < 200; ++i) {
    const double exponent = -6 * uniform(random), b = uniform(random);
    trials.push_back(complete(i, exponent / 6 + b, {{"rate", std::pow(10, exponent), rate}, {"b", b, kUnit}}));
  }
  CHECK(share_of(importances(minimized(trials)), "rate") == doctest::Approx(0.5).epsilon(0.1));
}

TEST_CASE("importance: only COMPLETE trials with a finite value and parameters of all of them count") {
  std::mt19937_64 random(3);
  const agents::Choices kinds{{std::string("x"), std::monostate{}, std::nan(""), true}};
  std::vector<Trial> trials;
  for (int i = 0; i < 80; ++i) {
    const double a = uniform(random);
    const std::size_t kind = random() % 4;
    // The range widens on the way.
    trials.push_back(complete(i, static_cast<double>(kind),
                              {{"a", a, agents::FloatRange{0, i < 40 ? 1.0 : 2.0}},
                               {"kind", kinds.choices[kind], kinds},
                               {"one", std::int64_t{3}, agents::IntRange{3, 3}}}));
    if (i == 7) trials.back().params.push_back({"seldom", 0.5, kUnit});
  }
  std::vector<Trial> with_others = trials;
  for (const State state : {State::pruned, State::fail, State::running}) {
    with_others.push_back(complete(100, 1e9, {}));
    with_others.back().state = state;
  }
  with_others.push_back(complete(101, std::numeric_limits<double>::infinity(), {}));
  const auto shares = importances(minimized(with_others));
  CHECK(shares.size() == 3);
  CHECK(shares[0].name == "kind");
  CHECK(shares[0].share > 0.95);
  CHECK(share_of(shares, "one") == 0);
  CHECK(share_of(shares, "kind") == share_of(importances(minimized(trials)), "kind"));
}

TEST_CASE("importance: values at the ends of what a double holds") {
  constexpr double kLargest = std::numeric_limits<double>::max();
  std::vector<Trial> trials;
  for (int i = 0; i < 20; ++i) {
    trials.push_back(complete(i, i % 2 == 0 ? -kLargest : kLargest, {{"a", (i % 2 + 0.5) / 2, kUnit}}));
  }
  const auto shares = importances(minimized(trials));
  REQUIRE(shares.size() == 1);
  CHECK(shares[0].share == 1);
}

TEST_CASE("importance: what cannot be compared is refused") {
  const Trial a = complete(0, 1, {{"a", 0.5, kUnit}}), b = complete(1, 2, {{"a", 0.25, kUnit}});
  CHECK_THROWS_WITH_AS(importances(minimized({a})), doctest::Contains("has 1 COMPLETE trials"), Error);
  CHECK_THROWS_WITH_AS(importances(minimized({a, complete(1, 1, a.params)})), doctest::Contains("have the value 1"),
                       Error);
  CHECK_THROWS_WITH_AS(importances(minimized({a, complete(1, 2, {{"b", 0.5, kUnit}})})),
                       doctest::Contains("no parameter in common"), Error);
  CHECK_THROWS_WITH_AS(
      importances(minimized({a, complete(1, 2, {{"a", std::string("x"), agents::Choices{{std::string("x")}}}})})),
      doctest::Contains("of another kind"), Error);
  Study several = minimized({a, b});
  several.directions.push_back(Direction::maximize);
  CHECK_THROWS_WITH_AS(importances(several), doctest::Contains("2 objectives"), Error);
}
