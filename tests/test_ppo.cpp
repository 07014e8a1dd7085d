#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/CPUAllocator.h>
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "agents/forward.h"
#include "agents/ppo.h"
#include "env/environment.h"
#include "formats/npz.h"
#include "ft_transformer/weights.h"
#include "host_reads.h"
#include "learning_fixtures.h"
#include "platform/error.h"

namespace {

using namespace ristretto;
using agents::PpoSettings;
using agents::UpdateMetrics;

constexpr double kExact = 1e-12;        // double arithmetic in another order of operations
constexpr double kMicroBatch = 1e-6;    // performance.md, rule 5: relative, float32 sums in another order
constexpr double kSeveralSteps = 2e-5;  // float32 weights after several Adam steps, whose direction is a ratio of small
                                        // numbers; the steps themselves are 1e-3
constexpr double kBf16 = 0.05;          // relative, 8 bits of mantissa

double largest(const at::Tensor& difference) { return difference.abs().max().item<double>(); }
double norm_of(const at::Tensor& tensor) { return tensor.norm().item<double>(); }

// A policy, a market and a rollout of it that no environment made: an update needs no more.
struct Learner {
  env::Layout layout = tests::small_layout(2);
  env::Market market = tests::small_market(layout, 80, 1);
  agents::Normalizer normalizer{market, layout, tests::account_prior(layout)};
  agents::Policy policy;
  agents::Optimizer optimizer;
  agents::Ppo ppo;
  agents::Rollout rollout;

  explicit Learner(const PpoSettings& settings, agents::Network network = agents::Network::mlp,
                   std::int64_t horizon = 12, std::int64_t worlds = 5)
      : policy(make(network, layout)),
        optimizer(tests::parameters_of(policy), {}),
        ppo(policy, normalizer, optimizer, settings) {
    const at::NoGradGuard no_grad;
    const at::Generator numbers = tests::generator(9);
    const std::int64_t size = horizon * worlds;
    normalizer.update_account(tests::random_accounts(500, layout, 4));
    rollout.account = tests::random_accounts(size, layout, 5).view({horizon, worlds, 3});
    rollout.bar = at::randint(1, 80, {horizon, worlds}, numbers, at::kInt);
    const agents::Outputs outputs = agents::forward(policy, matrix(), settings.bf16);
    const agents::Sample sample =
        agents::sample(policy.architecture, outputs.mean, agents::log_std_of(policy), at::randn({size, 2}, numbers));
    rollout.u = sample.u.view({horizon, worlds, 2});
    rollout.log_probability = sample.log_probability.view({horizon, worlds});
    rollout.value = outputs.value.view({horizon, worlds});
    rollout.next_value = rollout.value + 0.3;
    rollout.reward = at::randn({horizon, worlds}, numbers);
    rollout.terminated = at::rand({horizon, worlds}, numbers) < 0.1;
    rollout.truncated = at::rand({horizon, worlds}, numbers) < 0.1;
    rollout.next_value.masked_fill_(rollout.terminated, 0.0);
  }

  at::Tensor matrix() const { return normalizer.matrix({rollout.account.flatten(0, 1), rollout.bar.flatten()}); }
  UpdateMetrics update(std::int64_t iteration = 0, double learning_rate = 1e-3) {
    return ppo.update(rollout, rollout.reward, learning_rate, 0.2, 7, iteration);
  }

  static agents::Policy make(agents::Network network, const env::Layout& layout) {
    agents::Initialization start;
    start.policy_gain = 0.5;
    return agents::make_policy(tests::small_architecture(network, layout), start, at::kCPU);
  }
};

PpoSettings one_minibatch() {
  PpoSettings settings;
  settings.batch_size = 1000;
  settings.epochs = 1;
  return settings;
}

// The CPU's allocator with an end: what a device's memory is.
class SmallMemory final : public c10::Allocator {
 public:
  explicit SmallMemory(std::size_t largest_block) : limit_(largest_block), inner_(c10::GetCPUAllocator()) {
    c10::SetCPUAllocator(this, 1);
  }
  ~SmallMemory() override { c10::SetCPUAllocator(inner_, 1); }
  c10::DataPtr allocate(std::size_t bytes) override {
    if (bytes > limit_) TORCH_CHECK_WITH(OutOfMemoryError, false, "no ", bytes, " bytes");
    return inner_->allocate(bytes);
  }
  void copy_data(void* to, const void* from, std::size_t bytes) const override { inner_->copy_data(to, from, bytes); }

 private:
  std::size_t limit_;
  c10::Allocator* inner_;
};

}  // namespace

TEST_CASE("loss: value and gradients as the golden file's") {
  const formats::NamedArrays file = formats::read_npz(RISTRETTO_GOLDEN "/algorithms/ppo_loss.npz");
  const auto golden = [&](const char* name) { return ft_transformer::tensor_of(*formats::find(file, name)); };
  const at::Tensor mean = golden("mean").requires_grad_(true), log_std = golden("logstd").requires_grad_(true);
  const at::Tensor value = golden("newvalue").requires_grad_(true);
  const at::Tensor log_probability = agents::gaussian_log_probability(mean, log_std, golden("actions"));
  const at::Tensor entropy = agents::gaussian_entropy(log_std).expand({32});
  CHECK(largest(log_probability - golden("logprob")) <= kExact);
  CHECK(largest(entropy - golden("entropy")) <= kExact);
  const at::Tensor raw = golden("adv"), advantage = (raw - raw.mean()) / (raw.std() + 1e-8);
  PpoSettings settings;
  settings.entropy_coef = 0.01;
  settings.clipped_value_loss = true;
  const agents::PpoLoss loss = agents::ppo_loss(log_probability, golden("old_logprob"), entropy, advantage, value,
                                                golden("old_values"), golden("returns"), settings);
  CHECK(largest(loss.policy - golden("pg_loss")) <= kExact);
  CHECK(largest(loss.value - golden("v_loss")) <= kExact);
  CHECK(largest(loss.total - golden("loss")) <= kExact);
  CHECK(largest(loss.approx_kl - golden("approx_kl")) <= kExact);
  CHECK(largest(loss.clip_fraction - golden("clipfrac")) <= kExact);
  loss.total.backward();
  CHECK(largest(mean.grad() - golden("g_mean")) <= kExact);
  CHECK(largest(log_std.grad() - golden("g_logstd")) <= kExact);
  CHECK(largest(value.grad() - golden("g_value")) <= kExact);
}

TEST_CASE("loss: a ratio beyond the clip range counts, and has a gradient, only where it makes the loss worse") {
  // What the golden file lacks: good actions that have become likelier.
  const at::Tensor zero = at::zeros({1}, at::kDouble);
  for (const double advantage : {1.0, -1.0}) {
    for (const double ratio : {0.5, 0.9, 1.1, 1.5}) {
      CAPTURE(advantage);
      CAPTURE(ratio);
      const at::Tensor log_probability = at::full({1}, std::log(ratio), at::kDouble).requires_grad_(true);
      const agents::PpoLoss loss =
          agents::ppo_loss(log_probability, zero, zero, zero + advantage, zero, zero, zero, PpoSettings{});
      loss.total.backward();
      const bool clipped = advantage > 0 ? ratio > 1.2 : ratio < 0.8;
      const double counted = clipped ? (advantage > 0 ? 1.2 : 0.8) : ratio;
      CHECK(loss.policy.item<double>() == doctest::Approx(-advantage * counted).epsilon(kExact));
      CHECK(log_probability.grad().item<double>() == doctest::Approx(clipped ? 0 : -advantage * ratio).epsilon(kExact));
      CHECK(loss.clip_fraction.item<double>() == (ratio < 0.8 || ratio > 1.2));
    }
  }
}

TEST_CASE("loss: the unclipped value loss is the mean square, times its coefficient") {
  const at::Tensor zero = at::zeros({2}, at::kDouble), value = at::tensor({1.0, 5.0}, at::kDouble);
  PpoSettings settings;
  settings.value_loss_coef = 0.25;
  const agents::PpoLoss loss = agents::ppo_loss(zero, zero, zero, zero, value, zero, zero, settings);
  CHECK(loss.value.item<double>() == 13.0);
  CHECK(loss.total.item<double>() == 3.25);
}

TEST_CASE("loss: written out it is autograd's, in value and gradients") {
  const at::Generator numbers = tests::generator(3);
  const auto normal = [&](at::IntArrayRef sizes) { return at::randn(sizes, numbers, at::kDouble); };
  for (const agents::Distribution distribution : {agents::Distribution::tanh_gaussian, agents::Distribution::gaussian})
    for (const bool clipped : {false, true}) {
      agents::Architecture architecture;
      architecture.distribution = distribution;
      const at::Tensor mean = normal({200, 3}).requires_grad_(true), value = normal({200}).requires_grad_(true);
      const at::Tensor log_std = (normal({1, 3}) * 0.3).requires_grad_(true);
      const at::Tensor u = (mean + log_std.exp() * normal({200, 3})).detach();
      agents::LossSettings settings;
      settings.entropy_coef = 0.03;
      settings.clipped_value_loss = clipped;
      const agents::Evaluation now = agents::evaluate(architecture, mean, log_std, u);
      const agents::LossSamples samples{u,
                                        now.log_probability.detach() + 0.3 * normal({200}),
                                        normal({200}),
                                        value.detach() + 0.3 * normal({200}),
                                        normal({200}),
                                        at::tanh(u),
                                        agents::tanh_log_jacobian(u)};
      const agents::PpoLoss loss =
          agents::ppo_loss(now.log_probability, samples.old_log_probability, now.entropy, samples.advantage, value,
                           samples.old_value, samples.target, settings);
      (loss.total * 0.4).backward();
      REQUIRE(agents::has_written_out_loss(architecture, mean));
      const auto of_policy = agents::policy_gradients(architecture, mean, log_std, samples, settings, 0.4);
      const auto of_value = agents::value_gradients(value, samples, settings, 0.4);
      CHECK(largest(of_policy.mean - mean.grad()) <= kExact);
      CHECK(largest(of_value.value - value.grad()) <= kExact);
      CHECK(largest(of_policy.log_std - log_std.grad()) <= kExact);
      CHECK(largest(loss.policy - of_policy.loss) <= kExact);
      CHECK(largest(loss.value - of_value.loss) <= kExact);
      CHECK(largest(loss.entropy - of_policy.entropy) <= kExact);
      CHECK(largest(loss.approx_kl - of_policy.approx_kl) <= kExact);
      CHECK(largest(loss.clip_fraction - of_policy.clip_fraction) <= kExact);
      CHECK(loss.clip_fraction.item<double>() > 0.3);  // both sides of the clip range are there
      CHECK(loss.clip_fraction.item<double>() < 0.7);
      const at::Tensor ratio = at::exp(now.log_probability - samples.old_log_probability);
      CHECK(largest((ratio - 1).abs().max() - of_policy.ratio_error) <= kExact);
    }
  agents::Architecture discrete;
  discrete.distribution = agents::Distribution::categorical;
  CHECK_FALSE(agents::has_written_out_loss(discrete, normal({2, 3})));
}

TEST_CASE("update: several steps are those of PPO and Adam written out") {
  for (const agents::Network network : {agents::Network::mlp, agents::Network::ft_transformer}) {
    PpoSettings settings = one_minibatch();
    settings.epochs = 4;
    settings.entropy_coef = 0.01;
    settings.gamma = 0.97;
    settings.lambda = 0.95;
    Learner learner(settings, network), plain(settings, network);
    const UpdateMetrics metrics = learner.update();
    CHECK(metrics.optimizer_steps == 4);
    CHECK(metrics.epochs == 4);
    CHECK(metrics.finite);

    // Plainly: samples in their order, formulas of algorithms.md 2.1, one tensor after the other.
    const agents::Rollout& r = plain.rollout;
    const at::Tensor ended = r.terminated.logical_or(r.truncated).to(at::kFloat);
    at::Tensor advantage = at::zeros_like(r.reward), next = at::zeros({5});
    for (std::int64_t t = 11; t >= 0; --t) {
      next = r.reward[t] + 0.97 * r.next_value[t] - r.value[t] + 0.97 * 0.95 * (1 - ended[t]) * next;
      advantage[t].copy_(next);
    }
    const at::Tensor target = (advantage + r.value).flatten();
    advantage = ((advantage - advantage.mean()) / (advantage.std() + 1e-8)).flatten();
    const at::Tensor x = plain.matrix(), u = r.u.flatten(0, 1), old = r.log_probability.flatten();
    const std::vector<at::Tensor> parameters = tests::parameters_of(plain.policy);
    std::vector<at::Tensor> first, second;
    for (const at::Tensor& parameter : parameters) {
      first.push_back(at::zeros_like(parameter));
      second.push_back(at::zeros_like(parameter));
    }
    const agents::Architecture& architecture = plain.policy.architecture;
    for (int step = 1; step <= 4; ++step) {
      for (at::Tensor parameter : parameters) parameter.mutable_grad().reset();
      const at::Tensor mean = agents::actor_mean(plain.policy.actor, architecture, x);
      const agents::Evaluation now = agents::evaluate(architecture, mean, plain.policy.actor.at("a_std_log"), u);
      const at::Tensor ratio = at::exp(now.log_probability - old);
      const at::Tensor policy_loss = at::maximum(-advantage * ratio, -advantage * ratio.clamp(0.8, 1.2)).mean();
      const at::Tensor value = agents::critic_value(plain.policy.critic, architecture, x);
      (policy_loss - 0.01 * now.entropy.mean() + 0.5 * (value - target).square().mean()).backward();
      const at::NoGradGuard no_grad;
      double squares = 0;
      for (const at::Tensor& parameter : parameters) squares += std::pow(norm_of(parameter.grad()), 2);
      const double factor = std::min(1.0, 0.5 / (std::sqrt(squares) + 1e-6));
      for (std::size_t i = 0; i < parameters.size(); ++i) {
        const at::Tensor gradient = parameters[i].grad() * factor;
        first[i] = 0.9 * first[i] + 0.1 * gradient;
        second[i] = 0.999 * second[i] + 0.001 * gradient * gradient;
        const at::Tensor unbiased = first[i] / (1 - std::pow(0.9, step));
        const at::Tensor size = (second[i] / (1 - std::pow(0.999, step))).sqrt() + 1e-5;
        at::Tensor(parameters[i].detach()).sub_(1e-3 * unbiased / size);
      }
    }
    const std::vector<at::Tensor> seen = tests::parameters_of(learner.policy);
    const std::vector<at::Tensor> start = tests::parameters_of(Learner(settings, network).policy);
    // The biases of the attention's keys do not move, for the softmax cancels them: of 2 blocks in 2 networks.
    std::size_t still = 0;
    for (std::size_t i = 0; i < seen.size(); ++i) {
      CHECK(largest(seen[i].detach() - parameters[i].detach()) <= kSeveralSteps);
      if (largest(seen[i].detach() - start[i].detach()) <= 10 * kSeveralSteps) ++still;
    }
    CHECK(still == (network == agents::Network::mlp ? 0 : 4));
  }
}

TEST_CASE("update: micro-batches leave the gradient of the whole minibatch") {
  for (const agents::Network network : {agents::Network::mlp, agents::Network::ft_transformer}) {
    PpoSettings settings = one_minibatch();
    settings.max_grad_norm = 0;
    settings.entropy_coef = 0.01;
    Learner whole(settings, network, 8, 8);
    const UpdateMetrics expected = whole.update();
    for (const std::int64_t micro_batch : {3, 16, 63}) {
      settings.micro_batch = micro_batch;
      Learner parts(settings, network, 8, 8);
      const UpdateMetrics seen = parts.update();
      const at::Tensor& gradient = whole.optimizer.gradients();
      CHECK(norm_of(parts.optimizer.gradients() - gradient) <= kMicroBatch * norm_of(gradient));
      CHECK(seen.optimizer_steps == 1);
      CHECK(seen.policy_loss == doctest::Approx(expected.policy_loss).epsilon(1e-4));
      CHECK(seen.value_loss == doctest::Approx(expected.value_loss).epsilon(1e-5));
      CHECK(seen.entropy == doctest::Approx(expected.entropy).epsilon(1e-5));
    }
  }
}

TEST_CASE("update: a first layer computed once a bar leaves the gradient of the plain one") {
  PpoSettings settings = one_minibatch();
  settings.max_grad_norm = 0;
  settings.batch_size = 4095;  // a minibatch of fewer samples shares nothing
  Learner plain(settings, agents::Network::mlp, 63, 65);
  settings.batch_size = 4096;
  settings.micro_batch = 1000;
  Learner shared(settings, agents::Network::mlp, 63, 65);
  const UpdateMetrics expected = plain.update(), seen = shared.update();
  const at::Tensor& gradient = plain.optimizer.gradients();
  CHECK(norm_of(shared.optimizer.gradients() - gradient) <= kMicroBatch * norm_of(gradient));
  CHECK_FALSE(shared.optimizer.gradients().equal(gradient));  // it was shared
  CHECK(seen.first_ratio_error <= 1e-5);
  CHECK(std::abs(seen.first_approx_kl) <= 1e-6);
  CHECK(seen.value_loss == doctest::Approx(expected.value_loss).epsilon(1e-5));
}

TEST_CASE("update: ratios are 1 on the first minibatch, whatever the micro-batch and the precision") {
  for (const bool bf16 : {false, true}) {
    PpoSettings settings;
    settings.batch_size = 16;
    settings.micro_batch = 5;
    settings.bf16 = bf16;
    Learner learner(settings);
    const UpdateMetrics metrics = learner.update(0, 1e-2);
    CHECK(metrics.first_ratio_error <= 1e-5);  // float32 products in batches of another size
    CHECK(metrics.approx_kl > 1e-4);           // later ones are not
    // The statistics moved within the update: then they would not be.
    Learner moved(settings);
    moved.normalizer.update_account(tests::random_accounts(500, moved.layout, 44) * 1.5);
    const agents::UpdateMetrics after = moved.update();
    CHECK(after.first_ratio_error > 1e-3);
    CHECK(after.first_approx_kl > 1e-8);
  }
}

TEST_CASE("update: the last minibatch of an epoch may be smaller, down to one sample") {
  PpoSettings settings;
  settings.batch_size = 59;  // of 60
  settings.epochs = 2;
  Learner learner(settings);
  const UpdateMetrics metrics = learner.update();
  CHECK(metrics.optimizer_steps == 4);
  CHECK(metrics.finite);
}

TEST_CASE("update: stops before the step whose KL is above 1.5 times the target") {
  PpoSettings settings;
  settings.batch_size = 20;
  settings.epochs = 50;
  settings.kl_target = 0.02;
  Learner learner(settings);
  const UpdateMetrics metrics = learner.update(0, 3e-2);
  CHECK(metrics.stopped_early);
  CHECK(metrics.optimizer_steps >= 1);
  CHECK(metrics.optimizer_steps < 150);
  CHECK(metrics.epochs == metrics.optimizer_steps / 3);
  // Without a target the same run goes through.
  settings.kl_target = 0;
  Learner free(settings);
  const UpdateMetrics all = free.update(0, 3e-2);
  CHECK_FALSE(all.stopped_early);
  CHECK(all.optimizer_steps == 150);
}

TEST_CASE("update: ends where it is asked to") {
  PpoSettings settings;
  settings.batch_size = 20;
  Learner learner(settings);
  int asked = 0;
  const UpdateMetrics metrics =
      learner.ppo.update(learner.rollout, learner.rollout.reward, 1e-3, 0.2, 7, 0, [&] { return ++asked <= 4; });
  CHECK(metrics.optimizer_steps == 4);
  CHECK(metrics.epochs == 1);
  CHECK_FALSE(metrics.stopped_early);
}

TEST_CASE("update: each iteration and epoch shuffles anew, the same iteration the same") {
  PpoSettings settings;
  settings.batch_size = 20;
  settings.epochs = 1;
  Learner first(settings), same(settings), other(settings);
  first.update(3);
  same.update(3);
  other.update(4);
  CHECK(first.optimizer.parameters().equal(same.optimizer.parameters()));
  CHECK_FALSE(first.optimizer.parameters().equal(other.optimizer.parameters()));
}

TEST_CASE("update: says when something is not finite") {
  Learner reward(one_minibatch()), weight(one_minibatch());
  reward.rollout.reward[3][2] = std::numeric_limits<float>::infinity();
  CHECK_FALSE(reward.update().finite);
  weight.policy.critic.at("net.4.bias").detach().fill_(std::numeric_limits<float>::quiet_NaN());
  CHECK_FALSE(weight.update().finite);
  for (const double number : {std::numeric_limits<double>::quiet_NaN(), -std::numeric_limits<double>::infinity()}) {
    Learner padding(one_minibatch());  // no loss sees it: the weights are looked at themselves
    padding.optimizer.parameters()[-1].fill_(number);
    CHECK_FALSE(padding.update().finite);
  }
  CHECK(Learner(one_minibatch()).update().finite);
}

TEST_CASE("update: explained variance and std are of the rollout and the policy") {
  PpoSettings settings = one_minibatch();
  settings.gamma = 0;  // then the target is the reward
  settings.epochs = 0;
  Learner learner(settings);
  learner.rollout.value = learner.rollout.reward * 0.5;
  UpdateMetrics metrics = learner.update();
  CHECK(metrics.explained_variance == doctest::Approx(0.75).epsilon(1e-5));
  CHECK(metrics.std == doctest::Approx(std::exp(0.5)).epsilon(1e-5));
  CHECK(metrics.optimizer_steps == 0);
}

TEST_CASE("update: never waits for the device, but for a KL target") {
  PpoSettings settings;
  settings.batch_size = 20;
  settings.epochs = 3;
  settings.micro_batch = 8;
  Learner learner(settings);
  {
    const tests::HostReads reads;
    learner.update();
    CHECK(reads.count() == 0);
  }
  settings.kl_target = 1000;
  Learner watched(settings);
  const tests::HostReads reads;
  watched.update();
  CHECK(reads.count() == 9);
}

TEST_CASE("update: out of memory halves the micro-batch and leaves the same gradient") {
  PpoSettings settings = one_minibatch();
  settings.max_grad_norm = 0;
  Learner whole(settings, agents::Network::mlp, 64, 8), small(settings, agents::Network::mlp, 64, 8);
  // What mlp_kernel takes at once, on processors that have it, is more: of this there is none.
  for (Learner* learner : {&whole, &small}) learner->policy.architecture.activation = agents::Activation::tanh;
  whole.update();
  {
    // 512 samples of 24 hidden units are 48 KiB: fits at 128, and so do parameters and rollout.
    const SmallMemory memory(16 * 1024);
    small.update();
  }
  CHECK(small.ppo.settings().micro_batch == 128);
  const at::Tensor& gradient = whole.optimizer.gradients();
  CHECK(norm_of(small.optimizer.gradients() - gradient) <= kMicroBatch * norm_of(gradient));

  Learner hopeless(settings, agents::Network::mlp, 64, 8);
  const SmallMemory memory(3000);
  CHECK_THROWS_AS(hopeless.update(), c10::OutOfMemoryError);
}

TEST_CASE("update: in bf16 as in float32 but for its precision, the weights stay float32") {
  PpoSettings settings = one_minibatch();
  settings.max_grad_norm = 0;
  Learner full(settings, agents::Network::mlp, 64, 8);
  settings.bf16 = true;
  Learner half(settings, agents::Network::mlp, 64, 8);
  full.update();
  half.update();
  const at::Tensor& gradient = full.optimizer.gradients();
  const double difference = norm_of(half.optimizer.gradients() - gradient) / norm_of(gradient);
  CHECK(difference <= kBf16);
  CHECK(difference > kMicroBatch);
  CHECK((half.policy.actor.at("net.0.weight").scalar_type() == at::kFloat));
}
