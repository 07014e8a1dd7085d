#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/threshold_backward.h>
#include <ATen/ops/zeros.h>
#include <doctest/doctest.h>

#include <limits>
#include <string>
#include <vector>

#include "ft_transformer/linear.h"
#include "ft_transformer/relu_kernel.h"
#include "learning_fixtures.h"
#include "platform/instruction_sets.h"

namespace {

using namespace ristretto;
using namespace ristretto::ft_transformer;
using tests::deviation;

constexpr double kFloat = 1e-5;  // relative to the largest number

// Output and gradients of x, weight and bias.
std::vector<at::Tensor> through(const std::vector<at::Tensor>& numbers, at::ScalarType type, bool plainly) {
  std::vector<at::Tensor> leaves;
  for (std::size_t i = 0; i < 3; ++i) leaves.push_back(numbers[i].to(type).detach().clone().requires_grad_(true));
  const at::Tensor y =
      plainly ? at::relu(at::linear(leaves[0], leaves[1], leaves[2])) : linear_relu(leaves[0], leaves[1], leaves[2]);
  (y * numbers[3].to(type)).sum().backward();
  return {y, leaves[0].grad(), leaves[1].grad(), leaves[2].grad()};
}

}  // namespace

TEST_CASE("linear and ReLU: LibTorch's in float64, output and gradients, of batches and of tokens") {
  const at::Generator numbers = tests::generator(7);
  for (const std::int64_t rows : {1, 3, 300})
    for (const std::int64_t out : {1, 9, 128, 1100})
      for (const bool tokens : {false, true}) {
        CAPTURE(rows);
        CAPTURE(out);
        const std::vector<std::int64_t> x =
            tokens ? std::vector<std::int64_t>{rows, 5, 20} : std::vector<std::int64_t>{rows, 20};
        std::vector<std::int64_t> y = x;
        y.back() = out;
        // Eighths: their sums of products are exact, so that rounding does not decide on which side of 0 one is.
        const auto eighths = [&](at::IntArrayRef sizes) { return at::randn(sizes, numbers).mul(8).round() / 8; };
        const std::vector<at::Tensor> given{eighths(x), eighths({out, 20}), eighths({out}), eighths(y)};
        const auto expected = through(given, at::kDouble, true);
        const auto found = through(given, at::kFloat, false), exact = through(given, at::kDouble, false);
        for (std::size_t i = 0; i < expected.size(); ++i) {
          CAPTURE(i);
          CHECK(found[i].sizes().equals(expected[i].sizes()));
          CHECK((expected[i].abs().max().item<double>() == 0 || deviation(found[i], expected[i]) < kFloat));
          CHECK(exact[i].equal(expected[i]));  // float64 takes LibTorch's own way
        }
      }
}

TEST_CASE("linear and ReLU: an output that someone holds, or another pass needs, stays as it is") {
  const at::Generator numbers = tests::generator(9);
  const at::Tensor x = at::randn({30, 20}, numbers), bias = at::zeros({40}).requires_grad_(true);
  const at::Tensor weight = at::randn({40, 20}, numbers).requires_grad_(true);
  const at::Tensor held = linear_relu(x, weight, bias), before = held.detach().clone();
  held.sum().backward();
  CHECK(held.equal(before));
  const at::Tensor once = weight.grad().clone();
  const at::Tensor sum = linear_relu(x, weight, bias).sum();
  sum.backward({}, /*retain_graph=*/true);
  CHECK(weight.grad().equal(2 * once));
  sum.backward();
  CHECK(weight.grad().equal(3 * once));
}

TEST_CASE("linear and ReLU: every instruction set of this processor gives the same, and NaN stays") {
  struct Set {
    const char* name;
    bool here;
    decltype(&baseline::add_bias_relu) forward;
    decltype(&baseline::relu_back) backward;
  };
  std::vector<Set> sets{{"baseline", true, baseline::add_bias_relu, baseline::relu_back}};
#if defined(__x86_64__)
  sets.push_back({"avx2", has_avx2(), avx2::add_bias_relu, avx2::relu_back});
  sets.push_back({"avx512", has_avx512(), avx512::add_bias_relu, avx512::relu_back});
#endif
  const at::Generator numbers = tests::generator(8);
  constexpr std::int64_t kRows = 300, kWidth = 1100, kFirst = 16;  // columns before the first belong to another thread
  const at::Tensor z = at::randn({kRows, kWidth}, numbers), bias = at::randn({kWidth}, numbers);
  const at::Tensor gradient = at::randn({kRows, kWidth}, numbers);
  z[7][20] = std::numeric_limits<float>::quiet_NaN();
  const at::Tensor expected = at::relu(z + bias);
  const at::Tensor of_z = at::threshold_backward(gradient, expected, 0);
  for (const Set& set : sets) {
    if (!set.here) continue;
    CAPTURE(std::string(set.name));
    const at::Tensor y = z.clone(), back = at::zeros({kRows, kWidth}), sums = at::ones({kWidth});
    set.forward(y.mutable_data_ptr<float>(), bias.const_data_ptr<float>(), kWidth, 0, kRows);
    CHECK(y.allclose(expected, 0, 0, /*equal_nan=*/true));
    set.backward(y.const_data_ptr<float>(), gradient.const_data_ptr<float>(), back.mutable_data_ptr<float>(),
                 sums.mutable_data_ptr<float>(), kRows, kWidth, kFirst, kWidth);
    const at::Tensor in_place = gradient.clone(), again = at::ones({kWidth});
    set.backward(y.const_data_ptr<float>(), in_place.const_data_ptr<float>(), in_place.mutable_data_ptr<float>(),
                 again.mutable_data_ptr<float>(), kRows, kWidth, kFirst, kWidth);
    const std::int64_t columns = kWidth - kFirst;
    CHECK(in_place.narrow(1, kFirst, columns).equal(of_z.narrow(1, kFirst, columns)));
    CHECK(again.equal(sums));
    CHECK(back.narrow(1, kFirst, columns).equal(of_z.narrow(1, kFirst, columns)));
    CHECK(back.narrow(1, 0, kFirst).abs().max().item<double>() == 0);
    CHECK(deviation(sums.narrow(0, kFirst, columns) - 1, of_z.to(at::kDouble).sum(0).narrow(0, kFirst, columns)) <
          kFloat);
    CHECK(sums.narrow(0, 0, kFirst).equal(at::ones({kFirst})));
  }
}
