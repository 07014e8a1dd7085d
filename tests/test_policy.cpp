#include <ATen/CPUGeneratorImpl.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <doctest/doctest.h>

#include <cmath>
#include <functional>

#include "agents/policy.h"
#include "formats/npz.h"
#include "formats/torch_file.h"
#include "platform/error.h"
#include "platform/text.h"

using namespace ristretto;
using namespace ristretto::agents;
using ft_transformer::tensor_of;
using ft_transformer::Weights;

namespace {

const std::string kGolden = RISTRETTO_GOLDEN;
constexpr double kFloat = 1e-5, kDouble = 1e-12;  // of the deployments' expected.npz
constexpr double kDistribution = 1e-10;           // of dist.npz
constexpr double kDistributionFloat = 1e-4;

struct Deployment {
  std::string name;
  std::int64_t heads;
  Network network;
  std::int64_t observation, width, d_token, blocks;
};
const Deployment kDeployments[] = {
    {"mlp_85", 0, Network::mlp, 85, 256, 0, 0},           {"mlp_239", 0, Network::mlp, 239, 128, 0, 0},
    {"mlp_106", 0, Network::mlp, 106, 64, 0, 0},          {"ft_trial_mlp_file", 4, Network::mlp, 106, 64, 0, 0},
    {"ft_85", 4, Network::ft_transformer, 85, 64, 16, 2}, {"ft_239", 2, Network::ft_transformer, 239, 64, 16, 1},
};

at::Generator generator_of(std::uint64_t seed) { return at::make_generator<at::CPUGeneratorImpl>(seed); }
double largest(const at::Tensor& tensor) { return tensor.abs().max().item<double>(); }
double deviation(const at::Tensor& found, const at::Tensor& expected) {
  REQUIRE((found.sizes() == expected.sizes()));
  return largest(found.to(at::kDouble) - expected.to(at::kDouble));
}

Weights read(const std::string& deployment, const std::string& file) {
  return ft_transformer::weights_of(formats::read_torch_file(str(kGolden, "/deployments/", deployment, "/", file)));
}

// The arrays of an npz by name, as tensors.
struct Expected {
  formats::NamedArrays arrays;
  at::Tensor operator[](const std::string& name) const {
    const formats::Array* array = formats::find(arrays, name);
    REQUIRE_MESSAGE(array != nullptr, name);
    return tensor_of(*array);
  }
};

Architecture mlp(std::int64_t observation = 6, std::int64_t width = 16, std::int64_t actions = 3) {
  Architecture architecture;
  architecture.observation = observation;
  architecture.width = width;
  architecture.actions = actions;
  return architecture;
}

Architecture ft() {
  Architecture architecture = mlp();
  architecture.network = Network::ft_transformer;
  architecture.encoder.d_token = 8;
  architecture.encoder.heads = 2;
  architecture.encoder.blocks = 2;
  return architecture;
}

std::string message_of(Fault fault, const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    CHECK(error.fault() == fault);
    return error.what();
  }
  return "no error";
}

std::vector<std::string> names_of(const Weights& weights) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : weights) names.push_back(name);
  return names;
}

}  // namespace

TEST_CASE("policy: the deployed networks answer as in the system that wrote them") {
  for (const Deployment& deployment : kDeployments) {
    INFO(deployment.name);
    const Expected expected{formats::read_npz(str(kGolden, "/deployments/", deployment.name, "/expected.npz"))};
    const Weights actor = read(deployment.name, "actor.pth"), critic = read(deployment.name, "critic.pth");
    const Architecture architecture = architecture_of(actor, deployment.heads, "actor.pth");
    CHECK_NOTHROW(actor.require_same_shapes(actor_template(architecture), "actor.pth"));
    CHECK_NOTHROW(critic.require_same_shapes(critic_template(architecture), "critic.pth"));

    const at::Tensor states = expected["states"], log_std = actor.at("a_std_log"), u = expected["sampled"];
    const at::Tensor mean = actor_mean(actor, architecture, states);
    const at::Tensor value = critic_value(critic, architecture, states);
    CHECK(deviation(mean, expected["mean"]) <= kFloat);
    CHECK(deviation(deterministic(architecture, mean), expected["action"]) <= kFloat);
    CHECK(deviation(value, expected["value"]) <= kFloat);
    CHECK(deviation(evaluate(architecture, mean, log_std, u).log_probability, expected["logprob"]) <= kFloat);
    for (std::int64_t action = 0; action < architecture.actions; ++action) {
      const auto column = [action](const at::Tensor& t) { return t.narrow(1, action, 1); };
      CHECK(deviation(gaussian_log_probability(column(mean), column(log_std), column(u)),
                      expected["logprob_each"].select(1, action)) <= kFloat);
    }
    const Sample sampled = sample(architecture, mean, log_std, expected["noise"]);
    CHECK(deviation(sampled.u, u) <= kFloat);
    CHECK(deviation(sampled.action, expected["environment_action"]) <= kFloat);
    CHECK(deviation(sampled.log_probability, expected["logprob_from_noise"]) <= kFloat);

    const Weights actor64 = actor.to(at::kCPU, at::kDouble), critic64 = critic.to(at::kCPU, at::kDouble);
    const at::Tensor states64 = states.to(at::kDouble);
    const at::Tensor action64 = deterministic(architecture, actor_mean(actor64, architecture, states64));
    const at::Tensor value64 = critic_value(critic64, architecture, states64);
    CHECK(deviation(action64, expected["action_float64"]) <= kDouble);
    CHECK(deviation(value64, expected["value_float64"]) <= kDouble);
  }
}

TEST_CASE("policy: names and shapes of a file tell its architecture") {
  for (const Deployment& deployment : kDeployments) {
    INFO(deployment.name);
    const Architecture found = architecture_of(read(deployment.name, "actor.pth"), deployment.heads, "actor.pth");
    CHECK(found.network == deployment.network);
    CHECK(found.observation == deployment.observation);
    CHECK(found.width == deployment.width);
    CHECK(found.actions == 7);
    CHECK(found.activation == Activation::relu);
    CHECK(found.distribution == Distribution::tanh_gaussian);
    if (deployment.network == Network::mlp) continue;
    CHECK(found.encoder.d_token == deployment.d_token);
    CHECK(found.encoder.blocks == deployment.blocks);
    CHECK(found.encoder.heads == deployment.heads);
    CHECK(found.encoder.hidden == 4 * deployment.d_token);
  }
  // The order is a file's own: safetensors sorts.
  const Policy policy = make_policy(ft(), {}, at::kCPU);
  Weights reversed;
  for (const std::string& name : [&] {
         std::vector<std::string> names = names_of(policy.actor);
         return std::vector<std::string>(names.rbegin(), names.rend());
       }()) {
    reversed.add(name, policy.actor.at(name));
  }
  CHECK(architecture_of(reversed, 2, "actor.safetensors").encoder.blocks == 2);
}

TEST_CASE("policy: weights of no architecture are an error that names what is strange") {
  const auto message = [](const Weights& weights, std::int64_t heads) {
    return message_of(Fault::incompatible, [&] { architecture_of(weights, heads, "actor.pth"); });
  };
  const Policy plain = make_policy(mlp(), {}, at::kCPU), encoder = make_policy(ft(), {}, at::kCPU);
  const auto without = [](const Weights& weights, const std::string& left_out) {
    Weights copy;
    for (const auto& [name, tensor] : weights) {
      if (name != left_out) copy.add(name, tensor);
    }
    return copy;
  };
  CHECK(message(read("broken/renamed_keys", "actor.pth"), 0) ==
        "actor.pth: the weight 'module.a_std_log' begins with 'module.', expected 'a_std_log'.");
  CHECK(message(Weights{}, 0).find("neither 'net.0.weight' of an MLP") != std::string::npos);
  CHECK(message(without(plain.actor, "a_std_log"), 0) == "actor.pth: the weight 'a_std_log' is missing.");
  CHECK(message(without(plain.actor, "net.4.weight"), 0) == "actor.pth: the weight 'net.4.weight' is missing.");
  CHECK(message(without(encoder.actor, "encoder.norm.bias"), 2) ==
        "actor.pth: the weight 'encoder.norm.bias' is missing.");
  CHECK(message(without(encoder.actor, "encoder.blocks.1.norm2.bias"), 2) ==
        "actor.pth: the weight 'encoder.blocks.1.norm2.bias' is missing.");
  CHECK(message(encoder.actor, 3) == "actor.pth: its tokens are 8 wide, which 3 heads do not divide.");
  CHECK(message(encoder.actor, 0) == "actor.pth: its tokens are 8 wide, which 0 heads do not divide.");
  CHECK(message(plain.actor, 3) == "no error");

  Weights further = plain.actor.clone();
  further.add("state_avg", at::zeros({6}));
  CHECK(message(further, 0) == "actor.pth: the weight 'state_avg' is not one of this architecture's.");
  Weights other = plain.actor.clone();
  other.at("net.2.weight") = at::zeros({16, 15});
  CHECK(message(other, 0) == "actor.pth: the weight 'net.2.weight' is [16, 15], expected [16, 16].");
  other.at("net.2.weight") = at::zeros({16, 16}, at::kLong);
  CHECK(message(other, 0) == "actor.pth: the weight 'net.2.weight' is of Long, expected floating point.");
  other.at("net.0.weight") = at::zeros({16});
  CHECK(message(other, 0).find("'net.2.weight'") != std::string::npos);
  other.at("net.2.weight") = at::zeros({16, 16});
  CHECK(message(other, 0) ==
        "actor.pth: the weight 'net.0.weight' has 1 dimensions and 16 numbers, expected a matrix.");
}

TEST_CASE("policy: new networks have the files' names and order, and are leaves that learn") {
  const std::vector<std::string> names = {"a_std_log",  "net.0.weight", "net.0.bias", "net.2.weight",
                                          "net.2.bias", "net.4.weight", "net.4.bias"};
  CHECK(names_of(make_policy(mlp(), {}, at::kCPU).actor) == names);
  CHECK(names_of(make_policy(mlp(), {}, at::kCPU).critic) == std::vector<std::string>(names.begin() + 1, names.end()));
  for (const Architecture& architecture : {mlp(), ft()}) {
    const Policy policy = make_policy(architecture, {}, at::kCPU);
    CHECK_NOTHROW(policy.actor.require_same_shapes(actor_template(architecture), "actor"));
    CHECK_NOTHROW(policy.critic.require_same_shapes(critic_template(architecture), "critic"));
    const at::Tensor x = at::randn({4, 6}, generator_of(1));
    const at::Tensor mean = actor_mean(policy.actor, architecture, x),
                     value = critic_value(policy.critic, architecture, x);
    CHECK((mean.sizes() == at::IntArrayRef({4, 3})));
    CHECK((value.sizes() == at::IntArrayRef({4})));
    const Evaluation evaluation = evaluate(architecture, mean, policy.actor.at("a_std_log"), at::ones({4, 3}));
    (evaluation.log_probability.sum() + value.sum()).backward();
    for (const Weights* weights : {&policy.actor, &policy.critic}) {
      for (const auto& [name, tensor] : *weights) {
        CHECK(tensor.is_leaf());
        CHECK_MESSAGE(tensor.grad().defined(), name);
      }
    }
  }
}

TEST_CASE("policy: initial values are orthogonal, small at the policy's output, and a function of the seed alone") {
  Initialization initialization;
  initialization.seed = 5;
  initialization.log_std = -0.5;
  const auto row_length = [](const at::Tensor& weight) { return weight.square().sum(1).sqrt(); };
  for (const auto& [architecture, hidden, last] :
       {std::tuple{mlp(6, 6, 3), "net.2", "net.4"}, std::tuple{ft(), "net.1", "net.3"}}) {
    const Policy policy = make_policy(architecture, initialization, at::kCPU);
    CHECK(largest(policy.actor.at("a_std_log") + 0.5) == 0);
    CHECK(largest(row_length(policy.actor.at(str(hidden, ".weight"))) - std::sqrt(2.0)) < 1e-6);
    CHECK(largest(row_length(policy.critic.at(str(hidden, ".weight"))) - std::sqrt(2.0)) < 1e-6);
    CHECK(largest(row_length(policy.actor.at(str(last, ".weight"))) - 0.01) < 1e-8);
    CHECK(largest(row_length(policy.critic.at(str(last, ".weight"))) - 1) < 1e-6);
    CHECK(largest(policy.actor.at(str(last, ".bias"))) == 0);
    const Policy again = make_policy(architecture, initialization, at::kCPU);
    Initialization other = initialization;
    other.seed = 6;
    for (const auto& [name, tensor] : policy.actor) CHECK(at::equal(tensor, again.actor.at(name)));
    const Policy different = make_policy(architecture, other, at::kCPU);
    const std::string weight = str(hidden, ".weight");
    CHECK_FALSE(at::equal(policy.actor.at(weight), different.actor.at(weight)));
    CHECK_FALSE(at::equal(policy.actor.at(weight), policy.critic.at(weight)));
  }
}

TEST_CASE("policy: a policy never drops out, whatever its encoder's setting") {
  Architecture architecture = ft();
  architecture.encoder.dropout = 0.5;
  const Policy policy = make_policy(architecture, {}, at::kCPU);
  const at::Tensor x = at::randn({4, 6}, generator_of(1));
  CHECK(at::equal(actor_mean(policy.actor, architecture, x), actor_mean(policy.actor, architecture, x)));
}

TEST_CASE("policy: an MLP with tanh is tanh of its layers") {
  Architecture architecture = mlp();
  architecture.activation = Activation::tanh;
  Initialization initialization;
  initialization.policy_gain = 1;
  const Policy policy = make_policy(architecture, initialization, at::kCPU);
  const at::Tensor x = at::randn({4, 6}, generator_of(1));
  const auto layer = [&](const char* name, const at::Tensor& input) {
    return input.matmul(policy.actor.at(str(name, ".weight")).t()) + policy.actor.at(str(name, ".bias"));
  };
  const at::Tensor expected = layer("net.4", at::tanh(layer("net.2", at::tanh(layer("net.0", x)))));
  CHECK(deviation(actor_mean(policy.actor, architecture, x), expected) < kFloat);
}

TEST_CASE("policy: a network that does not fit is an error that names the setting") {
  const auto message = [](Architecture architecture) {
    return message_of(Fault::usage, [&] { make_policy(architecture, {}, at::kCPU); });
  };
  CHECK(message(mlp(0)) == "Network: the observation's size is 0, expected at least 1.");
  CHECK(message(mlp(6, -1)) == "Network: the width is -1, expected at least 1.");
  CHECK(message(mlp(6, 16, 0)) == "Network: the number of actions is 0, expected at least 1.");
  Architecture architecture = ft();
  architecture.encoder.heads = 3;
  CHECK(message(architecture) == "FT-Transformer: d_token is 8, expected a multiple of the 3 heads.");
  architecture = ft();
  architecture.activation = Activation::tanh;
  CHECK(message(architecture) == "Network: the ft_transformer's activation is tanh, expected relu.");
  architecture = ft();
  architecture.encoder.published = true;
  CHECK(message(architecture).find("published") != std::string::npos);
}

TEST_CASE("policy: tanh-normal log-probability, and normal entropy equal the golden ones") {
  const Expected expected{formats::read_npz(kGolden + "/algorithms/dist.npz")};
  for (const at::ScalarType type : {at::kDouble, at::kFloat}) {
    const double tolerance = type == at::kDouble ? kDistribution : kDistributionFloat;
    const at::Tensor u = expected["u"].to(type), mean = expected["mu"].to(type).unsqueeze(0),
                     log_std = expected["sd"].log().to(type).unsqueeze(0);
    for (std::int64_t i = 0; i < 2; ++i) {
      const auto column = [i](const at::Tensor& t) { return t.narrow(1, i, 1); };
      const at::Tensor log_probability =
          gaussian_log_probability(column(mean), column(log_std), column(u)) - tanh_log_jacobian(column(u));
      CHECK(deviation(log_probability, expected["tanh_logprob"].select(1, i)) <= tolerance);
      CHECK(deviation(gaussian_entropy(column(log_std)), expected["normal_entropy"][i]) <= tolerance);
    }
    // Sums over the actions.
    CHECK(deviation(gaussian_log_probability(mean, log_std, u) - tanh_log_jacobian(u),
                    expected["tanh_logprob"].sum(1)) <= 2 * tolerance);
  }
}

TEST_CASE("policy: the tanh's Jacobian stays finite and exact far out") {
  const at::Tensor u =
      at::tensor({-300.0, -30.0, -1.0, 0.0, 1.0, 30.0, 300.0}, at::kDouble).unsqueeze(1).requires_grad_(true);
  const at::Tensor jacobian = tanh_log_jacobian(u);
  CHECK(jacobian[3].item<double>() == doctest::Approx(0).epsilon(1e-15));
  CHECK(jacobian[2].item<double>() == doctest::Approx(std::log(1 - std::tanh(1.0) * std::tanh(1.0))).epsilon(1e-12));
  CHECK(jacobian[0].item<double>() == doctest::Approx(2 * std::log(2.0) - 600).epsilon(1e-15));
  CHECK(jacobian[6].item<double>() == doctest::Approx(2 * std::log(2.0) - 600).epsilon(1e-15));
  jacobian.sum().backward();
  CHECK(deviation(u.grad(), at::tanh(u.detach()) * -2) < kDouble);
}

TEST_CASE("policy: a sample has the log-probability that evaluate gives it, to the last bit") {
  for (const Distribution distribution :
       {Distribution::tanh_gaussian, Distribution::gaussian, Distribution::categorical}) {
    Architecture architecture = mlp();
    architecture.distribution = distribution;
    const bool categorical = distribution == Distribution::categorical;
    const at::Tensor mean = at::randn({64, 3}, generator_of(1)), log_std = at::randn({1, 3}, generator_of(2)) * 0.1;
    const at::Tensor noise = categorical ? at::rand({64, 3}, generator_of(3)) : at::randn({64, 3}, generator_of(3));
    const Sample sampled = sample(architecture, mean, log_std, noise);
    const Evaluation evaluation = evaluate(architecture, mean, log_std, sampled.u);
    CHECK(at::equal(sampled.log_probability, evaluation.log_probability));
    CHECK((evaluation.entropy.sizes() == at::IntArrayRef({64})));
    const bool is_tanh = distribution == Distribution::tanh_gaussian;
    CHECK(at::equal(sampled.action, is_tanh ? at::tanh(sampled.u) : sampled.u));
    CHECK(at::equal(deterministic(architecture, mean), is_tanh ? at::tanh(mean) : categorical ? mean.argmax(1) : mean));
  }
}

TEST_CASE("policy: categorical actions come as often as their probability, and noise 0 is allowed") {
  Architecture architecture = mlp();
  architecture.distribution = Distribution::categorical;
  CHECK_FALSE(actor_template(architecture).contains("a_std_log"));
  const std::int64_t count = 40000;
  const at::Tensor latents = at::tensor({std::log(0.5), std::log(0.3), std::log(0.2)}, at::kFloat) + 3;
  const at::Tensor mean = latents.expand({count, 3});
  const Sample sampled = sample(architecture, mean, {}, at::rand({count, 3}, generator_of(7)));
  CHECK((sampled.u.scalar_type() == at::kLong));
  const double probabilities[] = {0.5, 0.3, 0.2};
  for (int action = 0; action < 3; ++action) {
    const double share = (sampled.u == action).to(at::kDouble).mean().item<double>(), p = probabilities[action];
    CHECK(std::abs(share - p) < 4 * std::sqrt(p * (1 - p) / count));  // four standard errors
  }
  const Evaluation evaluation = evaluate(architecture, mean, {}, sampled.u);
  CHECK(largest(at::exp(evaluation.log_probability) -
                at::tensor({0.5, 0.3, 0.2}, at::kFloat).index_select(0, sampled.u)) < 1e-6);
  CHECK(evaluation.entropy[0].item<double>() ==
        doctest::Approx(-0.5 * std::log(0.5) - 0.3 * std::log(0.3) - 0.2 * std::log(0.2)).epsilon(1e-6));

  at::Tensor noise = at::full({1, 3}, 0.5);
  noise[0][0] = 0;  // its Gumbel number is minus infinity: that action is never taken
  CHECK(sample(architecture, mean.narrow(0, 0, 1), {}, noise).u.item<std::int64_t>() == 1);
  CHECK(deterministic(architecture, at::ones({1, 3})).item<std::int64_t>() == 0);  // the first of equals
}

TEST_CASE("policy: the tanh-Gaussian's entropy and its gradient are those of the distribution") {
  // H of tanh(u), u ~ N(m, s), by the trapezoidal rule, whose error is below 1e-9 on a function that vanishes at both
  // ends.
  const auto entropy = [](double m, double s) {
    double sum = 0;
    const double step = 1e-3;
    for (double z = -9; z <= 9; z += step) {
      const double u = m + s * z, density = std::exp(-z * z / 2) / std::sqrt(2 * M_PI);
      sum += step * density * 2 * (std::log(2.0) - u - std::log1p(std::exp(-2 * u)));
    }
    return std::log(s) + 0.5 * std::log(2 * M_PI * std::exp(1.0)) + sum;
  };
  const double m = 0.8, s = 0.6, h = 1e-4;
  const std::int64_t count = 400000;
  const at::Tensor mean = at::full({count, 1}, m, at::kDouble).requires_grad_(true);
  const at::Tensor log_std = at::full({1, 1}, std::log(s), at::kDouble).requires_grad_(true);
  const at::Tensor noise = at::randn({count, 1}, generator_of(9), at::kDouble);
  const Architecture architecture = mlp(1, 1, 1);
  const at::Tensor u = sample(architecture, mean, log_std, noise).u.detach();
  const at::Tensor estimate = evaluate(architecture, mean, log_std, u).entropy;
  const double error =
      4 * estimate.std().item<double>() / std::sqrt(static_cast<double>(count));  // four standard errors
  CHECK(std::abs(estimate.mean().item<double>() - entropy(m, s)) < error);
  estimate.mean().backward();
  const double by_mean = (entropy(m + h, s) - entropy(m - h, s)) / (2 * h);
  const double by_log_std = (entropy(m, s * std::exp(h)) - entropy(m, s * std::exp(-h))) / (2 * h);
  // The derivatives of the Jacobian are at most 2 and 2 |s eps|: their standard errors are below 2 / sqrt(count).
  const double gradient_error = 4 * 2 / std::sqrt(static_cast<double>(count));
  CHECK(std::abs(mean.grad().sum().item<double>() - by_mean) < gradient_error);
  CHECK(std::abs(log_std.grad().item<double>() - by_log_std) < gradient_error);
  CHECK(by_mean < -0.3);  // far from 0, so that a gradient that is missing fails
}
