#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "agents/adam_kernel.h"
#include "agents/optimizer.h"
#include "formats/npz.h"
#include "ft_transformer/weights.h"
#include "learning_fixtures.h"
#include "platform/error.h"
#include "platform/instruction_sets.h"

namespace {

using namespace ristretto;
using agents::Optimizer;

constexpr double kExact = 1e-12;  // double arithmetic, ten steps

at::Tensor tensor(const formats::NamedArrays& arrays, const char* name) {
  return ft_transformer::tensor_of(*formats::find(arrays, name));
}

double largest(const at::Tensor& difference) { return difference.abs().max().item<double>(); }

void replay(const char* file, double learning_rate, const Optimizer::Options& options) {
  const formats::NamedArrays golden = formats::read_npz(std::string(RISTRETTO_GOLDEN "/algorithms/") + file);
  const at::Tensor trajectory = tensor(golden, "traj"), gradients = tensor(golden, "grads");
  // The golden parameter in two parts: the norm is of both together.
  const at::Tensor upper = trajectory[0].narrow(0, 0, 1).clone().requires_grad_(true);
  const at::Tensor lower = trajectory[0].narrow(0, 1, 3).clone().requires_grad_(true);
  Optimizer optimizer({upper, lower}, options);
  for (std::int64_t t = 0; t < gradients.size(0); ++t) {
    optimizer.zero_gradients();
    upper.grad().copy_(gradients[t].narrow(0, 0, 1));
    lower.grad().copy_(gradients[t].narrow(0, 1, 3));
    const at::Tensor norm = optimizer.step(learning_rate, tensor(golden, "max_norm").item<double>());
    CHECK(norm.item<double>() == doctest::Approx(gradients[t].norm().item<double>()).epsilon(kExact));
    CHECK(largest(upper.detach() - trajectory[t + 1].narrow(0, 0, 1)) <= kExact);
    CHECK(largest(lower.detach() - trajectory[t + 1].narrow(0, 1, 3)) <= kExact);
  }
}

}  // namespace

TEST_CASE("optimizer: Adam's ten steps as PyTorch's, gradients clipped") {
  replay("opt_adam.npz", 3e-3, {.epsilon = 1e-5});
}

TEST_CASE("optimizer: AdamW's ten steps as PyTorch's, gradients clipped") {
  replay("opt_adamw.npz", 1e-3, {.epsilon = 1e-8, .weight_decay = 1e-2});
}

TEST_CASE("optimizer: gradients of several backward passes add up until zeroed") {
  const at::Tensor weight = at::ones({2, 3}).requires_grad_(true), x = at::full({1, 3}, 2.0);
  Optimizer optimizer({weight}, {});
  for (int pass = 1; pass <= 2; ++pass) {
    at::linear(x, weight).sum().backward();
    CHECK(weight.grad().equal(at::full({2, 3}, 2.0 * pass)));
    CHECK(optimizer.gradients().sum().item<double>() == 12.0 * pass);
  }
  optimizer.zero_gradients();
  CHECK(weight.grad().equal(at::zeros({2, 3})));
}

TEST_CASE("optimizer: gradients above the limit are scaled to it, in float32 and of many numbers too") {
  // Adam's step hides a scale; with an epsilon as large as the gradients it does not.
  const Optimizer::Options options{.epsilon = 1.0};
  for (const double limit : {0.0, 1e9, 0.5}) {
    const at::Tensor weight = at::zeros({300, 400}).requires_grad_(true);
    const at::Tensor gradient = at::randn({300, 400}, tests::generator(1));
    Optimizer optimizer({weight}, options);
    weight.grad().copy_(gradient);
    const double norm = gradient.to(at::kDouble).norm().item<double>();
    CHECK(optimizer.step(0.1, limit).item<double>() == doctest::Approx(norm).epsilon(1e-6));
    const at::Tensor scaled = gradient.to(at::kDouble) * (limit > 0 ? std::min(1.0, limit / (norm + 1e-6)) : 1.0);
    CHECK(largest(weight.detach().to(at::kDouble) + 0.1 * scaled / (scaled.abs() + 1)) < 1e-7);
  }
}

TEST_CASE("optimizer: steps as a device takes them are those of the kernel") {
  // Of bfloat16 numbers, for which there is no kernel. Gradients of 1 and 3 clipped to a tenth, an epsilon that shows
  // it.
  const Optimizer::Options options{.epsilon = 1.0, .weight_decay = 0.1};
  const at::Tensor exact = at::full({64}, 2.0, at::kDouble), coarse = exact.to(at::kBFloat16);
  const at::Tensor gradient = at::ones({64}, at::kDouble);
  gradient.narrow(0, 32, 32).fill_(3.0);
  std::vector<at::Tensor> norms;
  for (const at::Tensor* weight : {&exact, &coarse}) {
    weight->requires_grad_(true);
    Optimizer optimizer({*weight}, options);
    for (int step = 0; step < 3; ++step) {
      weight->grad().copy_(gradient);
      norms.push_back(optimizer.step(0.5, gradient.norm().item<double>() / 10));
    }
  }
  CHECK(largest(coarse.detach() - exact.detach()) < 0.02);  // 2 units of bfloat16's last place at 2, of 0.5 gone
  CHECK(largest(exact.detach() - 2) > 0.3);
  CHECK(std::abs(norms[0].item<double>() - norms[3].item<double>()) < 0.1);
}

TEST_CASE("optimizer: a gradient that is not finite is seen in the norm and the parameters") {
  for (const double broken : {std::nan(""), std::numeric_limits<double>::infinity()}) {
    const at::Tensor weight = at::ones({40}).requires_grad_(true);
    Optimizer optimizer({weight}, {});
    weight.grad().fill_(1.0)[7].fill_(broken);
    CHECK_FALSE(std::isfinite(optimizer.step(0.1, 0.5).item<double>()));
    CHECK(weight.detach()[7].isnan().item<bool>());
    if (std::isnan(broken)) CHECK(weight.detach().isnan().all().item<bool>());
  }
}

TEST_CASE("optimizer: every instruction set of this processor gives the same norm and step") {
  struct Set {
    const char* name;
    bool here;
    double (*squares)(const float*, std::int64_t, std::int64_t);
    void (*adam)(const agents::AdamStep&, const agents::AdamNumbers<float>&, std::int64_t, std::int64_t);
  };
  std::vector<Set> sets{{"baseline", true, agents::baseline::sum_of_squares, agents::baseline::adam}};
#if defined(__x86_64__)
  sets.push_back({"avx2", has_avx2(), agents::avx2::sum_of_squares, agents::avx2::adam});
  sets.push_back({"avx512", has_avx512(), agents::avx512::sum_of_squares, agents::avx512::adam});
#endif
  constexpr std::int64_t kSize = 10'007, kBegin = 3;  // whole vectors and what is left
  const at::Tensor weight = at::randn({kSize}, tests::generator(1)), gradient = at::randn({kSize}, tests::generator(2));
  const at::Tensor first = at::randn({kSize}, tests::generator(3)), second = first.square() + 0.1;
  const agents::AdamStep step{0.5, 0.9, 0.999, 1e-2, 1.5, 1e-5, 0.999};
  std::vector<at::Tensor> expected;
  for (const Set& set : sets) {
    if (!set.here) continue;
    CAPTURE(set.name);
    const std::vector<at::Tensor> now{weight.clone(), first.clone(), second.clone()};
    const auto numbers = [](const at::Tensor& x) { return x.mutable_data_ptr<float>(); };
    set.adam(step, {numbers(now[0]), gradient.const_data_ptr<float>(), numbers(now[1]), numbers(now[2])}, kBegin,
             kSize);
    if (expected.empty()) expected = now;
    for (std::size_t i = 0; i < now.size(); ++i) CHECK(largest(now[i] - expected[i]) < 1e-6);
    CHECK(now[0].narrow(0, 0, kBegin).equal(weight.narrow(0, 0, kBegin)));
    CHECK(largest(now[0] - weight) > 0.005);
    const double squares = gradient.narrow(0, kBegin, kSize - kBegin).to(at::kDouble).square().sum().item<double>();
    CHECK(set.squares(gradient.const_data_ptr<float>(), kBegin, kSize) == doctest::Approx(squares).epsilon(1e-6));
  }
}

TEST_CASE("optimizer: frozen parameters stay as they are, tensors that share a trained one move with it") {
  const at::Tensor trained = at::ones({3}).requires_grad_(true), frozen = at::ones({3});
  const at::Tensor shared = trained;
  Optimizer optimizer({frozen, trained}, {});
  trained.grad().fill_(1.0);
  optimizer.step(0.1, 0);
  CHECK(frozen.equal(at::ones({3})));
  CHECK(shared.detach().max().item<float>() < 0.95f);
  CHECK_THROWS_AS(Optimizer({frozen}, {}), Error);
}

TEST_CASE("optimizer: goes on bit-exactly from a saved state, refuses another's") {
  const at::Tensor first = at::ones({5}).requires_grad_(true);
  Optimizer optimizer({first}, {});
  const auto run = [](Optimizer& by, const at::Tensor& weight, int begin, int end) {
    for (int t = begin; t < end; ++t) {
      weight.grad().fill_(0.1 * t - 0.2);
      by.step(0.01, 0);
    }
  };
  run(optimizer, first, 0, 3);
  const at::Tensor second = first.detach().clone().requires_grad_(true);
  Optimizer resumed({second}, {});
  resumed.restore(optimizer.state());
  run(optimizer, first, 3, 6);
  run(resumed, second, 3, 6);
  CHECK(first.equal(second));

  const at::Tensor larger = at::ones({99}).requires_grad_(true);
  CHECK_THROWS_AS(Optimizer({larger}, {}).restore(optimizer.state()), Error);
  CHECK_THROWS_AS(resumed.restore({}), Error);
}
