#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>
#include <ATen/record_function.h>
#include <doctest/doctest.h>

#include <cmath>
#include <memory>
#include <set>
#include <string_view>

#include "agents/bar_order.h"
#include "agents/forward.h"
#include "agents/rollout.h"
#include "env/environment.h"
#include "env/random.h"
#include "ft_transformer/market_context.h"
#include "learning_fixtures.h"
#include "platform/error.h"
#include "platform/text.h"
#include "random_market.h"
#include "seeded.h"

using namespace ristretto;
using namespace ristretto::ft_transformer;

namespace {

constexpr double kSame = 1e-5;          // the same float32 sums in another order
constexpr double kSameGradient = 1e-5;  // of each weight, to its gradient's largest value

double largest(const at::Tensor& tensor) { return tensor.abs().max().item<double>(); }

MarketContextShape shape_of(MarketTokens tokens) {
  MarketContextShape shape;
  shape.assets = 3;
  shape.features = 4;
  shape.lookback = 2;
  shape.tokens = tokens;
  shape.d_token = 8;
  shape.heads = 2;
  shape.width = 16;
  return shape;
}

Weights weights_of(const MarketContextShape& shape, ContextHead head) {
  Weights weights;
  add_market_context_weights(weights, shape, head, 1.0, tests::generator(3));
  // Biases start at 0, where an exchanged one is not seen.
  for (const auto& [name, tensor] : weights) {
    if (tensor.dim() == 1) tensor.add_(at::randn(tensor.sizes(), tests::generator(4)), 0.1);
  }
  return weights;
}

at::Tensor forward(const Weights& weights, const MarketContextShape& shape, ContextHead head, const at::Tensor& windows,
                   const at::Tensor& account, const at::Tensor& window = {}) {
  return read_context(weights, shape, head, market_context(weights, shape, windows), account, window);
}

// How often a network encodes windows, on this thread, from construction on.
class EncoderCalls {
 public:
  EncoderCalls() {
    counted() = 0;
    handle_ = at::addThreadLocalCallback(at::RecordFunctionCallback([](const at::RecordFunction& call) {
                                           counted() += std::string_view(call.name()) == "encoder";
                                           return std::unique_ptr<at::ObserverContext>();
                                         }).scopes({at::RecordScope::USER_SCOPE}));
  }
  ~EncoderCalls() { at::removeCallback(handle_); }
  EncoderCalls(const EncoderCalls&) = delete;
  EncoderCalls& operator=(const EncoderCalls&) = delete;
  int count() const { return counted(); }

 private:
  static int& counted() {
    static thread_local int count = 0;
    return count;
  }
  at::CallbackHandle handle_;
};

}  // namespace

TEST_CASE("market_context: a window encoded once for many samples answers and learns as one encoded for each") {
  for (const MarketTokens tokens : {MarketTokens::asset, MarketTokens::feature}) {
    for (const ContextHead head : {ContextHead::actor, ContextHead::critic}) {
      const MarketContextShape shape = shape_of(tokens);
      Weights weights = weights_of(shape, head);
      weights.require_grad(true);
      const at::Tensor windows = at::randn({5, 3, 2, 4}, tests::generator(1));
      const at::Tensor window = at::randint(0, 5, {40}, tests::generator(2), at::kLong);
      const at::Tensor account = at::randn({40, 4}, tests::generator(5));
      const at::Tensor direction = at::randn({40, head == ContextHead::actor ? 3 : 1}, tests::generator(6));

      const at::Tensor shared = forward(weights, shape, head, windows, account, window);
      (shared * direction).sum().backward();
      std::vector<at::Tensor> gradients;
      for (const auto& [name, tensor] : weights) {
        REQUIRE(tensor.grad().defined());
        gradients.push_back(tensor.grad().clone());
        tensor.mutable_grad().zero_();
      }
      const at::Tensor each = forward(weights, shape, head, windows.index_select(0, window), account);
      (each * direction).sum().backward();
      CHECK(largest(shared - each) < kSame);
      std::size_t i = 0;
      for (const auto& [name, tensor] : weights) {
        CAPTURE(name);
        // W_k's bias moves no softmax: its gradient is rounding.
        const double size = std::max(largest(tensor.grad()), 1.0);
        CHECK(largest(gradients[i++] - tensor.grad()) < kSameGradient * size);
      }
    }
  }
}

TEST_CASE("market_context: assets in another order get the same actions in that order, and the same value") {
  for (const MarketTokens tokens : {MarketTokens::asset, MarketTokens::feature}) {
    const MarketContextShape shape = shape_of(tokens);
    const at::Tensor windows = at::randn({7, 3, 2, 4}, tests::generator(1));
    const at::Tensor account = at::randn({7, 4}, tests::generator(5));
    const at::Tensor order = at::tensor({2, 0, 1}, at::kLong);
    const at::Tensor moved_account =
        at::cat({account.narrow(1, 0, 1), account.narrow(1, 1, 3).index_select(1, order)}, 1);
    const at::Tensor moved = windows.index_select(1, order);
    const Weights actor = weights_of(shape, ContextHead::actor), critic = weights_of(shape, ContextHead::critic);
    const at::Tensor actions = forward(actor, shape, ContextHead::actor, windows, account);
    CHECK(largest(actions.index_select(1, order) - forward(actor, shape, ContextHead::actor, moved, moved_account)) <
          kSame);
    CHECK(largest(forward(critic, shape, ContextHead::critic, windows, account) -
                  forward(critic, shape, ContextHead::critic, moved, moved_account)) < kSame);
    // And tells them apart: by their market, and by what is held of them.
    CHECK(largest(actions.select(1, 0) - actions.select(1, 1)) > 0.01);
  }
}

TEST_CASE("market_context: an action depends on the asset's own features, on the others', on cash and holdings") {
  const MarketContextShape shape = shape_of(MarketTokens::feature);
  const Weights actor = weights_of(shape, ContextHead::actor);
  at::Tensor windows = at::randn({1, 3, 2, 4}, tests::generator(1));
  at::Tensor account = at::randn({1, 4}, tests::generator(5));
  windows.requires_grad_(true);
  account.requires_grad_(true);
  forward(actor, shape, ContextHead::actor, windows, account).select(1, 1).sum().backward();
  CHECK((windows.grad().abs() > 1e-7).all().item<bool>());
  CHECK((account.grad().abs() > 1e-7).all().item<bool>());
}

TEST_CASE("market_context: one set of weights serves any number of assets") {
  for (const MarketTokens tokens : {MarketTokens::asset, MarketTokens::feature}) {
    const MarketContextShape shape = shape_of(tokens);
    const Weights actor = weights_of(shape, ContextHead::actor);
    for (const std::int64_t assets : {1, 2, 9}) {
      const at::Tensor windows = at::randn({6, assets, 2, 4}, tests::generator(1));
      const at::Tensor actions = forward(actor, shape, ContextHead::actor, windows, at::randn({6, 1 + assets}));
      CHECK(actions.sizes().equals({6, assets}));
      CHECK(actions.isfinite().all().item<bool>());
    }
  }
}

TEST_CASE("market_context: features are relative to the asset's close, so that all assets are alike") {
  const std::vector<Role> roles{Role::log_ratio, Role::reference, Role::ratio, Role::log_product, Role::plain};
  const at::Tensor raw = at::tensor({110.0, 100.0, 5.0, 3.0, 50.0}, at::kDouble).view({1, 5});
  const at::Tensor seen = relative_features(raw, roles);
  CHECK(seen[0][0].item<double>() == doctest::Approx(std::log(1.1)));
  CHECK(seen[0][1].item<double>() == 0);
  CHECK(seen[0][2].item<double>() == doctest::Approx(0.05));
  CHECK(seen[0][3].item<double>() == doctest::Approx(std::log(301.0)));
  CHECK(seen[0][4].item<double>() == 50);
  // A hundredfold price with a hundredth of the volume is the same asset.
  const at::Tensor dear = raw * at::tensor({100.0, 100.0, 100.0, 0.01, 1.0}, at::kDouble);
  CHECK(largest(relative_features(dear, roles) - seen) < 1e-12);
  CHECK(relative_features(at::zeros({1, 5}), roles).isfinite().all().item<bool>());
  CHECK(relative_features(raw, {Role::plain, Role::plain, Role::plain, Role::plain, Role::plain}).equal(raw));
}

TEST_CASE("market_context: settings that do not fit are named") {
  MarketContextShape shape = shape_of(MarketTokens::asset);
  shape.heads = 3;
  CHECK_THROWS_WITH_AS(check(shape), "market_context: d_token is 8, expected a multiple of the 3 heads.", Error);
  shape.heads = 2;
  shape.lookback = 0;
  CHECK_THROWS_WITH_AS(check(shape), "market_context: the lookback is 0, expected at least 1.", Error);
}

TEST_CASE("market_context: a file's served form answers raw observations as training answered accounts and bars") {
  for (const MarketTokens tokens : {MarketTokens::asset, MarketTokens::feature}) {
    const env::Layout layout = tests::small_layout(2);
    const env::Market market = tests::small_market(layout, 120, 1);
    agents::Architecture architecture = tests::small_architecture(agents::Network::market_context, layout);
    architecture.context.tokens = tokens;
    agents::Normalizer normalizer(market, layout, tests::account_prior(layout), architecture.network);
    const at::Tensor account = tests::random_accounts(60, layout, 5);
    const at::Tensor bar = at::arange(1, 61, at::kInt);
    normalizer.update_account(account, bar);
    const agents::Policy policy = agents::make_policy(architecture, {.seed = 1, .policy_gain = 1.0}, at::kCPU);
    const at::Tensor trained = agents::forward(policy, normalizer.input({account, bar}), false).mean.detach();

    const Weights file = normalizer.folded(policy.actor, architecture, layout);
    file.require_same_shapes(agents::actor_template(architecture), "the file");
    agents::Architecture found = agents::architecture_of(file, 0, "test");
    CHECK(found.network == agents::Network::market_context);
    CHECK(found.observation == layout.size());
    CHECK(found.context.tokens == tokens);
    CHECK(found.context.heads == architecture.context.heads);
    const at::Tensor states = env::materialize({account, bar}, market.tech, layout);
    CHECK(largest(agents::actor_mean(file, found, states) - trained) < kSame);
    CHECK(largest(trained) > 0.01);

    // The statistics that another process restores are these.
    agents::Normalizer other(tests::small_market(layout, 90, 2), layout, tests::account_prior(layout),
                             architecture.network);
    other.restore(normalizer.state());
    CHECK(largest(other.for_market(market).input({account, bar}).windows - normalizer.input({account, bar}).windows) ==
          0);
  }
}

TEST_CASE(
    "market_context: a rollout of many samples a bar encodes each bar once, and is the rollout that encodes each") {
  env::Market market = tests::random_market({20, 40, 30}, 2).to(at::kCPU, at::kFloat);
  market = market.with_segments({market.segments[1], market.segments[2]});  // the first rows are nobody's
  const env::Layout layout = tests::layout_of(market, 2);
  const env::Rules rules = tests::rules_of(market, 2);
  for (const MarketTokens tokens : {MarketTokens::asset, MarketTokens::feature}) {
    agents::Architecture architecture = tests::small_architecture(agents::Network::market_context, layout);
    architecture.context.tokens = tokens;
    const agents::Policy policy = agents::make_policy(architecture, {.seed = 1, .policy_gain = 1.0}, at::kCPU);
    const agents::Normalizer normalizer(market, layout, tests::account_prior(layout), architecture.network);
    const at::Tensor bars = normalizer.bars();
    CHECK(bars[0].item<int>() == 21);
    CHECK(bars[-1].item<int>() == 89);
    constexpr std::int64_t kEnough = 1 << 20;
    // 12 samples, 160 of 69 bars, and 160 that have no room for these.
    for (const auto& [horizon, bytes] : {std::pair{3L, kEnough}, {40L, kEnough}, {40L, 1000L}}) {
      env::Portfolios::Options options;
      options.portfolios = 4;
      options.episode_bars = 10;  // ends within the rollout
      env::Portfolios portfolios(std::make_shared<const env::Market>(market), layout, rules, options);
      const EncoderCalls calls;
      const agents::Rollout rollout =
          agents::collect(portfolios, policy, normalizer, horizon, 7, 0, 0, false, {25, bytes});
      if (bytes < kEnough) {
        CHECK(calls.count() > 40 + 7);  // steps, values of 160 by 25, last values
      } else {
        CHECK(calls.count() == (horizon == 40 ? 2 * 3 : 3 + 1 + 1));  // 69 bars by 25; steps, values, last values
      }
      const agents::Input input = normalizer.input({rollout.account.flatten(0, 1), rollout.bar.flatten()});
      const at::NoGradGuard no_grad;
      const agents::Outputs each = agents::forward(policy, input, false);
      CHECK(largest(rollout.value.flatten() - each.value) <= kSame);
      const agents::Evaluation now =
          agents::evaluate(architecture, each.mean, agents::log_std_of(policy), rollout.u.flatten(0, 1));
      CHECK(largest(rollout.log_probability.flatten() - now.log_probability) <= kSame);
    }
  }
}

TEST_CASE("bar order: every sample once, a bar's samples beside each other, and runs name their distinct bars") {
  const at::Tensor bar = at::randint(100, 112, {70}, tests::generator(1), at::kInt);
  const agents::BarOrder order(bar);
  CHECK(order.worthwhile());
  const auto epoch = order.whole_bars(7, 3);
  std::set<std::int64_t> seen;
  for (std::int64_t i = 0; i < 70; ++i) seen.insert(epoch.index[i].item<std::int64_t>());
  CHECK(seen.size() == 70);
  CHECK(epoch.bars.size(0) == 12);
  for (const auto& [begin, count] : {std::pair<int, int>{0, 70}, {13, 20}, {69, 1}}) {
    const agents::DistinctBars run = epoch.run(begin, count);
    const at::Tensor expected = bar.index_select(0, epoch.index.narrow(0, begin, count));
    CHECK(run.bars.index_select(0, run.place).equal(expected));
    std::set<int> distinct;
    for (std::int64_t i = 0; i < count; ++i) distinct.insert(expected[i].item<int>());
    CHECK(run.bars.size(0) == static_cast<std::int64_t>(distinct.size()));
  }
  CHECK(order.whole_bars(7, 3).index.equal(epoch.index));
  CHECK_FALSE(order.whole_bars(7, 4).index.equal(epoch.index));
  CHECK_FALSE(agents::BarOrder(at::arange(0, 70, at::kInt)).worthwhile());
}

TEST_CASE(
    "bar order: sorted minibatches are those of the permutation, each by bar; few samples a bar are not worthwhile") {
  const at::Tensor bar = at::randint(100, 105, {70}, tests::generator(1), at::kInt);
  const agents::BarOrder order(bar);
  const auto epoch = order.sorted_minibatches(7, 3, 30);
  REQUIRE(epoch);
  const at::Tensor plain = env::permutation(70, 7, 3, at::kCPU);
  for (const auto& [begin, count] : {std::pair<int, int>{0, 30}, {30, 30}, {60, 10}}) {
    const at::Tensor index = epoch->index.narrow(0, begin, count), bars = bar.index_select(0, index);
    CHECK(std::get<0>(index.sort()).equal(std::get<0>(plain.narrow(0, begin, count).sort())));
    CHECK(std::get<0>(bars.sort()).equal(bars));
    const agents::DistinctBars run = epoch->run(begin, count);
    CHECK(run.bars.index_select(0, run.place).equal(bars));
  }
  CHECK(epoch->run(10, 40)
            .bars.index_select(0, epoch->run(10, 40).place)
            .equal(bar.index_select(0, epoch->index.narrow(0, 10, 40))));
  CHECK_FALSE(order.sorted_minibatches(7, 3, 5));  // five bars in nearly every five samples
}
