#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <doctest/doctest.h>

#include "agents/rollout.h"
#include "classic_environments.h"
#include "env/environment.h"
#include "formats/npz.h"
#include "ft_transformer/weights.h"
#include "host_reads.h"
#include "learning_fixtures.h"

namespace {

using namespace ristretto;

constexpr double kAdvantage = 1e-5;  // float32, 16 steps
constexpr double kRounding = 1e-5;   // float32 products in batches of another size

double largest(const at::Tensor& difference) { return difference.abs().max().item<double>(); }

template <class Task>
agents::Policy classic_policy(agents::Distribution distribution) {
  agents::Architecture architecture;
  architecture.observation = Task::kObservation;
  architecture.actions = Task::kActions;
  architecture.width = 16;
  architecture.activation = agents::Activation::tanh;
  architecture.distribution = distribution;
  agents::Initialization start;
  start.seed = 3;
  start.policy_gain = 1;
  return agents::make_policy(architecture, start, at::kCPU);
}

// Replays the stored actions in an environment of the same seed and computes each column of the rollout on the way.
template <class Task>
void check_rollout(agents::Distribution distribution, std::int64_t horizon) {
  const at::NoGradGuard no_grad;
  const tests::ClassicOptions options{3, 11};
  const agents::Policy policy = classic_policy<Task>(distribution);
  const agents::Normalizer normalizer(Task::kObservation);
  tests::ClassicEnvironment<Task> environment(options), replay(options);
  const agents::Rollout rollout = agents::collect(environment, policy, normalizer, horizon, 5, 0);
  REQUIRE(rollout.reward.size(0) == horizon);
  REQUIRE(rollout.reward.size(1) == 3);
  CHECK_FALSE(rollout.bar.defined());
  int ends = 0;
  const at::Tensor log_std =
      distribution == agents::Distribution::categorical ? at::Tensor{} : policy.actor.at("a_std_log");
  for (std::int64_t t = 0; t < horizon; ++t) {
    const at::Tensor x = replay.observe().account;
    CHECK(rollout.account[t].equal(x));
    const agents::Evaluation evaluation = agents::evaluate(
        policy.architecture, agents::actor_mean(policy.actor, policy.architecture, x), log_std, rollout.u[t]);
    CHECK(largest(rollout.log_probability[t] - evaluation.log_probability) <= kRounding);
    CHECK(largest(rollout.value[t] - agents::critic_value(policy.critic, policy.architecture, x)) <= kRounding);
    const env::Transition transition = replay.step(rollout.u[t]);
    CHECK(rollout.reward[t].equal(transition.reward));
    CHECK(rollout.terminated[t].equal(transition.terminated));
    CHECK(rollout.truncated[t].equal(transition.truncated));
    const at::Tensor going_on = transition.terminated.logical_not().to(at::kFloat);
    const at::Tensor next =
        agents::critic_value(policy.critic, policy.architecture, transition.last.account) * going_on;
    CHECK(largest(rollout.next_value[t] - next) <= kRounding);
    ends += transition.terminated.logical_or(transition.truncated).sum().template item<int>();
  }
  CHECK(ends >= 3);
}

}  // namespace

TEST_CASE("rollout: what is stored is what happened, terminated worlds have no value") {
  check_rollout<tests::CartPole>(agents::Distribution::categorical, 60);
}

TEST_CASE("rollout: truncated worlds have the value of what they saw before the reset") {
  check_rollout<tests::Pendulum>(agents::Distribution::gaussian, 205);
}

TEST_CASE("rollout: two rollouts are one of their length, and another seed is another one") {
  const agents::Policy policy = classic_policy<tests::Pendulum>(agents::Distribution::gaussian);
  const agents::Normalizer normalizer(3);
  tests::ClassicEnvironment<tests::Pendulum> whole({4, 1}), parts({4, 1}), other({4, 1});
  const agents::Rollout both = agents::collect(whole, policy, normalizer, 40, 9, 100);
  const agents::Rollout first = agents::collect(parts, policy, normalizer, 15, 9, 100);
  const agents::Rollout second = agents::collect(parts, policy, normalizer, 25, 9, 115);
  CHECK(both.u.equal(at::cat({first.u, second.u})));
  CHECK(both.reward.equal(at::cat({first.reward, second.reward})));
  CHECK(largest(both.next_value - at::cat({first.next_value, second.next_value})) <= kRounding);
  CHECK_FALSE(both.u.equal(agents::collect(other, policy, normalizer, 40, 10, 100).u));
}

TEST_CASE("rollout: reads the device once, however long it is") {
  const agents::Policy policy = classic_policy<tests::Pendulum>(agents::Distribution::gaussian);
  const agents::Normalizer normalizer(3);
  tests::ClassicEnvironment<tests::Pendulum> environment({4, 1});
  for (const std::int64_t horizon : {1, 50}) {
    const tests::HostReads reads;
    agents::collect(environment, policy, normalizer, horizon, 9, 0);
    CHECK(reads.count() == 1);
  }
}

TEST_CASE("advantages: as Stable-Baselines3's") {
  const formats::NamedArrays file = formats::read_npz(RISTRETTO_GOLDEN "/algorithms/gae_sb3.npz");
  const auto golden = [&](const char* name) { return ft_transformer::tensor_of(*formats::find(file, name)); };
  const at::Tensor values = golden("values"), starts = golden("episode_starts");
  // There a step says whether the step before it ended an episode.
  const at::Tensor ended = at::cat({starts.narrow(0, 1, 15), golden("last_dones").unsqueeze(0)}).to(at::kBool);
  const at::Tensor next = at::cat({values.narrow(0, 1, 15), golden("last_values").unsqueeze(0)});
  const agents::Advantages advantages =
      agents::estimate_advantages(golden("rewards"), values, next.masked_fill(ended, 0.0), ended, 0.99, 0.95);
  CHECK(largest(advantages.advantage - golden("advantages")) <= kAdvantage);
  CHECK(largest(advantages.target - golden("returns")) <= kAdvantage);
}

TEST_CASE("advantages: a truncation bootstraps and stops the trace, a termination has no value") {
  const at::Tensor reward = at::tensor({1.0, 2.0, 4.0}, at::kDouble).unsqueeze(1);
  const at::Tensor value = at::tensor({10.0, 20.0, 30.0}, at::kDouble).unsqueeze(1);
  const at::Tensor next = at::tensor({20.0, 50.0, 0.0}, at::kDouble).unsqueeze(1);
  const at::Tensor ended = at::tensor({0, 1, 1}, at::kInt).to(at::kBool).unsqueeze(1);
  const at::Tensor advantage = agents::estimate_advantages(reward, value, next, ended, 0.5, 0.5).advantage;
  CHECK(advantage[2][0].item<double>() == 4.0 - 30.0);             // terminated
  CHECK(advantage[1][0].item<double>() == 2.0 + 0.5 * 50 - 20.0);  // truncated: V(last) is 50, not the next row's 30
  CHECK(advantage[0][0].item<double>() == 1.0 + 0.5 * 20 - 10.0 + 0.25 * (2.0 + 0.5 * 50 - 20.0));
}
