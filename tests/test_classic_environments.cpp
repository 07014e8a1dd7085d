#include <ATen/ops/full.h>
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "classic_environments.h"
#include "env/environment.h"
#include "formats/json_text.h"
#include "platform/atomic_file.h"

namespace {

using namespace ristretto;

constexpr double kState = 1e-12;  // double arithmetic in another order of operations
constexpr double kReward = 1e-6;  // rewards are float32 here, double there; relative

double number(const formats::Json& json, const char* key) { return json.find(key)->real; }

// Observations are double values rounded to float32: a last bit may differ where the double's last bits do.
void check_observation(const at::Tensor& seen, const formats::Json& expected) {
  for (std::size_t j = 0; j < expected.items.size(); ++j) {
    const auto here = seen.const_data_ptr<float>()[j], there = static_cast<float>(expected.items[j].real);
    CHECK(here >= std::nextafter(there, -std::numeric_limits<float>::infinity()));
    CHECK(here <= std::nextafter(there, std::numeric_limits<float>::infinity()));
  }
}

template <class Task>
void replay(const char* task) {
  const formats::Json file =
      formats::read_json(read_file(RISTRETTO_GOLDEN "/algorithms/env_classic.json"), "env_classic.json");
  const formats::Json& golden = *file.find(task);
  tests::ClassicEnvironment<Task> environment({});
  for (std::size_t j = 0; j < Task::kState; ++j) environment.world(0)[j] = golden.find("init_state")->items[j].real;
  check_observation(environment.observe().account, *golden.find("init_obs"));
  for (const formats::Json& step : golden.find("steps")->items) {
    at::Tensor action;
    if constexpr (Task::kActions == 1) {
      action = at::full({1, 1}, number(step, "a"), at::kFloat);
    } else {
      action = at::full({1}, step.find("a")->integer, at::kLong);
    }
    // One move by hand as well: step() starts a new episode where this one ends.
    std::vector<double> state(environment.world(0), environment.world(0) + Task::kState);
    double reward = 0;
    Task::move(state.data(), action.template data_ptr<typename Task::Action>(), &reward);
    for (std::size_t j = 0; j < Task::kState; ++j) {
      CHECK(std::abs(state[j] - step.find("state")->items[j].real) <= kState);
    }
    const env::Transition transition = environment.step(action);
    check_observation(transition.last.account, *step.find("obs"));
    CHECK(transition.reward.const_data_ptr<float>()[0] == doctest::Approx(number(step, "r")).epsilon(kReward));
    CHECK(transition.terminated.const_data_ptr<bool>()[0] == step.find("term")->boolean);
    CHECK(transition.truncated.const_data_ptr<bool>()[0] == step.find("trunc")->boolean);
  }
}

}  // namespace

TEST_CASE("CartPole: steps as Gymnasium's") { replay<tests::CartPole>("CartPole-v1"); }
TEST_CASE("Pendulum: steps as Gymnasium's") { replay<tests::Pendulum>("Pendulum-v1"); }

TEST_CASE("Pendulum: after 200 steps an episode is truncated and the next one starts") {
  for (const bool terminates : {false, true}) {
    tests::ClassicEnvironment<tests::Pendulum> environment({2, 7, terminates});
    for (int t = 0; t < 200; ++t) {
      const env::Transition transition = environment.step(at::full({2, 1}, 0.5, at::kFloat));
      const at::Tensor& flag = terminates ? transition.terminated : transition.truncated;
      const at::Tensor& other = terminates ? transition.truncated : transition.terminated;
      CHECK(flag.const_data_ptr<bool>()[1] == (t == 199));
      CHECK_FALSE(other.const_data_ptr<bool>()[1]);
      if (t == 199) CHECK_FALSE(transition.last.account.equal(environment.observe().account));
    }
    REQUIRE(environment.finished.size() == 2);
    CHECK(environment.finished[0].steps == 400);
  }
}

TEST_CASE("CartPole: worlds start anew differently, and the same after a restore") {
  tests::ClassicEnvironment<tests::CartPole> first({3, 1}), second({3, 2});
  CHECK_FALSE(first.observe().account.equal(second.observe().account));
  for (int t = 0; t < 30; ++t) first.step(at::full({3}, t % 3 == 0, at::kLong));
  second = tests::ClassicEnvironment<tests::CartPole>({3, 1});
  second.restore(first.state());
  for (int t = 0; t < 100; ++t) {
    first.step(at::full({3}, 1, at::kLong));
    second.step(at::full({3}, 1, at::kLong));
  }
  CHECK(first.observe().account.equal(second.observe().account));
}
