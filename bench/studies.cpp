// Times a study's file, and prints a line of JSON for scripts/bench: opening 10,000 trials of 20 parameters, and 8
// processes adding trials to one file. bench/peers/optuna_studies.py does the same with Optuna.
//
//   bench_studies fill FILE          makes the file of the first
//   bench_studies open FILE          reads all of it and finds the best trial
//   bench_studies add FILE TRIALS    8 processes, TRIALS in all
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstring>

#include "platform/error.h"
#include "platform/text.h"
#include "studies/samplers/random_state.h"
#include "studies/storage.h"

namespace {

using namespace ristretto;
using namespace ristretto::studies;

constexpr int kProcesses = 8, kTrials = 10000, kParameters = 20, kParametersAdded = 5;
const agents::Range kRange = agents::FloatRange{0, 1};

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

void fill(const std::string& file) {
  const auto storage = create_storage(file);
  const std::int64_t study = storage->create_study("bench", {Direction::maximize});
  RandomState random(1);
  for (int number = 0; number < kTrials; ++number) {
    Trial trial;
    trial.state = State::complete;
    trial.values = {random.uniform()};
    for (int i = 0; i < kParameters; ++i) trial.params.push_back({str("p", i), random.uniform(), kRange});
    storage->add_trial(study, trial);
  }
}

// As a sweep's worker does: asked, its parameters, a report, told.
void work(const std::string& file, int trials) {
  const auto storage = open_storage_for_writing(file);
  const std::int64_t study = storage->create_study("added", {Direction::maximize}, IfExists::reuse);
  for (int i = 0; i < trials; ++i) {
    const Trial trial = storage->create_trial(study);
    storage->together([&] {
      for (int p = 0; p < kParametersAdded; ++p) storage->set_param(trial.id, str("p", p), 0.5, kRange);
    });
    storage->report(trial.id, 0, 0.5);
    storage->finish(trial.id, State::complete, {0.5});
  }
}

int add(const std::string& file, int trials) {
  create_storage(file)->create_study("added", {Direction::maximize}, IfExists::reuse);
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < kProcesses; ++i) {
    if (fork() == 0) {
      work(file, trials / kProcesses);
      _exit(0);
    }
  }
  int failures = 0, status = 0;
  while (wait(&status) > 0) failures += status != 0;
  const double seconds = seconds_since(begin);
  const std::size_t there = open_storage(file)->read_study("added").trials.size();
  std::printf("{\"case\": \"8 processes add trials\", \"unit\": \"trials\", \"samples\": [%.17g]}\n", trials / seconds);
  if (failures > 0 || there != static_cast<std::size_t>(trials)) {
    std::fprintf(stderr, "bench_studies: %zu of %d trials there, %d processes failed\n", there, trials, failures);
  }
  return failures == 0 && there == static_cast<std::size_t>(trials) ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc == 3 && std::strcmp(argv[1], "fill") == 0) return fill(argv[2]), 0;
    if (argc == 4 && std::strcmp(argv[1], "add") == 0) return add(argv[2], std::atoi(argv[3]));
    if (argc == 3 && std::strcmp(argv[1], "open") == 0) {
      const auto begin = std::chrono::steady_clock::now();
      const Study study = open_storage(argv[2])->read_study("bench");
      const double best = best_trial(study)->values[0];
      const double seconds = seconds_since(begin);
      std::printf(
          "{\"case\": \"open 10,000 trials, best\", \"unit\": \"openings\", \"samples\": [%.17g], \"best\": %.17g}\n",
          1 / seconds, best);
      return study.trials.size() == kTrials ? 0 : 1;
    }
    std::fprintf(stderr, "usage: bench_studies fill FILE | open FILE | add FILE TRIALS\n");
    return 2;
  } catch (const Error& error) {
    std::fprintf(stderr, "bench_studies: %s\n", error.what());
    return 1;
  }
}
