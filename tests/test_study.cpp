#include "optuna_files.h"
#include "studies/storage.h"
#include "studies/study.h"

using namespace ristretto;
using namespace ristretto::studies;

namespace {

Json best_json(const Study& study) {
  if (study.directions.size() == 1) {
    const Trial* best = best_trial(study);
    return best ? integer_json(best->number) : Json{};
  }
  std::vector<Json> numbers;
  for (const Trial* trial : pareto_front(study)) numbers.push_back(integer_json(trial->number));
  return array_json(numbers);
}

}  // namespace

TEST_CASE("study: every trial, parameter, attribute, value, state and distribution is what Optuna itself reads") {
  use_time_zone("UTC");
  for (const char* version : {"4.9.0", "5.0.0"}) {
    const std::string stem = str(kGolden, "everything_v", version);
    const std::string before = bytes_of(stem + ".db");
    const Json dump = formats::read_json(bytes_of(stem + ".json"), stem + ".json");
    const auto storage = open_storage(stem + ".db");
    CHECK(storage->info().library_version == version);
    CHECK(storage->info().revision == "v3.2.0.a");
    const std::vector<Json>& expected = dump.find("studies")->items;
    REQUIRE(expected.size() == 5);
    CHECK(storage->study_names().size() == expected.size());
    std::size_t trials = 0, params = 0, attributes = 0;
    for (const Json& theirs : expected) {
      const Study study = storage->read_study(theirs.find("study")->text);
      INFO(version << " " << study.name);
      std::vector<Json> directions;
      for (const Direction direction : study.directions) directions.push_back(text_json(name_of(direction)));
      CHECK(shown(array_json(directions)) == shown(*theirs.find("directions")));
      CHECK(shown(attributes_json(study.user_attributes)) == shown(*theirs.find("user_attrs")));
      CHECK(shown(attributes_json(study.system_attributes)) == shown(*theirs.find("system_attrs")));
      CHECK(shown(best_json(study)) == shown(*theirs.find("best")));
      const std::vector<Json>& their_trials = theirs.find("trials")->items;
      REQUIRE(study.trials.size() == their_trials.size());
      for (std::size_t i = 0; i < their_trials.size(); ++i) {
        const Json ours = trial_json(study.trials[i]);
        for (const auto& [key, value] : their_trials[i].members) {
          INFO("trial " << i << ": " << key);
          REQUIRE(ours.find(key) != nullptr);
          CHECK(shown(*ours.find(key)) == shown(value));
        }
        const Json& their_params = *their_trials[i].find("params");
        REQUIRE(their_params.members.size() == study.trials[i].params.size());
        for (std::size_t k = 0; k < their_params.members.size(); ++k) {
          CHECK(their_params.members[k].first == study.trials[i].params[k].name);
        }
        ++trials;
        params += study.trials[i].params.size();
        attributes += study.trials[i].user_attributes.size() + study.trials[i].system_attributes.size();
      }
    }
    CHECK(trials == 52);
    CHECK(params > 100);
    CHECK(attributes > 40);
    CHECK(bytes_of(stem + ".db") == before);
  }
}

TEST_CASE("study: the best trial is COMPLETE, of equals the first, infinities beyond all numbers") {
  Scratch scratch;
  const char* set_values =
      "UPDATE trial_values SET value = 1, value_type = 'FINITE';"
      "INSERT INTO trials (trial_id, number, study_id, state) VALUES (4, 3, 1, 'PRUNED'), (5, 4, 1, 'RUNNING');"
      "INSERT INTO trial_values (trial_id, objective, value, value_type) VALUES (4, 0, -9, 'FINITE');";
  const auto best = [&](const std::string& sql) {
    const Study study = open_storage(scratch.changed("optuna_v4.9.0.db", str(set_values, sql)))->read_study("a");
    const Trial* found = best_trial(study);
    return found ? found->number : -1;
  };
  const std::string maximize = "UPDATE study_directions SET direction = 'MAXIMIZE';";
  const std::string plus = "UPDATE trial_values SET value = NULL, value_type = 'INF_POS' WHERE trial_id = 2;";
  const std::string minus = "UPDATE trial_values SET value = NULL, value_type = 'INF_NEG' WHERE trial_id = 3;";
  CHECK(best("") == 0);
  CHECK(best(maximize) == 0);
  CHECK(best(plus + minus) == 2);
  CHECK(best(plus + minus + maximize) == 1);
  CHECK(best("UPDATE trial_values SET value = 0.5 WHERE trial_id IN (2, 3);") == 1);
  CHECK(best("UPDATE trials SET state = 'FAIL';") == -1);
  const auto constrain = [](int trial, const char* key, const char* json) {
    return str("INSERT INTO trial_system_attributes (trial_id, key, value_json) VALUES (", trial, ", '", key, "', '",
               json, "');");
  };
  CHECK(best(minus + constrain(3, "constraints", "[-1.0, 0.0]")) == 2);
  CHECK(best(minus + constrain(3, "constraints", "[-1.0, 0.5]")) == 0);
  CHECK(best(minus + constrain(3, "constraints:drawdown", "0.25")) == 0);
  CHECK(best(constrain(1, "constraints", "[1]") + constrain(2, "constraints", "[1]") +
             constrain(3, "constraints", "[1]")) == -1);
  CHECK(caught([&] { best("UPDATE study_directions SET direction = 'NOT_SET'"); }).fault == Fault::incompatible);
}

TEST_CASE("study: top lists the best first, and has no order for several objectives") {
  const auto storage = open_storage(kGolden + "everything_v5.0.0.db");
  const Study study = storage->read_study("everything");
  std::vector<std::int64_t> numbers;
  for (const Trial* trial : top(study, 4)) numbers.push_back(trial->number);
  CHECK(numbers == std::vector<std::int64_t>{10, 2, 5, 0});
  CHECK(top(study, 1000).size() == 10);
  CHECK(top(study, 1000).back()->number == 11);
  CHECK(trial_of(study, 16).state == State::waiting);
  CHECK(contains(caught([&] { trial_of(study, 17); }).text, "has no trial 17, expected 0 to 16"));
  CHECK(caught([&] { top(storage->read_study("multi"), 3); }).fault == Fault::usage);
  CHECK(best_trial(storage->read_study("empty")) == nullptr);
}

TEST_CASE("study: the example has the existing names and the published trial") {
  const std::string before = bytes_of(kExample);
  const auto storage = open_storage(kExample);
  const Study plain = storage->read_study("cappuccino_maxgpu");
  CHECK(plain.trials.size() == 202);
  CHECK(best_trial(plain)->number == 134);
  const Study encoder = storage->read_study("cappuccino_ft_16gb_optimized");
  const Trial& published = *best_trial(encoder);
  CHECK(published.number == 14);
  CHECK(fixed(published.values[0], 6) == "0.171965");
  CHECK(published.params.size() == 35);
  CHECK(published.find_param("batch_size")->value == agents::Value(std::int64_t{98304}));
  CHECK(published.find_param("ft_freeze_encoder")->value == agents::Value(true));
  CHECK(bytes_of(kExample) == before);
}
