#include <doctest/doctest.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <limits>

#include "formats/json_text.h"
#include "platform/atomic_file.h"
#include "platform/error.h"
#include "platform/text.h"
#include "studies/pruners/halving.h"
#include "studies/pruners/percentile.h"
#include "studies/pruners/pruner.h"
#include "studies/pruners/wilcoxon.h"

using namespace ristretto;
using namespace ristretto::studies;
using formats::Json;

namespace {

// Written by tests/interop/optuna_pruning.py.
const std::string kDecisions = RISTRETTO_GOLDEN "/optuna_pruners/decisions.json";
// SciPy adds the same terms in another order, and has its own normal distribution.
constexpr double kPValueTolerance = 1e-12;

const Json& golden() {
  static const Json json = formats::read_json(read_file(kDecisions), kDecisions);
  return json;
}
const Json& member(const Json& json, const char* name) {
  const Json* found = json.find(name);
  REQUIRE(found != nullptr);
  return *found;
}
std::map<std::string, std::string> options_of(const Json& json) {
  std::map<std::string, std::string> options;
  for (const auto& [name, value] : member(json, "options").members) options[name] = value.text;
  return options;
}

Study study_of(Direction direction, const std::string& name = "s") {
  Study study;
  study.name = name;
  study.directions = {direction};
  return study;
}
Trial trial_with(std::int64_t number, State state, std::vector<Report> reports) {
  Trial trial;
  trial.id = trial.number = number;
  trial.state = state;
  trial.reports = std::move(reports);
  return trial;
}

std::string message_of(const std::string& name, const std::map<std::string, std::string>& options) {
  try {
    make_pruner(name, options);
  } catch (const Error& error) {
    CHECK(error.fault() == Fault::usage);
    return str(error.what(), " | ", error.hint());
  }
  return {};
}
bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("pruners: every should_prune and completed_rung of recorded studies is Optuna's") {
  std::size_t decisions = 0, pruned = 0, rungs = 0;
  for (const Json& recorded : member(golden(), "cases").items) {
    const std::string name = member(recorded, "pruner").text;
    INFO(name, " ", formats::write_json(member(recorded, "options")), " ", member(recorded, "direction").text);
    const auto pruner = make_pruner(name, options_of(recorded));
    Study study = study_of(*parse_direction(member(recorded, "direction").text), member(recorded, "study").text);
    for (const Json& event : member(recorded, "events").items) {
      const auto number = static_cast<std::size_t>(event.items[0].integer);
      while (study.trials.size() <= number) {
        study.trials.push_back(trial_with(static_cast<std::int64_t>(study.trials.size()), State::running, {}));
      }
      Trial& trial = study.trials[number];
      INFO(formats::write_json(event));
      if (event.items[1].kind == Json::Kind::text) {
        trial.state = *parse_state(event.items[1].text);
        if (trial.state == State::complete) trial.values = {event.items[2].real};
        continue;
      }
      trial.reports.push_back({event.items[1].integer, event.items[2].real});
      const Decision decision = pruner->decide(study, trial);
      CHECK(decision.prune == (event.items[3].integer == 1));
      ++decisions;
      pruned += decision.prune ? 1 : 0;
      const std::vector<Json> expected = event.items.size() > 4 ? event.items[4].items : std::vector<Json>{};
      REQUIRE(decision.system_attributes.size() * 2 == expected.size());
      for (std::size_t i = 0; i < decision.system_attributes.size(); ++i) {
        const Attribute& attribute = decision.system_attributes[i];
        CHECK(attribute.key == str("completed_rung_", expected[2 * i].integer));
        CHECK(attribute.value.real == expected[2 * i + 1].real);
        trial.system_attributes.push_back(attribute);
        ++rungs;
      }
    }
  }
  CHECK(decisions == 8381);
  CHECK(pruned == 837);
  CHECK(rungs > 500);
}

TEST_CASE("pruners: hyperband puts ten thousand trials into Optuna's brackets, and a sampler sees its own") {
  for (const Json& recorded : member(golden(), "brackets").items) {
    const auto options = options_of(recorded);
    const Study study = study_of(Direction::minimize, member(recorded, "study").text);
    const auto number = [&](const char* name) { return *parse_number<std::int64_t>(options.at(name)); };
    HyperbandPruner pruner({number("min_resource"), number("max_resource"), number("reduction_factor"), 0});
    const std::string& expected = member(recorded, "brackets").text;
    REQUIRE(expected.size() == 10000);
    std::size_t different = 0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const auto bracket = pruner.bracket_of(study, static_cast<std::int64_t>(i));
      REQUIRE(bracket.has_value());
      different += *bracket != static_cast<std::size_t>(expected[i] - '0') ? 1 : 0;
    }
    CHECK(different == 0);
    for (std::size_t i = 1; i < 100; ++i) {
      CHECK(pruner.sees(study, 0, static_cast<std::int64_t>(i)) == (expected[0] == expected[i]));
    }
  }
  CHECK(crc32("123456789") == 0xcbf43926);  // the check value of its definition
  // Before a COMPLETE trial tells how long 'auto' is, all trials are of one bracket; afterwards it stays.
  HyperbandPruner automatic({1, std::nullopt, 3, 0});
  Study study = study_of(Direction::minimize);
  CHECK(!automatic.bracket_of(study, 0));
  CHECK(automatic.sees(study, 0, 1));
  study.trials.push_back(trial_with(0, State::complete, {{0, 1.0}, {242, 1.0}}));
  CHECK(automatic.bracket_of(study, 7) == HyperbandPruner({1, 243, 3, 0}).bracket_of(study, 7));
  CHECK(make_pruner("median")->sees(study, 0, 1));
}

TEST_CASE("pruners: p-values of the signed-rank test are SciPy's") {
  const std::vector<Json>& recorded = member(golden(), "wilcoxon").items;
  CHECK(recorded.size() == 85);
  for (const Json& item : recorded) {
    std::vector<double> differences;
    for (const Json& difference : item.items[0].items) differences.push_back(difference.real);
    INFO(formats::write_json(item));
    for (const bool greater : {true, false}) {
      const double expected = item.items[greater ? 1 : 2].real, p = wilcoxon_p_value(differences, greater);
      if (std::isnan(expected)) {
        CHECK(std::isnan(p));
      } else {
        CHECK(std::abs(p - expected) <= kPValueTolerance * expected);
      }
    }
  }
  CHECK(std::isnan(wilcoxon_p_value({}, true)));
}

TEST_CASE("pruners: percentiles are NumPy's, also where an infinity meets a weight of 0") {
  constexpr double kInfinity = std::numeric_limits<double>::infinity(), kNan = std::nan("");
  CHECK(nan_percentile({4, kNan, 1, 3, 2}, 50) == 2.5);
  CHECK(nan_percentile({1, 2, 3, 4, kInfinity}, 10) == 1.4);
  CHECK(nan_percentile({1, 2, 3, 4, kInfinity}, 50) == 3);
  CHECK(nan_percentile({1, kInfinity}, 25) == kInfinity);
  CHECK(std::isnan(nan_percentile({1, 2, kInfinity}, 50)));
  CHECK(nan_percentile({-kInfinity, 1, 2}, 25) == -kInfinity);
  CHECK(nan_percentile({3}, 100) == 3);
  CHECK(std::isnan(nan_percentile({kNan}, 50)));
}

TEST_CASE("pruners: names and options that there are not are refused with those that there are") {
  for (const std::string& name : pruner_names()) {
    std::map<std::string, std::string> needed;
    if (name == "percentile") needed = {{"percentile", "25"}};
    if (name == "patient") needed = {{"patience", "3"}};
    if (name == "threshold") needed = {{"upper", "1"}};
    CHECK(make_pruner(name, needed) != nullptr);
  }
  const std::string unknown = message_of("hyperbnd", {});
  for (const char* part :
       {"'hyperbnd'", "none, median, percentile, successive_halving", "wilcoxon", "mean hyperband?"}) {
    CHECK(contains(unknown, part));
  }
  const std::string option = message_of("median", {{"startup_trials", "3"}});
  CHECK(contains(option, "no option 'startup_trials'"));
  CHECK(contains(option, "interval_steps, n_min_trials, n_startup_trials, n_warmup_steps"));
  CHECK(contains(message_of("median", {{"n_startup_trials", "-1"}}),
                 "n_startup_trials is '-1', expected a whole number"));
  CHECK(contains(message_of("percentile", {{"percentile", "101"}}), "expected a number from 0 to 100"));
  CHECK(contains(message_of("percentile", {}), "needs percentile"));
  CHECK(contains(message_of("hyperband", {{"min_resource", "9"}, {"max_resource", "3"}}), "max_resource is 3"));
  CHECK(contains(message_of("successive_halving", {{"bootstrap_count", "1"}}), "'auto'"));
  CHECK(contains(message_of("successive_halving", {{"reduction_factor", "1"}}), "of at least 2"));
  CHECK(contains(message_of("threshold", {}), "lower, upper or both"));
  CHECK(contains(message_of("threshold", {{"lower", "2"}, {"upper", "1"}}), "lower is 2"));
  CHECK(contains(message_of("threshold", {{"lower", "nan"}}), "lower is 'nan'"));
  CHECK(contains(message_of("patient", {{"patience", "1"}, {"n_startup_trials", "1"}}), "'n_startup_trials'"));
  CHECK(contains(message_of("patient", {{"patience", "1"}, {"wrapped", "medan"}}), "'medan'"));
  CHECK(contains(message_of("none", {{"x", "1"}}), "pruner none has no option 'x'"));
}

TEST_CASE("pruners: a study of several objectives or without a direction has nothing to prune by") {
  const auto pruner = make_pruner("median");
  const Trial trial = trial_with(0, State::running, {{0, 1.0}});
  Study study = study_of(Direction::not_set);
  CHECK_THROWS_WITH_AS(pruner->decide(study, trial), doctest::Contains("NOT_SET"), Error);
  study.directions = {Direction::minimize, Direction::maximize};
  CHECK_THROWS_WITH_AS(pruner->decide(study, trial), doctest::Contains("2 objectives"), Error);
  CHECK(!pruner->decide(study_of(Direction::minimize), trial_with(0, State::running, {})).prune);
}

TEST_SUITE("interop") {
  TEST_CASE("pruners: the recorded decisions are those of the installed versions of Optuna") {
    for (const char* version : {"4.9.0", "5.0.0"}) {
      const std::string python = str(RISTRETTO_SOURCE "/.venv-optuna/", version, "/bin/python");
      if (!std::filesystem::exists(python)) {
        MESSAGE("skipped: there is no " << python);
        continue;
      }
      std::string file = (std::filesystem::temp_directory_path() / "ristretto-pruners-XXXXXX").string();
      REQUIRE(close(mkstemp(file.data())) == 0);
      CHECK(std::system(str(python, " " RISTRETTO_SOURCE "/tests/interop/optuna_pruning.py ", file).c_str()) == 0);
      CHECK(read_file(file) == read_file(kDecisions));
      std::filesystem::remove(file);
    }
  }
}
