// Times one TPE suggestion of 20 parameters after 1,000 trials; bench/peers/optuna_tpe.py does the same with Optuna.
// Prints a line of JSON a case, for scripts/bench.
#include <chrono>
#include <cstdio>

#include "platform/text.h"
#include "studies/samplers/ask.h"
#include "studies/samplers/random.h"
#include "studies/samplers/tpe.h"

namespace {

using namespace ristretto;
using namespace ristretto::studies;

constexpr int kTrials = 1000, kRepeats = 21;

std::vector<double> seconds_of(Profile profile, bool multivariate) {
  SearchSpace space;
  for (int i = 0; i < 5; ++i) {
    space.emplace_back(str("x", i), agents::FloatRange{-5, 5});
    space.emplace_back(str("r", i), agents::FloatRange{1e-5, 1e-1, 0, true});
    space.emplace_back(str("n", i), agents::IntRange{1, 64});
    space.emplace_back(str("c", i),
                       agents::Choices{{std::string("a"), std::string("b"), std::string("c"), std::string("d")}});
  }
  Study study;
  study.directions = {Direction::minimize};
  RandomState random(1);
  for (int number = 0; number < kTrials; ++number) {
    Trial trial;
    trial.number = number;
    trial.state = State::complete;
    trial.values = {random.uniform()};
    for (const auto& [name, range] : space) trial.params.push_back({name, random_value(random, range, profile), range});
    study.trials.push_back(std::move(trial));
  }
  TpeOptions options(profile);
  options.multivariate = multivariate;
  TpeSampler sampler(options, 1);
  std::vector<double> seconds;
  for (int i = 0; i < kRepeats; ++i) {
    Trial trial;
    trial.number = kTrials;
    const auto begin = std::chrono::steady_clock::now();
    Ask ask(sampler, study, trial);
    for (const auto& [name, range] : space) ask.suggest(name, range);
    seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  return seconds;
}

}  // namespace

int main() {
  for (const bool multivariate : {false, true}) {
    for (const auto& [name, profile] : {std::pair{"4.9", Profile::optuna_4_9}, {"5.0", Profile::optuna_5_0}}) {
      std::vector<std::string> rates;
      for (const double seconds : seconds_of(profile, multivariate)) rates.push_back(str(1 / seconds));
      std::printf("{\"case\": \"as %s, %s\", \"unit\": \"suggestions\", \"samples\": [%s]}\n", name,
                  multivariate ? "multivariate" : "univariate", join(rates, ", ").c_str());
    }
  }
}
