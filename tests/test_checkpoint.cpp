#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "agents/checkpoint.h"
#include "agents/ppo.h"
#include "classic_environments.h"
#include "env/environment.h"
#include "learning_fixtures.h"
#include "platform/atomic_file.h"
#include "platform/error.h"

namespace {

using namespace ristretto;
namespace fs = std::filesystem;
using agents::Checkpoint;

struct Directory {
  fs::path path;
  explicit Directory(const std::string& name) : path(fs::temp_directory_path() / ("ristretto_checkpoint_" + name)) {
    fs::remove_all(path);
  }
  ~Directory() { fs::remove_all(path); }
};

void overwrite(const fs::path& file, const std::string& bytes) {
  std::ofstream(file, std::ios::binary | std::ios::trunc) << bytes;
}

// A training with everything that has a state.
template <class Task>
class Training {
 public:
  explicit Training(agents::Distribution distribution)
      : policy_(make(distribution)),
        optimizer_(tests::parameters_of(policy_), {}),
        normalizer_(Task::kObservation),
        reward_normalizer_(4, settings().gamma),
        ppo_(policy_, normalizer_, optimizer_, settings()),
        environment_({4, 77}) {}

  void iterate(int count) {
    for (int i = 0; i < count; ++i, ++iteration_) {
      const agents::Rollout rollout =
          agents::collect(environment_, policy_, normalizer_, kHorizon, 5, iteration_ * kHorizon);
      const at::Tensor reward =
          reward_normalizer_.normalize(rollout.reward, rollout.terminated.logical_or(rollout.truncated));
      ppo_.update(rollout, reward, 3e-3 / static_cast<double>(1 + iteration_), 0.2, 5, iteration_);
    }
  }

  Checkpoint state() const {
    Checkpoint out;
    agents::add_prefixed(out.tensors, "actor/", named(policy_.actor));
    agents::add_prefixed(out.tensors, "critic/", named(policy_.critic));
    agents::add_prefixed(out.tensors, "adam/", optimizer_.state());
    agents::add_prefixed(out.tensors, "rewards/", reward_normalizer_.state());
    agents::add_prefixed(out.tensors, "environment/", environment_.state());
    out.fields["iteration"] = std::to_string(iteration_);
    return out;
  }

  void restore(const Checkpoint& saved) {
    for (const auto& [prefix, weights] : {std::pair{"actor/", &policy_.actor}, {"critic/", &policy_.critic}}) {
      const agents::NamedTensors tensors = agents::with_prefix(saved.tensors, prefix);
      for (const auto& [name, tensor] : *weights) {
        tensor.detach().copy_(agents::saved(tensors, name, tensor.sizes(), prefix));
      }
    }
    optimizer_.restore(agents::with_prefix(saved.tensors, "adam/"));
    reward_normalizer_.restore(agents::with_prefix(saved.tensors, "rewards/"));
    environment_.restore(agents::with_prefix(saved.tensors, "environment/"));
    iteration_ = std::stoll(saved.fields.at("iteration"));
  }

 private:
  static constexpr std::int64_t kHorizon = 48;

  static agents::PpoSettings settings() {
    agents::PpoSettings settings;
    settings.batch_size = 64;
    settings.epochs = 3;
    return settings;
  }
  static agents::Policy make(agents::Distribution distribution) {
    agents::Architecture architecture;
    architecture.observation = Task::kObservation;
    architecture.actions = Task::kActions;
    architecture.width = 16;
    architecture.activation = agents::Activation::tanh;
    architecture.distribution = distribution;
    return agents::make_policy(architecture, {}, at::kCPU);
  }
  static agents::NamedTensors named(const ft_transformer::Weights& weights) { return {weights.begin(), weights.end()}; }

  agents::Policy policy_;
  agents::Optimizer optimizer_;
  agents::Normalizer normalizer_;
  agents::RewardNormalizer reward_normalizer_;
  agents::Ppo ppo_;
  tests::ClassicEnvironment<Task> environment_;
  std::int64_t iteration_ = 0;
};

template <class Task>
void check_resume(agents::Distribution distribution) {
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const Directory directory("resume");
  Training<Task> through(distribution), before(distribution), after(distribution);
  through.iterate(10);
  before.iterate(5);
  agents::write_checkpoint(directory.path, before.state());
  after.restore(agents::read_checkpoint(directory.path));
  after.iterate(5);
  const Checkpoint expected = through.state(), seen = after.state();
  REQUIRE(expected.tensors.size() == seen.tensors.size());
  for (std::size_t i = 0; i < expected.tensors.size(); ++i) {
    CAPTURE(expected.tensors[i].first);
    CHECK(expected.tensors[i].second.equal(seen.tensors[i].second));
  }
  CHECK(expected.fields == seen.fields);
  CHECK_FALSE(expected.tensors[1].second.equal(before.state().tensors[1].second));
  at::set_num_threads(threads);
}

}  // namespace

TEST_CASE("checkpoint: 2N iterations are N, to disk and back, N, bit by bit") {
  check_resume<tests::CartPole>(agents::Distribution::categorical);
  check_resume<tests::Pendulum>(agents::Distribution::gaussian);
}

TEST_CASE("checkpoint: tensors of all types and fields come back as they went") {
  const Directory directory("types");
  const at::Tensor matrix = at::randn({3, 4}, tests::generator(1));
  Checkpoint saved;
  saved.tensors = {{"a/transposed", matrix.t()},
                   {"a/double", matrix.to(at::kDouble)},
                   {"b/count", at::full({}, 7, at::kLong)},
                   {"b/flag", matrix > 0},
                   {"empty", at::zeros({0, 4})}};
  saved.fields = {{"iteration", "12"}, {"text", "\"quoted\" \n line"}};
  agents::write_checkpoint(directory.path / "made" / "here", saved);
  const Checkpoint read = agents::read_checkpoint(directory.path / "made" / "here");
  CHECK(read.fields == saved.fields);
  REQUIRE(read.tensors.size() == saved.tensors.size());
  for (const auto& [name, tensor] : saved.tensors) {
    const at::Tensor& there = agents::saved(read.tensors, name, tensor.sizes(), "test");
    CHECK((there.scalar_type() == tensor.scalar_type()));
    CHECK(there.equal(tensor));
  }
  CHECK(agents::with_prefix(read.tensors, "b/").size() == 2);
  CHECK_THROWS_AS(agents::saved(read.tensors, "a/double", {4, 3}, "test"), Error);
}

TEST_CASE("checkpoint: a damaged newest one is refused with the previous one as the hint") {
  const Directory directory("damage");
  const fs::path newest = directory.path / "checkpoint.safetensors", previous = directory.path / "previous.safetensors";
  for (int i = 0; i < 3; ++i) {
    agents::write_checkpoint(directory.path, {{{"x", at::full({4}, i)}}, {{"iteration", std::to_string(i)}}});
  }
  CHECK(agents::read_checkpoint(directory.path).fields.at("iteration") == "2");

  const std::string whole = read_file(newest);
  const auto refused = [&](const std::string& bytes, bool with_hint) {
    overwrite(newest, bytes);
    try {
      agents::read_checkpoint(directory.path);
      FAIL("a damaged checkpoint was read");
    } catch (const Error& error) {
      CHECK((error.fault() == Fault::incompatible));
      CHECK((error.hint().find(previous.string()) != std::string::npos) == with_hint);
    }
  };
  refused(whole.substr(0, whole.size() - 1), true);
  refused("", true);
  std::string other_version = whole;
  const std::size_t at = other_version.find("checkpoint_version");
  REQUIRE(at != std::string::npos);
  other_version[other_version.find('1', at)] = '9';
  refused(other_version, true);

  fs::rename(previous, newest);
  CHECK(agents::read_checkpoint(directory.path).fields.at("iteration") == "1");
  refused("", false);
  fs::remove(newest);
  CHECK_THROWS_AS(agents::read_checkpoint(directory.path), Error);
}
