// What every storage that writes does, whatever the database: the tests of each run these on a fresh one.
#pragma once

#include <functional>
#include <thread>

#include "optuna_files.h"
#include "studies/distribution.h"
#include "studies/storage.h"

namespace ristretto::studies {

// A new storage that holds one study, to minimize.
struct Fresh {
  std::string url;
  // What one statement of SQL gives in its first field, "" where it gives nothing.
  std::function<std::string(const std::string& sql)> asked;
  // Differs after each change of what is stored.
  std::function<std::string()> contents;
  // In SQL, as Optuna writes heartbeats for the first and the next times.
  std::string a_minute_ago[2];
  std::unique_ptr<WritableStorage> storage = create_storage(url);
  std::int64_t study = storage->create_study("a", {Direction::minimize});

  Study read() const { return open_storage(url)->read_study("a"); }
};

namespace scenario {

using agents::Choices;
using agents::FloatRange;
using agents::IntRange;
using agents::Value;

inline const double kNan = std::numeric_limits<double>::quiet_NaN();

inline void written_is_read(Fresh& fresh) {
  WritableStorage& storage = *fresh.storage;
  const Trial trial = storage.create_trial(fresh.study);
  CHECK(trial.number == 0);
  CHECK(trial.state == State::running);
  storage.set_param(trial.id, "lr", 1e-5, FloatRange{1e-6, 1e-3, 0, true});
  storage.set_param(trial.id, "width", std::int64_t{512}, IntRange{128, 1000, 64});
  storage.set_param(trial.id, "kind", Value("tanh"), Choices{{Value("relu"), Value("tanh"), Value{}, Value(2.5)}});
  CHECK(storage.report(trial.id, 0, 0.5));
  CHECK(storage.report(trial.id, 2, kNan));
  CHECK(storage.report(trial.id, 1, -kInfinity));
  CHECK_FALSE(storage.report(trial.id, 0, 0.75));
  storage.set_trial_attribute(trial.id, Scope::user, "note", text_json("naïve 🚀"));
  storage.set_trial_attribute(trial.id, Scope::user, "note", text_json("second"));
  storage.set_trial_attribute(trial.id, Scope::system, "constraints", array_json({number_json(-1), number_json(0)}));
  CHECK(storage.finish(trial.id, State::complete, {0.125}) == State::complete);

  const Study study = fresh.read();
  REQUIRE(study.trials.size() == 1);
  const Trial& read = study.trials[0];
  CHECK(read.state == State::complete);
  CHECK(read.values == std::vector{0.125});
  CHECK(read.find_param("lr")->value == Value(1e-5));
  CHECK(read.find_param("width")->value == Value(std::int64_t{512}));
  CHECK(read.find_param("kind")->value == Value("tanh"));
  REQUIRE(read.reports.size() == 3);
  CHECK(read.reports[0].value == 0.5);
  CHECK(read.reports[1].value == -kInfinity);
  CHECK(std::isnan(read.reports[2].value));
  CHECK(find(read.user_attributes, "note")->text == "second");
  CHECK(read.started == trial.started);
  CHECK((read.completed >= read.started));
  CHECK(fresh.asked("SELECT value_json FROM trial_system_attributes") == "[-1.0, 0.0]");
}

inline void finished_stays(Fresh& fresh) {
  WritableStorage& storage = *fresh.storage;
  storage.create_trial(fresh.study);
  const Trial trial = storage.create_trial(fresh.study);
  CHECK(trial.number == 1);
  storage.finish(trial.id, State::fail);
  const std::string before = fresh.contents();
  const FloatRange range{0, 1};
  for (const auto& write : std::vector<std::function<void()>>{
           [&] { storage.set_param(trial.id, "x", 0.5, range); }, [&] { storage.report(trial.id, 0, 1); },
           [&] { storage.set_trial_attribute(trial.id, Scope::user, "k", {}); },
           [&] { storage.finish(trial.id, State::complete, {1}); }}) {
    CHECK_THROWS_AS(write(), TrialLost);
    CHECK(contains(caught(write).text, "Trial#1 has already finished and can not be updated."));
  }
  CHECK_FALSE(storage.beat(trial.id));
  CHECK(fresh.contents() == before);
}

inline void ends(Fresh& fresh) {
  WritableStorage& storage = *fresh.storage;
  const auto ended = [&](State state, const std::vector<double>& values, const std::vector<Report>& reports) {
    const Trial trial = storage.create_trial(fresh.study);
    for (const Report& report : reports) storage.report(trial.id, report.step, report.value);
    storage.finish(trial.id, state, values);
    return fresh.read().trials.back();
  };
  CHECK(ended(State::complete, {-kInfinity}, {}).values == std::vector{-kInfinity});
  CHECK(ended(State::complete, {kNan}, {}).state == State::fail);
  CHECK(ended(State::complete, {kNan}, {}).values.empty());
  CHECK(ended(State::pruned, {}, {{3, 0.25}, {1, 7.0}}).values == std::vector{0.25});
  CHECK(ended(State::pruned, {}, {{3, kInfinity}}).values == std::vector{kInfinity});
  CHECK(ended(State::pruned, {}, {{3, kNan}, {1, 7.0}}).values.empty());
  CHECK(ended(State::pruned, {}, {}).state == State::pruned);
  CHECK(ended(State::fail, {}, {{0, 1.0}}).values.empty());

  const Trial open = storage.create_trial(fresh.study);
  const Trial waiting = enqueue(storage, fresh.study, {});
  const std::vector<std::pair<std::function<void()>, const char*>> refused = {
      {[&] { storage.finish(open.id, State::complete, {}); }, "COMPLETE with 0 values, expected 1"},
      {[&] {
         storage.finish(open.id, State::complete, {1, kNan});
       },
       "COMPLETE with 2 values, expected 1"},
      {[&] { storage.finish(open.id, State::pruned, {1}); }, "cannot end PRUNED with 1 values"},
      {[&] { storage.finish(open.id, State::running); }, "cannot end RUNNING"},
      {[&] { storage.finish(waiting.id, State::fail); }, "is WAITING, expected a claim"},
      {[&] { storage.finish(99, State::fail); }, "no trial with the id 99"},
      {[&] { storage.report(open.id, -1, 0); }, "for the step -1, expected 0 or more"},
      {[&] {
         storage.set_trial_attribute(open.id, Scope::user, "k", array_json({Json{}, object_json({})}));
       },
       ""},
  };
  for (const auto& [write, message] : refused) {
    const Caught found = caught(write);
    INFO(found.text);
    CHECK(contains(found.text, message));
    if (*message) CHECK(found.fault == Fault::usage);
  }
  Json nan;
  nan.kind = Json::Kind::real;
  nan.real = kNan;
  CHECK(contains(caught([&] { storage.set_trial_attribute(open.id, Scope::user, "k", array_json({nan})); }).text,
                 "the attribute 'k' is [NaN], expected finite numbers"));
  CHECK(fresh.read().trials[static_cast<std::size_t>(open.number)].state == State::running);
}

inline void params_fit(Fresh& fresh) {
  WritableStorage& storage = *fresh.storage;
  const Trial first = storage.create_trial(fresh.study);
  storage.set_param(first.id, "x", 0.5, FloatRange{0, 1});
  storage.set_param(first.id, "n", std::int64_t{3}, IntRange{1, 8});
  storage.set_param(first.id, "c", true, Choices{{Value(true), Value(std::int64_t{2})}});
  const Trial trial = storage.create_trial(fresh.study);
  const auto message = [&](const char* name, const Value& value, const agents::Range& range) {
    const Caught found = caught([&] { storage.set_param(trial.id, name, value, range); });
    CHECK(found.fault == Fault::usage);
    return found.text;
  };
  CHECK(contains(message("x", std::int64_t{1}, IntRange{0, 1}),
                 "Cannot set different distribution kind to the same parameter name."));
  CHECK(contains(message("x", 0.5, FloatRange{0.1, 1, 0, true}),
                 "Cannot set different log configuration to the same parameter name."));
  CHECK(contains(message("n", std::int64_t{1}, IntRange{1, 8, 1, true}),
                 "Cannot set different log configuration to the same parameter name."));
  CHECK(contains(message("c", true, Choices{{Value(true), Value(std::int64_t{3})}}),
                 "CategoricalDistribution does not support dynamic value space."));
  CHECK(contains(message("c", true, Choices{{Value(true)}}), "does not support dynamic value space."));
  CHECK(contains(message("y", Value("text"), FloatRange{0, 1}), "is \"text\", expected a finite number"));
  CHECK(contains(message("y", kNan, FloatRange{0, 1}), "is NaN, expected a finite number"));
  CHECK(contains(message("y", 0.5, IntRange{0, 1}), "is 0.5, expected an integer"));
  CHECK(contains(message("y", Value("z"), Choices{{Value("a")}}), "is \"z\", expected one of its choices"));
  CHECK(contains(message("y", 0.5, FloatRange{2, 1}), "has low above high"));
  CHECK(contains(message("y", 0.5, FloatRange{0, kInfinity}), "'high' that is no finite number"));
  storage.set_param(trial.id, "x", 7.0, FloatRange{0, 5, 0.5});                          // fixed_params may lie outside
  storage.set_param(trial.id, "c", std::int64_t{1}, Choices{{Value(1.0), Value(2.0)}});  // Python's 1 == 1.0 == True
  CHECK(contains(message("x", 1.0, FloatRange{0, 5}), "'x' is set already"));
  // Another study is free.
  const std::int64_t other = storage.create_study("b", {Direction::maximize});
  storage.set_param(storage.create_trial(other).id, "x", std::int64_t{1}, IntRange{0, 1});
  CHECK(fresh.read().trials[1].params.size() == 2);
}

inline void studies_once(Fresh& fresh) {
  WritableStorage& storage = *fresh.storage;
  CHECK(storage.create_study("a", {Direction::minimize}, IfExists::reuse) == fresh.study);
  const Caught taken = caught([&] { storage.create_study("a", {Direction::minimize}); });
  CHECK(taken.fault == Fault::usage);
  CHECK(contains(taken.text, "has a study 'a' already"));
  CHECK(contains(caught([&] { storage.create_study("a", {Direction::maximize}, IfExists::reuse); }).text,
                 "study 'a' has the directions MINIMIZE, expected MAXIMIZE"));
  CHECK(caught([&] { storage.create_study("b", {}); }).fault == Fault::usage);
  CHECK(caught([&] { storage.create_study("b", {Direction::not_set}); }).fault == Fault::usage);
  CHECK(storage.create_study("three", {Direction::maximize, Direction::minimize, Direction::maximize}) == 2);
  CHECK(storage.study_names() == std::vector<std::string>{"a", "three"});
  storage.set_study_attribute(2, Scope::system, "study:metric_names", array_json({text_json("s"), text_json("d")}));
  storage.set_study_attribute(2, Scope::user, "n", integer_json(1));
  storage.set_study_attribute(2, Scope::user, "n", integer_json(2));
  const Study three = storage.read_study("three");
  CHECK(three.directions.size() == 3);
  CHECK(find(three.user_attributes, "n")->integer == 2);
  CHECK(find(three.system_attributes, "study:metric_names")->items.size() == 2);
  for (const auto& write : std::vector<std::function<void()>>{
           [&] { storage.create_trial(9); }, [&] { storage.set_study_attribute(9, Scope::user, "k", {}); },
           [&] { storage.claim_waiting(9); }, [&] { storage.fail_stale(9, 1); }}) {
    CHECK(contains(caught(write).text, "no study with the id 9"));
    CHECK(caught(write).fault == Fault::usage);
  }
}

inline void claims(Fresh& fresh) {
  WritableStorage& storage = *fresh.storage;
  CHECK_FALSE(storage.claim_waiting(fresh.study));
  enqueue(storage, fresh.study, {{"x", 0.25}, {"kind", Value("a")}}, {{"from", text_json("us")}});
  enqueue(storage, fresh.study, {{"x", 0.75}});
  CHECK(fresh.asked("SELECT value_json FROM trial_system_attributes LIMIT 1") == R"({"x": 0.25, "kind": "a"})");
  CHECK(fresh.asked("SELECT count(*) FROM trials WHERE datetime_start IS NULL AND state = 'WAITING'") == "2");

  const std::optional<Trial> first = storage.claim_waiting(fresh.study);
  REQUIRE(first);
  CHECK(first->number == 0);
  CHECK(first->state == State::running);
  CHECK(first->started);
  CHECK(find(first->user_attributes, "from")->text == "us");
  CHECK(find(first->system_attributes, "fixed_params")->find("x")->real == 0.25);
  const std::optional<Trial> second = storage.claim_waiting(fresh.study);
  REQUIRE(second);
  CHECK(second->number == 1);
  CHECK_FALSE(storage.claim_waiting(fresh.study));

  storage.report(first->id, 0, 1.0);
  CHECK(storage.finish(first->id, State::complete, {1}) == State::complete);
  fresh.asked("UPDATE trials SET datetime_start = '2030-01-01 00:00:00.000000' WHERE number = 1");
  CHECK_THROWS_AS(storage.report(second->id, 0, 1.0), TrialLost);
  CHECK_THROWS_AS(storage.finish(second->id, State::complete, {1}), TrialLost);
  CHECK(fresh.read().trials[1].state == State::running);
}

inline void content_kept(Fresh& fresh) {
  const auto source = open_storage(kGolden + "everything_v5.0.0.db");
  for (const std::string& name : source->study_names()) {
    const Study study = source->read_study(name);
    const std::int64_t id = fresh.storage->create_study(name, study.directions);
    for (const Trial& trial : study.trials) fresh.storage->add_trial(id, trial);
    const Study copy = fresh.storage->read_study(name);
    REQUIRE(copy.trials.size() == study.trials.size());
    for (std::size_t i = 0; i < copy.trials.size(); ++i) {
      CHECK(shown(trial_json(copy.trials[i])) == shown(trial_json(study.trials[i])));
    }
  }
}

inline void retries(Fresh& fresh) {
  WritableStorage& storage = *fresh.storage;
  const Trial started = storage.create_trial(fresh.study);
  storage.set_param(started.id, "x", 0.5, FloatRange{0, 1});
  storage.set_trial_attribute(started.id, Scope::user, "u", integer_json(1));
  storage.set_trial_attribute(started.id, Scope::system, "completed_rung_0", integer_json(1));
  storage.report(started.id, 0, 1.0);
  storage.finish(started.id, State::fail);
  const std::optional<Trial> first = retry(storage, fresh.study, fresh.read().trials[0], 2);
  REQUIRE(first);
  const std::optional<Trial> claimed = storage.claim_waiting(fresh.study);
  REQUIRE(claimed);
  CHECK(claimed->find_param("x")->value == Value(0.5));
  CHECK(find(claimed->user_attributes, "u")->integer == 1);
  CHECK(claimed->reports.empty());
  CHECK(formats::write_json(attributes_json(claimed->system_attributes)) ==
        R"({"failed_trial": 0, "retry_history": [0]})");
  storage.finish(claimed->id, State::fail);
  const std::optional<Trial> second = retry(storage, fresh.study, fresh.read().trials[1], 2);
  REQUIRE(second);
  CHECK(formats::write_json(attributes_json(second->system_attributes)) ==
        R"({"failed_trial": 0, "retry_history": [0, 1]})");
  CHECK_FALSE(retry(storage, fresh.study, *second, 2));
  CHECK_FALSE(retry(storage, fresh.study, fresh.read().trials[0], 0));
  // An interruption is no retry.
  const Trial again = queue_again(storage, fresh.study, fresh.read().trials[1]);
  CHECK(formats::write_json(attributes_json(again.system_attributes)) ==
        R"({"failed_trial": 0, "retry_history": [0]})");
  CHECK(again.find_param("x")->value == Value(0.5));
}

inline void together(Fresh& fresh) {
  WritableStorage& storage = *fresh.storage;
  const Trial trial = storage.create_trial(fresh.study);
  const auto interrupted = [&] {
    storage.together([&] {
      storage.finish(trial.id, State::fail);
      queue_again(storage, fresh.study, trial);
      CHECK(fresh.read().trials.size() == 1);  // others see nothing of it yet
      throw std::runtime_error("here");
    });
  };
  CHECK_THROWS_AS(interrupted(), std::runtime_error);
  REQUIRE(fresh.read().trials.size() == 1);
  CHECK(fresh.read().trials[0].state == State::running);
  storage.together([&] {
    storage.finish(trial.id, State::fail);
    queue_again(storage, fresh.study, trial);
  });
  REQUIRE(fresh.read().trials.size() == 2);
  CHECK(fresh.read().trials[0].state == State::fail);
  CHECK(fresh.read().trials[1].state == State::waiting);
}

inline void reaper(Fresh& fresh) {
  WritableStorage& storage = *fresh.storage;
  std::vector<Trial> trials;
  for (int i = 0; i < 6; ++i) trials.push_back(storage.create_trial(fresh.study));
  for (const int i : {1, 2, 3, 4}) CHECK(storage.beat(trials[static_cast<std::size_t>(i)].id));
  CHECK(storage.beat(trials[1].id));
  storage.finish(trials[3].id, State::complete, {1});
  // Both forms in which Optuna writes it.
  fresh.asked(str("UPDATE trial_heartbeats SET heartbeat = ", fresh.a_minute_ago[0], " WHERE trial_id = 3"));
  fresh.asked(str("UPDATE trial_heartbeats SET heartbeat = ", fresh.a_minute_ago[1], " WHERE trial_id IN (4, 5)"));
  CHECK(storage.fail_stale(fresh.study, 120).empty());
  CHECK(storage.fail_stale(fresh.study, 60) == std::vector<std::int64_t>{2, 4});
  CHECK(storage.fail_stale(fresh.study, 60).empty());
  const Study study = fresh.read();
  CHECK(study.trials[2].state == State::fail);
  CHECK(study.trials[2].completed);
  CHECK(study.trials[3].state == State::complete);
  for (const std::size_t i : {0, 1, 5}) CHECK(study.trials[i].state == State::running);
  CHECK_FALSE(storage.beat(trials[2].id));
  CHECK_THROWS_AS(storage.report(trials[2].id, 0, 1), TrialLost);
  CHECK(fresh.asked("SELECT count(*) FROM trial_heartbeats") == "4");
}

inline void refresh_reads_news(Fresh& fresh) {
  WritableStorage& storage = *fresh.storage;
  for (int i = 0; i < 20; ++i) storage.finish(storage.create_trial(fresh.study).id, State::complete, {1.0 * i});
  const Trial running = storage.create_trial(fresh.study);
  const auto reader = open_storage(fresh.url);
  Study study = reader->read_study("a");
  // Behind our back, to see that finished trials are not looked at.
  fresh.asked("UPDATE trial_values SET value = 99 WHERE trial_id = 1");
  storage.set_param(running.id, "x", 0.5, FloatRange{0, 1});
  storage.report(running.id, 0, 0.5);
  storage.set_study_attribute(fresh.study, Scope::user, "k", integer_json(7));
  const Trial next = storage.create_trial(fresh.study);
  reader->refresh(study);
  REQUIRE(study.trials.size() == 22);
  CHECK(study.trials[0].values == std::vector{0.0});
  CHECK(study.trials[20].find_param("x")->value == Value(0.5));
  CHECK(study.trials[20].reports.size() == 1);
  CHECK(find(study.user_attributes, "k")->integer == 7);
  storage.finish(running.id, State::pruned);
  storage.finish(next.id, State::complete, {-1});
  reader->refresh(study);
  CHECK(study.trials[20].values == std::vector{0.5});
  CHECK(study.trials[20].params.size() == 1);
  CHECK(best_trial(study)->number == 21);
  fresh.asked("UPDATE trial_values SET value = 0 WHERE trial_id = 1");
  const Study whole = reader->read_study("a");
  for (std::size_t i = 0; i < whole.trials.size(); ++i) {
    CHECK(shown(trial_json(whole.trials[i])) == shown(trial_json(study.trials[i])));
  }
}

inline void threads_share(Fresh& fresh) {
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      const auto storage = create_storage(fresh.url);
      for (int k = 0; k < 10; ++k) {
        const Trial trial = storage->create_trial(fresh.study);
        storage->set_param(trial.id, "x", 0.5, FloatRange{0, 1});
        storage->report(trial.id, 0, 1);
        storage->finish(trial.id, State::complete, {1.0 * static_cast<double>(trial.number)});
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const Study study = fresh.read();
  REQUIRE(study.trials.size() == 80);
  for (std::size_t i = 0; i < 80; ++i) {
    CHECK(study.trials[i].number == static_cast<std::int64_t>(i));
    CHECK(study.trials[i].values == std::vector{static_cast<double>(i)});
    CHECK(study.trials[i].params.size() == 1);
  }
}

// Every state, 1 and 3 objectives, infinities, NaN, all distributions, non-ASCII, attributes, queue, heartbeats.
inline void write_everything(WritableStorage& storage) {
  const std::int64_t study = storage.create_study("everything 'quoted' é 🚀", {Direction::maximize});
  storage.set_study_attribute(study, Scope::user, "text", text_json("Überhebel \"quoted\" 中文 \x7f\x01 🚀"));
  storage.set_study_attribute(
      study, Scope::user, "nested",
      object_json({{"a", array_json({integer_json(1), number_json(1e16), Json{}, boolean_json(true)})},
                   {"b", object_json({})}}));
  storage.set_study_attribute(study, Scope::system, "note", number_json(1e-5));
  const Choices mixed{{Value{}, Value(true), Value(1.5), Value("text"), Value(std::int64_t{7}), Value(kInfinity)}};
  for (int k = 0; k < 6; ++k) {
    const Trial trial = storage.create_trial(study);
    storage.beat(trial.id);
    storage.set_param(trial.id, "f", -1.5 + k / 7.0, FloatRange{-1.5, 2.5});
    storage.set_param(trial.id, "f_log", 1e-9 * (k + 1), FloatRange{1e-9, 1e-3, 0, true});
    storage.set_param(trial.id, "f_step", 0.88 + 0.01 * k, FloatRange{0.88, 0.995, 0.01});
    storage.set_param(trial.id, "f_single", 0.25, FloatRange{0.25, 0.25});
    storage.set_param(trial.id, "i", std::int64_t{-10 + k % 5}, IntRange{-10, -5});
    storage.set_param(trial.id, "i_log", std::int64_t{1} << k, IntRange{1, 4096, 1, true});
    storage.set_param(trial.id, "i_step", std::int64_t{512 + 256 * (k % 4)}, IntRange{512, 1500, 256});
    storage.set_param(trial.id, "c", mixed.choices[static_cast<std::size_t>(k)], mixed);
    storage.set_param(trial.id, "ключ", "linear", Choices{{Value("linear")}});
    for (const auto& [step, value] :
         std::vector<Report>{{0, 0.5}, {3, kNan}, {1, kInfinity}, {2, -kInfinity}, {1000000, 1e-320}, {10, 5e300}}) {
      storage.report(trial.id, step, value);
    }
    storage.set_trial_attribute(trial.id, Scope::user, "list", array_json({number_json(0.1 * k), text_json("é")}));
    storage.set_trial_attribute(trial.id, Scope::system, "constraints", array_json({number_json(k - 4.0)}));
    storage.finish(trial.id, State::complete, {k == 3 ? kInfinity : k == 4 ? -kInfinity : 0.1 * k});
  }
  const Trial pruned = storage.create_trial(study);
  storage.report(pruned.id, 7, 0.75);
  storage.report(pruned.id, 2, 9);
  storage.finish(pruned.id, State::pruned);
  storage.finish(storage.create_trial(study).id, State::pruned);
  storage.finish(storage.create_trial(study).id, State::complete, {kNan});
  storage.finish(storage.create_trial(study).id, State::fail);
  enqueue(storage, study, {{"f", 0.125}, {"c", Value{}}, {"i", std::int64_t{-7}}}, {{"from", text_json("us")}});
  enqueue(storage, study, {{"f", 0.25}});
  storage.claim_waiting(study);
  const Study so_far = storage.read_study("everything 'quoted' é 🚀");
  retry(storage, study, so_far.trials[9], 3);
  Trial imported = so_far.trials[1];
  imported.values = {0.25};
  storage.add_trial(study, imported);
  storage.set_param(storage.create_trial(study).id, "f", 3.0, FloatRange{0, 5, 0.5});  // another range, left RUNNING

  const std::int64_t multi =
      storage.create_study("multi", {Direction::maximize, Direction::minimize, Direction::maximize});
  storage.set_study_attribute(multi, Scope::system, "study:metric_names",
                              array_json({text_json("sharpe"), text_json("drawdown"), text_json("alpha")}));
  for (int k = 0; k < 6; ++k) {
    const Trial trial = storage.create_trial(multi);
    storage.set_trial_attribute(trial.id, Scope::system, "constraints", array_json({number_json(k == 2 ? 1 : -1)}));
    storage.finish(trial.id, State::complete, {k * 1.0, k % 3 * 1.0, k == 5 ? kInfinity : -k * 0.5});
  }
  storage.create_study("empty", {Direction::minimize});
}

// For a Python that goes on with them: x, kind, and reports for pruners.
inline void six_trials(WritableStorage& storage, std::int64_t study) {
  const Choices kinds{{Value("a"), Value{}, Value(std::int64_t{3}), Value(2.5), Value(true)}};
  for (int k = 0; k < 6; ++k) {
    const Trial trial = storage.create_trial(study);
    storage.set_param(trial.id, "x", k - 2.5, FloatRange{-5, 5});
    storage.set_param(trial.id, "kind", kinds.choices[static_cast<std::size_t>(k % 5)], kinds);
    for (int step = 0; step < 8; ++step) storage.report(trial.id, step, std::abs(k - 2.5) + step);
    storage.finish(trial.id, State::complete, {std::abs(k - 2.5)});
  }
}

inline void (*const kAll[])(Fresh&) = {
    written_is_read, finished_stays, ends,     params_fit, studies_once,       claims,
    content_kept,    retries,        together, reaper,     refresh_reads_news, threads_share};

}  // namespace scenario
}  // namespace ristretto::studies
