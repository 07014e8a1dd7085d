#include "agents/optimizer.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
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

// On a CPU by pieces, each read by the thread whose cache it lies in: LibTorch's norm is one thread's, which takes half
// the gradients out of the other's cache. As many pieces whatever the threads, so that the sum is the same.
at::Tensor norm_of(const at::Tensor& gradient) {
  constexpr std::int64_t kPieces = 4, kFew = 32768;  // numbers: what LibTorch gives a thread at least
  const std::int64_t size = gradient.numel();
  if (!gradient.is_cpu() || size < 2 * kFew) return at::linalg_vector_norm(gradient);
  const at::Tensor norms = at::empty({kPieces}, gradient.options());
  at::parallel_for(0, kPieces, 1, [&](std::int64_t begin, std::int64_t end) {
    const at::NoGradGuard no_grad;  // of this thread
    for (std::int64_t i = begin; i < end; ++i) {
      at::Tensor norm = norms[i];
      const std::int64_t first = size * i / kPieces, last = size * (i + 1) / kPieces;
      at::linalg_vector_norm_out(norm, gradient.narrow(0, first, last - first), 2);
    }
  });
  return at::linalg_vector_norm(norms);
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

at::Tensor Optimizer::step(double learning_rate, double max_norm) {
  RECORD_USER_SCOPE("optimiser");
  const at::NoGradGuard no_grad;
  const at::Tensor norm = norm_of(flat_gradient_);
  if (max_norm > 0) flat_gradient_.mul_((max_norm / (norm + 1e-6)).clamp_max_(1.0));
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
  return norm;
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
