#include <ATen/CPUGeneratorImpl.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <doctest/doctest.h>

#include <cmath>
#include <functional>

#include "ft_transformer/weights.h"
#include "platform/error.h"
#include "platform/text.h"

using namespace ristretto;
using namespace ristretto::ft_transformer;

namespace {

// Q of a QR in double, rounded once to float: W W^T is off by the sum of a few hundred products of such roundings.
constexpr double kOrthogonalInFloat = 1e-6;
constexpr double kOrthogonalInDouble = 1e-13;

at::Generator generator_of(std::uint64_t seed) { return at::make_generator<at::CPUGeneratorImpl>(seed); }

Weights two_layers() {
  Weights weights;
  weights.add("net.0.weight", at::zeros({3, 2}));
  weights.add("net.0.bias", at::zeros({3}));
  weights.add("net.2.weight", at::zeros({1, 3}));
  return weights;
}

std::string message_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    CHECK(error.fault() == Fault::incompatible);
    return str(error.what(), " hint: ", error.hint());
  }
  return "no error";
}

double largest(const at::Tensor& tensor) { return tensor.abs().max().item<double>(); }

}  // namespace

TEST_CASE("weights: a missing name is an error that gives the nearest one") {
  const Weights weights = two_layers();
  CHECK(weights.contains("net.0.bias"));
  CHECK_FALSE(weights.contains("net.0"));
  CHECK(weights.at("net.2.weight").size(1) == 3);
  CHECK(message_of([&] { weights.at("net.2.bias"); }) ==
        "The weight 'net.2.bias' is missing among 3 weights. hint: the nearest name is 'net.0.bias'");
  CHECK(weights.parameters() == 12);
  CHECK(weights.tensors().size() == 3);
}

TEST_CASE("weights: copies share nothing and carry no gradients") {
  Weights weights = two_layers();
  weights.require_grad(true);
  CHECK(weights.at("net.0.bias").requires_grad());
  const Weights clone = weights.clone(), same = weights.to(at::kCPU, at::kFloat),
                wide = weights.to(at::kCPU, at::kDouble);
  weights.require_grad(false);
  for (const auto& [name, tensor] : weights) tensor.fill_(1);
  for (const Weights* copy : {&clone, &same, &wide}) {
    for (const auto& [name, tensor] : *copy) {
      CHECK_FALSE(tensor.requires_grad());
      CHECK(largest(tensor) == 0);
    }
  }
  CHECK((wide.at("net.0.bias").scalar_type() == at::kDouble));
}

TEST_CASE("weights: the first difference of names, order or shapes is named") {
  const Weights expected = two_layers();
  CHECK_NOTHROW(two_layers().require_same_shapes(expected, "actor.pth"));

  Weights missing;
  missing.add("net.0.weight", at::zeros({3, 2}));
  missing.add("net.0.bias", at::zeros({3}));
  CHECK(message_of([&] { missing.require_same_shapes(expected, "actor.pth"); }) ==
        "actor.pth: the weight 'net.2.weight' is missing. hint: the nearest name in it is 'net.0.weight'");

  Weights further = two_layers();
  further.add("state_avg", at::zeros({2}));
  CHECK(message_of([&] {
          further.require_same_shapes(expected, "actor.pth");
        }).starts_with("actor.pth: the weight 'state_avg' is not one of this architecture's."));

  Weights swapped;
  swapped.add("net.0.bias", at::zeros({3}));
  swapped.add("net.0.weight", at::zeros({3, 2}));
  swapped.add("net.2.weight", at::zeros({1, 3}));
  CHECK(message_of([&] {
          swapped.require_same_shapes(expected, "actor.pth");
        }).starts_with("actor.pth: weight 0 is 'net.0.bias', expected 'net.0.weight' there."));

  Weights wider = two_layers();
  wider.at("net.0.weight") = at::zeros({3, 5});
  CHECK(message_of([&] {
          wider.require_same_shapes(expected, "actor.pth");
        }).starts_with("actor.pth: the weight 'net.0.weight' is [3, 5], expected [3, 2]."));

  CHECK(message_of([&] { Weights{}.require_same_shapes(expected, "actor.pth"); }) ==
        "actor.pth: the weight 'net.0.weight' is missing. hint: it holds no weights");
}

TEST_CASE("weights: arrays and tensors of every type turn into each other bit by bit") {
  const at::Tensor values = at::randn({4, 3}, generator_of(1)) * 50;
  for (const at::ScalarType type : {at::kBool, at::kByte, at::kChar, at::kShort, at::kInt, at::kLong, at::kHalf,
                                    at::kBFloat16, at::kFloat, at::kDouble}) {
    const at::Tensor tensor = values.abs().to(type);
    const formats::Array array = array_of(tensor);
    CHECK(array.shape == std::vector<std::int64_t>{4, 3});
    const at::Tensor back = tensor_of(array);
    CHECK((back.scalar_type() == type));
    CHECK(at::equal(back, tensor));
  }
  CHECK(at::equal(tensor_of(array_of(values.t())), values.t()));  // strided
  CHECK(tensor_of(array_of(values.sum())).dim() == 0);
  CHECK((tensor_of(array_of(at::zeros({0, 4}))).sizes() == at::IntArrayRef({0, 4})));

  const formats::Array array = array_of(values);
  const at::Tensor copy = tensor_of(array);
  copy.zero_();
  CHECK(at::equal(tensor_of(array), values));

  CHECK(message_of([] { tensor_of(formats::Array::of_texts({1}, {"BTC/USD"})); }).find("cannot be a tensor") !=
        std::string::npos);

  Weights weights = two_layers();
  weights.require_grad(true);
  weights_of(arrays_of(weights)).require_same_shapes(weights, "a round trip");
}

TEST_CASE("weights: orthogonal rows or columns of the length of the gain, whatever the shape") {
  for (const auto& [rows, columns] : {std::pair{64, 64}, {7, 64}, {64, 7}, {1, 64}}) {
    for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
      const at::Tensor weight = at::zeros({rows, columns}, type);
      orthogonal_(weight, 1.5, generator_of(3));
      const at::Tensor gram = rows <= columns ? at::matmul(weight, weight.t()) : at::matmul(weight.t(), weight);
      const double tolerance = type == at::kFloat ? 2.25 * kOrthogonalInFloat : kOrthogonalInDouble;
      CHECK(largest(gram - 2.25 * at::eye(gram.size(0), type)) < tolerance);
      const at::Tensor again = at::zeros({rows, columns}, type), other = at::zeros({rows, columns}, type);
      orthogonal_(again, 1.5, generator_of(3));
      orthogonal_(other, 1.5, generator_of(4));
      CHECK(at::equal(weight, again));
      CHECK_FALSE(at::equal(weight, other));
    }
  }
}

TEST_CASE("weights: an orthogonal matrix is uniformly distributed, its diagonal is not of one sign") {
  // Of a QR as LAPACK returns it the diagonal of Q is mostly negative.
  int positive = 0;
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    const at::Tensor weight = at::zeros({4, 4});
    orthogonal_(weight, 1, generator_of(seed));
    positive += weight[0][0].item<double>() > 0;
  }
  CHECK(std::abs(positive - 100) < 4 * std::sqrt(200 * 0.25));  // four standard errors
}

TEST_CASE("weights: Xavier and uniform values fill their interval evenly") {
  const at::Tensor weight = at::zeros({300, 100});
  xavier_uniform_(weight, 2, generator_of(5));
  const double bound = 2 * std::sqrt(6.0 / 400);
  CHECK(largest(weight) <= bound);
  CHECK(largest(weight) > 0.999 * bound);
  CHECK(std::abs(weight.mean().item<double>()) < 0.02 * bound);                            // standard error .0033
  CHECK(weight.var().item<double>() == doctest::Approx(bound * bound / 3).epsilon(0.03));  // standard error .005

  const at::Tensor small = at::zeros({1000}, at::kDouble);
  uniform_(small, 0.25, generator_of(6));
  CHECK(largest(small) <= 0.25);
  CHECK(largest(small) > 0.24);
}
