#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/tensor.h>
#include <doctest/doctest.h>

#include "platform/error.h"
#include "release/deployment.h"
#include "release/inspect.h"
#include "release/torchscript.h"
#include "release_fixture.h"

using namespace ristretto;
using namespace ristretto::release;

namespace {

constexpr double kSame = 1e-5;  // the same float32 sums in another order

double largest(const at::Tensor& tensor) { return tensor.abs().max().item<double>(); }

Content context_content(ft_transformer::MarketTokens tokens) {
  Content content = small_content(agents::Network::market_context);
  if (tokens == ft_transformer::MarketTokens::asset) return content;
  const ft_transformer::Weights old = content.actor;
  content.architecture.context.tokens = tokens;
  const agents::Policy policy = agents::make_policy(content.architecture, {.seed = 8, .policy_gain = 1.0}, at::kCPU);
  for (auto* weights : {&content.actor, &content.critic}) {
    ft_transformer::Weights file;
    for (const auto& [name, tensor] : old) {
      if (name.starts_with("input.")) file.add(name, tensor.clone());
    }
    file.at("input.form")[3] = 1;
    const auto& network = weights == &content.actor ? policy.actor : policy.critic;
    for (const auto& [name, tensor] : network) file.add(name, tensor.detach());
    *weights = file;
  }
  return content;
}

}  // namespace

TEST_CASE("context deployment: written, loaded, probed in its three forms, explained") {
  for (const auto tokens : {ft_transformer::MarketTokens::asset, ft_transformer::MarketTokens::feature}) {
    const Scratch scratch;
    const Content content = context_content(tokens);
    stage(content, scratch / "v");
    const Model model = load(scratch / "v");
    CHECK(model.architecture.network == agents::Network::market_context);
    CHECK(model.architecture.context.tokens == tokens);
    CHECK(run_probe(model) < kSame);
    CHECK(model.trial->parameters["encoder"] == "market_context");
    CHECK_FALSE(std::filesystem::exists(scratch / "v" / "critic.pth"));  // no consumer of one builds this network
    const Inspection inspection = inspect(scratch / "v");
    CHECK(inspection.architecture->context.heads == 2);
  }
}

TEST_CASE("context deployment: any number of assets and any order of them, in policy.pt as here") {
  const Scratch scratch;
  stage(context_content(ft_transformer::MarketTokens::feature), scratch / "v");
  const Model model = load(scratch / "v");
  for (const std::int64_t assets : {1, 2, 5}) {
    const std::int64_t size = 1 + assets * (1 + 3 * 2);
    const at::Tensor states = some_states(9, size) + 1.5;
    const at::Tensor actions = predict(model, states);
    CHECK(actions.sizes().equals({9, assets}));
    CHECK(largest(run_torchscript(scratch / "v" / "policy.pt", states) - actions) < kSame);
    // The assets turned by one, in each part of the observation.
    const auto turned = [&](const at::Tensor& part, std::int64_t lags) {
      return part.reshape({9, lags, assets, -1}).roll({1}, {2}).reshape({9, -1});
    };
    const at::Tensor moved = at::cat({states.narrow(1, 0, 1), turned(states.narrow(1, 1, assets), 1),
                                      turned(states.narrow(1, 1 + assets, assets * 6), 2)},
                                     1);
    CHECK(largest(predict(model, moved) - actions.roll({1}, {1})) < kSame);
    CHECK(largest(run_torchscript(scratch / "v" / "policy.pt", moved) - actions.roll({1}, {1})) < kSame);
  }
  CHECK_THROWS_AS(predict(model, some_states(9, 17)), Error);
}

TEST_CASE("context deployment: weights that are damaged are refused with what is wrong") {
  const auto message = [](const ft_transformer::Weights& weights) {
    try {
      agents::architecture_of(weights, 0, "file");
    } catch (const Error& error) {
      CHECK(error.fault() == Fault::incompatible);
      return std::string(error.what());
    }
    return std::string("no error");
  };
  Content content = small_content(agents::Network::market_context);
  content.actor.at("input.form")[0] = 2;
  CHECK(message(content.actor) == "file: its input is of format 2, expected 1.");
  content = small_content(agents::Network::market_context);
  content.actor.at("input.roles")[0] = 9;
  CHECK(message(content.actor) == "file: 'input.roles' holds 9.");
  ft_transformer::Weights fewer;
  for (const auto& [name, tensor] : small_content(agents::Network::market_context).actor) {
    if (name != "net.2.weight") fewer.add(name, tensor);
  }
  CHECK(message(fewer) == "file: the weight 'net.2.weight' is missing.");
}
