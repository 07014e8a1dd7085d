#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <c10/util/Logging.h>  // before doctest, whose CHECK it would replace
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include "agents/forward.h"
#include "agents/ppo.h"
#include "classic_environments.h"
#include "env/environment.h"
#include "formats/json_text.h"
#include "platform/atomic_file.h"

// The learning anchors of algorithms.md 2.8: the same loop as a real training, on tasks whose learning curves are
// known.
namespace {

using namespace ristretto;

constexpr int kBins = 10;  // of the training steps, as in the golden files
// Ours and the reference's seeds are samples of two distributions, which are equal if the implementations are: the
// means may be 2.9 standard deviations of their difference apart. About 1 in 250 correct implementations fails a
// comparison.
constexpr double kDeviations = 2.9;

struct Anchor {
  std::int64_t worlds, horizon, total_steps;
  agents::PpoSettings ppo;
  double learning_rate;
  bool learning_rate_falls, clip_range_falls;  // linearly to 0
  agents::Distribution distribution;
  int seeds;
  bool cleanrl;  // the rate of an iteration is that of its start, the end of time a failure, no evaluation
};

struct Result {
  double final = 0;        // mean reward: of 1,000 deterministic episodes, or (CleanRL) of the last 100 of the training
  double first_above = 0;  // the first bin whose mean reward is above the threshold, counted from 1; kBins + 1: none
  double ratio_error = 0;  // largest of all updates
  bool finite = true;
};

double mean_of(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

double variance_of(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += (value - mean_of(values)) * (value - mean_of(values));
  return sum / static_cast<double>(values.size() - 1);
}

double first_bin_above(const std::vector<double>& curve, double threshold) {
  const auto bin = std::find_if(curve.begin(), curve.end(), [&](double value) { return value > threshold; });
  return static_cast<double>(bin - curve.begin() + 1);
}

std::vector<double> curve_of(const std::vector<tests::Episode>& episodes, std::int64_t total_steps) {
  std::vector<double> sum(kBins), count(kBins);
  for (const tests::Episode& episode : episodes) {
    const std::int64_t bin = (episode.steps - 1) * kBins / total_steps;
    if (bin >= kBins) continue;
    sum[bin] += episode.reward;
    count[bin] += 1;
  }
  for (int bin = 0; bin < kBins; ++bin) sum[bin] /= count[bin];
  return sum;
}

template <class Task>
double evaluate_policy(const agents::Policy& policy, std::uint64_t seed) {
  const at::NoGradGuard no_grad;
  // Ten times the reference's: the starts of 100 episodes of Pendulum alone move a mean by +-10.
  constexpr std::int64_t kEpisodes = 1000;
  tests::ClassicEnvironment<Task> environment({kEpisodes, seed});
  for (std::int64_t t = 0; t < Task::kLimit; ++t) {
    const at::Tensor mean = agents::forward(policy, environment.observe().account, false).mean;
    environment.step(agents::deterministic(policy.architecture, mean));
  }
  std::vector<double> rewards(kEpisodes, NAN);
  for (const tests::Episode& episode : environment.finished) {
    if (std::isnan(rewards[episode.world])) rewards[episode.world] = episode.reward;
  }
  return mean_of(rewards);
}

template <class Task>
Result train(const Anchor& anchor, std::uint64_t seed, double threshold) {
  agents::Architecture architecture;
  architecture.observation = Task::kObservation;
  architecture.actions = Task::kActions;
  architecture.width = 64;
  architecture.activation = agents::Activation::tanh;
  architecture.distribution = anchor.distribution;
  agents::Policy policy = agents::make_policy(architecture, {.seed = seed, .log_std = 0}, at::kCPU);
  std::vector<at::Tensor> parameters = policy.actor.tensors();
  for (const at::Tensor& tensor : policy.critic.tensors()) parameters.push_back(tensor);
  agents::Optimizer optimizer(parameters, {});
  const agents::Normalizer normalizer(Task::kObservation);
  agents::Ppo ppo(policy, normalizer, optimizer, anchor.ppo);
  tests::ClassicEnvironment<Task> environment({anchor.worlds, seed + 1000, anchor.cleanrl});

  Result result;
  const std::int64_t steps = anchor.worlds * anchor.horizon, total = anchor.total_steps;
  const std::int64_t iterations = anchor.cleanrl ? total / steps : (total + steps - 1) / steps;
  for (std::int64_t i = 0; i < iterations; ++i) {
    const agents::Rollout rollout =
        agents::collect(environment, policy, normalizer, anchor.horizon, seed, i * anchor.horizon);
    const double done = anchor.cleanrl ? static_cast<double>(i) / static_cast<double>(iterations)
                                       : static_cast<double>((i + 1) * steps) / static_cast<double>(total);
    const double left = std::max(0.0, 1 - done);
    const agents::UpdateMetrics metrics =
        ppo.update(rollout, rollout.reward, anchor.learning_rate * (anchor.learning_rate_falls ? left : 1),
                   anchor.ppo.clip_range * (anchor.clip_range_falls ? left : 1), seed, i);
    result.ratio_error = std::max(result.ratio_error, metrics.first_ratio_error);
    result.finite = result.finite && metrics.finite;
  }
  result.first_above = first_bin_above(curve_of(environment.finished, total), threshold);
  if (anchor.cleanrl) {
    std::vector<double> last;
    for (std::size_t e = environment.finished.size() - 100; e < environment.finished.size(); ++e) {
      last.push_back(environment.finished[e].reward);
    }
    result.final = mean_of(last);
  } else {
    result.final = evaluate_policy<Task>(policy, seed + 2000);
  }
  return result;
}

// All seeds, one thread a core and one core a seed.
template <class Task>
std::vector<Result> train_seeds(const Anchor& anchor, double threshold) {
  std::vector<Result> results(anchor.seeds);
  std::atomic<int> next = 0;
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < std::max(1u, std::thread::hardware_concurrency()); ++i) {
    threads.emplace_back([&] {
      at::set_num_threads(1);
      for (int seed = next++; seed < anchor.seeds; seed = next++) {
        results[seed] = train<Task>(anchor, static_cast<std::uint64_t>(seed) + 1, threshold);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return results;
}

formats::Json golden(const char* file) {
  return formats::read_json(read_file(std::string(RISTRETTO_GOLDEN "/algorithms/") + file), file);
}

std::vector<double> numbers(const formats::Json& json) {
  std::vector<double> out;
  for (const formats::Json& item : json.items) out.push_back(item.real);
  return out;
}

void compare(const std::string& what, const std::vector<double>& ours, const std::vector<double>& reference) {
  const double difference = mean_of(ours) - mean_of(reference);
  const double allowed = kDeviations * std::sqrt(variance_of(ours) / static_cast<double>(ours.size()) +
                                                 variance_of(reference) / static_cast<double>(reference.size()));
  std::printf("%s: %.2f +- %.2f, reference %.2f +- %.2f, difference %.2f, allowed %.2f\n", what.c_str(), mean_of(ours),
              std::sqrt(variance_of(ours)), mean_of(reference), std::sqrt(variance_of(reference)), difference, allowed);
  CHECK_MESSAGE(std::abs(difference) <= allowed, what);
}

template <class Task>
void run(const Anchor& anchor, const formats::Json& finals, const formats::Json& curves, double threshold) {
  const auto begin = std::chrono::steady_clock::now();
  const std::vector<Result> results = train_seeds<Task>(anchor, threshold);
  std::vector<double> final, first, reference_first;
  for (const Result& result : results) {
    final.push_back(result.final);
    first.push_back(result.first_above);
    CHECK(result.finite);
    CHECK(result.ratio_error < 1e-4);  // float32 products of another batch size
  }
  for (const formats::Json& curve : curves.items) reference_first.push_back(first_bin_above(numbers(curve), threshold));
  compare("final reward", final, numbers(finals));
  compare("first bin above the threshold", first, reference_first);
  std::printf("%.0f s\n", std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
}

agents::PpoSettings settings_of(std::int64_t batch_size, std::int64_t epochs, double gamma, double lambda) {
  agents::PpoSettings settings;
  settings.batch_size = batch_size;
  settings.epochs = epochs;
  settings.gamma = gamma;
  settings.lambda = lambda;
  return settings;
}

}  // namespace

TEST_SUITE("slow") {
  TEST_CASE("learning: CartPole in 100,000 steps as Stable-Baselines3") {
    const formats::Json file = golden("ppo_curves_sb3.json");
    const formats::Json& reference = *file.find("sb3_cartpole");
    const agents::PpoSettings ppo = settings_of(256, 20, 0.98, 0.8);
    run<tests::CartPole>({8, 32, 100000, ppo, 1e-3, true, true, agents::Distribution::categorical, 10, false},
                         *reference.find("eval_mean_per_seed"), *reference.find("curves"), 400);
  }

  TEST_CASE("learning: Pendulum in 100,000 steps as Stable-Baselines3") {
    const formats::Json file = golden("ppo_curves_sb3.json");
    const formats::Json& reference = *file.find("sb3_pendulum");
    const agents::PpoSettings ppo = settings_of(64, 10, 0.9, 0.95);
    run<tests::Pendulum>({4, 1024, 100000, ppo, 1e-3, false, false, agents::Distribution::gaussian, 10, false},
                         *reference.find("eval_mean_per_seed"), *reference.find("curves"), -300);
  }

  TEST_CASE("learning: CartPole in 500,000 steps as CleanRL") {
    const formats::Json reference = golden("ppo_curves_cleanrl.json");
    // Twice the seeds: single ones spread from 470 to 500, where the reference lies.
    agents::PpoSettings ppo = settings_of(128, 4, 0.99, 0.95);
    ppo.entropy_coef = 0.01;
    ppo.clipped_value_loss = true;
    run<tests::CartPole>({4, 128, 500000, ppo, 2.5e-4, true, false, agents::Distribution::categorical, 20, true},
                         *reference.find("last100"), *reference.find("curves"), 400);
  }
}
