#include <ATen/CPUGeneratorImpl.h>
#include <ATen/TensorOperators.h>
#include <ATen/autocast_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/zeros.h>
#include <doctest/doctest.h>

#include <cmath>
#include <fstream>
#include <set>
#include <sstream>

#include "formats/json_text.h"
#include "formats/npz.h"
#include "ft_transformer/encoder.h"
#include "platform/error.h"
#include "platform/text.h"
#include "seeded.h"

using namespace ristretto;
using namespace ristretto::ft_transformer;

namespace {

const std::string kGolden = std::string(RISTRETTO_GOLDEN) + "/algorithms/";
constexpr double kDoubleRelative = 1e-10;  // of the golden file; to the largest value of each tensor
// W_k's bias moves no softmax: its true gradient is 0 and what is written is rounding, which has no relative error.
constexpr double kDoubleAbsolute = 1e-14;
constexpr double kFloatAbsolute = 2e-5;     // of the golden file
constexpr double kReferenceDouble = 1e-12;  // the same sums in another order
constexpr double kReferenceFloat = 1e-5;
constexpr double kBf16 = 0.05;  // 8 bits of mantissa through two blocks of values of size 1

at::Generator generator_of(std::uint64_t seed) { return at::make_generator<at::CPUGeneratorImpl>(seed); }
double largest(const at::Tensor& tensor) { return tensor.abs().max().item<double>(); }

EncoderShape golden_shape() {
  EncoderShape shape;
  shape.features = 5;
  shape.d_token = 16;
  shape.blocks = 2;
  shape.heads = 4;
  shape.output = 3;
  shape.published = true;
  return shape;
}

// The weights of an ftt_*.npz, and what else it holds.
struct Golden {
  Weights weights, gradients;
  at::Tensor x, r, y, dx;
};

Golden read_golden(const std::string& file) {
  const formats::NamedArrays arrays = formats::read_npz(kGolden + file);
  Golden golden;
  for (const auto& [name, array] : arrays) {
    if (name.starts_with("w/")) golden.weights.add(name.substr(2), tensor_of(array));
    if (name.starts_with("g/")) golden.gradients.add(name.substr(2), tensor_of(array));
  }
  for (const auto& [name, tensor] :
       {std::pair<const char*, at::Tensor*>{"x", &golden.x}, {"r", &golden.r}, {"y", &golden.y}, {"dx", &golden.dx}}) {
    REQUIRE(formats::find(arrays, name) != nullptr);
    *tensor = tensor_of(*formats::find(arrays, name));
  }
  return golden;
}

EncoderShape small_shape() {
  EncoderShape shape;
  shape.features = 7;
  shape.d_token = 12;
  shape.blocks = 2;
  shape.heads = 3;
  shape.output = 5;
  return shape;
}

Weights small_weights(const EncoderShape& shape, at::ScalarType type, std::uint64_t seed = 11) {
  Weights weights;
  add_encoder_weights(weights, shape, "encoder.", generator_of(seed));
  for (const auto& [name, tensor] : weights) {  // no value at its start, where a bias of 0 or a norm of 1 hides faults
    tensor.add_(at::randn(tensor.sizes(), generator_of(seed + 1)) * 0.1);
  }
  return weights.to(at::kCPU, type);
}

// The deployed encoder (algorithms.md 1.1) written out one head at a time.
at::Tensor reference(const Weights& w, const EncoderShape& shape, const at::Tensor& x) {
  const auto linear = [&](const std::string& name, const at::Tensor& input) {
    return at::matmul(input, w.at("encoder." + name + ".weight").t()) + w.at("encoder." + name + ".bias");
  };
  const auto norm = [&](const std::string& name, const at::Tensor& input) {
    const at::Tensor centred = input - input.mean({-1}, true);
    return centred / (centred.square().mean({-1}, true) + 1e-5).sqrt() * w.at("encoder." + name + ".weight") +
           w.at("encoder." + name + ".bias");
  };
  at::Tensor tokens =
      x.unsqueeze(2) * w.at("encoder.tokenizer.weight").unsqueeze(0) + w.at("encoder.tokenizer.bias").unsqueeze(0);
  const std::int64_t head = shape.d_token / shape.heads;
  for (std::int64_t i = 0; i < shape.blocks; ++i) {
    const std::string block = str("blocks.", i, ".");
    const at::Tensor n = norm(block + "norm1", tokens);
    const at::Tensor q = linear(block + "attention.W_q", n), k = linear(block + "attention.W_k", n),
                     v = linear(block + "attention.W_v", n);
    std::vector<at::Tensor> heads;
    for (std::int64_t h = 0; h < shape.heads; ++h) {
      const auto part = [&](const at::Tensor& t) { return t.narrow(2, h * head, head); };
      const at::Tensor scores = at::matmul(part(q), part(k).transpose(1, 2)) / std::sqrt(static_cast<double>(head));
      heads.push_back(at::matmul(at::softmax(scores, -1), part(v)));
    }
    tokens = tokens + linear(block + "attention.W_out", at::cat(heads, 2));
    const at::Tensor hidden = at::relu(linear(block + "feedforward.linear1", norm(block + "norm2", tokens)));
    tokens = tokens + linear(block + "feedforward.linear2", hidden);
  }
  return linear("output_projection", norm("norm", tokens).reshape({x.size(0), -1}));
}

}  // namespace

TEST_CASE("encoder: the published network equals rtdl's in double, with all gradients") {
  Golden golden = read_golden("ftt_f64.npz");
  golden.weights.require_grad(true);
  golden.x.requires_grad_(true);
  const at::Tensor y = encode(golden.weights, golden_shape(), "", golden.x);
  CHECK(largest(y - golden.y) <= kDoubleRelative * largest(golden.y));
  (y * golden.r).sum().backward();
  CHECK(largest(golden.x.grad() - golden.dx) <= kDoubleRelative * largest(golden.dx));
  for (const auto& [name, expected] : golden.gradients) {
    const at::Tensor& gradient = golden.weights.at(name).grad();
    INFO(name);
    REQUIRE(gradient.defined());
    CHECK(largest(gradient - expected) <= kDoubleRelative * largest(expected) + kDoubleAbsolute);
  }
  CHECK(golden.gradients.size() == golden.weights.size());
}

TEST_CASE("encoder: the published network equals rtdl's in float, with all gradients") {
  Golden golden = read_golden("ftt_f32.npz");
  golden.weights.require_grad(true);
  golden.x.requires_grad_(true);
  const at::Tensor y = encode(golden.weights, golden_shape(), "", golden.x);
  CHECK((y.scalar_type() == at::kFloat));
  CHECK(largest(y - golden.y) <= kFloatAbsolute);
  (y * golden.r).sum().backward();
  CHECK(largest(golden.x.grad() - golden.dx) <= kFloatAbsolute);
  for (const auto& [name, expected] : golden.gradients) {
    INFO(name);
    CHECK(largest(golden.weights.at(name).grad() - expected) <= kFloatAbsolute);
  }
}

TEST_CASE("encoder: the published network has rtdl's names, order, shapes and initial values") {
  Weights weights;
  add_encoder_weights(weights, golden_shape(), "", generator_of(1));
  CHECK_NOTHROW(weights.require_same_shapes(read_golden("ftt_f64.npz").weights, "ours"));
  CHECK(largest(weights.at("cont_embeddings.bias")) <= 0.25);
  CHECK(largest(weights.at("cont_embeddings.bias")) > 0.2);
  CHECK(largest(weights.at("backbone.blocks.0.attention.W_q.bias")) == 0);
  CHECK(largest(weights.at("backbone.blocks.0.ffn.linear2.weight")) <= 1 / std::sqrt(21.0));
  CHECK(largest(weights.at("backbone.output.linear.bias")) > 0);

  EncoderShape one_head = golden_shape();
  one_head.heads = 1;
  Weights without;
  add_encoder_weights(without, one_head, "", generator_of(1));
  CHECK_FALSE(without.contains("backbone.blocks.0.attention.W_out.weight"));
  CHECK((encode(without, one_head, "", at::randn({2, 5})).sizes() == at::IntArrayRef({2, 3})));
}

TEST_CASE("encoder: the hidden width of the published sizes") {
  std::ifstream file(kGolden + "ftt_defaults.json");
  std::stringstream text;
  text << file.rdbuf();
  const formats::Json table = formats::read_json(text.str(), "ftt_defaults.json");
  REQUIRE(table.members.size() == 6);
  for (const auto& [blocks, row] : table.members) {
    EncoderShape shape = golden_shape();
    shape.d_token = row.find("d_block")->integer;
    shape.blocks = 1;
    shape.heads = row.find("attention_n_heads")->integer;
    Weights weights;
    add_encoder_weights(weights, shape, "", {});
    CHECK(weights.at("backbone.blocks.0.ffn.linear2.weight").size(1) == row.find("ffn_hidden")->integer);
  }

  EncoderShape two = golden_shape();  // the size that algorithms.md 1.2 gives
  two.d_token = 128;
  two.heads = 8;
  Weights weights;
  add_encoder_weights(weights, two, "", {});
  CHECK(weights.parameters() == 266411);
}

TEST_CASE("encoder: the deployed network equals its definition written out, with all gradients") {
  const EncoderShape shape = small_shape();
  for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
    const double tolerance = type == at::kDouble ? kReferenceDouble : kReferenceFloat;
    Weights ours = small_weights(shape, type), plain = small_weights(shape, type);
    const at::Tensor x = at::randn({6, 7}, generator_of(2)).to(type);
    const at::Tensor r = at::randn({6, 5}, generator_of(3)).to(type);
    ours.require_grad(true);
    plain.require_grad(true);
    const at::Tensor y = encode(ours, shape, "encoder.", x), expected = reference(plain, shape, x);
    CHECK(largest(y - expected) <= tolerance * largest(expected));
    (y * r).sum().backward();
    (expected * r).sum().backward();
    for (const auto& [name, weight] : plain) {
      INFO(name);
      CHECK(largest(ours.at(name).grad() - weight.grad()) <= tolerance * std::max(1.0, largest(weight.grad())));
    }
  }
}

TEST_CASE("encoder: the deployed network's initial values") {
  EncoderShape shape = small_shape();
  shape.d_token = 96;
  Weights weights, again;
  add_encoder_weights(weights, shape, "encoder.", generator_of(1));
  add_encoder_weights(again, shape, "encoder.", generator_of(1));
  const auto bound = [](double in, double out) { return std::sqrt(6 / (in + out)); };
  const auto fills = [&](const std::string& name, double expected) {
    const double found = largest(weights.at("encoder." + name));
    CHECK_MESSAGE((found <= expected && found > 0.97 * expected), name);
  };
  fills("tokenizer.weight", bound(96, 7));
  fills("blocks.1.attention.W_v.weight", bound(96, 96));
  fills("blocks.1.attention.W_out.weight", bound(96, 96) / 2);  // 1/sqrt(2 * 2 blocks)
  fills("blocks.1.feedforward.linear1.weight", bound(96, 384));
  fills("blocks.1.feedforward.linear2.weight", bound(96, 384) / 2);
  fills("output_projection.weight", bound(7 * 96, 5));
  for (const auto& [name, weight] : weights) {
    INFO(name);
    if (name.ends_with("bias")) CHECK(largest(weight) == 0);
    if (name.find("norm") != std::string::npos && name.ends_with("weight")) CHECK(largest(weight - 1) == 0);
    CHECK(at::equal(weight, again.at(name)));
  }
}

TEST_CASE("encoder: more sequences than one attention call takes give what each gives alone") {
  EncoderShape shape = small_shape();
  shape.features = 2;
  shape.d_token = 4;
  shape.blocks = 1;
  shape.heads = 2;
  const Weights weights = small_weights(shape, at::kFloat);
  const at::Tensor x = at::randn({2 * 32768 + 3, 2}, generator_of(4));
  const at::Tensor y = encode(weights, shape, "encoder.", x);
  REQUIRE(y.size(0) == x.size(0));
  for (const std::int64_t first : {0, 32760, 65530}) {
    const at::Tensor alone = encode(weights, shape, "encoder.", x.narrow(0, first, 9));
    CHECK(largest(alone - y.narrow(0, first, 9)) <= kReferenceFloat);
  }
  CHECK((encode(weights, shape, "encoder.", x.narrow(0, 0, 0)).sizes() == at::IntArrayRef({0, 5})));
}

TEST_CASE("encoder: dropout sits after W_out, the feedforward's ReLU and linear2") {
  EncoderShape shape = small_shape();
  const Weights weights = small_weights(shape, at::kFloat);
  const at::Tensor x = at::randn({8, 7}, generator_of(5));
  CHECK(at::equal(encode(weights, shape, "encoder.", x), encode(weights, shape, "encoder.", x)));
  shape.dropout = 0.5;
  CHECK_FALSE(at::equal(encode(weights, shape, "encoder.", x), encode(weights, shape, "encoder.", x)));

  // Where both branches of every block are dropped, biases included, the tokens go through unchanged.
  shape.dropout = 1 - 1e-9;
  const at::Tensor dropped = encode(weights, shape, "encoder.", x);
  shape.dropout = 0;
  Weights silent = weights.clone();
  for (const auto& [name, tensor] : silent) {
    if (name.find("W_out") != std::string::npos || name.find("linear2") != std::string::npos) tensor.zero_();
  }
  CHECK(at::equal(dropped, encode(silent, shape, "encoder.", x)));
}

TEST_CASE("encoder: dropout after the feedforward's ReLU drops each hidden value on its own") {
  // One token of 4 components that starts at 0; the feedforward adds to each the sum of two hidden values, all 1.
  // Dropping components alone leaves at most 2^4 different outputs, dropping the hidden values too makes sums of 0, 1
  // and 2 of them.
  EncoderShape shape = small_shape();
  shape.features = 1;
  shape.d_token = shape.output = 4;
  shape.heads = shape.blocks = 1;
  shape.hidden = 8;
  shape.dropout = 0.5;
  Weights weights;
  add_encoder_weights(weights, shape, "encoder.", generator_of(1));
  for (const auto& [name, tensor] : weights) {
    if (name.find("norm") == std::string::npos && name.find("projection") == std::string::npos) tensor.zero_();
  }
  weights.at("encoder.blocks.0.feedforward.linear1.bias").fill_(1);
  for (int component = 0; component < 4; ++component) {
    weights.at("encoder.blocks.0.feedforward.linear2.weight")[component].narrow(0, 2 * component, 2).fill_(1);
  }
  const at::Tensor y = encode(weights, shape, "encoder.", at::zeros({500, 1})).select(1, 0).contiguous();
  std::set<std::int64_t> distinct;
  for (std::int64_t i = 0; i < y.size(0); ++i) distinct.insert(std::llround(y[i].item<double>() * 1e5));
  CHECK(distinct.size() > 16);
}

TEST_CASE("encoder: under bf16 autocast on a CPU the result is near that of float, with gradients in float") {
  const EncoderShape shape = small_shape();
  Weights weights = small_weights(shape, at::kFloat);
  weights.require_grad(true);
  const at::Tensor x = at::randn({6, 7}, generator_of(6));
  const at::Tensor y = encode(weights, shape, "encoder.", x);
  at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
  at::autocast::set_autocast_enabled(at::kCPU, true);
  const at::Tensor half = encode(weights, shape, "encoder.", x);
  at::autocast::set_autocast_enabled(at::kCPU, false);
  at::autocast::clear_cache();
  CHECK((half.scalar_type() == at::kBFloat16));
  const double deviation = largest(half.to(at::kFloat) - y) / largest(y);
  CHECK(deviation > 0);
  CHECK(deviation < kBf16);
  half.to(at::kFloat).sum().backward();
  for (const auto& [name, weight] : weights) {
    INFO(name);
    CHECK((weight.grad().scalar_type() == at::kFloat));
    CHECK(std::isfinite(largest(weight.grad())));
  }
}

TEST_CASE("encoder: a shape that does not fit is an error that names the setting") {
  const auto message = [](auto change) {
    EncoderShape shape = small_shape();
    change(shape);
    try {
      check(shape);
    } catch (const Error& error) {
      CHECK(error.fault() == Fault::usage);
      return std::string(error.what());
    }
    return std::string("no error");
  };
  CHECK(message([](EncoderShape&) {}) == "no error");
  CHECK(message([](EncoderShape& s) { s.heads = 5; }) ==
        "FT-Transformer: d_token is 12, expected a multiple of the 5 heads.");
  CHECK(message([](EncoderShape& s) { s.heads = 0; }) ==
        "FT-Transformer: the number of heads is 0, expected at least 1.");
  CHECK(message([](EncoderShape& s) { s.features = 0; }).find("features") != std::string::npos);
  CHECK(message([](EncoderShape& s) { s.output = -1; }).find("outputs") != std::string::npos);
  CHECK(message([](EncoderShape& s) { s.dropout = 1; }).find("dropout is 1") != std::string::npos);
  CHECK(message([](EncoderShape& s) {
          s.published = true;
          s.dropout = 0.1;
        }) == "FT-Transformer: dropout is 0.1, expected 0 in the published kind.");
}
