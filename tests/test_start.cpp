#include <ATen/TensorOperators.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <doctest/doctest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <fstream>

#include "agents/unfold.h"
#include "env/environment.h"
#include "platform/atomic_file.h"
#include "platform/error.h"
#include "platform/text.h"
#include "random_market.h"
#include "release/directories.h"
#include "release/ledger.h"
#include "release/versions.h"
#include "release_fixture.h"
#include "seeded.h"
#include "train/start.h"
#include "train/trained_run.h"
#include "train/weights_behind.h"

using namespace ristretto;
using namespace ristretto::train;
namespace fs = std::filesystem;

namespace {

// float32 weights, and inputs whose mean is some of their deviations.
constexpr double kFloatRounding = 1e-4;
constexpr double kSmallestGradient = 1e-2;  // of sums over 50 states of order one

const fs::path kGolden = fs::path(RISTRETTO_GOLDEN) / "deployments";
const std::string kUnseen = " --holdout-from 2023-03-01 ";  // of weights that do not say what they have seen

// A policy over a random market, with a normalizer that is not of this market's scales.
struct Setting {
  env::Market market;
  env::Layout layout;
  agents::Architecture architecture;
  agents::Normalizer normalizer;
  env::Observation seen;

  explicit Setting(agents::Network network, int assets = 3, unsigned seed = 1)
      : market(tests::random_market({300, 400}, assets, 0, seed)),
        layout(tests::layout_of(market, 2)),
        normalizer(market, layout,
                   {at::full({1 + assets}, 40.0, at::kDouble), at::full({1 + assets}, 900.0, at::kDouble),
                    /*count=*/64},
                   network) {
    architecture.network = network;
    architecture.observation = layout.size();
    architecture.width = 16;
    architecture.actions = layout.assets_count();
    architecture.encoder.d_token = 8;
    architecture.encoder.blocks = 1;
    architecture.encoder.heads = 2;
    architecture.context.features = static_cast<std::int64_t>(layout.features.size());
    architecture.context.lookback = layout.lookback;
    architecture.context.d_token = 8;
    architecture.context.blocks = 1;
    architecture.context.heads = 2;
    seen = {at::rand({50, 1 + assets}, at::kFloat) * 100, at::arange(1, 51, at::kInt)};
  }

  agents::Policy policy(std::uint64_t seed) const {
    return agents::make_policy(architecture, {.seed = seed, .log_std = 0.1, .policy_gain = 1.0}, at::kCPU);
  }

  release::Start start_of(const agents::Policy& trained) const {
    release::Start start;
    start.source = "a deployment";
    start.architecture = architecture;
    start.layout = layout;
    start.actor = normalizer.folded(trained.actor, architecture, layout);
    start.critic = normalizer.folded(trained.critic, architecture, layout);
    return start;
  }

  agents::Optimizer optimizer_of(const agents::Policy& policy) const {
    std::vector<at::Tensor> parameters = policy.actor.tensors();
    for (const at::Tensor& tensor : policy.critic.tensors()) parameters.push_back(tensor);
    return agents::Optimizer(parameters, {});
  }
};

struct Ran {
  int code;
  std::string out, err;
};

// `arguments` run in the scratch directory.
Ran run(const std::string& arguments, const release::Scratch& scratch) {
  const int status = std::system(
      str("cd '", scratch.path().string(), "' && '" RISTRETTO_PROGRAM "' ", arguments, " >stdout 2>stderr").c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read_file(scratch / "stdout"), read_file(scratch / "stderr")};
}

// A run of seconds; everything else as in the real job.
const std::string kSmall = " --bars '" RISTRETTO_SOURCE
                           "/data/crypto_1h' --portfolios 64 --base-target-step 32 --batch-size 1024 --steps 8192 "
                           "--learning-rate 1e-3 --device cpu --json ";

double largest(const at::Tensor& difference) { return difference.abs().max().item<double>(); }

}  // namespace

TEST_CASE("start: a training begins with the function that is served") {
  for (const agents::Network network : {agents::Network::mlp, agents::Network::ft_transformer}) {
    Setting setting(network);
    const agents::Policy served = setting.policy(1);
    agents::Policy trained = setting.policy(2);
    agents::Optimizer optimizer = setting.optimizer_of(trained);
    release::Start start = setting.start_of(served);
    begin_from(start, setting.layout, trained, setting.normalizer, optimizer);
    const at::Tensor normalized = setting.normalizer.matrix(setting.seen);
    const at::Tensor states = env::materialize(setting.seen, setting.market.tech, setting.layout);
    const at::Tensor expected = agents::actor_mean(start.actor, setting.architecture, states);
    CHECK(largest(agents::actor_mean(trained.actor, setting.architecture, normalized) - expected) < kFloatRounding);
    const at::Tensor value = agents::critic_value(start.critic, setting.architecture, states);
    CHECK(largest(agents::critic_value(trained.critic, setting.architecture, normalized) - value) < kFloatRounding);
    // What the optimizer holds are the same tensors: a step moves the policy on.
    const at::Tensor before = trained.actor.at("a_std_log").detach().clone();
    optimizer.zero_gradients();
    trained.actor.at("a_std_log").sum().backward();
    optimizer.step(0.1, 0);
    CHECK(largest(trained.actor.at("a_std_log").detach() - before) > 0.05);
  }
}

TEST_CASE("start: market_context goes on as it is served, over other assets and another market") {
  const Setting before(agents::Network::market_context);
  Setting now(agents::Network::market_context, /*assets=*/5, /*seed=*/2);
  const agents::Policy served = before.policy(1);
  release::Start start = before.start_of(served);
  const auto moments = [](const ft_transformer::Weights& weights) {
    return agents::MomentPair{weights.clone(), weights.clone()};
  };
  start.actor_moments = moments(served.actor);
  start.critic_moments = moments(served.critic);
  start.moments_normalized = true;
  agents::Policy trained = now.policy(2);
  agents::Optimizer optimizer = now.optimizer_of(trained);
  begin_from(start, now.layout, trained, now.normalizer, optimizer);
  const agents::Input input = now.normalizer.input(now.seen);
  const at::Tensor states = env::materialize(now.seen, now.market.tech, now.layout);
  const at::Tensor expected = agents::actor_mean(start.actor, now.architecture, states);
  CHECK(expected.sizes().equals({50, 5}));
  CHECK(largest(expected) > 0.01);
  CHECK(largest(agents::actor_mean(trained.actor, now.architecture, input) - expected) < kFloatRounding);
  const at::Tensor value = agents::critic_value(start.critic, now.architecture, states);
  CHECK(largest(agents::critic_value(trained.critic, now.architecture, input) - value) < kFloatRounding);
  // Folded again it is the same file, and the statistics of accounts run on.
  const ft_transformer::Weights again = now.normalizer.folded(trained.actor, now.architecture, now.layout);
  for (const auto& [name, tensor] : start.actor) {
    if (name == "input.form") continue;  // of 5 assets
    CHECK_MESSAGE(largest(again.at(name) - tensor) < kFloatRounding * std::max(1.0, largest(tensor)), name);
  }
  now.normalizer.update_account(now.seen.account, now.seen.bar);
  const ft_transformer::Weights later = now.normalizer.folded(trained.actor, now.architecture, now.layout);
  CHECK(largest(later.at("input.account_mean") - start.actor.at("input.account_mean")) > 1);
  CHECK(at::equal(later.at("input.market_mean"), start.actor.at("input.market_mean")));
  // Moments stand at their weights.
  std::vector<at::Tensor> parameters = trained.actor.tensors();
  for (const at::Tensor& tensor : trained.critic.tensors()) parameters.push_back(tensor);
  const std::vector<at::Tensor> first = agents::Optimizer::pieces(optimizer.state()[0].second, parameters);
  CHECK(at::equal(first[0], served.actor.tensors()[0].detach()));
  CHECK(at::equal(first.back(), served.critic.tensors().back().detach()));

  env::Layout other = now.layout;
  other.lookback = 3;
  CHECK_THROWS_WITH_AS(begin_from(start, other, trained, now.normalizer, optimizer),
                       doctest::Contains("its lookback is 2, expected 3"), Error);
  start.actor.at("input.roles")[0] = 0.0;
  CHECK_THROWS_WITH_AS(begin_from(start, now.layout, trained, now.normalizer, optimizer),
                       doctest::Contains("relative to the close"), Error);
}

TEST_CASE("start: weights that are held fast have no moments") {
  Setting setting(agents::Network::market_context);
  const agents::Policy served = setting.policy(1);
  release::Start start = setting.start_of(served);
  start.actor_moments = agents::MomentPair{served.actor.clone(), served.actor.clone()};
  start.moments_normalized = true;
  agents::Policy trained = setting.policy(2);
  std::vector<at::Tensor> learned;
  for (auto* weights : {&trained.actor, &trained.critic}) {
    for (const auto& [name, tensor] : *weights) {
      if (name.starts_with("encoder.")) {
        weights->at(name).requires_grad_(false);
      } else {
        learned.push_back(weights->at(name));
      }
    }
  }
  agents::Optimizer optimizer(learned, {});
  begin_from(start, setting.layout, trained, setting.normalizer, optimizer);
  const std::vector<at::Tensor> first = agents::Optimizer::pieces(optimizer.state()[0].second, learned);
  std::size_t k = 0;
  for (const auto& [name, tensor] : trained.actor) {
    CHECK(at::equal(tensor.detach(), served.actor.at(name).detach()));
    if (!name.starts_with("encoder.")) CHECK(at::equal(first[k++], served.actor.at(name).detach()));
  }
}

TEST_CASE("start: tokens that convert hid begin where training can raise them; a network without a bias is refused") {
  Setting setting(agents::Network::ft_transformer);
  setting.architecture.encoder.key_bias = true;
  const agents::Policy served = setting.policy(1);
  const release::Start start = setting.start_of(served);
  start.actor.at("encoder.key_bias").narrow(0, 0, 3).fill_(-25);
  start.actor.at("encoder.key_bias").narrow(0, 3, 1).fill_(-2);
  agents::Policy trained = setting.policy(2);
  agents::Optimizer optimizer = setting.optimizer_of(trained);
  begin_from(start, setting.layout, trained, setting.normalizer, optimizer);
  const at::Tensor bias = trained.actor.at("encoder.key_bias");
  CHECK(bias[0].item<double>() == -8);
  CHECK(bias[3].item<double>() == -2);
  CHECK(bias[4].item<double>() == 0);
  const at::Tensor before = bias.detach().clone();
  optimizer.zero_gradients();
  const at::Tensor x = setting.normalizer.matrix(setting.seen);
  agents::actor_mean(trained.actor, setting.architecture, x).square().sum().backward();
  optimizer.step(1e-2, 0);
  CHECK((trained.actor.at("encoder.key_bias").detach() - before).abs().min().item<double>() > 1e-4);

  setting.architecture.encoder.key_bias = false;
  agents::Policy other = setting.policy(3);
  agents::Optimizer of_other = setting.optimizer_of(other);
  CHECK_THROWS_WITH_AS(begin_from(start, setting.layout, other, setting.normalizer, of_other),
                       doctest::Contains("key_bias true"), Error);
}

TEST_CASE("start: first moments are those of the unfolded network's gradients, second ones at least half of them") {
  for (const agents::Network network : {agents::Network::mlp, agents::Network::ft_transformer}) {
    const Setting setting(network);
    const agents::Policy policy = setting.policy(1);
    ft_transformer::Weights served = setting.normalizer.folded(policy.actor, setting.architecture, setting.layout);
    served.require_grad(true);
    const at::Tensor target = at::randn({50, 3}, at::kFloat);
    const at::Tensor states = env::materialize(setting.seen, setting.market.tech, setting.layout);
    (agents::actor_mean(served, setting.architecture, states) * target).sum().backward();
    const at::Tensor normalized = setting.normalizer.matrix(setting.seen);
    (agents::actor_mean(policy.actor, setting.architecture, normalized) * target).sum().backward();
    agents::MomentPair moments;
    for (const auto& [name, tensor] : served) {
      const at::Tensor gradient = tensor.grad().defined() ? tensor.grad() : tensor.detach() * 0;
      moments.first.add(name, gradient);
      moments.second.add(name, gradient * gradient);
    }
    const agents::MomentPair unfolded =
        agents::unfolded_moments(moments, setting.architecture, setting.layout, setting.normalizer.columns());
    for (const auto& [name, tensor] : policy.actor) {
      if (!tensor.grad().defined()) continue;
      CAPTURE(name);
      // The attention's key bias has no gradient but rounding.
      const double size = std::max(largest(tensor.grad()), kSmallestGradient);
      CHECK(largest(unfolded.first.at(name) - tensor.grad()) < 10 * kFloatRounding * size);
      const at::Tensor square = tensor.grad() * tensor.grad();
      CHECK((unfolded.second.at(name) * 2 - square).min().item<double>() > -10 * kFloatRounding * size * size);
    }
  }
}

TEST_CASE("start: another layout or network is refused with the names of what differs") {
  Setting setting(agents::Network::mlp);
  agents::Policy policy = setting.policy(1);
  agents::Optimizer optimizer = setting.optimizer_of(policy);
  release::Start start = setting.start_of(policy);
  env::Layout other = setting.layout;
  other.features = {"close", "rsi"};
  CHECK_THROWS_WITH_AS(begin_from(start, other, policy, setting.normalizer, optimizer),
                       doctest::Contains("it lacks the features rsi; it has the features volume"), Error);
  start.architecture.width = 32;
  CHECK_THROWS_WITH_AS(begin_from(start, setting.layout, policy, setting.normalizer, optimizer),
                       doctest::Contains("width 32, expected 16"), Error);
}

TEST_CASE("start: the existing system's optimizer state goes along, also to another layout and back from its file") {
  const release::Start start = release::start_of(release::load(kGolden / "mlp_85"));
  REQUIRE(start.actor_moments);
  REQUIRE(start.critic_moments);
  CHECK_FALSE(start.moments_normalized);
  CHECK(largest(start.actor_moments->second.at("net.0.weight")) > 0);
  env::Layout to = start.layout;
  to.features = env::feature_set("alpaca-14");
  to.lookback = 2;
  const release::Mapping mapping = release::mapping_of(start.layout, to);
  const release::Start more = release::carried(start, mapping, {});
  const at::Tensor &before = start.actor_moments->second.at("net.0.weight"),
                   &after = more.actor_moments->second.at("net.0.weight");
  REQUIRE(after.size(1) == 204);
  for (std::size_t j = 0; j < mapping.columns.size(); ++j) {
    const at::Tensor column = after.select(1, static_cast<std::int64_t>(j));
    if (mapping.columns[j] < 0) {
      CHECK(largest(column) == 0);
    } else {
      CHECK(at::equal(column, before.select(1, mapping.columns[j])));
    }
  }
  const release::Scratch scratch;
  fs::copy(kGolden / "mlp_106", scratch / "d");
  write_start(scratch / "d", start);
  // Of a network of another size: the weights are whole, the moments are left out.
  CHECK_FALSE(release::start_of(release::load(scratch / "d")).actor_moments);
  fs::remove_all(scratch / "d");
  fs::copy(kGolden / "mlp_85", scratch / "d");
  fs::remove(scratch / "d/act_optim.pth");
  write_start(scratch / "d", start);
  const release::Start again = release::start_of(release::load(scratch / "d"));
  REQUIRE(again.actor_moments);
  for (const auto& [name, tensor] : start.actor_moments->first) {
    CHECK(at::equal(again.actor_moments->first.at(name), tensor));
  }
}

TEST_CASE("start: what the weights fix is given, and an old deployment is tried beside the clean retrain") {
  const release::Start start = release::start_of(release::load(kGolden / "mlp_239"));
  std::string all;
  for (const Given& given : given_of(start)) all += given.name + "=" + given.text + " ";
  CHECK(all.find("features=alpaca-11 serving=ristretto") != std::string::npos);
  CHECK(all.find("lookback=3") != std::string::npos);
  CHECK(all.find("net_dimension=128") != std::string::npos);

  const release::Scratch scratch;
  Resolved clean = resolve(std::nullopt, std::nullopt, {});
  fs::copy(kGolden / "mlp_239", scratch / "old");
  CHECK_FALSE(fine_tuning_of(scratch.path() / "old", clean));  // nobody says which bars it was trained on
  clean.settings.apply({"holdout_from", "2023-03-01", "test"});
  CHECK_FALSE(fine_tuning_of(scratch.path() / "absent", clean));
  const auto fine = fine_tuning_of(scratch.path() / "old", clean);
  REQUIRE(fine);
  REQUIRE(fine->start);
  CHECK(fine->settings.hyperparameters.net_dimension == 128);
  CHECK(fine->settings.run.features == "alpaca-14");
  CHECK(env::difference(fine->start->layout, layout_of(fine->settings)).empty());
  fs::copy(kGolden / "ft_85", scratch / "transformer");
  CHECK_FALSE(fine_tuning_of(scratch.path() / "transformer", clean));  // today's trader builds an MLP
  clean.settings.apply({"serving", "ristretto", "test"});
  const auto tokens = fine_tuning_of(scratch.path() / "transformer", clean);
  REQUIRE(tokens);
  CHECK(tokens->settings.hyperparameters.ft_key_bias);  // alpaca-14 has new tokens, which come in hidden
  CHECK(release::section_of(architecture_of(tokens->settings)) == release::section_of(tokens->start->architecture));
  fs::copy(kGolden / "broken/nan_weight", scratch / "broken");
  CHECK_FALSE(fine_tuning_of(scratch.path() / "broken", clean));
}

TEST_CASE("start: weights of another name bring the trials that its ledger counts, those of a study once") {
  const release::Scratch scratch;
  const fs::path deployments = scratch / "deployments", version = deployments / ".versions/a/0001-x";
  fs::create_directories(version);
  CHECK(weights_chosen_among(version, deployments, "b").empty());
  release::Ledger ledger(deployments, "a");
  release::Opening look;
  look.candidate = "one";
  look.last_bar = 3600;
  look.bars = 2;
  look.data_sha256 = std::string(64, 'a');
  look.trials = 12;
  look.studies = {{"study", 10}};
  ledger.open(look);
  look.candidate = "two";
  look.trials = 15;
  look.studies = {{"study", 12}, {"", 1}};
  ledger.open(look);
  fs::create_symlink(".versions/a/0001-x", deployments / "a");
  for (const fs::path& from : {version, deployments / "a"}) {
    const auto among = weights_chosen_among(from, deployments, "b");
    REQUIRE(among.size() == 2);
    CHECK((among[0] == release::StudyTrials{"study", 12}));
    CHECK(among[1].count == 2 + 3);
    CHECK(among[1].id.find("ledger ") == 0);
    CHECK(weights_chosen_among(from, deployments, "a").empty());
    CHECK((weights_chosen_among(from, scratch / "others", "a") == among));
  }

  // Elsewhere its manifest tells: what it was converted from, or what stood behind it when it was judged.
  const fs::path elsewhere = scratch / "elsewhere";
  fs::create_directories(elsewhere);
  const auto with = [&](const release::Json& manifest) {
    release::Json whole = manifest;
    whole["schema_version"] = release::kSchemaVersion;
    write_file_atomically(elsewhere / release::kManifest, whole.dump());
    return weights_chosen_among(elsewhere, deployments, "b");
  };
  CHECK(with({{"conversion", {{"from", {{"path", version.string()}}}}}}).size() == 2);
  CHECK(with({{"conversion", {{"from", {{"path", elsewhere.string()}}}}}}).at(0).count == 1);  // moved over it
  const release::Json studies = {{"studies", {{{"id", "study"}, {"trials", 12}}}}};
  const release::Json gates = {{{"name", "deflated_sharpe"}, {"numbers", {{"trials", 20}}}}};
  const auto judged = with({{"study", studies}, {"gates", gates}, {"training", {{"candidate", "a-1"}}}});
  CHECK((judged == std::vector<release::StudyTrials>{{"study", 12}, {"candidate a-1", 8}}));
  CHECK_THROWS_AS(with({{"study", {{"studies", {{{"id", "study"}, {"trials", -1}}}}}}}), Error);
  CHECK_THROWS_AS(with({{"study", {{"studies", 7}}}}), Error);
}

TEST_SUITE("slow") {
  TEST_CASE(
      "start: retrain in place of an old deployment chooses by validation and keeps the old one a rollback away") {
    const release::Scratch scratch;
    fs::create_directory(scratch / "deployments");
    fs::copy(kGolden / "mlp_85", scratch / "deployments/old", fs::copy_options::recursive);
    const std::string before = read_file(scratch / "deployments/old/actor.pth");
    const Ran trained = run("retrain old" + kSmall + "--net-dimension 16" + kUnseen, scratch);
    CAPTURE(trained.err);
    REQUIRE(trained.code == 0);
    const auto document = release::Json::parse(trained.out);
    CHECK(document["contenders"] == 2);
    CHECK(trained.err.find("begins with the weights of") != std::string::npos);
    CHECK(trained.err.find("and its optimizer's moments") != std::string::npos);
    release::VersionStore store(scratch / "deployments");
    const auto served = store.served("old");
    REQUIRE(served);
    CHECK(release::version_number(*served) == 2);
    release::verify(scratch / "deployments/old");
    CHECK(read_file(scratch / "deployments/old/act_target.pth") == read_file(scratch / "deployments/old/actor.pth"));
    CHECK_FALSE(fs::exists(scratch / "deployments/old/act_optim.pth"));

    // Weights of hyperparameters that may have been chosen on any bars prove nothing when they are trained on either.
    Resolved clean = resolve(std::nullopt, std::nullopt, {{"holdout_from", "2023-03-01", "test"}});
    clean.seen_until = 5;
    CHECK(fine_tuning_of(scratch.path() / "deployments/old", clean).value().seen_until == 5);
    fs::copy(scratch / "deployments/old/", scratch / "unknown", fs::copy_options::recursive);
    for (const fs::path& path : {scratch / "unknown", scratch / "unknown/manifest.json"}) {
      fs::permissions(path, fs::perms::owner_write, fs::perm_options::add);
    }
    auto manifest = release::Json::parse(read_file(scratch / "unknown/manifest.json"));
    manifest["study"]["seen_until"] = nullptr;
    std::ofstream(scratch / "unknown/manifest.json") << manifest.dump();
    CHECK_FALSE(fine_tuning_of(scratch.path() / "unknown", clean).value().seen_until);

    CHECK(run("rollback old", scratch).code == 0);
    CHECK(release::version_number(*store.served("old")) == 1);
    CHECK(read_file(scratch / "deployments/old/actor.pth") == before);
    CHECK(store.check("old").empty());
  }

  TEST_CASE("start: a market_context deployment is trained on, its critic and moments too, and over fewer assets") {
    const release::Scratch scratch;
    const std::string learning = kSmall + "--norm-action 10 ";
    const Ran first =
        run("retrain context --encoder market_context --net-dimension 32 --ft-d-token 8" + learning, scratch);
    CAPTURE(first.err);
    REQUIRE(first.code == 0);
    const Ran second = run("retrain pair --from deployments/context --assets BTC/USD,ETH/USD" + learning, scratch);
    CAPTURE(second.err);
    CHECK((second.code == 0 || second.code == 3));  // it may trade too little
    CHECK(second.err.find("31 inputs: 2 assets") != std::string::npos);
    CHECK(second.err.find("begins with the weights of") != std::string::npos);
    CHECK(second.err.find("and its optimizer's moments") != std::string::npos);
    CHECK(second.err.find("a new critic") == std::string::npos);

    // What chose the weights counts for what was made of them, once.
    const auto trials = [&](const char* name) {
      return release::Ledger(scratch / "deployments", name).read().trials();
    };
    CHECK(trials("pair") == trials("context") + 1);
    run("retrain pair --from deployments/context --seed 9 --assets BTC/USD,ETH/USD" + learning, scratch);
    CHECK(trials("pair") == trials("context") + 2);
    int origins = 0;
    for (const auto& entry : fs::recursive_directory_iterator(scratch / "runs")) {
      const bool of_pair = entry.path().string().find("/pair-") != std::string::npos;
      if (!of_pair || entry.path().filename() != kOriginFile) continue;
      const auto among = resolve_run(entry.path().parent_path(), {}).start_chosen_among;  // were it interrupted
      REQUIRE(among.size() == 1);
      CHECK(among[0].count == trials("context"));
      ++origins;
    }
    CHECK(origins == 2);
    release::copy_tree(fs::canonical(scratch / "deployments/context"), scratch / "copy");
    const auto of_copy = weights_chosen_among(scratch / "copy", scratch / "deployments", "pair");
    REQUIRE(of_copy.size() == 1);
    CHECK(of_copy[0].count == trials("context"));
    CHECK(of_copy[0].id.find("candidate context-") == 0);
    CHECK(weights_chosen_among(scratch / "copy", scratch / "deployments", "context").empty());

    const Resolved clean = resolve(std::nullopt, scratch / "deployments/context", {});
    const auto fine = fine_tuning_of(scratch / "deployments/context", clean);
    REQUIRE(fine);
    CHECK(fine->start->critic_normalized);
    CHECK(fine->settings.hyperparameters.ft_d_token == 8);
    const Resolved longer = resolve(std::nullopt, scratch / "deployments/context", {{"lookback", "2", "test"}});
    CHECK_FALSE(fine_tuning_of(scratch / "deployments/context", longer));
  }

  TEST_CASE("start: retrain --from goes on from a converted deployment and names what does not fit") {
    const release::Scratch scratch;
    const std::string bars = " --bars '" RISTRETTO_SOURCE "/data/crypto_1h' ";
    REQUIRE(run("convert '" + (kGolden / "mlp_85").string() + "' --to alpaca-14 --lookback 2 --out converted" + bars,
                scratch)
                .code == 0);
    CHECK(release::start_of(release::load(scratch / "converted")).actor_moments);
    const Ran other = run("retrain new --from converted --lookback 3" + kSmall + kUnseen, scratch);
    CHECK(other.code == 4);
    CHECK(other.err.find("its lookback is 2, expected 3") != std::string::npos);
    const Ran unknown = run("retrain new --from converted" + kSmall, scratch);
    CHECK(unknown.code == 2);
    CHECK(unknown.err.find("does not say which bars it was trained on") != std::string::npos);
    const Ran trained = run("retrain new --from converted" + kSmall + kUnseen, scratch);
    CAPTURE(trained.err);
    REQUIRE(trained.code == 0);
    const release::Model model = release::load(scratch / "deployments/new");
    CHECK(model.architecture.width == 256);
    CHECK(model.layout->lookback == 2);
    // And from a version of this project, whose checkpoint holds the moments.
    const release::Start again = release::start_of(model);
    CHECK(again.moments_normalized);
    REQUIRE(again.actor_moments);
    CHECK(largest(again.actor_moments->second.at("net.0.weight")) > 0);
    const Ran more = run("retrain new --from deployments/new --no-promote" + kSmall + kUnseen, scratch);
    CHECK((more.code == 0 || more.code == 3));  // 3: it was not better
    CHECK(more.err.find("and its optimizer's moments") != std::string::npos);
  }

  TEST_CASE("start: a resume that would observe another layout is refused with the names of what differs") {
    const release::Scratch scratch;
    REQUIRE(run("train --run r --net-dimension 16" + kSmall, scratch).code == 0);
    const std::string resume = "train --resume --run r --net-dimension 16 ";
    const Ran features = run(resume + "--serving ristretto --features alpaca-14b" + kSmall, scratch);
    CAPTURE(features.err);
    CHECK(features.code == 4);
    CHECK(features.err.find("it lacks the features range_breakout_volume; it has the features "
                            "range_breakout_volume_14b") != std::string::npos);
    const Ran lookback = run(resume + "--lookback 2" + kSmall, scratch);
    CHECK(lookback.code == 4);
    CHECK(lookback.err.find("its lookback is 2, expected 1") != std::string::npos);
  }
}
