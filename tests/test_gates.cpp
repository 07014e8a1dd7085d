#include <doctest/doctest.h>

#include <fstream>
#include <functional>
#include <limits>

#include "agents/policy.h"
#include "env/layout.h"
#include "platform/error.h"
#include "release/gates.h"
#include "release/served_actor.h"
#include "release_fixture.h"

using namespace ristretto;
using namespace ristretto::release;
using agents::Network;

namespace {

IntegrityInputs good_inputs(const std::filesystem::path& directory) {
  IntegrityInputs inputs{directory, small_layout()};
  inputs.orders = 12;
  inputs.turnover = 1.5;
  inputs.trading_bars = 0.25;
  inputs.environment_steps = inputs.claimed_steps = 4096;
  inputs.optimizer_steps = 20;
  inputs.relative_weight_change = 0.1;
  return inputs;
}

// The names of the gates that refused.
std::string refused(const std::vector<GateResult>& gates) {
  std::string names;
  for (const GateResult& gate : gates) {
    if (gate.passed) continue;
    CHECK_FALSE(gate.reason.empty());
    names += (names.empty() ? "" : " ") + gate.name;
  }
  return names;
}

}  // namespace

TEST_CASE("gates: what was staged from a trained policy passes all twelve") {
  const Scratch scratch;
  stage(small_content(Network::mlp), scratch / "v");
  const auto gates = integrity_gates(good_inputs(scratch / "v"));
  CHECK(gates.size() == 12);
  CHECK_MESSAGE(all_passed(gates), refusals(gates));
  CHECK(refusals(gates).empty());
  const Json expected{{"name", "orders"},           {"passed", true}, {"verdict", "passed"}, {"value", "12 orders"},
                      {"threshold", "at least 10"}, {"reason", ""}};
  CHECK(json_of(gates)[4] == expected);
}

TEST_CASE("gates: each refuses what it is there for, and that alone") {
  const Scratch scratch;
  stage(small_content(Network::mlp), scratch / "v");
  const auto with = [&](const std::function<void(IntegrityInputs&)>& change) {
    IntegrityInputs inputs = good_inputs(scratch / "v");
    change(inputs);
    return refused(integrity_gates(inputs));
  };
  CHECK(with([](auto& in) { in.orders = 9; }) == "orders");
  CHECK(with([](auto& in) { in.turnover = 0.09; }) == "turnover");
  CHECK(with([](auto& in) { in.turnover = std::numeric_limits<double>::quiet_NaN(); }) == "turnover");
  CHECK(with([](auto& in) { in.trading_bars = 0.0009; }) == "trading_bars");
  CHECK(with([](auto& in) { in.environment_steps = in.claimed_steps = 999; }) == "steps");
  CHECK(with([](auto& in) { in.environment_steps = 4000; }) == "steps");
  CHECK(with([](auto& in) { in.environment_steps = in.claimed_steps = 0; }) == "steps");
  CHECK(with([](auto& in) { in.optimizer_steps = 0; }) == "optimizer_steps");
  CHECK(with([](auto& in) { in.relative_weight_change = 0; }) == "weights_changed");
  CHECK(with([](auto& in) { in.relative_weight_change = std::numeric_limits<double>::quiet_NaN(); }) ==
        "weights_changed");
  CHECK(with([](auto& in) { in.environment_layout.scales.cash_exp = -12; }) == "layout");
  CHECK(with([](auto& in) { std::swap(in.environment_layout.assets[0], in.environment_layout.assets[1]); }) ==
        "layout");
  CHECK(with([](auto& in) { in.directory /= "absent"; }) == "complete loads finite probe differs_from_served layout");
  std::ofstream(scratch / "v/best_trial.old") << "x";
  CHECK(with([](auto&) {}) == "complete");
}

TEST_CASE("gates: the reason of a layout that differs names the difference") {
  const Scratch scratch;
  stage(small_content(Network::ft_transformer), scratch / "v");
  IntegrityInputs inputs = good_inputs(scratch / "v");
  inputs.environment_layout.features[1] = "macd";
  CHECK(refusals(integrity_gates(inputs)) ==
        "layout: its layout is not the environment's: it lacks the features macd; it has the features rsi");
  inputs.environment_layout = small_layout();
  inputs.environment_layout.lookback = 1;
  CHECK(refusals(integrity_gates(inputs)) ==
        "layout: its layout is not the environment's: its lookback is 2, expected 1");
}

TEST_CASE("gates: a directory of the existing system without a manifest does not pass") {
  const auto gates =
      integrity_gates(good_inputs(std::filesystem::path(RISTRETTO_GOLDEN) / "deployments/broken/nan_weight"));
  CHECK(refused(gates) == "complete finite probe layout");
}

TEST_CASE("gates: the same weights again do not replace what is served") {
  const Scratch scratch;
  stage(small_content(Network::mlp), scratch / "v");
  const auto against = [&](const Content& served) {
    std::filesystem::remove_all(scratch / "served");
    stage(served, scratch / "served");
    IntegrityInputs inputs = good_inputs(scratch / "v");
    inputs.served = scratch / "served";
    return refusals(integrity_gates(inputs));
  };
  CHECK(against(small_content(Network::mlp))
            .starts_with("differs_from_served: 0, expected at least 1e-06: these are the weights of"));
  IntegrityInputs same = good_inputs(scratch / "v");
  same.served = scratch / "served";
  CHECK(integrity_gates(same)[10].value == "0");
  Content moved = small_content(Network::mlp);
  moved.actor = moved.actor.clone();
  moved.actor.at("net.2.weight").mul_(1.001);
  CHECK(against(moved).empty());
  CHECK(against(small_content(Network::ft_transformer)).empty());
}

TEST_CASE("gates: NaN in what is served keeps nobody from its place") {
  const Scratch scratch;
  const std::filesystem::path served = std::filesystem::path(RISTRETTO_GOLDEN) / "deployments/broken/nan_weight";
  const Model broken = load(served);
  Content content;
  content.architecture = broken.architecture;
  content.layout = served_layout(broken).value();
  content.rules.assets = static_cast<int>(content.layout.assets.size());
  content.rules.lookback = static_cast<int>(content.layout.lookback);
  content.actor = broken.actor.clone();
  for (const auto& [name, weight] : content.actor) weight.nan_to_num_();
  content.probe_states = some_states(kMinimumProbeRows, content.layout.size());
  stage(content, scratch / "v");
  IntegrityInputs inputs = good_inputs(scratch / "v");
  inputs.environment_layout = content.layout;
  inputs.served = served;
  CHECK(refusals(integrity_gates(inputs)).empty());
}

TEST_CASE("gates: the thresholds of integrity are those of the file") {
  const Scratch scratch;
  stage(small_content(Network::mlp), scratch / "v");
  std::ofstream(scratch / "gates.ini") << "orders_minimum = 13\nsteps_minimum = 5000\nweight_change_minimum = 0.2\n";
  CHECK(refused(integrity_gates(good_inputs(scratch / "v"), read_thresholds(scratch / "gates.ini"))) ==
        "orders steps weights_changed");
}

TEST_CASE("gates: what is served is empty, damaged, unproven or proven by its files and its manifest") {
  CHECK((served_state(std::nullopt) == Served::empty));
  const Scratch scratch;
  stage(small_content(Network::mlp), scratch / "v");
  CHECK((served_state(scratch / "v") == Served::unproven));
  Json manifest = read_manifest(scratch / "v").value();
  manifest["status"] = "proven";
  write_manifest(scratch / "v" / kManifest, manifest);
  CHECK((served_state(scratch / "v") == Served::proven));
  std::ofstream(scratch / "v/actor.pth", std::ios::app) << "x";
  CHECK((served_state(scratch / "v") == Served::damaged));
}

TEST_CASE("gates: an empty or damaged slot takes the first that passes integrity, and none that does not") {
  for (const Served served : {Served::empty, Served::damaged}) {
    CHECK(decide(served, true, std::nullopt, std::nullopt).serve);
    CHECK(decide(served, true, std::nullopt, std::nullopt).status == "unproven");
    CHECK_FALSE(decide(served, false, 1.0, std::nullopt).serve);
  }
}

TEST_CASE("gates: an unproven version gives way only to what is better on the same unseen bars") {
  const auto serves = [](std::optional<double> candidate, std::optional<double> champion) {
    return decide(Served::unproven, true, candidate, champion).serve;
  };
  CHECK(serves(0.2, 0.1));
  CHECK(decide(Served::unproven, true, 0.2, 0.1).status == "better, unproven");
  CHECK_FALSE(serves(0.1, 0.1));
  CHECK_FALSE(serves(0.1, 0.2));
  CHECK_FALSE(serves(std::nullopt, 0.2));
  CHECK_FALSE(serves(0.2, std::nullopt));
  CHECK_FALSE(serves(std::numeric_limits<double>::quiet_NaN(), 0.2));
  CHECK_FALSE(serves(std::numeric_limits<double>::infinity(), 0.2));
  CHECK_FALSE(decide(Served::unproven, false, 0.2, 0.1).serve);
  CHECK(decide(Served::unproven, true, 0.2, std::nullopt).reason.find("no evidence") != std::string::npos);
}

TEST_CASE("gates: a proven version never gives way to an unproven one") {
  CHECK_FALSE(decide(Served::proven, true, 100.0, -100.0).serve);
  CHECK(decide(Served::proven, true, 100.0, -100.0).status == "refused");
}

TEST_CASE("gates: evidence replaces what is served, proven or not, and never integrity") {
  for (const Served served : {Served::empty, Served::damaged, Served::unproven, Served::proven}) {
    CHECK(decide(served, true, 0.1, 0.2, /*passed_evidence=*/true).serve);
    CHECK(decide(served, true, std::nullopt, std::nullopt, true).status == "proven");
    CHECK_FALSE(decide(served, false, 0.2, 0.1, true).serve);
  }
}
