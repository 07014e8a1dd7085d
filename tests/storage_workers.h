// Workers for the tests of the storage by several processes: this test's own executable, started again.
#pragma once

#include <random>
#include <set>

#include "optuna_peers.h"
#include "studies/storage.h"

namespace ristretto::studies {

inline bool is_finished(const Trial& trial) { return trial.state != State::running && trial.state != State::waiting; }

inline std::size_t finished(const Study& study) {
  return static_cast<std::size_t>(std::count_if(study.trials.begin(), study.trials.end(), is_finished));
}

inline void note(const std::string& log, std::int64_t number) { std::ofstream(log, std::ios::app) << number << "\n"; }

// Trials like those of optuna_peer.py until the study has `goal` finished ones; their numbers go to `log`.
inline void work(const std::string& path, std::size_t goal, const std::string& log) {
  const auto storage = open_storage_for_writing(path);
  Study study = storage->read_study("s");
  std::minstd_rand generator(std::random_device{}());
  for (; finished(study) < goal; storage->refresh(study)) {
    const Trial trial = storage->create_trial(study.id);
    storage->beat(trial.id);
    const double x = std::uniform_real_distribution(-5.0, 5.0)(generator);
    storage->set_param(trial.id, "x", x, agents::FloatRange{-5, 5});
    storage->set_param(trial.id, "n", std::int64_t{7}, agents::IntRange{1, 64, 1, true});
    for (int step = 0; step < 3; ++step) storage->report(trial.id, step, x * x + step);
    storage->set_trial_attribute(trial.id, Scope::user, "who", text_json("ristretto"));
    storage->finish(trial.id, State::complete, {x * x + 7});
    note(log, trial.number);
  }
}

// Takes WAITING trials until there are none. Those that it could finish go to `log`, those it lost to `log`.lost.
inline void claim(const std::string& path, const std::string& log) {
  const auto storage = open_storage_for_writing(path);
  const std::int64_t study = storage->read_study("s").id;
  while (const std::optional<Trial> trial = storage->claim_waiting(study)) {
    sleep_ms(20 + static_cast<int>(trial->number % 7) * 5);
    try {
      storage->finish(trial->id, State::complete, {1});
      note(log, trial->number);
    } catch (const TrialLost&) {
      note(log + ".lost", trial->number);
    }
  }
}

// This executable again, as one of the workers above.
inline Process worker(const std::string& job, const std::string& path, std::size_t goal, const std::string& log) {
  return Process({"/proc/self/exe", "--no-skip", "--test-case=worker*"},
                 {"WORKER_JOB=" + job, "WORKER_PATH=" + path, str("WORKER_GOAL=", goal), "WORKER_LOG=" + log});
}

inline std::multiset<std::int64_t> numbers_in(const std::string& log) {
  std::multiset<std::int64_t> numbers;
  if (!fs::exists(log)) return numbers;
  for (const std::string& line : split(bytes_of(log), '\n')) {
    if (!line.empty()) numbers.insert(*parse_number<std::int64_t>(line));
  }
  return numbers;
}

// The body of the test case "worker", which worker() starts.
inline void run_worker() {
  const std::string job = std::getenv("WORKER_JOB"), path = std::getenv("WORKER_PATH");
  const std::string log = std::getenv("WORKER_LOG");
  if (job == "work") work(path, *parse_number<std::size_t>(std::getenv("WORKER_GOAL")), log);
  if (job == "claim") claim(path, log);
  if (job == "beat_once") {  // then hangs
    const auto storage = open_storage_for_writing(path);
    const Trial trial = storage->create_trial(storage->read_study("s").id);
    storage->beat(trial.id);
    note(log, trial.number);
    sleep_ms(60000);
  }
  if (job == "create") {
    while (!fs::exists(log)) sleep_ms(1);
    const auto storage = create_storage(path);
    storage->create_trial(storage->create_study("s", {Direction::minimize}, IfExists::reuse));
  }
}

}  // namespace ristretto::studies
