#include "ft_transformer/linear.h"

#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/graph_task.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "ft_transformer/product.h"
#include "ft_transformer/relu_kernel.h"
#include "platform/instruction_sets.h"

namespace ristretto::ft_transformer {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr std::int64_t kLine = 16;           // numbers of a cache line
constexpr std::int64_t kFewNumbers = 32768;  // of a thread's share: fewer are done before another has begun
constexpr std::size_t kHolders = 2;          // of an output: the graph, and the pass back that reads it there

template <bool relu>
struct Linear : torch::autograd::Function<Linear<relu>> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            const at::Tensor& bias) {
    const at::Tensor y = affine(x, weight, bias, relu);
    context->save_for_backward(relu ? variable_list{x, weight, y} : variable_list{x, weight});
    return y;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    TORCH_INTERNAL_ASSERT(!at::GradMode::is_enabled());  // its own products have no gradients
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1];
    at::Tensor of_y = gradients[0].contiguous(), of_bias;
    if (relu) {
      const at::Tensor& y = saved[2];
      of_bias = at::zeros({y.size(1)}, y.options());
      // What read y has had its pass, and there will be no second one: its room takes the gradient where nobody else
      // holds it.
      const bool alone = !torch::autograd::get_current_graph_task_keep_graph() && y.storage().use_count() == kHolders;
      const at::Tensor of_z = alone ? y : at::empty_like(of_y);
      relu_back(y, of_y, of_z, of_bias);
      of_y = of_z;
    } else {
      of_bias = of_y.sum(0);
    }
    const at::Tensor of_x = context->needs_input_grad(0) ? product(of_y, weight) : at::Tensor();
    return {of_x, product(of_y.t(), x), of_bias};
  }
};

bool is_plain(const at::Tensor& x, const at::Tensor& weight) {
  return fits_relu_kernel(x) && fits_relu_kernel(weight) && !at::autocast::is_autocast_enabled(at::kCPU);
}

template <bool relu>
at::Tensor apply(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  std::vector<std::int64_t> sizes = x.sizes().vec();
  sizes.back() = weight.size(0);
  return Linear<relu>::apply(x.reshape({-1, weight.size(1)}), weight, bias).view(sizes);
}

}  // namespace

bool fits_relu_kernel(const at::Tensor& y) { return y.is_cpu() && y.scalar_type() == at::kFloat; }

void add_bias_relu_(const at::Tensor& y, const at::Tensor& bias) {
  TORCH_INTERNAL_ASSERT(y.is_contiguous() && bias.is_contiguous());
  const std::int64_t width = y.size(1);
  float* const numbers = y.mutable_data_ptr<float>();
  const float* const shift = bias.const_data_ptr<float>();
  at::parallel_for(0, y.size(0), kFewNumbers / width + 1, [&](std::int64_t begin, std::int64_t end) {
    RISTRETTO_WIDEST(decltype(&baseline::add_bias_relu), add_bias_relu)(numbers, shift, width, begin, end);
  });
}

void relu_back(const at::Tensor& y, const at::Tensor& y_gradient, const at::Tensor& z_gradient,
               const at::Tensor& bias_gradient) {
  TORCH_INTERNAL_ASSERT(y.is_contiguous() && y_gradient.is_contiguous() && z_gradient.is_contiguous() &&
                        bias_gradient.is_contiguous());
  const std::int64_t rows = y.size(0), width = y.size(1);
  const float *const of = y.const_data_ptr<float>(), *const gradient = y_gradient.const_data_ptr<float>();
  float *const out = z_gradient.mutable_data_ptr<float>(), *const sums = bias_gradient.mutable_data_ptr<float>();
  by_columns(rows, width, [&](std::int64_t begin, std::int64_t end) {
    RISTRETTO_WIDEST(decltype(&baseline::relu_back), relu_back)
    (of, gradient, out, sums, rows, width, begin, end);
  });
}

void by_columns(std::int64_t rows, std::int64_t width,
                const std::function<void(std::int64_t begin, std::int64_t end)>& pass) {
  const std::int64_t lines = (width + kLine - 1) / kLine,
                     few = kFewNumbers / (std::max<std::int64_t>(rows, 1) * kLine) + 1;
  at::parallel_for(0, lines, few,
                   [&](std::int64_t begin, std::int64_t end) { pass(begin * kLine, std::min(end * kLine, width)); });
}

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  const std::int64_t rows = x.numel() / std::max<std::int64_t>(weight.size(1), 1);
  if (!is_plain(x, weight) || !on_tiles(rows, weight.size(1), weight.size(0))) return at::linear(x, weight, bias);
  return apply<false>(x, weight, bias);
}

at::Tensor linear_relu(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  return is_plain(x, weight) ? apply<true>(x, weight, bias) : at::relu(at::linear(x, weight, bias));
}

}  // namespace ristretto::ft_transformer
