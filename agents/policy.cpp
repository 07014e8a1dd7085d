#include "agents/policy.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/argmax.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/full.h>
#include <ATen/ops/log.h>
#include <ATen/ops/log_sigmoid.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/tanh.h>
#include <ATen/record_function.h>

#include <cassert>
#include <cmath>
#include <numbers>

#include "ft_transformer/blocks.h"
#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::agents {
namespace {

using ft_transformer::ContextHead;
using ft_transformer::EncoderShape;
using ft_transformer::Weights;

constexpr const char* kEncoder = "encoder.";
constexpr const char* kLogStd = "a_std_log";

EncoderShape encoder_of(const Architecture& architecture) {
  EncoderShape shape = architecture.encoder;
  shape.features = architecture.observation;
  shape.output = architecture.width;
  shape.dropout = 0;
  return shape;
}

ft_transformer::MarketContextShape context_of(const Architecture& architecture) {
  ft_transformer::MarketContextShape shape = architecture.context;
  shape.assets = architecture.actions;
  shape.width = architecture.width;
  return shape;
}

void check(const Architecture& architecture) {
  const auto require = [](bool good, const char* setting, auto value, const char* expected) {
    if (!good) throw Error(Fault::usage, str("Network: ", setting, " is ", value, ", expected ", expected, "."));
  };
  require(architecture.observation > 0, "the observation's size", architecture.observation, "at least 1");
  require(architecture.width > 0, "the width", architecture.width, "at least 1");
  require(architecture.actions > 0, "the number of actions", architecture.actions, "at least 1");
  if (architecture.network == Network::mlp) return;
  if (architecture.network == Network::market_context) {
    ft_transformer::check(context_of(architecture));
    require(architecture.activation == Activation::relu, "market_context's activation", "tanh", "relu");
    require(architecture.distribution != Distribution::categorical, "market_context's distribution", "categorical",
            "tanh_gaussian or gaussian");
    const ft_transformer::MarketContextShape& shape = architecture.context;
    require(ft_transformer::assets_of_observation(shape, architecture.observation) == architecture.actions,
            "the observation's size", architecture.observation, "cash, n holdings and n L F features");
    return;
  }
  require(architecture.activation == Activation::relu, "the ft_transformer's activation", "tanh", "relu");
  require(!architecture.encoder.published, "the encoder", "the published kind", "the deployed kind");
  ft_transformer::check(encoder_of(architecture));
}

// The network up to `outputs`; without a generator the values are not set.
void add_network(Weights& weights, const Architecture& architecture, std::int64_t outputs, double last_gain,
                 const at::Generator& generator, ContextHead head) {
  if (architecture.network == Network::market_context) {
    ft_transformer::add_market_context_weights(weights, context_of(architecture), head, last_gain, generator);
    return;
  }
  const auto add_linear = [&](const std::string& name, std::int64_t in, std::int64_t out, double gain) {
    const at::Tensor weight = at::empty({out, in}, at::kFloat), bias = at::empty({out}, at::kFloat);
    if (generator.defined()) {
      ft_transformer::orthogonal_(weight, gain, generator);
      bias.zero_();
    }
    weights.add(name + ".weight", weight);
    weights.add(name + ".bias", bias);
  };
  const std::int64_t width = architecture.width;
  if (architecture.network == Network::mlp) {
    add_linear("net.0", architecture.observation, width, std::numbers::sqrt2);
    add_linear("net.2", width, width, std::numbers::sqrt2);
    add_linear("net.4", width, outputs, last_gain);
  } else {
    ft_transformer::add_encoder_weights(weights, encoder_of(architecture), kEncoder, generator);
    add_linear("net.1", width, width, std::numbers::sqrt2);
    add_linear("net.3", width, outputs, last_gain);
  }
}

Weights make_actor(const Architecture& architecture, double log_std, double gain, const at::Generator& generator) {
  Weights actor;
  if (architecture.distribution != Distribution::categorical) {
    const bool shared = architecture.network == Network::market_context;  // by all assets, like every weight of it
    actor.add(kLogStd, at::full({1, shared ? 1 : architecture.actions}, log_std, at::kFloat));
  }
  add_network(actor, architecture, architecture.actions, gain, generator, ContextHead::actor);
  return actor;
}

// In front of what the file holds of a network, what its input takes.
Weights file_template(const Architecture& architecture, const Weights& network) {
  if (architecture.network != Network::market_context) return network;
  Weights file;
  ft_transformer::add_input_weights(file, context_of(architecture));
  for (const auto& [name, tensor] : network) file.add(name, tensor);
  return file;
}

// -> [B, outputs], in the input's type also under autocast.
at::Tensor forward(const Weights& weights, const Architecture& architecture, const Input& input, ContextHead head) {
  RECORD_USER_SCOPE("trunk");
  const at::Tensor& x = input.x;
  if (architecture.network == Network::market_context) {
    const ft_transformer::MarketContextShape shape = context_of(architecture);
    if (x.defined()) return ft_transformer::served_forward(weights, shape, head, x);
    const auto context = ft_transformer::market_context(weights, shape, input.windows);
    return ft_transformer::read_context(weights, shape, head, context, input.account, input.window)
        .to(input.account.scalar_type());
  }
  const bool relu = architecture.activation == Activation::relu;
  const auto hidden = [&](const std::string& name, const at::Tensor& of) {
    return relu ? ft_transformer::linear_relu(weights, name, of) : at::tanh(ft_transformer::linear(weights, name, of));
  };
  at::Tensor y;
  if (architecture.network == Network::mlp) {
    y = hidden("net.2", hidden("net.0", x));
    y = ft_transformer::linear(weights, "net.4", y);
  } else {
    y = hidden("net.1", at::relu(ft_transformer::encode(weights, encoder_of(architecture), kEncoder, x)));
    y = ft_transformer::linear(weights, "net.3", y);
  }
  return y.to(x.scalar_type());
}

at::Tensor of_index(const at::Tensor& log_probabilities, const at::Tensor& index) {
  return log_probabilities.gather(1, index.unsqueeze(1)).squeeze(1);
}

}  // namespace

const char* name_of(Network network) {
  switch (network) {
    case Network::mlp:
      return "mlp";
    case Network::ft_transformer:
      return "ft_transformer";
    case Network::market_context:
      break;
  }
  return "market_context";
}

Policy make_policy(const Architecture& architecture, const Initialization& initialization, at::Device device) {
  check(architecture);
  const auto generator = at::make_generator<at::CPUGeneratorImpl>(initialization.seed);
  Policy policy{architecture, {}, {}};
  policy.actor =
      make_actor(architecture, initialization.log_std, initialization.policy_gain, generator).to(device, at::kFloat);
  add_network(policy.critic, architecture, 1, 1, generator, ContextHead::critic);
  policy.critic = policy.critic.to(device, at::kFloat);
  policy.actor.require_grad(true);
  policy.critic.require_grad(true);
  return policy;
}

Weights actor_template(const Architecture& architecture) {
  check(architecture);
  return file_template(architecture, make_actor(architecture, 0, 0, {}));
}

Weights critic_template(const Architecture& architecture) {
  check(architecture);
  Weights critic;
  add_network(critic, architecture, 1, 1, {}, ContextHead::critic);
  return file_template(architecture, critic);
}

Architecture architecture_of(const Weights& actor, std::int64_t heads, const std::string& origin) {
  for (const auto& [name, tensor] : actor) {
    if (name.starts_with("module.")) {
      throw Error(Fault::incompatible,
                  str(origin, ": the weight '", name, "' begins with 'module.', expected '", name.substr(7), "'."),
                  "torch.nn.DataParallel wrote it: save model.module.state_dict() instead");
    }
    if (!tensor.is_floating_point()) {
      throw Error(Fault::incompatible, str(origin, ": the weight '", name, "' is of ",
                                           c10::toString(tensor.scalar_type()), ", expected floating point."));
    }
  }
  const auto matrix_size = [&](const std::string& name, std::int64_t dimension) {
    if (!actor.contains(name)) {
      throw Error(Fault::incompatible, str(origin, ": the weight '", name, "' is missing."));
    }
    const at::Tensor& weight = actor.at(name);
    if (weight.dim() != 2 || weight.numel() == 0) {
      throw Error(Fault::incompatible, str(origin, ": the weight '", name, "' has ", weight.dim(), " dimensions and ",
                                           weight.numel(), " numbers, expected a matrix."));
    }
    return weight.size(dimension);
  };

  Architecture architecture;
  if (ft_transformer::is_market_context(actor)) {
    architecture.network = Network::market_context;
    architecture.context = ft_transformer::market_context_shape_of(actor, origin);
    architecture.width = architecture.context.width;
    architecture.actions = architecture.context.assets;
    architecture.observation =
        1 + architecture.actions * (1 + architecture.context.lookback * architecture.context.features);
  } else if (actor.contains("encoder.tokenizer.weight")) {
    architecture.network = Network::ft_transformer;
    architecture.observation = matrix_size("encoder.tokenizer.weight", 0);
    architecture.width = matrix_size("encoder.output_projection.weight", 0);
    architecture.actions = matrix_size("net.3.weight", 0);
    EncoderShape& encoder = architecture.encoder;
    encoder.features = architecture.observation;
    encoder.output = architecture.width;
    encoder.d_token = matrix_size("encoder.tokenizer.weight", 1);
    encoder.heads = heads;
    encoder.key_bias = actor.contains("encoder.key_bias");
    encoder.hidden = matrix_size("encoder.blocks.0.feedforward.linear1.weight", 0);
    encoder.blocks = 1;
    while (actor.contains(str("encoder.blocks.", encoder.blocks, ".attention.W_q.weight"))) ++encoder.blocks;
    if (heads <= 0 || encoder.d_token % heads != 0) {
      throw Error(Fault::incompatible,
                  str(origin, ": its tokens are ", encoder.d_token, " wide, which ", heads, " heads do not divide."),
                  "the weights do not show the number of heads: give the ft_n_heads of its training");
    }
  } else if (actor.contains("net.0.weight")) {
    architecture.network = Network::mlp;
    architecture.observation = matrix_size("net.0.weight", 1);
    architecture.width = matrix_size("net.0.weight", 0);
    architecture.actions = matrix_size("net.4.weight", 0);
  } else {
    throw Error(
        Fault::incompatible,
        str(origin, ": among its ", actor.size(),
            " weights is neither 'net.0.weight' of an MLP nor 'encoder.tokenizer.weight' of an FT-Transformer."));
  }

  const Weights expected = actor_template(architecture);
  Weights ordered;
  for (const auto& [name, tensor] : expected) {
    if (actor.contains(name)) ordered.add(name, actor.at(name));
  }
  for (const auto& [name, tensor] : actor) {
    if (!expected.contains(name)) ordered.add(name, tensor);
  }
  ordered.require_same_shapes(expected, origin);
  return architecture;
}

at::Tensor actor_mean(const Weights& actor, const Architecture& architecture, const Input& input) {
  return forward(actor, architecture, input, ContextHead::actor);
}

at::Tensor critic_value(const Weights& critic, const Architecture& architecture, const Input& input) {
  return forward(critic, architecture, input, ContextHead::critic).squeeze(1);
}

at::Tensor gaussian_log_probability(const at::Tensor& mean, const at::Tensor& log_std, const at::Tensor& u) {
  static const double kHalfLogTwoPi = 0.5 * std::log(2 * std::numbers::pi);
  const at::Tensor z = (u - mean) * at::exp(-log_std);
  return (z.square() * -0.5 - (log_std + kHalfLogTwoPi)).sum(-1);
}

at::Tensor tanh_log_jacobian(const at::Tensor& u) {
  // softplus(-2u) = -log_sigmoid(2u), which has no threshold behind which it is linear.
  return ((at::log_sigmoid(2 * u) - u + std::numbers::ln2) * 2).sum(-1);
}

at::Tensor gaussian_entropy(const at::Tensor& log_std) {
  static const double kHalfLogTwoPiE = 0.5 * (std::log(2 * std::numbers::pi) + 1);
  return (log_std + kHalfLogTwoPiE).sum();
}

Sample sample(const Architecture& architecture, const at::Tensor& mean, const at::Tensor& log_std,
              const at::Tensor& noise) {
  Sample sample;
  if (architecture.distribution == Distribution::categorical) {
    sample.u = at::argmax(mean - at::log(-at::log(noise)), 1);
    sample.log_probability = of_index(at::log_softmax(mean, 1), sample.u);
    sample.action = sample.u;
    return sample;
  }
  sample.u = mean + at::exp(log_std) * noise;
  // By the function of evaluate() and not from the noise, so that the first ratio is exactly 1.
  sample.log_probability = gaussian_log_probability(mean, log_std, sample.u);
  sample.action = architecture.distribution == Distribution::tanh_gaussian ? at::tanh(sample.u) : sample.u;
  return sample;
}

at::Tensor deterministic(const Architecture& architecture, const at::Tensor& mean) {
  switch (architecture.distribution) {
    case Distribution::tanh_gaussian:
      return at::tanh(mean);
    case Distribution::gaussian:
      return mean;
    case Distribution::categorical:
      return at::argmax(mean, 1);
  }
  assert(false);
  return {};
}

Evaluation evaluate(const Architecture& architecture, const at::Tensor& mean, const at::Tensor& log_std,
                    const at::Tensor& u) {
  if (architecture.distribution == Distribution::categorical) {
    const at::Tensor log_probabilities = at::log_softmax(mean, 1);
    return {of_index(log_probabilities, u), -(at::exp(log_probabilities) * log_probabilities).sum(1)};
  }
  const at::Tensor entropy = gaussian_entropy(log_std).expand({u.size(0)});
  const at::Tensor log_probability = gaussian_log_probability(mean, log_std, u);
  if (architecture.distribution == Distribution::gaussian) return {log_probability, entropy};
  const at::Tensor noise = ((u - mean) * at::exp(-log_std)).detach();
  return {log_probability, entropy + tanh_log_jacobian(mean + at::exp(log_std) * noise)};
}

}  // namespace ristretto::agents
