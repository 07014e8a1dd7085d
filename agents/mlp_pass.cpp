#include "agents/mlp_pass.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/tanh_backward.h>
#include <ATen/ops/threshold_backward.h>
#include <ATen/ops/zeros.h>
#include <ATen/record_function.h>
#include <c10/util/Exception.h>

#include <optional>
#include <utility>

#include "agents/mlp_kernel.h"
#include "agents/output_kernel.h"
#include "ft_transformer/linear.h"
#include "ft_transformer/product.h"
#include "platform/instruction_sets.h"
#include "platform/text.h"

namespace ristretto::agents {
namespace {

constexpr std::int64_t kFewRows = 256;    // up to here a product does not fill more than two threads
constexpr std::int64_t kManyRows = 1024;  // from here on MKL's whole tiles pay for a transposition
constexpr std::int64_t kTile = 16;        // columns
constexpr std::int64_t kColumns = 256;    // of a row, that one thread sums at least

// Both at once where a thread each keeps all of them busy: within a parallel region the products are of one thread, and
// nobody waits for the other's share of each.
template <class First, class Second>
void at_once(const Input& input, const First& first, const Second& second) {
  const at::NoGradGuard no_grad;
  if (!input.samples().is_cpu() || (at::get_num_threads() > 2 && input.samples().size(0) > kFewRows)) {
    first();
    second();
    return;
  }
  at::parallel_for(0, 2, 1, [&](std::int64_t begin, std::int64_t end) {
    const at::NoGradGuard no_grad_here;  // of this thread, as the scope is
    RECORD_USER_SCOPE("trunk");
    for (std::int64_t i = begin; i < end; ++i) i == 0 ? first() : second();
  });
}

constexpr const char* kLayers[kMlpLayers] = {"net.0", "net.2", "net.4"};

struct Kernels {
  decltype(&avx2::mlp_forward) forward;
  decltype(&avx2::mlp_backward) backward;
};

// What runs such a batch, or nothing where a matrix library is faster.
std::optional<Kernels> kernels_for(const at::Tensor& x, const Architecture& of) {
  constexpr std::int64_t kNarrow = 512;  // weights of more leave the second cache, and are read across their rows
  if (!x.defined() || !x.is_cpu() || x.scalar_type() != at::kFloat || of.activation != Activation::relu) return {};
  const std::int64_t samples = x.size(0), columns = mlp_columns(samples);
  if (samples > kFewRows || 5 * samples < 4 * columns || of.width > kNarrow) return {};
#if defined(__x86_64__)
  if (has_avx512()) return Kernels{avx512::mlp_forward, avx512::mlp_backward};
  if (has_avx2()) return Kernels{avx2::mlp_forward, avx2::mlp_backward};
#endif
  return {};
}

// Forward, loss and backward of one network on this thread; `gradient` makes of its output [B, .] the output's.
void run_in(const Kernels& kernels, const ft_transformer::Weights& weights, const at::Tensor& batch,
            const Gradient& gradient) {
  const at::Tensor x = batch.contiguous();
  Mlp mlp{{x.size(0), x.size(1), weights.at("net.0.bias").size(0), weights.at("net.4.bias").size(0)}, {}, nullptr};
  for (int i = 0; i < kMlpLayers; ++i) {
    const at::Tensor &weight = weights.at(str(kLayers[i], ".weight")), &bias = weights.at(str(kLayers[i], ".bias"));
    TORCH_INTERNAL_ASSERT(weight.is_contiguous() && weight.grad().is_contiguous());
    mlp.layers[i] = {weight.const_data_ptr<float>(), bias.const_data_ptr<float>(),
                     weight.grad().mutable_data_ptr<float>(), bias.grad().mutable_data_ptr<float>()};
  }
  const at::Tensor scratch = at::empty({mlp_scratch(mlp.sizes)}, x.options());
  const at::Tensor out = at::empty({mlp.sizes.batch, mlp.sizes.outputs}, x.options());
  mlp.scratch = scratch.mutable_data_ptr<float>();
  kernels.forward(mlp, x.const_data_ptr<float>(), out.mutable_data_ptr<float>());
  const at::Tensor of_out = gradient(out).contiguous();
  kernels.backward(mlp, of_out.const_data_ptr<float>());
}

// Adds the gradient of the weight [out, in] of y = x W^T: dy [B, out], x [B, in].
void add_weight_gradient(const at::Tensor& gradient, const at::Tensor& dy, const at::Tensor& x) {
  if (dy.scalar_type() != gradient.scalar_type()) {
    gradient.add_(at::mm(dy.t(), x));
  } else if (dy.is_cpu() && dy.size(0) >= kManyRows && x.size(1) % kTile != 0 && dy.size(1) % kTile == 0 &&
             !ft_transformer::on_tiles(dy.size(1), dy.size(0), x.size(1))) {
    // MKL takes 302 rows and 1,024 columns a sixth faster than 1,024 rows and 302 columns.
    gradient.add_(at::mm(x.t(), dy).t());
  } else {
    ft_transformer::add_product_(gradient, dy.t(), x);
  }
}

void add_weight_gradient(const ft_transformer::Weights& weights, const char* layer, const at::Tensor& dy,
                         const at::Tensor& x) {
  add_weight_gradient(weights.at(str(layer, ".weight")).mutable_grad(), dy, x);
}

// The columns of net.0 that read the account, and those that read the market.
std::pair<at::Tensor, at::Tensor> account_and_market(const at::Tensor& weight, const Input& input) {
  const std::int64_t account = input.account.size(1);
  return {weight.narrow(1, 0, account), weight.narrow(1, account, weight.size(1) - account)};
}

// rows [B, W] of the same window added up: [D, W].
at::Tensor sum_by_window(const at::Tensor& rows, const Input& input) {
  const at::Tensor sums = at::zeros({input.windows.size(0), rows.size(1)}, rows.options());
  if (!rows.is_cpu()) return sums.index_add_(0, input.window, rows);
  at::parallel_for(0, rows.size(1), kColumns, [&](std::int64_t begin, std::int64_t end) {
    const at::NoGradGuard no_grad;  // of this thread
    sums.narrow(1, begin, end - begin).index_add_(0, input.window, rows.narrow(1, begin, end - begin));
  });
  return sums;
}

}  // namespace

MlpPass::MlpPass(const Policy& policy, std::int64_t rows, bool bf16)
    : architecture_(policy.architecture),
      rows_(rows),
      bf16_(bf16),
      actor_{&policy.actor, {}, {}, {}, {}, {}},
      critic_{&policy.critic, {}, {}, {}, {}, {}} {}

void MlpPass::set_input(const Input& input) {
  TORCH_INTERNAL_ASSERT(!bf16_ || input.x.defined());
  input_ = input;
  if (bf16_) input_.x = input_.x.to(at::kBFloat16);
}

void MlpPass::pack(Network& network) const {
  if (!network.layers.empty()) return;
  for (const char* layer : kLayers) {
    const auto factor = [&](const char* part) {
      const at::Tensor tensor = network.weights->at(str(layer, part)).detach();
      return bf16_ ? tensor.to(at::kBFloat16) : tensor;
    };
    const at::Tensor weight = factor(".weight");
    network.layers.emplace_back(weight, factor(".bias"), rows_);
    network.back.emplace_back(weight.t(), at::Tensor(), rows_);
  }
}

Outputs MlpPass::forward(const Input& input) {
  RECORD_USER_SCOPE("trunk");
  set_input(input);
  at_once(
      input_, [&] { run_forward(actor_); }, [&] { run_forward(critic_); });
  return {actor_.out.detach().set_requires_grad(true), critic_.out.squeeze(1).detach().set_requires_grad(true)};
}

at::Tensor MlpPass::first_layer(const Network& network) const {
  if (input_.x.defined()) return hidden(network.layers[0], input_.x);
  const ft_transformer::Weights& weights = *network.weights;
  const auto [account, market] = account_and_market(weights.at("net.0.weight"), input_);
  const at::Tensor of_windows = at::addmm(weights.at("net.0.bias"), input_.windows, market.t());
  const at::Tensor z = of_windows.index_select(0, input_.window).addmm_(input_.account, account.t());
  return architecture_.activation == Activation::relu ? z.relu_() : z.tanh_();
}

void MlpPass::first_layer_back(const Network& network, const at::Tensor& dz) const {
  const ft_transformer::Weights& weights = *network.weights;
  if (input_.x.defined()) return add_weight_gradient(weights, "net.0", dz, input_.x);
  const auto [account, market] = account_and_market(weights.at("net.0.weight").mutable_grad(), input_);
  add_weight_gradient(market, sum_by_window(dz, input_), input_.windows);
  add_weight_gradient(account, dz, input_.account);
}

at::Tensor MlpPass::hidden(const PackedLinear& layer, const at::Tensor& x) const {
  return architecture_.activation == Activation::relu ? layer(x, true) : layer(x, false).tanh_();
}

at::Tensor MlpPass::before_activation(const at::Tensor& gradient, const at::Tensor& activation,
                                      const at::Tensor& bias) const {
  const at::Tensor& of_bias = bias.mutable_grad();
  const bool relu = architecture_.activation == Activation::relu;
  if (relu && ft_transformer::fits_relu_kernel(activation)) {
    ft_transformer::relu_back(activation, gradient, gradient, of_bias);
    return gradient;
  }
  const at::Tensor dz =
      relu ? at::threshold_backward(gradient, activation, 0) : at::tanh_backward(gradient, activation);
  of_bias.add_(dz.sum(0));
  return dz;
}

at::Tensor MlpPass::output_back(const Network& network, const at::Tensor& gradient) const {
  const ft_transformer::Weights& weights = *network.weights;
  const at::Tensor &weight = weights.at("net.4.weight"), &below = weights.at("net.2.bias"), &second = network.second;
  const bool relu = architecture_.activation == Activation::relu;
  if (!relu || !ft_transformer::fits_relu_kernel(second) || weight.size(0) > kFewOutputs) {
    add_weight_gradient(weights, "net.4", gradient, second);
    return before_activation(network.back[2](gradient, false), second, below);
  }
  const at::Tensor of_out = gradient.contiguous();
  const at::Tensor &of_weight = weight.mutable_grad(), &of_below = below.mutable_grad();
  TORCH_INTERNAL_ASSERT(weight.is_contiguous() && of_weight.is_contiguous() && second.is_contiguous());
  const OutputLayer layer{.rows = second.size(0),
                          .width = second.size(1),
                          .outputs = weight.size(0),
                          .weight = weight.const_data_ptr<float>(),
                          .gradient = of_out.const_data_ptr<float>(),
                          .activation = second.mutable_data_ptr<float>(),
                          .weight_gradient = of_weight.mutable_data_ptr<float>(),
                          .z_gradient_sum = of_below.mutable_data_ptr<float>()};
  ft_transformer::by_columns(layer.rows, layer.width, [&](std::int64_t begin, std::int64_t end) {
    RISTRETTO_WIDEST(decltype(&baseline::output_back), output_back)(layer, begin, end);
  });
  return second;
}

void MlpPass::run_forward(Network& network) const {
  pack(network);
  network.first = first_layer(network);
  network.second = hidden(network.layers[1], network.first);
  network.out = network.layers[2](network.second, false).to(network.weights->at("net.4.bias").scalar_type());
}

void MlpPass::run_back(Network& network, const at::Tensor& of_out) {
  const ft_transformer::Weights& weights = *network.weights;
  const at::Tensor gradient = of_out.to(network.second.scalar_type());
  weights.at("net.4.bias").mutable_grad().add_(gradient.sum(0));
  const at::Tensor second = output_back(network, gradient);
  add_weight_gradient(weights, "net.2", second, network.first);
  const at::Tensor first = before_activation(network.back[1](second, false), network.first, weights.at("net.0.bias"));
  first_layer_back(network, first);
  network.first = network.second = network.out = at::Tensor();  // the next batch needs their room
}

void MlpPass::backward(const at::Tensor& mean, const at::Tensor& value) {
  RECORD_USER_SCOPE("trunk");
  at_once(
      input_, [&] { run_back(actor_, mean); }, [&] { run_back(critic_, value.unsqueeze(1)); });
}

void MlpPass::run(const Input& input, const Gradient& of_mean, const Gradient& of_value) {
  RECORD_USER_SCOPE("trunk");
  set_input(input);
  const std::optional<Kernels> kernels = kernels_for(input_.x, architecture_);
  const auto through = [&](Network& network, const auto& gradient) {
    if (kernels) return run_in(*kernels, *network.weights, input_.x, gradient);
    run_forward(network);
    run_back(network, gradient(network.out));
  };
  at_once(
      input_, [&] { through(actor_, of_mean); },
      [&] { through(critic_, [&](const at::Tensor& out) { return of_value(out.squeeze(1)).unsqueeze(1); }); });
}

}  // namespace ristretto::agents
