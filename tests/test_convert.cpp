#include <ATen/TensorOperators.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tanh.h>
#include <doctest/doctest.h>
#include <sys/wait.h>

#include <cstdlib>

#include "formats/npz.h"
#include "platform/atomic_file.h"
#include "platform/error.h"
#include "platform/text.h"
#include "random_market.h"
#include "release/convert.h"
#include "release/inspect.h"
#include "release/surgery.h"
#include "release_fixture.h"
#include "seeded.h"

using namespace ristretto;
using namespace ristretto::release;
namespace fs = std::filesystem;

namespace {

// The same sums in another order: of double, and of float32 between inputs of order one.
constexpr double kDoubleRounding = 1e-12, kFloatRounding = 1e-5;
constexpr double kHidden = 1e-8;  // what tokens of a key bias of -25 still do

const fs::path kGolden = fs::path(RISTRETTO_GOLDEN) / "deployments";
const fs::path kBars = fs::path(RISTRETTO_SOURCE) / "data/crypto_1h";

agents::Architecture architecture_for(const env::Layout& layout, agents::Network network) {
  agents::Architecture architecture;
  architecture.network = network;
  architecture.observation = layout.size();
  architecture.width = 16;
  architecture.actions = layout.assets_count();
  architecture.encoder.d_token = 8;
  architecture.encoder.blocks = 2;
  architecture.encoder.heads = 2;
  return architecture;
}

agents::Policy policy_for(const env::Layout& layout, agents::Network network = agents::Network::mlp) {
  return agents::make_policy(architecture_for(layout, network), {.seed = 3, .log_std = -0.5, .policy_gain = 1.0},
                             at::kCPU);
}

// The old states' values under the new layout's names and scales; `fill` [N, S'] where a column is new.
at::Tensor renamed(const at::Tensor& states, const Mapping& mapping, const at::Tensor& fill) {
  const std::vector<double> before = mapping.from.column_scales(), after = mapping.to.column_scales();
  at::Tensor out = fill.clone();
  for (std::size_t j = 0; j < mapping.columns.size(); ++j) {
    const std::int64_t old = mapping.columns[j];
    if (old < 0) continue;
    const double factor = after[j] / before[static_cast<std::size_t>(old)];
    out.select(1, static_cast<std::int64_t>(j)).copy_(states.select(1, old) * factor);
  }
  return out;
}

at::Tensor random_states(std::int64_t columns) { return at::randn({64, columns}, at::kDouble); }

// Largest difference of the two networks' actions on assets that both know, in double.
double deviation(const agents::Policy& old, const Mapping& mapping, const std::vector<double>& constants,
                 const at::Tensor& states, const at::Tensor& fill) {
  const agents::Architecture now = carried(old.architecture, mapping);
  const ft_transformer::Weights actor = carried(old.actor, old.architecture, mapping, constants, true);
  actor.require_same_shapes(agents::actor_template(now), "the carried actor");
  const at::Tensor before = agents::actor_mean(old.actor.to(at::kCPU, at::kDouble), old.architecture, states);
  const at::Tensor after = agents::actor_mean(actor.to(at::kCPU, at::kDouble), now, renamed(states, mapping, fill));
  double worst = 0;
  for (std::size_t i = 0; i < mapping.actions.size(); ++i) {
    const at::Tensor mean = after.select(1, static_cast<std::int64_t>(i));
    if (mapping.actions[i] < 0) {
      CHECK(mean.abs().max().item<double>() == 0);  // nothing is done about a new asset
    } else {
      worst = std::max(worst, (mean - before.select(1, mapping.actions[i])).abs().max().item<double>());
    }
  }
  return worst;
}

const env::Layout kOld{{"BTC/USD", "ETH/USD"}, {"close", "rsi", "volume"}, 2, {-11, -8, -14}};

struct Ran {
  int code;
  std::string out, err;
};

Ran run(const std::string& arguments, const Scratch& scratch) {
  const fs::path out = scratch / "stdout", err = scratch / "stderr";
  const int status = std::system(str("cd '" RISTRETTO_SOURCE "' && '" RISTRETTO_PROGRAM "' ", arguments, " >'",
                                     out.string(), "' 2>'", err.string(), "'")
                                     .c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read_file(out), read_file(err)};
}

Conversion converted(const fs::path& source, const std::string& to, int lookback, const fs::path& out,
                     bool allow_inexact = false) {
  ConvertRequest request;
  request.source = source;
  request.to = to;
  request.lookback = lookback;
  request.bars = kBars;
  request.out = out;
  request.allow_inexact = allow_inexact;
  return convert(request);
}

}  // namespace

TEST_CASE("convert: an MLP's columns go by name, new ones weigh nothing, and the function stays the same") {
  const agents::Policy old = policy_for(kOld);
  env::Layout longer = kOld, more = kOld, rearranged = kOld, rescaled = kOld, with_asset = kOld;
  longer.lookback = 5;
  more.features = {"open", "close", "macd", "rsi", "volume", "dx"};
  rearranged.assets = {"ETH/USD", "BTC/USD"};
  rearranged.features = {"volume", "close", "rsi"};
  rescaled.scales = {-9, -8, -16};
  with_asset.assets = {"ETH/USD", "LTC/USD", "BTC/USD"};
  for (const env::Layout& to : {longer, more, rearranged, rescaled, with_asset}) {
    const Mapping mapping = mapping_of(kOld, to);
    CAPTURE(join(to.names(), " "));
    CHECK(mapping.removed.empty());
    CHECK(deviation(old, mapping, {}, random_states(kOld.size()), random_states(to.size())) < kDoubleRounding);
    const ft_transformer::Weights critic = carried(old.critic, old.architecture, mapping, {}, /*actor=*/false);
    critic.require_same_shapes(agents::critic_template(carried(old.architecture, mapping)), "the carried critic");
    const std::vector<std::string> names = to.names(), before = kOld.names();
    for (std::size_t j = 0; j < names.size(); ++j) {
      const auto same = std::find(before.begin(), before.end(), names[j]);
      CHECK(mapping.columns[j] == (same == before.end() ? -1 : same - before.begin()));
    }
  }
  CHECK(hash_of(mapping_of(kOld, longer)) != hash_of(mapping_of(kOld, more)));
}

TEST_CASE("convert: a removed column that is constant goes into the bias; another changes the answer") {
  const agents::Policy old = policy_for(kOld);
  env::Layout fewer = kOld;
  fewer.features = {"close", "volume"};
  const Mapping mapping = mapping_of(kOld, fewer);
  std::vector<std::string> removed;
  for (const std::int64_t j : mapping.removed) removed.push_back(kOld.names()[static_cast<std::size_t>(j)]);
  CHECK(join(removed, " ") == "BTC/USD:rsi@0 ETH/USD:rsi@0 BTC/USD:rsi@1 ETH/USD:rsi@1");
  const std::vector<double> constants{0.5, -0.25, 0.125, 2};
  at::Tensor states = random_states(kOld.size());
  CHECK(deviation(old, mapping, constants, states, random_states(fewer.size())) > 0.01);
  for (std::size_t k = 0; k < constants.size(); ++k) states.select(1, mapping.removed[k]).fill_(constants[k]);
  // The bias is float32.
  CHECK(deviation(old, mapping, constants, states, random_states(fewer.size())) < kFloatRounding);
}

TEST_CASE("convert: an FT-Transformer's tokens go by name; a new one is hidden by its key bias") {
  const agents::Policy old = policy_for(kOld, agents::Network::ft_transformer);
  env::Layout rearranged = kOld, more = kOld;
  rearranged.assets = {"ETH/USD", "BTC/USD"};
  rearranged.features = {"volume", "close", "rsi"};
  rearranged.scales.tech_exp = -12;
  more.lookback = 3;
  const at::Tensor states = random_states(kOld.size());
  CHECK(deviation(old, mapping_of(kOld, rearranged), {}, states, states) < kDoubleRounding);
  CHECK_FALSE(carried(old.architecture, mapping_of(kOld, rearranged)).encoder.key_bias);
  const Mapping longer = mapping_of(kOld, more);
  const at::Tensor fill = random_states(more.size());
  CHECK(deviation(old, longer, {}, states, fill) < kHidden);

  // By nothing else: unhidden the new tokens count.
  agents::Policy now{carried(old.architecture, longer), carried(old.actor, old.architecture, longer, {}, true), {}};
  now.actor = now.actor.to(at::kCPU, at::kDouble);
  const at::Tensor seen = renamed(states, longer, fill);
  const at::Tensor hidden = agents::actor_mean(now.actor, now.architecture, seen);
  const at::Tensor bias = now.actor.at("encoder.key_bias").clone();
  now.actor.at("encoder.key_bias").zero_();
  CHECK((agents::actor_mean(now.actor, now.architecture, seen) - hidden).abs().max().item<double>() > 1e-3);
  // Carried once more, what was hidden stays so and what was not stays seen.
  now.actor.at("encoder.key_bias").copy_(bias);
  env::Layout most = more;
  most.lookback = 4;
  const Mapping again = mapping_of(more, most);
  const at::Tensor states_of_more = random_states(more.size());
  CHECK(deviation(now, again, {}, states_of_more, random_states(most.size())) < kHidden);
}

TEST_CASE("convert: Adam's moments are carried as the gradients would be, new entries 0") {
  env::Layout to = kOld;
  to.lookback = 3;
  to.assets = {"ETH/USD", "BTC/USD"};
  to.scales = {-10, -8, -12};
  const Mapping mapping = mapping_of(kOld, to);
  for (const agents::Network network : {agents::Network::mlp, agents::Network::ft_transformer}) {
    const agents::Policy old = policy_for(kOld, network);
    // A gradient of the old network, and of the carried one at the same states with new inputs of zero.
    const at::Tensor states = random_states(kOld.size()).to(at::kFloat), target = at::randn({64, 2}, at::kFloat);
    agents::Policy now{carried(old.architecture, mapping), carried(old.actor, old.architecture, mapping, {}, true), {}};
    now.actor.require_grad(true);
    const at::Tensor seen = renamed(states, mapping, at::randn({64, to.size()}, at::kFloat) * 0);
    ft_transformer::Weights gradients, squares, expected;
    const at::Tensor turned = target.flip(1);  // the assets are exchanged
    (agents::actor_mean(old.actor, old.architecture, states) * target).sum().backward();
    if (network == agents::Network::mlp)
      (agents::actor_mean(now.actor, now.architecture, seen) * turned).sum().backward();
    for (const auto& [name, tensor] : old.actor) {
      const at::Tensor gradient = tensor.grad().defined() ? tensor.grad() : tensor.detach() * 0;
      gradients.add(name, gradient);
      squares.add(name, gradient * gradient);
    }
    const ft_transformer::Weights first = carried_moments(gradients, old.architecture, mapping, true, 1);
    const ft_transformer::Weights second = carried_moments(squares, old.architecture, mapping, true, 2);
    first.require_same_shapes(agents::actor_template(now.architecture), "the first moments");
    second.require_same_shapes(agents::actor_template(now.architecture), "the second moments");
    for (const auto& [name, tensor] : first) {
      CAPTURE(name);
      const double size = tensor.abs().max().item<double>() + 1e-30;
      CHECK((second.at(name) - tensor * tensor).abs().max().item<double>() < kFloatRounding * size * size);
      // With new inputs of zero the gradient of their weights is 0 as well, so all of it must agree.
      if (network == agents::Network::mlp && name != "a_std_log") {
        CHECK((tensor - now.actor.at(name).grad()).abs().max().item<double>() < kFloatRounding * size);
      }
    }
  }
}

TEST_CASE("convert: the proof tells the same trades from others, and needs 10,000 bars") {
  const env::Market market = tests::random_market({2500, 2500, 2500, 2800});
  const env::Layout from = tests::layout_of(market);
  env::Layout to = from;
  to.lookback = 3;
  const Mapping mapping = mapping_of(from, to);
  const agents::Policy old = policy_for(from);
  const Side before{old.architecture, old.actor, tests::rules_of(market)};
  Side after{carried(old.architecture, mapping), carried(old.actor, old.architecture, mapping, {}, true),
             tests::rules_of(market, 3)};
  const ConversionProof same = prove(mapping, before, after, market);
  CHECK(same.identical());
  CHECK(same.bars >= kProofBars);
  CHECK(same.orders_before > 100);
  CHECK(same.value_difference < kFloatRounding);
  CHECK(same.states.size(1) == to.size());

  after.actor.at("net.0.weight").select(1, to.size() - 1).fill_(1000);  // of a column of size 1e-4
  const ConversionProof other = prove(mapping, before, after, market);
  CHECK_FALSE(other.identical());
  CHECK(other.differing_trades > 0);
  CHECK(other.state_difference > kConvertedTolerance);

  const env::Market little = tests::random_market({2500, 2500});
  CHECK_THROWS_WITH_AS(prove(mapping, before, after, little), doctest::Contains("at least 10,000"), Error);
}

TEST_CASE("convert: what cannot work is said in one sentence, with its exit code") {
  const Scratch scratch;
  const auto path = [](const char* name) { return "'" + (kGolden / name).string() + "'"; };
  const std::string out = " --out '" + (scratch / "new").string() + "' ";
  const auto expect = [&](const std::string& arguments, int code, const char* part) {
    const Ran ran = run("convert " + arguments, scratch);
    CAPTURE(ran.err);
    CHECK(ran.code == code);
    CHECK(ran.err.find(part) != std::string::npos);
    CHECK_FALSE(fs::exists(scratch / "new"));
  };
  expect(path("mlp_85") + out, 2, "needs --to LAYOUT");
  expect(path("mlp_85") + " --to alpaca-14", 2, "needs --out DIR");
  expect(path("mlp_85") + out + "--to alpaca-15", 2, "alpaca-14");
  expect(path("mlp_85") + out + "--to 239", 2, "--to alpaca-11 --lookback 3");
  expect(path("mlp_85") + out + "--to alpaca-11", 2, "already");
  expect(path("mlp_85") + out + "--to alpaca-14 --lookback 0", 2, "lookback is 0");
  expect(path("mlp_85") + " --to alpaca-14 --out '" + scratch.path().string() + "'", 2, "exists already");
  expect(path("broken/nan_weight") + out + "--to alpaca-14", 4, "NaN");
  expect(path("broken/no_actor") + out + "--to alpaca-14", 4, "no actor.pth");
  expect(path("broken/truncated_actor") + out + "--to alpaca-14", 4, "zip archive");
  expect(path("broken/missing_best_trial") + out + "--to alpaca-14 --lookback 2", 4, "has no best_trial");
  expect(path("mlp_85") + out + "--to alpaca-14 --trained-assets BTC/USD", 2, "--trained-assets");
}

TEST_SUITE("slow") {
  TEST_CASE("convert: an 85-value model trades identically over the bundled bars as 239 and as 498 values") {
    const Scratch scratch;
    for (const auto& [to, lookback, size, by] :
         {std::tuple{"alpaca-11", 3, 239, "ristretto"}, std::tuple{"alpaca-14", 5, 498, "cappuccino"}}) {
      const fs::path out = scratch / to;
      const Conversion conversion = converted(kGolden / "mlp_85", to, lookback, out);
      CAPTURE(text_of(conversion.proof));
      CHECK(conversion.kind == Conversion::Kind::exact);
      CHECK(conversion.proof.identical());
      CHECK(conversion.proof.bars > 19'000);
      CHECK(conversion.proof.orders_before > 1000);
      verify(out);
      const Model model = load(out);
      CHECK(model.architecture.observation == size);
      CHECK(model.critic);
      CHECK(model.manifest->at("conversion")["proof"]["identical"] == true);
      CHECK(model.manifest->at("conversion")["mapping"]["columns"].size() == static_cast<std::size_t>(size));
      CHECK(inspect(out).served_by == by);

      // And back: what is gone never weighed anything.
      const fs::path back = scratch / (std::string(to) + "-back");
      CHECK(converted(out, "alpaca-11", 1, back).proof.identical());
      const Model again = load(back), original = load(kGolden / "mlp_85");
      for (const auto& [name, tensor] : original.actor) CHECK(at::equal(again.actor.at(name), tensor));
    }
  }

  TEST_CASE("convert: what is not exact is refused with how much it is not, unless it is allowed") {
    const Scratch scratch;
    const fs::path out = scratch / "new";
    const std::string arguments = "--out '" + out.string() + "' ";
    const auto path = [](const char* name) { return "convert '" + (kGolden / name).string() + "' "; };
    const Ran fewer = run(path("mlp_106") + arguments + "--to alpaca-11", scratch);
    CHECK(fewer.code == 3);
    CHECK(fewer.err.find("AAVE/USD:atr_regime_shift@0") != std::string::npos);
    CHECK(fewer.err.find("actions differ by at most") != std::string::npos);
    CHECK_FALSE(fs::exists(out));
    const Ran dry = run(path("mlp_106") + arguments + "--to alpaca-11 --allow-inexact --dry-run --json", scratch);
    CHECK(dry.code == 0);
    CHECK_FALSE(fs::exists(out));
    const Json document = Json::parse(dry.out);
    CHECK(document["kind"] == "inexact");
    CHECK(document["exact"] == false);
    CHECK(document["removed_constant"].size() == 7);  // range_breakout_volume is 0 always
    CHECK(document["removed"].size() == 14);

    const Ran more = run(path("ft_85") + arguments + "--to alpaca-14", scratch);
    CHECK(more.code == 0);
    CHECK(load(out).manifest->at("conversion")["kind"] == "exact");
    const Ran allowed = run(
        str("convert '", out.string(), "' --to alpaca-11 --out '", (scratch / "back").string(), "' --allow-inexact"),
        scratch);
    CHECK(allowed.code == 0);
    CHECK(load(scratch / "back").manifest->at("conversion")["kind"] == "warm start");
  }

  TEST_CASE("convert: another formula of a constant feature and another order of assets") {
    const Scratch scratch;
    const Conversion formula = converted(kGolden / "mlp_106", "alpaca-14b", 1, scratch / "b");
    CHECK(formula.kind == Conversion::Kind::exact);
    CHECK(formula.frozen.size() == 7);
    CHECK(formula.proof.identical());

    ConvertRequest request;
    request.source = kGolden / "mlp_85";
    request.to = "alpaca-11";
    request.assets = processor_order();
    request.bars = kBars;
    request.out = scratch / "order";
    request.allow_inexact = true;  // of orders that the cash does not suffice for, the first asset's are served first
    const Conversion order = convert(request);
    CHECK(order.kind == Conversion::Kind::exact);
    CHECK(order.proof.state_difference <= kConvertedTolerance);
    const Model model = load(scratch / "order"), original = load(kGolden / "mlp_85");
    const formats::NamedArrays expected = formats::read_npz(kGolden / "mlp_85/expected.npz");
    const at::Tensor states = ft_transformer::tensor_of(*formats::find(expected, "states"));
    const at::Tensor actions = ft_transformer::tensor_of(*formats::find(expected, "action"));
    const Mapping mapping = mapping_of(*own_layout(original), *model.layout);
    const at::Tensor found = predict(model, renamed(states, mapping, states));
    for (std::size_t i = 0; i < mapping.actions.size(); ++i) {
      const at::Tensor difference =
          found.select(1, static_cast<std::int64_t>(i)) - actions.select(1, mapping.actions[i]);
      CHECK(difference.abs().max().item<double>() <= kConvertedTolerance);
    }
  }
}
