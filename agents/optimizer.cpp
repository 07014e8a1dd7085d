#include "agents/optimizer.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <ATen/record_function.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <numeric>

#include "agents/adam_kernel.h"
#include "platform/error.h"
#include "platform/instruction_sets.h"
#include "platform/text.h"

namespace ristretto::agents {
namespace {

constexpr std::int64_t kAlignment = 16;  // numbers: 64 bytes of float32, a cache line and the widest vector

std::int64_t padded(const at::Tensor& parameter) {
  return (parameter.numel() + kAlignment - 1) / kAlignment * kAlignment;
}

template <class R>
using SumOfSquares = double (*)(const R*, std::int64_t, std::int64_t);
template <class R>
using Adam = void (*)(const AdamStep&, const AdamNumbers<R>&, std::int64_t, std::int64_t);

// `run`(piece, begin, end) of `size` numbers, padded as they are, for pieces that do not depend on the threads. OpenMP
// gives a thread the same ones each time, whose cache they lie in.
constexpr std::uint64_t kNumbersAPiece = 32768, kPieces = 64;

template <class Run>
void for_pieces(std::int64_t size, const Run& run) {
  const std::int64_t lines = size / kAlignment;
  const auto pieces = static_cast<std::int64_t>(
      std::clamp<std::uint64_t>(std::bit_floor(static_cast<std::uint64_t>(size) / kNumbersAPiece), 1, kPieces));
  at::parallel_for(0, pieces, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      run(i, lines * i / pieces * kAlignment, lines * (i + 1) / pieces * kAlignment);
    }
  });
}

template <class R>
double norm_on_cpu(const at::Tensor& gradient) {
  const R* numbers = gradient.const_data_ptr<R>();
  std::array<double, kPieces> squares{};
  for_pieces(gradient.numel(), [&, run = RISTRETTO_WIDEST(SumOfSquares<R>, sum_of_squares)](
                                   std::int64_t i, std::int64_t begin, std::int64_t end) {
    squares[static_cast<std::size_t>(i)] = run(numbers, begin, end);
  });
  return std::sqrt(std::accumulate(squares.begin(), squares.end(), 0.0));
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

template <class R>
at::Tensor Optimizer::step_on_cpu(double learning_rate, double max_norm) {
  const double norm = norm_on_cpu<R>(flat_gradient_);
  const double factor = max_norm > 0 ? max_norm / (norm + 1e-6) : 1;
  const double t = static_cast<double>(++*steps_.mutable_data_ptr<float>());
  const AdamStep step{.gradient_scale = factor > 1 ? 1 : factor,  // NaN stays
                      .beta1 = options_.beta1,
                      .beta2 = options_.beta2,
                      .step_size = learning_rate / (1 - std::pow(options_.beta1, t)),
                      .second_scale = 1 / std::sqrt(1 - std::pow(options_.beta2, t)),
                      .epsilon = options_.epsilon,
                      .decay = 1 - learning_rate * options_.weight_decay};
  const AdamNumbers<R> numbers{flat_.mutable_data_ptr<R>(), flat_gradient_.const_data_ptr<R>(),
                               first_moment_.mutable_data_ptr<R>(), second_moment_.mutable_data_ptr<R>()};
  for_pieces(flat_.numel(),
             [&, run = RISTRETTO_WIDEST(Adam<R>, adam)](std::int64_t, std::int64_t begin, std::int64_t end) {
               run(step, numbers, begin, end);
             });
  return at::scalar_tensor(norm, flat_.options());
}

at::Tensor Optimizer::step(double learning_rate, double max_norm) {
  RECORD_USER_SCOPE("optimiser");
  const at::NoGradGuard no_grad;
  if (flat_.is_cpu() && flat_.scalar_type() == at::kFloat) return step_on_cpu<float>(learning_rate, max_norm);
  if (flat_.is_cpu() && flat_.scalar_type() == at::kDouble) return step_on_cpu<double>(learning_rate, max_norm);
  const at::Tensor norm = at::linalg_vector_norm(flat_gradient_);
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
