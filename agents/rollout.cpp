#include "agents/rollout.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/nonzero.h>
#include <ATen/record_function.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "agents/forward.h"
#include "env/random.h"

namespace ristretto::agents {
namespace {

constexpr std::int64_t kValueRows = 8192;  // as wide as products gain from, and activations of a few hundred MB at most

// What the environment showed, at every step. [horizon, N, 1+n] and [horizon, N]
struct Observations {
  at::Tensor account, bar;

  void put(std::int64_t t, std::int64_t horizon, const env::Observation& seen) {
    if (!account.defined()) {
      account = at::empty({horizon, seen.account.size(0), seen.account.size(1)}, seen.account.options());
      if (seen.bar.defined()) bar = at::empty({horizon, seen.bar.size(0)}, seen.bar.options());
    }
    account.select(0, t).copy_(seen.account);
    if (bar.defined()) bar.select(0, t).copy_(seen.bar);
  }
};

// Whether a rollout of so many samples has the market's bars encoded once, before it, instead of each sample's.
bool encodes_bars(const Architecture& architecture, std::int64_t bars, std::int64_t samples, std::int64_t bytes) {
  const ft_transformer::MarketContextShape& shape = architecture.context;
  const std::int64_t assets = architecture.actions;
  // Of each of two networks keys and values of all tokens, and the assets' own; what both read.
  const std::int64_t encoded = 2 * (2 * shape.tokens_of(assets) + assets) * shape.d_token;
  const std::int64_t numbers = bars * (encoded + assets * shape.lookback * shape.features);
  return 2 * bars <= samples && numbers <= bytes / static_cast<std::int64_t>(sizeof(float));
}

// A network over observations, `most` rows at once (0: all): [B, ...].
template <class Network>
at::Tensor in_pieces(const env::Observation& all, std::int64_t most, const Network& network) {
  const std::int64_t rows = all.account.size(0);
  if (most <= 0 || rows <= most) return network(all);
  std::vector<at::Tensor> pieces;
  for (std::int64_t begin = 0; begin < rows; begin += most) {
    const std::int64_t count = std::min(most, rows - begin);
    pieces.push_back(
        network({all.account.narrow(0, begin, count), all.bar.defined() ? all.bar.narrow(0, begin, count) : all.bar}));
  }
  return at::cat(pieces);
}

}  // namespace

Rollout collect(env::Environment& environment, const Policy& policy, const Normalizer& normalizer, std::int64_t horizon,
                std::uint64_t seed, std::int64_t first_step, std::int64_t first_world, bool bf16,
                const RolloutMemory& memory) {
  const at::NoGradGuard no_grad;
  FrozenNetwork actor(policy.actor, policy.architecture, Part::actor, bf16);
  FrozenNetwork critic(policy.critic, policy.architecture, Part::critic, bf16);
  const std::int64_t worlds = environment.size(), actions = environment.actions();
  at::Tensor first_encoded;  // defined where the networks have the bars
  if (normalizer.shares_by_bar()) {
    const at::Tensor bars = normalizer.bars();
    if (encodes_bars(policy.architecture, bars.size(0), horizon * worlds, memory.context_bytes)) {
      const at::Tensor windows = normalizer.windows(bars);
      actor.encode(windows, memory.rows);
      critic.encode(windows, memory.rows);
      first_encoded = bars[0];
    }
  }
  const auto input = [&](const env::Observation& rows) {
    if (!first_encoded.defined()) return normalizer.input(rows);
    const DistinctBars encoded{{}, (rows.bar - first_encoded).to(at::kLong)};
    return normalizer.input(rows, &encoded);
  };
  const auto mean = [&](const env::Observation& rows) { return actor(input(rows)); };
  const auto value = [&](const env::Observation& rows) { return critic(input(rows)); };
  const bool categorical = policy.architecture.distribution == Distribution::categorical;
  const at::Tensor log_std = log_std_of(policy);

  Rollout out;
  Observations seen, last;
  for (std::int64_t t = 0; t < horizon; ++t) {
    const env::Observation observation = [&] {
      RECORD_USER_SCOPE("environment");
      return environment.observe();
    }();
    seen.put(t, horizon, observation);
    const at::Tensor means = in_pieces(observation, memory.rows, mean);
    const at::Device device = means.device();
    const Sample drawn =
        sample(policy.architecture, means, log_std,
               categorical ? env::uniform(worlds, actions, seed, first_step + t, device, first_world)
                           : env::standard_normal(worlds, actions, seed, first_step + t, device, first_world));
    const env::Transition transition = [&] {
      RECORD_USER_SCOPE("environment");
      return environment.step(drawn.action);
    }();
    last.put(t, horizon, transition.last);
    if (t == 0) {
      out.u = at::empty(categorical ? std::vector<std::int64_t>{horizon, worlds}
                                    : std::vector<std::int64_t>{horizon, worlds, actions},
                        drawn.u.options());
      out.log_probability = at::empty({horizon, worlds}, drawn.log_probability.options());
      out.reward = at::empty({horizon, worlds}, transition.reward.options());
      out.terminated = at::empty({horizon, worlds}, transition.terminated.options());
      out.truncated = at::empty_like(out.terminated);
    }
    out.u.select(0, t).copy_(drawn.u);
    out.log_probability.select(0, t).copy_(drawn.log_probability);
    out.reward.select(0, t).copy_(transition.reward);
    out.terminated.select(0, t).copy_(transition.terminated);
    out.truncated.select(0, t).copy_(transition.truncated);
  }
  out.account = seen.account;
  out.bar = seen.bar;
  // Nobody needs values while the worlds step: all at once, in wide products.
  out.value = in_pieces({seen.account.flatten(0, 1), seen.bar.defined() ? seen.bar.view({-1}) : seen.bar},
                        memory.rows > 0 ? std::min(memory.rows, kValueRows) : kValueRows, value)
                  .view({horizon, worlds});

  // A world that goes on is seen again at the next step, and there its value is known; the last step's and the
  // truncated worlds' observations are seen by nobody else.
  out.next_value = at::empty_like(out.value);
  out.next_value.narrow(0, 0, horizon - 1).copy_(out.value.narrow(0, 1, horizon - 1));
  at::Tensor unseen = out.truncated.clone();
  unseen.select(0, horizon - 1).fill_(true);
  const at::Tensor index = at::nonzero(unseen.view({-1})).squeeze(1);
  env::Observation rows;
  rows.account = last.account.flatten(0, 1).index_select(0, index);
  if (last.bar.defined()) rows.bar = last.bar.view({-1}).index_select(0, index);
  out.next_value.view({-1}).index_copy_(0, index, in_pieces(rows, memory.rows, value));
  out.next_value.masked_fill_(out.terminated, 0.0);
  return out;
}

Advantages estimate_advantages(const at::Tensor& reward, const at::Tensor& value, const at::Tensor& next_value,
                               const at::Tensor& ended, double gamma, double lambda) {
  RECORD_USER_SCOPE("advantages");
  const at::NoGradGuard no_grad;
  const at::Tensor delta = reward + gamma * next_value - value;
  const at::Tensor trace = (1.0 - ended.to(delta.scalar_type())) * (gamma * lambda);
  Advantages out;
  out.advantage = delta.clone();
  for (std::int64_t t = delta.size(0) - 2; t >= 0; --t) {
    out.advantage.select(0, t).addcmul_(trace.select(0, t), out.advantage.select(0, t + 1));
  }
  out.target = out.advantage + value;
  return out;
}

}  // namespace ristretto::agents
