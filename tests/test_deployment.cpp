#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <doctest/doctest.h>

#include <cmath>
#include <fstream>
#include <functional>

#include "agents/policy.h"
#include "env/layout.h"
#include "formats/npz.h"
#include "formats/torch_file.h"
#include "ft_transformer/weights.h"
#include "platform/atomic_file.h"
#include "platform/error.h"
#include "release/deployment.h"
#include "release/torchscript.h"
#include "release_fixture.h"

using namespace ristretto;
using namespace ristretto::release;
using agents::Network;
namespace fs = std::filesystem;

namespace {

const fs::path kGolden = fs::path(RISTRETTO_GOLDEN) / "deployments";
// Actions in [-1, 1] of another build of PyTorch (golden/deployments/README.md), and in double of the same formula.
constexpr double kFloatTolerance = 1e-5, kDoubleTolerance = 1e-12;
// The same float32 products in one process, by TorchScript's kernels and by ours.
constexpr double kSameProcess = 1e-6;

double deviation(const at::Tensor& a, const at::Tensor& b) {
  REQUIRE(a.sizes() == b.sizes());
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

at::Tensor array(const formats::NamedArrays& arrays, const std::string& name) {
  const formats::Array* found = formats::find(arrays, name);
  REQUIRE(found != nullptr);
  return ft_transformer::tensor_of(*found);
}

std::string message_of(const fs::path& path, std::string* hint = nullptr) {
  try {
    load(path);
  } catch (const Error& error) {
    CHECK(error.fault() == Fault::incompatible);
    if (hint != nullptr) *hint = error.hint();
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("deployment: the existing system's directories answer as they do there") {
  for (const std::string name : {"mlp_85", "mlp_239", "mlp_106", "ft_85", "ft_239", "ft_trial_mlp_file"}) {
    CAPTURE(name);
    const Model model = load(kGolden / name);
    const auto expected = formats::read_npz(kGolden / name / "expected.npz");
    const at::Tensor states = array(expected, "states");
    const double in_float = deviation(predict(model, states), array(expected, "action"));
    CHECK(in_float <= kFloatTolerance);
    const auto actor = model.actor.to(at::kCPU, at::kDouble);
    const at::Tensor mean = agents::actor_mean(actor, model.architecture, states.to(at::kDouble));
    const double in_double =
        deviation(agents::deterministic(model.architecture, mean), array(expected, "action_float64"));
    CHECK(in_double <= kDoubleTolerance);
    REQUIRE(model.critic);
    CHECK(deviation(agents::critic_value(*model.critic, model.architecture, states), array(expected, "value")) <=
          kFloatTolerance);
    CHECK_FALSE(model.layout);
    REQUIRE(model.trial);
    CHECK(model.trial->parameters.contains("lookback"));
    MESSAGE(name, ": ", in_float, " in float, ", in_double, " in double");
  }
}

TEST_CASE("deployment: best_trial of every class in the wild is read") {
  CHECK(load(kGolden / "mlp_106").trial->number == 195);
  CHECK(load(kGolden / "mlp_106").trial->value == 0.14527441781591616);
  const Model optuna = load(kGolden / "mlp_239");
  CHECK(optuna.trial->number == 157);
  CHECK(optuna.trial->value == 0.17739823280421793);
  CHECK(optuna.trial->parameters["net_dimension"] == 128);
  CHECK(optuna.trial->user_attributes["timeframe"] == "1h");
  CHECK(load(kGolden / "ft_85").architecture.encoder.heads == 4);
  CHECK(load(kGolden / "ft_239").architecture.encoder.heads == 2);
}

TEST_CASE("deployment: what the existing trader would refuse, or serve something else than actor.pth, is refused") {
  const fs::path broken = kGolden / "broken";
  std::string hint;
  CHECK(message_of(broken / "no_actor").find("no actor.pth") != std::string::npos);
  CHECK(message_of(broken / "actor_only_in_stored_agent", &hint).find("no actor.pth") != std::string::npos);
  CHECK(hint.find("stored_agent") != std::string::npos);
  CHECK(message_of(broken / "stale_act_target").find("act_target.pth differs from actor.pth") != std::string::npos);
  CHECK(message_of(broken / "critic_of_another_size", &hint).find("critic.pth") != std::string::npos);
  CHECK(hint.find("refuses to start") != std::string::npos);
  CHECK(message_of(broken / "renamed_keys").find("module.") != std::string::npos);
  CHECK(message_of(broken / "truncated_actor").find("actor.pth") != std::string::npos);
  CHECK(message_of(broken / "ft_truncated_actor").find("actor.pth") != std::string::npos);
  CHECK(message_of(broken / "absent").find("cannot be opened") != std::string::npos);

  const Model nan = load(broken / "nan_weight");
  CHECK(non_finite_weight(nan.actor) == "net.2.bias");
  CHECK_THROWS_WITH_AS(predict(nan, some_states(1, nan.architecture.observation)),
                       doctest::Contains("net.2.bias holds NaN"), Error);
}

TEST_CASE("deployment: states of another width are an error that says which") {
  const Model model = load(kGolden / "mlp_106");
  CHECK_THROWS_WITH_AS(predict(model, some_states(3, 85)), doctest::Contains("[3, 85] do not fit"), Error);
  CHECK_THROWS_WITH_AS(predict(model, some_states(1, 106)[0]), doctest::Contains("expected [N, 106]"), Error);
  CHECK(predict(model, some_states(3, 106)).sizes() == at::IntArrayRef{3, 7});
}

TEST_CASE("deployment: a single .pth is a model, an FT-Transformer by the heads beside it") {
  const at::Tensor states = some_states(2, 85);
  CHECK(at::equal(predict(load(kGolden / "ft_85/actor.pth"), states), predict(load(kGolden / "ft_85"), states)));
  const Scratch scratch;
  fs::copy_file(kGolden / "ft_85/actor.pth", scratch / "lone.pth");
  CHECK_THROWS_WITH_AS(load(scratch / "lone.pth"), doctest::Contains("ft_n_heads"), Error);
  fs::copy_file(kGolden / "mlp_106/actor.pth", scratch / "mlp.pth");
  CHECK(load(scratch / "mlp.pth").architecture.observation == 106);
}

TEST_CASE("deployment: what is staged is complete, answers in every form alike, and comes back whole") {
  for (const Network network : {Network::mlp, Network::ft_transformer}) {
    const bool mlp = network == Network::mlp;
    CAPTURE(mlp);
    const Scratch scratch;
    const Content content = small_content(network);
    const fs::path directory = scratch / "staged";
    stage(content, directory);
    for (const char* file : {"actor.pth", "act_target.pth", "actor.safetensors", "policy.pt", "best_trial",
                             "metadata.json", "manifest.json"}) {
      CHECK_MESSAGE(fs::exists(directory / file), file);
    }
    CHECK(fs::equivalent(directory / "actor.pth", directory / "act_target.pth"));
    CHECK(fs::exists(directory / "critic.pth") == mlp);
    CHECK(fs::exists(directory / "cri_target.pth") == mlp);

    const Model model = load(directory);
    CHECK((model.layout && *model.layout == content.layout));
    CHECK(model.rules->min_qty[0] == content.rules.min_qty[0]);
    CHECK(model.critic.has_value() == mlp);
    for (const auto& [name, tensor] : content.actor) CHECK_MESSAGE(at::equal(model.actor.at(name), tensor), name);
    const at::Tensor states = some_states(21, 15);
    const at::Tensor actions = predict(model, states);
    CHECK(at::equal(actions, agents::deterministic(content.architecture,
                                                   agents::actor_mean(content.actor, content.architecture, states))));
    CHECK(at::equal(predict(load(directory / "actor.safetensors"), states), actions));
    CHECK(load(directory / "actor.safetensors").layout.has_value());
    for (const std::int64_t rows : {1, 8, 21}) {
      const double worst =
          deviation(run_torchscript(directory / "policy.pt", states.slice(0, 0, rows)), actions.slice(0, 0, rows));
      CHECK(worst <= kSameProcess);
    }
    CHECK(run_probe(model) <= kSameProcess);

    CHECK(model.trial->number == 195);
    CHECK(model.trial->value == 0.125);
    CHECK(model.trial->user_attributes == content.user_attributes);
    CHECK(model.trial->parameters["gamma"] == 0.97);
    CHECK(model.trial->parameters["batch_size"].is_number_integer());
    CHECK(model.trial->parameters["net_dimension"] == 8);
    CHECK(model.trial->parameters["lookback"] == 2);
    CHECK(model.trial->parameters["use_ft_encoder"] == !mlp);
    const Json metadata = Json::parse(read_file(directory / "metadata.json"));
    CHECK(metadata == Json{{"trial_number", 195}, {"study", "a study"}, {"sharpe", 0.125}});

    const Json& manifest = *model.manifest;
    CHECK(manifest["schema_version"] == 1);
    CHECK(manifest["name"].is_null());
    CHECK(manifest["training"]["seed"] == 7);
    CHECK(manifest["environment"]["profile"] == "cappuccino");
    CHECK(manifest["environment"]["fee_fraction"] == content.rules.fee_fraction);
    CHECK(manifest["probe"]["input"].size() == 8);
    CHECK(manifest["action"]["names"] == Json{"BTC/USD", "ETH/USD"});
  }
}

TEST_CASE("deployment: staging again replaces what was there, and equal content gives equal weights' files") {
  const Scratch scratch;
  stage(small_content(Network::mlp, 0.25), scratch / "a");
  std::ofstream(scratch / "a/.tmp-actor.pth-abc") << "left by a killed run";
  stage(small_content(Network::mlp, 0.75), scratch / "a");
  stage(small_content(Network::mlp, 0.75), scratch / "b");
  CHECK(tag_of(load(scratch / "a")) == 0.75);
  const Json a = files_of(scratch / "a"), b = files_of(scratch / "b");
  CHECK(a.size() == 8);
  for (const char* file : {"actor.pth", "act_target.pth", "critic.pth", "actor.safetensors", "best_trial"}) {
    CHECK_MESSAGE(a[file] == b[file], file);
  }
}

TEST_CASE("deployment: content whose parts do not fit each other is not written") {
  const Scratch scratch;
  const auto fault_of = [&](const std::function<void(Content&)>& change) {
    Content content = small_content(Network::mlp);
    change(content);
    try {
      stage(content, scratch / "bad");
    } catch (const Error& error) {
      CHECK_FALSE(fs::exists(scratch / "bad/manifest.json"));
      return error.fault();
    }
    return Fault::failed;
  };
  CHECK(fault_of([](Content& c) { c.layout.lookback = 1; }) == Fault::usage);
  CHECK(fault_of([](Content& c) { c.rules.assets = 3; }) == Fault::usage);
  CHECK(fault_of([](Content& c) { c.probe_states = some_states(7, 15); }) == Fault::usage);
  CHECK(fault_of([](Content& c) { c.architecture.activation = agents::Activation::tanh; }) == Fault::usage);
  CHECK(fault_of([](Content& c) { c.manifest_sections["files"] = 1; }) == Fault::usage);
  CHECK(fault_of([](Content& c) { c.manifest_sections["environment"]["fee_fraction"] = 0.5; }) == Fault::usage);
  CHECK(fault_of([](Content& c) { c.actor.at("net.2.bias")[3] = NAN; }) == Fault::incompatible);
  CHECK(fault_of([](Content& c) { c.actor = c.critic; }) == Fault::incompatible);
}

TEST_CASE("deployment: a directory that was written into does not verify") {
  const auto message_after = [](const std::function<void(const fs::path&)>& change) {
    const Scratch scratch;
    stage(small_content(Network::mlp), scratch / "v");
    change(scratch / "v");
    try {
      verify(scratch / "v");
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  CHECK(message_after([](const fs::path&) {}).empty());
  CHECK(message_after([](const fs::path& v) {
          std::ofstream(v / "best_trial", std::ios::app) << "x";
        }).find("best_trial has sha256") != std::string::npos);
  CHECK(message_after([](const fs::path& v) { fs::remove(v / "policy.pt"); }).find("policy.pt is missing") !=
        std::string::npos);
  CHECK(message_after([](const fs::path& v) {
          Json manifest = read_manifest(v).value();
          manifest["probe"]["output"][0][0] = manifest["probe"]["output"][0][0].get<double>() + 1e-3;
          write_manifest(v / kManifest, manifest);
        }).find("misses the probe") != std::string::npos);
  CHECK(message_after([](const fs::path& v) {
          Json manifest = read_manifest(v).value();
          manifest["architecture"]["width"] = 9;
          write_manifest(v / kManifest, manifest);
        }).find("says the architecture is") != std::string::npos);
}

TEST_CASE("deployment: the room it needs is about what it takes") {
  const Scratch scratch;
  const Content content = small_content(Network::mlp);
  stage(content, scratch / "v");
  std::uintmax_t bytes = 0;
  for (const auto& entry : fs::directory_iterator(scratch / "v")) {
    if (entry.path().filename() != "act_target.pth") bytes += entry.file_size();
  }
  CHECK(static_cast<std::int64_t>(bytes) <= staged_bytes(content.architecture));
}
