#include "agents/optimizer.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <ATen/record_function.h>

#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::agents {
namespace {

constexpr std::int64_t kAlignment = 16;  // numbers: 64 bytes of float32, a cache line and the widest vector

std::int64_t padded(const at::Tensor& parameter) {
  return (parameter.numel() + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace

Optimizer::Optimizer(const std::vector<at::Tensor>& parameters, const Options& options) : options_(options) {
  const at::NoGradGuard no_grad;
  std::int64_t size = 0;
  for (const at::Tensor& parameter : parameters) {
    TORCH_INTERNAL_ASSERT(parameter.is_leaf() && parameter.scalar_type() == parameters.front().scalar_type() &&
                          parameter.device() == parameters.front().device());
    if (!parameter.requires_grad()) continue;
    leaves_.push_back(parameter);
    size += padded(parameter);
  }
  if (leaves_.empty()) throw Error(Fault::usage, "no parameter has gradients on: there is nothing to train");
  flat_ = at::zeros({size}, leaves_.front().options().requires_grad(false));
  flat_gradient_ = at::zeros_like(flat_);
  first_moment_ = at::zeros_like(flat_);
  second_moment_ = at::zeros_like(flat_);
  // float32 whatever the parameters' type: what the fused kernels take.
  steps_ = at::zeros({}, flat_.options().dtype(at::kFloat));
  std::int64_t begin = 0;
  for (at::Tensor& leaf : leaves_) {
    const at::Tensor place = flat_.narrow(0, begin, leaf.numel()).view(leaf.sizes());
    place.copy_(leaf);
    leaf.set_data(place);
    leaf_gradients_.push_back(flat_gradient_.narrow(0, begin, leaf.numel()).view(leaf.sizes()));
    begin += padded(leaf);
  }
  zero_gradients();
}

void Optimizer::zero_gradients() {
  RECORD_USER_SCOPE("optimiser");
  flat_gradient_.zero_();
  for (std::size_t i = 0; i < leaves_.size(); ++i) leaves_[i].mutable_grad() = leaf_gradients_[i];
}

at::Tensor Optimizer::clip_gradients(double max_norm) {
  RECORD_USER_SCOPE("optimiser");
  const at::NoGradGuard no_grad;
  const at::Tensor norm = at::linalg_vector_norm(flat_gradient_);
  if (max_norm > 0) flat_gradient_.mul_((max_norm / (norm + 1e-6)).clamp_max_(1.0));
  return norm;
}

void Optimizer::step(double learning_rate) {
  RECORD_USER_SCOPE("optimiser");
  const at::NoGradGuard no_grad;
  steps_.add_(1);
  const std::vector<at::Tensor> parameter{flat_}, gradient{flat_gradient_}, first{first_moment_},
      second{second_moment_}, steps{steps_};
  if (options_.weight_decay > 0) {
    at::_fused_adamw_(parameter, gradient, first, second, {}, steps, learning_rate, options_.beta1, options_.beta2,
                      options_.weight_decay, options_.epsilon, /*amsgrad=*/false, /*maximize=*/false);
  } else {
    at::_fused_adam_(parameter, gradient, first, second, {}, steps, learning_rate, options_.beta1, options_.beta2,
                     /*weight_decay=*/0, options_.epsilon, /*amsgrad=*/false, /*maximize=*/false);
  }
}

NamedTensors Optimizer::state() const {
  return {{"first_moment", first_moment_}, {"second_moment", second_moment_}, {"steps", steps_}};
}

std::vector<at::Tensor> Optimizer::pieces(const at::Tensor& flat, const std::vector<at::Tensor>& parameters) {
  std::int64_t size = 0;
  for (const at::Tensor& parameter : parameters) size += padded(parameter);
  if (flat.dim() != 1 || flat.numel() != size) {
    throw Error(Fault::incompatible, str("the optimizer's state is of ", flat.numel(), " numbers, expected ", size));
  }
  std::vector<at::Tensor> out;
  std::int64_t begin = 0;
  for (const at::Tensor& parameter : parameters) {
    out.push_back(flat.narrow(0, begin, parameter.numel()).view(parameter.sizes()));
    begin += padded(parameter);
  }
  return out;
}

void Optimizer::restore(const NamedTensors& state) {
  const at::NoGradGuard no_grad;
  for (const auto& [name, tensor] : this->state()) tensor.copy_(saved(state, name, tensor.sizes(), "optimizer"));
}

}  // namespace ristretto::agents
