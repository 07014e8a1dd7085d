#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <doctest/doctest.h>

#include <limits>
#include <string>
#include <vector>

#include "ft_transformer/blocks.h"
#include "ft_transformer/cpu_block.h"
#include "ft_transformer/norm_kernel.h"
#include "learning_fixtures.h"
#include "platform/instruction_sets.h"

namespace {

using namespace ristretto;
using namespace ristretto::ft_transformer;
using tests::deviation;

constexpr double kFloat = 1e-5;  // relative to the largest number

struct Case {
  std::int64_t sequences, tokens, d, heads;
};
// One piece, several of which the last is smaller, a sequence that is a piece of its own.
const std::vector<Case> kCases{{3, 7, 16, 2}, {40, 106, 32, 4}, {2, 1600, 16, 4}, {1, 1, 48, 6}};

// Weights of the file's names, norms and biases away from 1 and 0; hidden units that are on for every token or for
// none, for one near 0 would be on in float32 and off in float64.
Weights random_weights(std::int64_t d) {
  Weights weights;
  const at::Generator numbers = tests::generator(11);
  Builder build(weights, d, /*published=*/false, numbers);
  for (const char* layer : {"W_q", "W_k", "W_v", "W_out"})
    build.linear(std::string("b.attention.") + layer, d, d, 1, true);
  build.linear("b.feedforward.linear1", d, 4 * d, 1, true);
  build.linear("b.feedforward.linear2", 4 * d, d, 1, true);
  build.norm("b.norm1");
  build.norm("b.norm2");
  for (const auto& [name, tensor] : weights) tensor.add_(at::randn(tensor.sizes(), numbers), 0.1);
  weights.at("b.feedforward.linear1.bias").copy_(at::randn({4 * d}, numbers).sign() * 8);
  return weights;
}

// The block's output and the gradients of x and of all weights; in float64 they are LibTorch's own.
std::vector<at::Tensor> through(const Weights& given, const at::Tensor& x, const at::Tensor& of_out, std::int64_t heads,
                                at::ScalarType type) {
  Weights weights = given.to(at::kCPU, type);
  weights.require_grad(true);
  const at::Tensor leaf = x.to(type).detach().clone().requires_grad_(true);
  const at::Tensor out = block(weights, "b.", leaf, heads);
  (out * of_out.to(type)).sum().backward();
  std::vector<at::Tensor> all{out, leaf.grad()};
  for (const auto& [name, tensor] : weights) all.push_back(tensor.grad());
  return all;
}

}  // namespace

TEST_CASE("block: on a CPU it is LibTorch's in float64, output and gradients of every weight") {
  for (const Case& of : kCases) {
    CAPTURE(of.tokens);
    CAPTURE(of.d);
    const at::Generator numbers = tests::generator(3);
    const at::Tensor x = at::randn({of.sequences, of.tokens, of.d}, numbers), of_out = at::randn(x.sizes(), numbers);
    REQUIRE(fits_cpu_block(x, of.heads));
    REQUIRE_FALSE(fits_cpu_block(x.to(at::kDouble), of.heads));
    const Weights weights = random_weights(of.d);
    const auto found = through(weights, x, of_out, of.heads, at::kFloat);
    const auto exact = through(weights, x, of_out, of.heads, at::kDouble);
    for (std::size_t i = 0; i < exact.size(); ++i) {
      CAPTURE(i);
      // Every score gets the same from a key's bias, and with one key there is no choice: what is left is rounding.
      const bool is_zero = exact[i].abs().max().item<double>() < 1e-9;
      CHECK((is_zero ? found[i].abs().max().item<double>() < 1e-3 : deviation(found[i], exact[i]) < kFloat));
    }
  }
}

TEST_CASE(
    "block: threads change no bit but of weights' gradients, nor does a pass without gradients or a strided input") {
  const Case of{40, 106, 32, 4};
  const at::Generator numbers = tests::generator(4);
  const at::Tensor x = at::randn({of.sequences, of.tokens, of.d}, numbers), of_out = at::randn(x.sizes(), numbers);
  const Weights weights = random_weights(of.d);
  const int threads = at::get_num_threads();
  std::vector<std::vector<at::Tensor>> runs;
  for (const int some : {1, 2, 3}) {
    at::set_num_threads(some);
    runs.push_back(through(weights, x, of_out, of.heads, at::kFloat));
  }
  at::set_num_threads(threads);
  for (const auto& run : runs) {
    CHECK(run[0].equal(runs[0][0]));
    CHECK(run[1].equal(runs[0][1]));
    for (std::size_t i = 2; i < run.size(); ++i)  // sums of thousands
      CHECK((run[i] - runs[0][i]).abs().max().item<double>() < 1e-3);
  }
  CHECK(block(weights, "b.", x.transpose(0, 1).contiguous().transpose(0, 1), of.heads).equal(runs[0][0]));
  CHECK(deviation(block(weights, "b.", x.narrow(0, 39, 1), of.heads), runs[0][0].narrow(0, 39, 1)) < kFloat);
  Weights trained = weights.clone();
  trained.require_grad(true);
  const at::NoGradGuard no_grad;
  const at::Tensor out = block(trained, "b.", x, of.heads);
  CHECK(out.equal(runs[0][0]));
  CHECK_FALSE(out.requires_grad());
}

TEST_CASE("block: strided gradients, weights that stay as they are, and no sequence at all") {
  const at::Generator numbers = tests::generator(7);
  const at::Tensor x = at::randn({20, 106, 32}, numbers);
  Weights weights = random_weights(32);
  weights.require_grad(true);
  const auto gradient = [&](const at::Tensor& of_out) {
    block(weights, "b.", x, 4).backward(of_out);
    const at::Tensor found = weights.at("b.attention.W_q.weight").grad().clone();
    weights.at("b.attention.W_q.weight").mutable_grad() = at::Tensor();
    return found;
  };
  const at::Tensor strided = at::randn({106, 20, 32}, numbers).transpose(0, 1);
  CHECK(gradient(strided).equal(gradient(strided.contiguous())));
  CHECK(gradient(at::ones({1}).expand({20, 106, 32})).equal(gradient(at::ones({20, 106, 32}))));
  weights.at("b.norm1.weight").mutable_grad() = at::Tensor();
  weights.at("b.norm1.weight").set_requires_grad(false);
  CHECK(gradient(strided).abs().max().item<double>() > 0);
  CHECK_FALSE(weights.at("b.norm1.weight").grad().defined());
  const at::Tensor none = block(weights, "b.", x.narrow(0, 0, 0), 4);
  CHECK(none.sizes().equals({0, 106, 32}));
  none.sum().backward();
  CHECK(weights.at("b.attention.W_q.weight").grad().abs().max().item<double>() == 0);
}

TEST_CASE("block: what is not finite stays in its sequence, and in the gradients") {
  const at::Generator numbers = tests::generator(5);
  const at::Tensor x = at::randn({30, 106, 32}, numbers), of_out = at::randn(x.sizes(), numbers);
  const Weights weights = random_weights(32);
  const at::Tensor plain = block(weights, "b.", x, 4);
  x[29][3][5] = std::numeric_limits<float>::quiet_NaN();
  const auto broken = through(weights, x, of_out, 4, at::kFloat);
  CHECK(broken[0].narrow(0, 0, 29).equal(plain.narrow(0, 0, 29)));
  CHECK(broken[1].narrow(0, 0, 29).isfinite().all().item<bool>());
  CHECK(broken[1][29].isnan().any().item<bool>());
  CHECK(broken[0][29].isnan().all().item<bool>());
  std::size_t i = 2;
  for (const auto& [name, tensor] : weights) {
    CAPTURE(name);
    // As in LibTorch a hidden unit that is NaN lets its gradient through, which is finite.
    const bool before_it =
        name == "b.feedforward.linear1.bias" || name == "b.feedforward.linear2.bias" || name == "b.norm2.bias";
    CHECK(broken[i++].isnan().any().item<bool>() == !before_it);
  }
}

TEST_CASE("block: every instruction set of this processor gives the same norms and sums") {
  struct Set {
    const char* name;
    bool here;
    decltype(&baseline::norm) norm;
    decltype(&baseline::norm_again) norm_again;
    decltype(&baseline::norm_back) norm_back;
    decltype(&baseline::add_rows) add_rows;
    decltype(&baseline::sum_rows) sum_rows;
  };
  std::vector<Set> sets{{"baseline", true, baseline::norm, baseline::norm_again, baseline::norm_back,
                         baseline::add_rows, baseline::sum_rows}};
#if defined(__x86_64__)
  sets.push_back({"avx2", has_avx2(), avx2::norm, avx2::norm_again, avx2::norm_back, avx2::add_rows, avx2::sum_rows});
  sets.push_back({"avx512", has_avx512(), avx512::norm, avx512::norm_again, avx512::norm_back, avx512::add_rows,
                  avx512::sum_rows});
#endif
  constexpr std::int64_t kRows = 300, kWidth = 48;
  const at::Generator numbers = tests::generator(6);
  const auto random = [&](at::IntArrayRef sizes) { return at::randn(sizes, numbers); };
  const auto from = [](const at::Tensor& t) { return t.const_data_ptr<float>(); };
  const auto to = [](const at::Tensor& t) { return t.mutable_data_ptr<float>(); };
  const at::Tensor x = random({kRows, kWidth}) * 3 + 100, residual = random({kRows, kWidth});  // far from 0: as prices
  const at::Tensor weight = random({kWidth}), bias = random({kWidth}), gradient = random({kRows, kWidth});
  const at::Tensor leaf = x.to(at::kDouble).requires_grad_(true), scale = weight.to(at::kDouble).requires_grad_(true),
                   shift = bias.to(at::kDouble).requires_grad_(true);
  const at::Tensor expected = at::layer_norm(leaf, {kWidth}, scale, shift, 1e-5);
  (expected * gradient.to(at::kDouble)).sum().backward();
  for (const Set& set : sets) {
    if (!set.here) continue;
    CAPTURE(std::string(set.name));
    const NormRows rows{kRows, kWidth, from(weight), from(bias)};
    const at::Tensor y = at::empty({kRows, kWidth}), again = at::empty({kRows, kWidth}), mean = at::empty({kRows}),
                     spread = at::empty({kRows}), back = at::empty({kRows, kWidth});
    const NormStatistics statistics{to(mean), to(spread)};
    set.norm(rows, from(x), to(y), statistics);
    set.norm_again(rows, from(x), statistics, to(again));
    CHECK(deviation(y, expected) < kFloat);
    CHECK(again.equal(y));
    const at::Tensor of_weight = at::ones({kWidth}), of_bias = at::ones({kWidth});  // what is there is added to
    set.norm_back(rows, from(x), statistics, from(gradient), from(residual), to(back), to(of_weight), to(of_bias));
    CHECK(deviation(back, leaf.grad() + residual) < kFloat);
    CHECK(deviation(of_weight - 1, scale.grad()) < kFloat);
    CHECK(deviation(of_bias - 1, shift.grad()) < kFloat);
    set.add_rows(from(x), from(gradient), from(bias), to(y), kRows, kWidth);
    CHECK(deviation(y, x.to(at::kDouble) + gradient + bias) < kFloat);
    const at::Tensor sums = at::ones({kWidth});
    set.sum_rows(from(gradient), to(sums), kRows, kWidth);
    CHECK(deviation(sums - 1, gradient.to(at::kDouble).sum(0)) < kFloat);
  }
}
