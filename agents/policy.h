// Actor and critic of every architecture, and the distributions over actions (algorithms.md 1, 2.1, 2.4).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

#include "ft_transformer/encoder.h"
#include "ft_transformer/market_context.h"
#include "ft_transformer/weights.h"

namespace ristretto::agents {

enum class Network { mlp, ft_transformer, market_context };
enum class Activation { relu, tanh };
// tanh_gaussian: u ~ N(mean, exp(a_std_log)), the environment gets tanh(u). gaussian: the environment gets u.
// categorical: softmax over A latents, the environment gets the index.
enum class Distribution { tanh_gaussian, gaussian, categorical };

const char* name_of(Network network);

struct Architecture {
  Network network = Network::mlp;
  std::int64_t observation = 0;              // S
  std::int64_t width = 256;                  // W
  std::int64_t actions = 0;                  // A
  Activation activation = Activation::relu;  // relu in every deployed file
  Distribution distribution = Distribution::tanh_gaussian;
  ft_transformer::EncoderShape encoder;        // ft_transformer only; its features are S, its output W, its dropout 0,
                                               // whatever stands there: the ratio must be 1 on the first minibatch
  ft_transformer::MarketContextShape context;  // market_context only; its assets are A, its width W. S follows from it
};

// What networks read. A plain one reads the matrix; where work is shared by bar, the account and, of each distinct bar,
// one window (an MLP only in MlpPass). market_context reads either: the matrix is then the served observation, through
// the weights "input.*" of its file.
struct Input {
  Input() = default;
  Input(at::Tensor matrix) : x(std::move(matrix)) {}  // NOLINT: a matrix is an input

  at::Tensor x;        // [B, S]
  at::Tensor account;  // [B, 1+n]
  at::Tensor windows;  // [D, n, L, F]; of an MLP [D, L*n*F], newest row first
  at::Tensor window;   // [B] int64: which window a sample reads; undefined: D == B, its own

  const at::Tensor& samples() const { return x.defined() ? x : account; }  // [B, ...]
};

struct Initialization {
  std::uint64_t seed = 0;
  double log_std = 0.5;       // a_std_log (algorithms.md 2.2)
  double policy_gain = 0.01;  // orthogonal gain of the actor's last layer; hidden sqrt 2, critic's last 1, biases 0
};

// The networks of one agent; float32 leaves with gradients on, on one device. Copying shares the tensors.
struct Policy {
  Architecture architecture;
  ft_transformer::Weights actor;  // names and order of actor.pth; categorical: without a_std_log
  ft_transformer::Weights critic;
};

// Throws Error(usage) naming the setting that does not fit. Weights of MLPs orthogonal, of encoders as
// algorithms.md 1.1.
Policy make_policy(const Architecture& architecture, const Initialization& initialization, at::Device device);
// The names, shapes and order that files of this architecture hold (market_context: with "input.*"); values are not
// set.
ft_transformer::Weights actor_template(const Architecture& architecture);
ft_transformer::Weights critic_template(const Architecture& architecture);
// The architecture that a deployed actor's weights are of (relu, tanh_gaussian), by names and shapes, in any order.
// `heads` cannot be seen in them and is taken as given; an MLP ignores it. Throws Error(incompatible) that names what
// is missing or strange. Values are not looked at.
Architecture architecture_of(const ft_transformer::Weights& actor, std::int64_t heads, const std::string& origin);

// Normalised input of B samples -> mean of u [B, A] (categorical: latents). market_context: A is the input's n.
at::Tensor actor_mean(const ft_transformer::Weights& actor, const Architecture& architecture, const Input& input);
// -> values [B].
at::Tensor critic_value(const ft_transformer::Weights& critic, const Architecture& architecture, const Input& input);

// Of u [B, A] under N(mean [B, A], exp(log_std [1, A])), summed over A: [B].
at::Tensor gaussian_log_probability(const at::Tensor& mean, const at::Tensor& log_std, const at::Tensor& u);
// sum over A of 2 (ln 2 - u - softplus(-2u)): what the tanh adds. [B]
at::Tensor tanh_log_jacobian(const at::Tensor& u);
at::Tensor gaussian_entropy(const at::Tensor& log_std);  // of one sample's A dimensions, summed; scalar

struct Sample {                // categorical: no log_std is needed, here and in evaluate()
  at::Tensor u;                // [B, A] the raw action that is stored (categorical: [B] int64)
  at::Tensor log_probability;  // [B] of u, without the tanh
  at::Tensor action;           // what the environment gets
};
// noise: [B, A] standard normal (categorical: uniform in [0, 1), Gumbel-max), from the caller's counter-based
// generator.
Sample sample(const Architecture& architecture, const at::Tensor& mean, const at::Tensor& log_std,
              const at::Tensor& noise);
// What is served: tanh(mean), mean, or the first argmax.
at::Tensor deterministic(const Architecture& architecture, const at::Tensor& mean);

struct Evaluation {
  at::Tensor log_probability;  // [B] of the stored u under the current policy, without the tanh
  // [B]. gaussian and categorical: exact. tanh_gaussian: H(u) + tanh_log_jacobian(mean + std * eps) with eps = (u -
  // mean) / std held constant. Unbiased for u of this policy, and so is its gradient (reparameterised); that of -log pi
  // of the stored action is 0 on average and would teach nothing.
  at::Tensor entropy;
};
Evaluation evaluate(const Architecture& architecture, const at::Tensor& mean, const at::Tensor& log_std,
                    const at::Tensor& u);

}  // namespace ristretto::agents
