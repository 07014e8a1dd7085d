// CartPole-v1 and Pendulum-v1 of Gymnasium (algorithms.md 2.8) as batched environments without a market, state in
// double.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <string>
#include <utility>
#include <vector>

#include "env/environment.h"
#include "env/random.h"

namespace ristretto::tests {

struct ClassicOptions {
  std::int64_t worlds = 1;
  std::uint64_t seed = 0;
  bool truncation_terminates = false;  // CleanRL's form: the end of time counts as a failure
};

// A task says how one world starts, moves and looks; ClassicEnvironment does the rest.
struct CartPole {
  static constexpr std::int64_t kState = 4, kObservation = 4, kActions = 2, kLimit = 500;
  using Action = std::int64_t;  // 0 left, 1 right
  static void start(double* s, const float* uniform) {
    for (int j = 0; j < 4; ++j) s[j] = -0.05 + 0.1 * uniform[j];
  }
  // x, x', theta, theta'; Euler. Sets reward, returns whether the world ended.
  static bool move(double* s, const Action* action, double* reward) {
    constexpr double kGravity = 9.8, kPole = 0.1, kTotal = 1.0 + kPole, kHalfLength = 0.5, kTau = 0.02;
    constexpr double kLargestAngle = 12 * 2 * std::numbers::pi / 360;
    const double force = *action == 1 ? 10.0 : -10.0;
    const double cosine = std::cos(s[2]), sine = std::sin(s[2]);
    const double push = (force + kPole * kHalfLength * (s[3] * s[3]) * sine) / kTotal;
    const double turn =
        (kGravity * sine - cosine * push) / (kHalfLength * (4.0 / 3.0 - kPole * (cosine * cosine) / kTotal));
    const double speed_up = push - kPole * kHalfLength * turn * cosine / kTotal;
    s[0] += kTau * s[1];
    s[1] += kTau * speed_up;
    s[2] += kTau * s[3];
    s[3] += kTau * turn;
    *reward = 1;
    return std::abs(s[0]) > 2.4 || std::abs(s[2]) > kLargestAngle;
  }
  static void look(const double* s, float* observation) {
    for (int j = 0; j < 4; ++j) observation[j] = static_cast<float>(s[j]);
  }
};

struct Pendulum {
  static constexpr std::int64_t kState = 2, kObservation = 3, kActions = 1, kLimit = 200;
  using Action = float;  // torque, clipped to +-2
  static void start(double* s, const float* uniform) {
    s[0] = std::numbers::pi * (2.0 * uniform[0] - 1);
    s[1] = 2.0 * uniform[1] - 1;
  }
  // theta, theta'.
  static bool move(double* s, const Action* action, double* reward) {
    constexpr double kTau = 0.05, kTurn = 2 * std::numbers::pi;
    const double torque = std::clamp(*action, -2.0f, 2.0f);
    double angle = std::fmod(s[0] + std::numbers::pi, kTurn);
    angle = (angle < 0 ? angle + kTurn : angle) - std::numbers::pi;
    *reward = -(angle * angle + 0.1 * (s[1] * s[1]) + 0.001 * (torque * torque));
    s[1] += (15.0 * std::sin(s[0]) + 3.0 * torque) * kTau;
    s[1] = std::clamp(s[1], -8.0, 8.0);
    s[0] += s[1] * kTau;
    return false;
  }
  static void look(const double* s, float* observation) {
    observation[0] = static_cast<float>(std::cos(s[0]));
    observation[1] = static_cast<float>(std::sin(s[0]));
    observation[2] = static_cast<float>(s[1]);
  }
};

struct Episode {
  std::int64_t world;
  std::int64_t steps;  // of all worlds together, when it ended
  double reward;       // undiscounted sum
};

template <class Task>
class ClassicEnvironment final : public env::Environment {
 public:
  explicit ClassicEnvironment(const ClassicOptions& options)
      : options_(options),
        state_(at::zeros({options.worlds, Task::kState}, at::kDouble)),
        reward_(at::zeros({options.worlds}, at::kDouble)),
        age_(at::zeros({options.worlds}, at::kLong)),
        episode_(at::zeros({options.worlds}, at::kLong)),
        steps_(at::zeros({1}, at::kLong)) {
    for (std::int64_t i = 0; i < options.worlds; ++i) start(i);
  }

  std::int64_t size() const override { return options_.worlds; }
  std::int64_t actions() const override { return Task::kActions; }
  std::int64_t account_size() const override { return Task::kObservation; }

  env::Observation observe() const override {
    at::Tensor out = at::empty({options_.worlds, Task::kObservation}, at::kFloat);
    for (std::int64_t i = 0; i < options_.worlds; ++i) {
      Task::look(world(i), out.data_ptr<float>() + i * Task::kObservation);
    }
    return {out, {}};
  }

  env::Transition step(const at::Tensor& action) override {
    const std::int64_t worlds = options_.worlds;
    const at::Tensor actions = action.contiguous();
    env::Transition out{at::empty({worlds}, at::kFloat),
                        at::zeros({worlds}, at::kBool),
                        at::zeros({worlds}, at::kBool),
                        {at::empty({worlds, Task::kObservation}, at::kFloat), {}}};
    steps_.template data_ptr<std::int64_t>()[0] += worlds;
    for (std::int64_t i = 0; i < worlds; ++i) {
      double reward = 0;
      const bool failed = Task::move(world(i), actions.template data_ptr<typename Task::Action>() + i, &reward);
      out.reward.data_ptr<float>()[i] = static_cast<float>(reward);
      reward_.template data_ptr<double>()[i] += reward;
      Task::look(world(i), out.last.account.data_ptr<float>() + i * Task::kObservation);
      const bool late = ++age_.template data_ptr<std::int64_t>()[i] >= Task::kLimit;
      if (!failed && !late) continue;
      (failed || options_.truncation_terminates ? out.terminated : out.truncated).template data_ptr<bool>()[i] = true;
      finished.push_back({i, steps_.template data_ptr<std::int64_t>()[0], reward_.template data_ptr<double>()[i]});
      start(i);
    }
    return out;
  }

  std::vector<std::pair<std::string, at::Tensor>> state() const override {
    return {{"state", state_}, {"reward", reward_}, {"age", age_}, {"episode", episode_}, {"steps", steps_}};
  }
  void restore(const std::vector<std::pair<std::string, at::Tensor>>& saved) override {
    for (const auto& [name, tensor] : state()) {
      for (const auto& [saved_name, saved_tensor] : saved) {
        if (saved_name == name) tensor.copy_(saved_tensor);
      }
    }
  }

  double* world(std::int64_t i) const { return state_.template data_ptr<double>() + i * Task::kState; }
  std::vector<Episode> finished;  // in order of their ends; not part of the state

 private:
  void start(std::int64_t i) {
    const std::int64_t episode = episode_.template data_ptr<std::int64_t>()[i]++;
    const at::Tensor uniform = env::uniform(1, Task::kState, options_.seed, episode, at::kCPU, i);
    Task::start(world(i), uniform.data_ptr<float>());
    age_.template data_ptr<std::int64_t>()[i] = 0;
    reward_.template data_ptr<double>()[i] = 0;
  }

  ClassicOptions options_;
  at::Tensor state_, reward_, age_, episode_, steps_;
};

}  // namespace ristretto::tests
