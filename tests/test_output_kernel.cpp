// The way back of few outputs and the ReLU below them, against the operations that it stands for in float64.
#include <ATen/TensorOperators.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/threshold_backward.h>
#include <doctest/doctest.h>

#include <limits>
#include <string>
#include <vector>

#include "agents/output_kernel.h"
#include "learning_fixtures.h"
#include "platform/instruction_sets.h"

namespace ristretto::agents {
namespace {

using tests::deviation;

constexpr double kFloat = 1e-5;  // relative to the largest number, sums of up to 301

struct Set {
  const char* name;
  bool here;
  decltype(&baseline::output_back) back;
};

std::vector<Set> sets() {
  std::vector<Set> all{{"baseline", true, baseline::output_back}};
#if defined(__x86_64__)
  all.push_back({"avx2", has_avx2(), avx2::output_back});
  all.push_back({"avx512", has_avx512(), avx512::output_back});
#endif
  return all;
}

}  // namespace

TEST_CASE("output kernel: the products, the ReLU and its sum are LibTorch's, added to what is there") {
  const at::Generator numbers = tests::generator(9);
  for (const std::int64_t rows : {1, 4, 301})
    for (const std::int64_t width : {1, 31, 1100})
      for (const std::int64_t outputs : {std::int64_t{1}, std::int64_t{7}, kFewOutputs}) {
        const at::Tensor y = at::relu(at::randn({rows, width}, numbers)),
                         gradient = at::randn({rows, outputs}, numbers);
        const at::Tensor weight = at::randn({outputs, width}, numbers);
        const at::Tensor of = gradient.to(at::kDouble);
        const at::Tensor of_weight = of.t().mm(y.to(at::kDouble));
        const at::Tensor of_z = at::threshold_backward(of.mm(weight.to(at::kDouble)), y.to(at::kDouble), 0);
        for (const Set& set : sets()) {
          if (!set.here) continue;
          CAPTURE(std::string(set.name));
          CAPTURE(rows);
          CAPTURE(width);
          CAPTURE(outputs);
          const std::int64_t first = width / 2;  // columns before the first belong to another thread
          const at::Tensor z = y.clone(), sums = at::ones({outputs, width}), below = at::ones({width});
          set.back({rows, width, outputs, weight.const_data_ptr<float>(), gradient.const_data_ptr<float>(),
                    z.mutable_data_ptr<float>(), sums.mutable_data_ptr<float>(), below.mutable_data_ptr<float>()},
                   first, width);
          const auto own = [&](const at::Tensor& of_columns) { return of_columns.narrow(-1, first, width - first); };
          const auto others = [&](const at::Tensor& of_columns) { return of_columns.narrow(-1, 0, first); };
          CHECK(deviation(own(z) + 1, own(of_z) + 1) < kFloat);
          CHECK(deviation(own(sums), own(of_weight) + 1) < kFloat);
          CHECK(deviation(own(below), own(of_z).sum(0) + 1) < kFloat);
          CHECK((own(z) != 0).logical_and(own(y) == 0).sum().item<std::int64_t>() == 0);
          CHECK(others(z).equal(others(y)));
          CHECK(others(sums).equal(at::ones({outputs, first})));
          CHECK(others(below).equal(at::ones({first})));
        }
      }
}

TEST_CASE("output kernel: where an activation is NaN, the gradient passes") {
  for (const Set& set : sets()) {
    if (!set.here) continue;
    CAPTURE(std::string(set.name));
    const at::Tensor weight = at::ones({1, 40}), gradient = at::ones({1, 1}), z = at::ones({1, 40});
    const at::Tensor sums = at::ones({1, 40}), below = at::ones({40});
    for (const std::int64_t column : {3, 39}) z[0][column] = std::numeric_limits<float>::quiet_NaN();
    set.back({1, 40, 1, weight.const_data_ptr<float>(), gradient.const_data_ptr<float>(), z.mutable_data_ptr<float>(),
              sums.mutable_data_ptr<float>(), below.mutable_data_ptr<float>()},
             0, 40);
    CHECK(z.equal(at::ones({1, 40})));
    CHECK(sums.isnan().sum().item<std::int64_t>() == 2);
  }
}

}  // namespace ristretto::agents
