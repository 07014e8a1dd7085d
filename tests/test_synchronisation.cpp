// Nothing on the hot path waits for the device (performance.md, rule 4): counted by LibTorch's own record of operators,
// which is the same on a CPU.
#include <ATen/core/grad_mode.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <ATen/record_function.h>
#include <doctest/doctest.h>

#include <map>
#include <string>

#include "agents/ppo.h"
#include "env/environment.h"
#include "env/layout.h"
#include "env/market.h"

namespace ristretto::agents {
namespace {

// Operators whose result depends on numbers that only the device knows.
const char* const kWaiting[] = {"aten::_local_scalar_dense", "aten::nonzero",  "aten::is_nonzero", "aten::equal",
                                "aten::masked_select",       "aten::allclose", "aten::unique_dim", "aten::_unique2"};

// By name and, behind " in ", the outermost operator that it is part of; of the calling thread, while it lives.
class Counted {
 public:
  Counted() {
    counts().clear();
    handle_ =
        at::addThreadLocalCallback(at::RecordFunctionCallback(
                                       [](const at::RecordFunction& call) -> std::unique_ptr<at::ObserverContext> {
                                         const std::string name = call.name();
                                         for (const char* waiting : kWaiting) {
                                           if (name != waiting) continue;
                                           ++counts()[names().empty() ? name : name + " in " + names().front()];
                                         }
                                         names().push_back(name);
                                         return nullptr;
                                       },
                                       [](const at::RecordFunction&, at::ObserverContext*) { names().pop_back(); })
                                       .scopes({at::RecordScope::FUNCTION}));
  }
  ~Counted() { at::removeCallback(handle_); }
  static std::map<std::string, int>& counts() {
    static std::map<std::string, int> all;
    return all;
  }
  static std::vector<std::string>& names() {
    static std::vector<std::string> open;
    return open;
  }

 private:
  at::CallbackHandle handle_;
};

// An environment over the bundled bars, and all that learns in it.
struct Learner {
  env::Layout layout;
  env::Rules rules;
  std::shared_ptr<const env::Market> market;
  std::unique_ptr<env::Portfolios> portfolios;
  std::unique_ptr<Normalizer> normalizer;
  Policy policy;
  std::unique_ptr<Optimizer> optimizer;
  std::unique_ptr<Ppo> ppo;

  explicit Learner(Network network) {
    const env::Market read = env::Market::of(env::read_bars(RISTRETTO_SOURCE "/data/crypto_1h", env::default_assets()),
                                             env::feature_set("alpaca-11"));
    market = std::make_shared<const env::Market>(read.to(at::kCPU, at::kFloat));
    layout.assets = market->assets;
    layout.features = market->features;
    rules.assets = static_cast<int>(market->assets.size());
    rules.norm_reward = 1.0 / 512;
    env::Portfolios::Options options;
    options.portfolios = 64;
    options.seed = 1;
    options.episode_bars = 24;
    portfolios = std::make_unique<env::Portfolios>(market, layout, rules, options);
    normalizer = std::make_unique<Normalizer>(*market, layout,
                                              RunningMoments{at::zeros({portfolios->account_size()}, at::kDouble),
                                                             at::ones({portfolios->account_size()}, at::kDouble), 1});
    Architecture architecture;
    architecture.network = network;
    architecture.observation = layout.size();
    architecture.width = 16;
    architecture.actions = rules.assets;
    architecture.encoder.d_token = 8;
    architecture.encoder.heads = 2;
    architecture.encoder.blocks = 1;
    policy = make_policy(architecture, {}, at::kCPU);
    std::vector<at::Tensor> all = policy.actor.tensors();
    for (const at::Tensor& weight : policy.critic.tensors()) all.push_back(weight);
    optimizer = std::make_unique<Optimizer>(all, Optimizer::Options{});
    PpoSettings settings;
    settings.batch_size = 256;
    settings.micro_batch = 100;
    settings.epochs = 2;
    ppo = std::make_unique<Ppo>(policy, *normalizer, *optimizer, settings);
  }
};

}  // namespace

TEST_CASE("synchronisation: a rollout waits once, at its end, and an update once, to read its metrics") {
  for (const Network network : {Network::mlp, Network::ft_transformer}) {
    Learner learner(network);
    const auto collected = [&] { return collect(*learner.portfolios, learner.policy, *learner.normalizer, 32, 1, 0); };
    const Rollout rollout = collected();  // the first call makes tables
    {
      const Counted counted;
      collected();
      // Which worlds were cut is asked once, after the last step: what is paid is the values of these alone.
      CHECK(Counted::counts() == std::map<std::string, int>{{"aten::nonzero", 1}});
    }
    {
      const Counted counted;
      const UpdateMetrics metrics = learner.ppo->update(rollout, rollout.reward, 3e-4, 0.2, 1, 0);
      CHECK(metrics.optimizer_steps == 16);
      // The kernel of this one reads its own numbers where they are the CPU's, and only there; the update's one read is
      // a copy to the host at its end.
      CHECK(Counted::counts() == std::map<std::string, int>{{"aten::_local_scalar_dense in aten::var", 2}});
    }
  }
}

TEST_CASE("synchronisation: a clipped step as a device takes it waits for nothing") {
  const at::Tensor weight = at::ones({300}, at::kBFloat16).requires_grad_(true);  // there is no kernel of ours for it
  Optimizer optimizer({weight}, {});
  weight.grad().fill_(3.0);
  const Counted counted;
  optimizer.step(0.1, 0.5);
  // As above: only a CPU's kernel reads its number of steps.
  CHECK(Counted::counts() == std::map<std::string, int>{{"aten::_local_scalar_dense in aten::_fused_adam_", 1}});
}

}  // namespace ristretto::agents
