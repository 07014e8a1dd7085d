// Products of float32 matrices against those in float64, and against LibTorch's own.
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/full.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/relu.h>
#include <doctest/doctest.h>

#include <cstdint>
#include <limits>
#include <tuple>
#include <vector>

#include "ft_transformer/linear.h"
#include "ft_transformer/product.h"
#include "learning_fixtures.h"

namespace {

using namespace ristretto;
using namespace ristretto::ft_transformer;

constexpr double kFloat = 1e-5;  // relative to the largest number

// Root of the mean square of the errors.
double error(const at::Tensor& found, const at::Tensor& exact) {
  return (found.to(at::kDouble) - exact).square().mean().sqrt().item<double>();
}

// So many until its scope ends.
struct Threads {
  explicit Threads(int count) { at::set_num_threads(count); }
  ~Threads() { at::set_num_threads(before); }
  const int before = at::get_num_threads();
};

// What the kernel's edges are: its panels of 32, blocks of 128 rows, 512 numbers at once, and one more or less.
const std::vector<std::tuple<std::int64_t, std::int64_t, std::int64_t>> kShapes{
    {128, 128, 128},   {129, 130, 131},   {160, 512, 302}, {300, 513, 129},
    {257, 1100, 1023}, {1024, 2048, 302}, {7, 300, 200}};

// The same numbers, with their rows or with their columns side by side, and as a part of a larger matrix.
std::vector<at::Tensor> ways_to_lie(const at::Tensor& x) {
  const at::Tensor larger =
      at::full({x.size(0) + 3, x.size(1) + 5}, std::numeric_limits<double>::quiet_NaN(), at::kFloat);
  const at::Tensor part = larger.narrow(0, 2, x.size(0)).narrow(1, 3, x.size(1));
  part.copy_(x);
  return {x, x.t().contiguous().t(), part};
}

}  // namespace

TEST_CASE("product: no further from float64 than LibTorch's own, however the factors lie") {
  const Threads one(1);
  if (!on_tiles(1024, 1024, 1024)) MESSAGE("this processor has no tiles: LibTorch's products alone are tested");
  const at::Generator numbers = tests::generator(11);
  for (const auto& [rows, depth, columns] : kShapes) {
    CAPTURE(rows);
    CAPTURE(depth);
    CAPTURE(columns);
    const at::Tensor a = at::randn({rows, depth}, numbers), b = at::randn({depth, columns}, numbers);
    const at::Tensor exact = at::mm(a.to(at::kDouble), b.to(at::kDouble));
    const double most = error(at::mm(a, b), exact);
    const at::Tensor first = product(a, b);
    CHECK(error(first, exact) <= most);
    for (const at::Tensor& left : ways_to_lie(a))
      for (const at::Tensor& right : ways_to_lie(b))
        CHECK((on_tiles(rows, depth, columns) ? product(left, right).equal(first)
                                              : error(product(left, right), exact) <= 2 * most));
    const at::Tensor strided = a.repeat_interleave(2, 0).repeat_interleave(2, 1).slice(0, 0, {}, 2).slice(1, 0, {}, 2);
    CHECK(tests::deviation(product(strided, b), exact) < kFloat);
    CHECK(tests::deviation(product(a.to(at::kDouble), b.to(at::kDouble)), exact) < 1e-14);
  }
}

TEST_CASE("product: added to a part of a matrix, the rest stays") {
  const Threads one(1);
  const at::Generator numbers = tests::generator(12);
  for (const auto& [rows, depth, columns] : kShapes) {
    CAPTURE(rows);
    const at::Tensor a = at::randn({rows, depth}, numbers), b = at::randn({depth, columns}, numbers);
    const at::Tensor all = at::randn({rows + 2, columns + 9}, numbers), before = all.clone();
    const at::Tensor part = all.narrow(0, 1, rows).narrow(1, 4, columns);
    const at::Tensor exact = at::addmm(part.to(at::kDouble), a.to(at::kDouble), b.to(at::kDouble));
    add_product_(part, a, b);
    CHECK(tests::deviation(part, exact) < kFloat);
    part.copy_(before.narrow(0, 1, rows).narrow(1, 4, columns));
    CHECK(all.equal(before));
  }
}

TEST_CASE("product: bias and ReLU, and what is not a number stays so") {
  const Threads one(1);
  const at::Generator numbers = tests::generator(13);
  for (const auto& [rows, depth, columns] : kShapes)
    for (const bool relu : {false, true}) {
      CAPTURE(rows);
      const at::Tensor x = at::randn({rows, depth}, numbers), weight = at::randn({columns, depth}, numbers);
      const at::Tensor bias = at::randn({columns}, numbers);
      const at::Tensor sum = at::addmm(bias.to(at::kDouble), x.to(at::kDouble), weight.to(at::kDouble).t());
      CHECK(tests::deviation(affine(x, weight, bias, relu), relu ? at::relu(sum) : sum) < kFloat);
      for (const float odd : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
        const at::Tensor with = x.clone();
        with[rows / 2][depth - 1] = odd;
        const at::Tensor found = product(with, weight.t());
        CHECK_FALSE(found[rows / 2].isfinite().any().item<bool>());
        CHECK(found.isfinite().sum().item<std::int64_t>() == (rows - 1) * columns);
        with[rows / 2][depth - 1] = std::numeric_limits<float>::quiet_NaN();
        CHECK(affine(with, weight, bias, relu)[rows / 2].isnan().all().item<bool>());
      }
    }
}

TEST_CASE("product: sizes that do not fit are refused") {
  const at::Tensor a = at::full({256, 300}, 1.0F), b = at::full({200, 256}, 1.0F);
  const Threads one(1);
  CHECK_THROWS(product(a, b));
  CHECK_THROWS(affine(a, b.t().contiguous(), at::full({256}, 1.0F), true));
  CHECK_THROWS(add_product_(at::full({256, 255}, 1.0F), a, at::full({300, 256}, 1.0F)));
  if (on_tiles(256, 300, 256)) CHECK_THROWS(affine(a, at::full({256, 300}, 1.0F), at::full({1}, 1.0F), false));
}

TEST_CASE("product: large and small numbers keep float32's digits") {
  const Threads one(1);
  const at::Generator numbers = tests::generator(14);
  for (const double size : {1e-15, 1e-6, 1e6, 1e15}) {
    CAPTURE(size);
    const at::Tensor a = at::randn({200, 300}, numbers) * size, b = at::randn({300, 160}, numbers) * size;
    const at::Tensor exact = at::mm(a.to(at::kDouble), b.to(at::kDouble));
    CHECK(error(product(a, b), exact) <= error(at::mm(a, b), exact));
  }
}

TEST_CASE("product: the same bits by any number of threads, and a row's the same whatever rows are beside it") {
  const at::Generator numbers = tests::generator(15);
  const at::Tensor a = at::randn({700, 600}, numbers), b = at::randn({600, 333}, numbers);
  const auto by = [&](int threads, std::int64_t first, std::int64_t rows) {
    const Threads so_many(threads);
    return product(a.narrow(0, first, rows), b);
  };
  {
    const Threads five(5);
    if (!on_tiles(700, 600, 333)) {
      MESSAGE("skipped: this processor has no tiles, and LibTorch's products promise nothing of that");
      return;
    }
  }
  const at::Tensor alone = by(1, 0, 700);
  for (const int threads : {2, 3, 5}) CHECK(by(threads, 0, 700).equal(alone));
  CHECK(by(1, 77, 130).equal(alone.narrow(0, 77, 130)));
}

TEST_CASE("linear layers: wide ones, with a ReLU and without, learn as LibTorch's in float64") {
  const Threads one(1);
  const at::Generator numbers = tests::generator(16);
  // Eighths: their sums of products are exact, so that rounding does not decide on which side of 0 one is.
  const auto eighths = [&](at::IntArrayRef sizes) { return at::randn(sizes, numbers).mul(8).round() / 8; };
  const at::Tensor x = eighths({150, 260}), weight = eighths({140, 260}), bias = eighths({140});
  const at::Tensor gradient = at::randn({150, 140}, numbers);
  const auto through = [&](at::ScalarType type, bool relu) {
    std::vector<at::Tensor> leaves;
    for (const at::Tensor& leaf : {x, weight, bias}) leaves.push_back(leaf.to(type).clone().requires_grad_(true));
    const at::Tensor y = (relu ? linear_relu : linear)(leaves[0], leaves[1], leaves[2]);
    (y * gradient.to(type)).sum().backward();
    return std::vector<at::Tensor>{y, leaves[0].grad(), leaves[1].grad(), leaves[2].grad()};
  };
  for (const bool relu : {false, true}) {
    const std::vector<at::Tensor> found = through(at::kFloat, relu), expected = through(at::kDouble, relu);
    for (std::size_t i = 0; i < found.size(); ++i) CHECK(tests::deviation(found[i], expected[i]) < kFloat);
  }
}
