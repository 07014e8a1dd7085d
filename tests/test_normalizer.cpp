#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <doctest/doctest.h>

#include <limits>

#include "agents/normalizer.h"
#include "agents/policy.h"
#include "env/environment.h"
#include "formats/npz.h"
#include "ft_transformer/weights.h"
#include "learning_fixtures.h"
#include "platform/error.h"

namespace {

using namespace ristretto;
using agents::Normalizer;
using tests::small_layout;
using tests::small_market;

constexpr double kExact = 1e-12;    // double arithmetic in another order of operations
constexpr double kRounding = 2e-6;  // float32 rounding of normalised values of size 1 to 5
constexpr double kFold = 1e-5;      // algorithms.md 2.2: float32 weights and products of unscaled inputs

double largest(const at::Tensor& difference) { return difference.abs().max().item<double>(); }

at::Tensor golden(const formats::NamedArrays& arrays, const char* name) {
  return ft_transformer::tensor_of(*formats::find(arrays, name));
}

formats::NamedArrays norm_file() { return formats::read_npz(RISTRETTO_GOLDEN "/algorithms/norm.npz"); }

Normalizer make(const env::Market& market, const env::Layout& layout) {
  return Normalizer(market, layout, tests::account_prior(layout));
}

}  // namespace

TEST_CASE("moments: mean, variance and count of batches as the golden file's") {
  const formats::NamedArrays file = norm_file();
  const at::Tensor x = golden(file, "x"), states = golden(file, "states");
  agents::RunningMoments moments{at::zeros({3}, at::kDouble), at::ones({3}, at::kDouble), 1e-4};
  for (std::int64_t t = 0; t < x.size(0); ++t) {
    moments.update(x[t]);
    CHECK(largest(moments.mean - states[t].narrow(0, 0, 3)) <= kExact);
    CHECK(largest(moments.variance - states[t].narrow(0, 3, 3)) <= kExact);
    CHECK(moments.count == doctest::Approx(states[t][6].item<double>()).epsilon(kExact));
  }
}

TEST_CASE("moments: from nothing they are those of all samples, in whatever batches these came") {
  const at::Tensor samples = at::randn({50, 4, 2}, tests::generator(3)) * 100 + 7;
  agents::RunningMoments parts{at::zeros({2}, at::kDouble), at::zeros({2}, at::kDouble), 0}, whole = parts;
  parts.update(samples.narrow(0, 0, 13));
  parts.update(samples.narrow(0, 13, 1));
  parts.update(samples.narrow(0, 14, 36));
  whole.update(samples);
  const double kRelative = 1e-10;  // another order of 200 additions
  CHECK(largest(parts.mean / whole.mean - 1) <= kRelative);
  CHECK(largest(parts.variance / whole.variance - 1) <= kRelative);
  CHECK(parts.count == 200);
}

TEST_CASE("rewards: normalised as the golden file's, and the moments too") {
  const formats::NamedArrays file = norm_file();
  agents::RewardNormalizer normalizer(4, 0.99, std::numeric_limits<double>::infinity());
  const at::Tensor rewards = golden(file, "rew"), ended = golden(file, "term");
  const at::Tensor first = normalizer.normalize(rewards.narrow(0, 0, 6), ended.narrow(0, 0, 6));
  const at::Tensor second = normalizer.normalize(rewards.narrow(0, 6, 14), ended.narrow(0, 6, 14));
  CHECK(largest(at::cat({first, second}) - golden(file, "rew_norm")) <= kExact);
  for (const auto& [name, tensor] : normalizer.state()) {
    if (name == "running_return") continue;
    const std::string key = name == "variance" ? "rew_var" : "rew_" + name;
    CHECK(tensor.item<double>() == doctest::Approx(golden(file, key.c_str()).item<double>()).epsilon(kExact));
  }
}

TEST_CASE("rewards: clipped, of the type that came in, and the same after a restore") {
  const at::Tensor calm = at::randn({50, 3}, tests::generator(1)), none = at::zeros({50, 3}, at::kBool);
  agents::RewardNormalizer first(3, 0.9), second(3, 0.9);
  first.normalize(calm, none);
  second.restore(first.state());
  at::Tensor wild = calm.clone();
  wild[49].fill_(1e6);
  const at::Tensor out = first.normalize(wild, none);
  CHECK((out.scalar_type() == at::kFloat));
  CHECK(out.max().item<float>() == 10.0f);
  CHECK(out.equal(second.normalize(wild, none)));
  CHECK_THROWS_AS(agents::RewardNormalizer(4, 0.9).restore(first.state()), Error);
}

TEST_CASE("normalizer: every column of every lag has the training bars' mean 0 and deviation 1") {
  const env::Layout layout = small_layout(3);
  const env::Market market = small_market(layout, 200, 1);
  const Normalizer normalizer = make(market, layout);
  const at::Tensor bar = at::arange(2, 200, at::kInt);
  const at::Tensor x = normalizer.matrix({tests::random_accounts(198, layout, 5), bar});
  REQUIRE(x.sizes() == at::IntArrayRef{198, layout.size()});
  const at::Tensor tech = market.tech.to(at::kDouble);
  const at::Tensor expected = (tech - tech.mean(0)) / tech.std(0, /*unbiased=*/false);
  for (int lag = 0; lag < 3; ++lag) {
    const at::Tensor seen = x.narrow(1, 3 + lag * layout.market_columns(), layout.market_columns());
    CHECK(largest(seen - expected.narrow(0, 2 - lag, 198)) <= kRounding);
  }
}

TEST_CASE("normalizer: only bars of segments count, and another market is seen with the same statistics") {
  const env::Layout layout = small_layout(1);
  env::Market market = small_market(layout, 120, 1);
  const Normalizer whole = make(market.with_segments({{0, 50}, {70, 120}}), layout);
  market.tech.narrow(0, 50, 20).fill_(1e9);
  const Normalizer gap = make(market.with_segments({{0, 50}, {70, 120}}), layout);
  const env::Observation seen{tests::random_accounts(40, layout, 5), at::arange(0, 40, at::kInt)};
  CHECK(whole.matrix(seen).equal(gap.matrix(seen)));

  const env::Market other = small_market(layout, 60, 2);
  const at::Tensor there = gap.for_market(other).matrix(seen).narrow(1, 3, 6).to(at::kDouble);
  const at::Tensor train = at::cat({market.tech.narrow(0, 0, 50), market.tech.narrow(0, 70, 50)}).to(at::kDouble);
  const at::Tensor expected = (other.tech.narrow(0, 0, 40) - train.mean(0)) / train.std(0, false);
  CHECK(largest(there - expected) <= kRounding);
  CHECK_THROWS_AS(gap.for_market(small_market(env::Layout{{"BTC/USD"}, layout.features, 1, {}}, 60, 2)), Error);
}

TEST_CASE("normalizer: a constant column is divided by 1, a nearly constant one by 1e-6 of its mean") {
  const env::Layout layout = small_layout(1);
  env::Market market = small_market(layout, 100, 1);
  market.tech.select(1, 0).fill_(0.1f);
  market.tech.select(1, 1).fill_(100.0f);
  market.tech.select(1, 1).narrow(0, 0, 1).fill_(100.0001f);  // deviation about 8e-6, below 1e-6 * 100
  const Normalizer normalizer = make(market, layout);
  env::Market other = market;
  other.tech = market.tech + 1;
  const at::Tensor x =
      normalizer.for_market(other).matrix({tests::random_accounts(1, layout, 5), at::full({1}, 50, at::kInt)});
  CHECK(x[0][3].item<double>() == doctest::Approx(1).epsilon(1e-5));
  CHECK(x[0][4].item<double>() == doctest::Approx(1e4).epsilon(1e-3));
}

TEST_CASE("normalizer: the account's statistics begin with the prior and follow the accounts") {
  const env::Layout layout = small_layout(1);
  Normalizer normalizer = make(small_market(layout, 100, 1), layout);
  const env::Observation seen{tests::random_accounts(3000, layout, 5), at::zeros({3000}, at::kInt)};
  CHECK(normalizer.matrix(seen).narrow(1, 0, 3).equal(seen.account));
  normalizer.update_account(seen.account.view({30, 100, 3}));
  const at::Tensor after = normalizer.matrix(seen).narrow(1, 0, 3);
  const double kPrior = 0.02;  // the prior weighs 1 in 3,001, and is a deviation of sqrt 12 / 2 away
  CHECK(largest(after.mean(0)) <= kPrior);
  CHECK(largest(after.std(0, false) - 1) <= kPrior);
}

TEST_CASE("normalizer: the same matrix after a restore; another layout's state is refused") {
  const env::Layout layout = small_layout(2);
  Normalizer first = make(small_market(layout, 100, 1), layout);
  first.update_account(tests::random_accounts(64, layout, 6));
  const env::Market other = small_market(layout, 100, 2);
  Normalizer second = make(other, layout);
  const env::Observation seen{tests::random_accounts(9, layout, 5), at::arange(50, 59, at::kInt)};
  CHECK_FALSE(first.for_market(other).matrix(seen).equal(second.matrix(seen)));
  second.restore(first.state());
  CHECK(first.for_market(other).matrix(seen).equal(second.matrix(seen)));
  first.update_account(tests::random_accounts(64, layout, 7));
  second.update_account(tests::random_accounts(64, layout, 7));
  CHECK(first.for_market(other).matrix(seen).equal(second.matrix(seen)));

  const env::Layout one{{"BTC/USD"}, layout.features, 2, {}};
  CHECK_THROWS_AS(make(small_market(one, 100, 1), one).restore(first.state()), Error);
}

TEST_CASE("normalizer: without a market observations are what they were") {
  const Normalizer normalizer(4);
  const at::Tensor account = at::randn({5, 4}, tests::generator(1));
  CHECK(normalizer.matrix({account, {}}).equal(account));
  CHECK(normalizer.state().empty());
}

TEST_CASE("normalizer: folded weights see served observations as the others see normalised ones") {
  const at::NoGradGuard no_grad;
  for (const agents::Network network : {agents::Network::mlp, agents::Network::ft_transformer}) {
    for (const int lookback : {1, 3}) {
      CAPTURE(std::string(agents::name_of(network)));
      CAPTURE(lookback);
      const env::Layout layout = small_layout(lookback);
      const env::Market market = small_market(layout, 300, 1);
      Normalizer normalizer = make(market.with_segments({{0, 200}}), layout);
      normalizer.update_account(tests::random_accounts(500, layout, 6));
      agents::Initialization start;
      start.policy_gain = 1;
      const agents::Policy policy = agents::make_policy(tests::small_architecture(network, layout), start, at::kCPU);

      // Held-out bars, served as the consumer does: raw values times the layout's scales, no statistics.
      const env::Observation seen{tests::random_accounts(90, layout, 8), at::arange(205, 295, at::kInt)};
      const at::Tensor served = env::materialize(seen, market.tech, layout);
      const at::Tensor x = normalizer.matrix(seen);
      const auto compare = [&](const ft_transformer::Weights& weights, auto&& forward) {
        const ft_transformer::Weights folded = normalizer.folded(weights, policy.architecture, layout);
        folded.require_same_shapes(weights, "folded");
        const at::Tensor expected = forward(weights, policy.architecture, x);
        CHECK(largest(forward(folded, policy.architecture, served) - expected) <= kFold);
        CHECK(largest(forward(weights, policy.architecture, served) - expected) > 1000 * kFold);
      };
      compare(policy.actor, agents::actor_mean);
      compare(policy.critic, agents::critic_value);
    }
  }
}

TEST_CASE("normalizer: layouts and priors that do not fit are refused") {
  const env::Layout layout = small_layout(1);
  const env::Market market = small_market(layout, 100, 1);
  CHECK_THROWS_AS(make(market, env::Layout{layout.assets, {"close"}, 1, {}}), Error);
  CHECK_THROWS_AS(Normalizer(market, layout, {at::zeros({2}, at::kDouble), at::ones({2}, at::kDouble), 1}), Error);
  CHECK_THROWS_AS(make(market.with_segments({}), layout), Error);
}
