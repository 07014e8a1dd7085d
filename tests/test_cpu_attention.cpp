#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/randn.h>
#include <doctest/doctest.h>

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "ft_transformer/attention_kernel.h"
#include "ft_transformer/blocks.h"
#include "ft_transformer/cpu_attention.h"
#include "learning_fixtures.h"
#include "platform/instruction_sets.h"

namespace {

using namespace ristretto;
using namespace ristretto::ft_transformer;
using tests::deviation;

constexpr double kFloat = 1e-5;  // relative to the largest number

struct Case {
  std::int64_t sequences, queries, keys, heads, channels;
  double size;  // of queries and keys: large ones make scores of hundreds
};
const std::vector<Case> kCases{{3, 7, 7, 1, 4, 1},  {2, 106, 106, 4, 8, 1}, {2, 33, 64, 2, 16, 1},
                               {5, 1, 19, 4, 8, 1}, {3, 8, 1, 2, 8, 1},     {2, 40, 40, 2, 8, 12}};

struct Tensors {
  explicit Tensors(const Case& of) {
    const at::Generator numbers = tests::generator(5);
    const std::int64_t width = of.heads * of.channels;
    q = at::randn({of.sequences, of.queries, width}, numbers) * of.size;
    k = at::randn({of.sequences, of.keys, width}, numbers) * of.size;
    v = at::randn({of.sequences, of.keys, width}, numbers);
    gradient = at::randn({of.sequences, of.queries, width}, numbers);
  }
  at::Tensor q, k, v, gradient;
};

// Output and gradients by q, k and v; in float64 they are LibTorch's own.
std::vector<at::Tensor> attended(const Tensors& of, std::int64_t heads, at::ScalarType type) {
  std::vector<at::Tensor> leaves;
  for (const at::Tensor* x : {&of.q, &of.k, &of.v}) leaves.push_back(x->to(type).detach().clone().requires_grad_(true));
  const at::Tensor out = attend(leaves[0], leaves[1], leaves[2], heads);
  (out * of.gradient.to(type)).sum().backward();
  return {out, leaves[0].grad(), leaves[1].grad(), leaves[2].grad()};
}

}  // namespace

TEST_CASE("attention: of few channels on a CPU it is LibTorch's in float64, output and gradients") {
  for (const Case& of : kCases) {
    CAPTURE(of.queries);
    CAPTURE(of.keys);
    CAPTURE(of.channels);
    const Tensors tensors(of);
    REQUIRE(fits_cpu_attention(tensors.q, of.heads));
    const auto found = attended(tensors, of.heads, at::kFloat), expected = attended(tensors, of.heads, at::kDouble);
    const double tolerance = of.size > 1 ? 1e-4 : kFloat;  // a score of 300 has 2e-5 of rounding
    CHECK(deviation(found[0], expected[0]) < tolerance);
    if (of.keys == 1) {  // nothing to choose from
      CHECK(found[1].abs().max().item<double>() < kFloat);
      CHECK(found[2].abs().max().item<double>() < kFloat);
    } else {
      CHECK(deviation(found[1], expected[1]) < tolerance);
      CHECK(deviation(found[2], expected[2]) < tolerance);
    }
    CHECK(deviation(found[3], expected[3]) < tolerance);
  }
}

TEST_CASE("attention: what is not finite stays so, what is strided is read as it is, without gradients too") {
  const Tensors tensors({2, 20, 20, 2, 8, 1});
  const at::Tensor plain = cpu_attention(tensors.q, tensors.k, tensors.v, 2);
  const auto strided = [](const at::Tensor& x) { return x.transpose(0, 1).contiguous().transpose(0, 1); };
  CHECK(cpu_attention(strided(tensors.q), strided(tensors.k), strided(tensors.v), 2).equal(plain));
  const at::NoGradGuard no_grad;
  CHECK(cpu_attention(tensors.q, tensors.k, tensors.v, 2).equal(plain));
  const at::Tensor broken = tensors.k.clone();
  broken[1][3].fill_(std::numeric_limits<float>::quiet_NaN());
  const at::Tensor out = cpu_attention(tensors.q, broken, tensors.v, 2);
  CHECK(out[0].equal(plain[0]));
  CHECK(out[1].isnan().all().item<bool>());
}

TEST_CASE("attention: every instruction set of this processor gives the same") {
  struct Set {
    const char* name;
    bool here;
    decltype(&baseline::attention) forward;
    decltype(&baseline::attention_back) backward;
  };
  std::vector<Set> sets{{"baseline", true, baseline::attention, baseline::attention_back}};
#if defined(__x86_64__)
  sets.push_back({"avx2", has_avx2(), avx2::attention, avx2::attention_back});
  sets.push_back({"avx512", has_avx512(), avx512::attention, avx512::attention_back});
#endif
  for (const Case& of : kCases) {
    const Tensors tensors(of);
    const AttentionSizes sizes{of.queries, of.keys, of.heads, of.channels};
    const std::int64_t heads = of.sequences * of.heads;
    std::vector<float> scratch(std::max(attention_scratch(sizes), attention_back_scratch(sizes)));
    std::vector<at::Tensor> first;
    for (const Set& set : sets) {
      if (!set.here) continue;
      CAPTURE(set.name);
      const at::Tensor out = at::empty_like(tensors.q), log_sum_exp = at::empty({of.sequences, of.heads, of.queries});
      const at::Tensor of_q = at::empty_like(tensors.q), of_k = at::empty_like(tensors.k),
                       of_v = at::empty_like(tensors.v);
      const auto from = [](const at::Tensor& x) { return x.const_data_ptr<float>(); };
      const auto to = [](const at::Tensor& x) { return x.mutable_data_ptr<float>(); };
      set.forward(sizes, {from(tensors.q), from(tensors.k), from(tensors.v), to(out), to(log_sum_exp)}, 0, heads,
                  scratch.data());
      set.backward(sizes,
                   {from(tensors.q), from(tensors.k), from(tensors.v), from(out), from(log_sum_exp),
                    from(tensors.gradient), to(of_q), to(of_k), to(of_v)},
                   0, heads, scratch.data());
      const std::vector<at::Tensor> all{out, of_q, of_k, of_v};
      if (first.empty()) first = all;
      for (std::size_t i = 0; i < all.size(); ++i) {
        CHECK((all[i] - first[i]).abs().max().item<double>() < 1e-4 * of.size * of.size);
      }
    }
  }
}
