#include "train/trainer_state.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/record_function.h>

#include <algorithm>
#include <cmath>

#include "agents/optimizer.h"
#include "agents/rollout.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/log.h"
#include "platform/text.h"
#include "train/pretrain.h"
#include "train/run_log.h"
#include "train/schedule.h"

namespace ristretto::train {
namespace {

// Rounding leaves 1e-5 in fp32; a wrong kernel or other statistics leave more. In bf16 the largest of 100,000 ratios
// says little, for a mean's last bit is divided by a deviation that shrinks: there the mean divergence decides.
constexpr double kMostRatioError = 0.05, kMostDivergenceBf16 = 0.05;
constexpr double kDominantTerm = 0.80;  // share of one reward term that deserves a warning
constexpr int kFrozenIterations = 3;    // updates without an optimiser step, or without any change of weights

agents::RunningMoments account_prior(const env::Market& market, const env::Rules& rules, std::int64_t weight) {
  // Before anything was seen: each position uniform between none and full, the cash between none and all.
  const at::Tensor price = market.price.to(at::kCPU, at::kDouble);
  std::vector<at::Tensor> seen;
  for (const env::Segment& segment : market.segments)
    seen.push_back(price.narrow(0, segment.begin, segment.size()).mean(0));
  const at::Tensor mean_price = at::stack(seen).mean(0);
  const double fraction = rules.max_position_fraction > 0 ? rules.max_position_fraction : 1.0;
  agents::RunningMoments prior;
  at::Tensor full = at::ones({1 + rules.assets}, at::TensorOptions().dtype(at::kDouble)) * rules.initial_capital;
  full.narrow(0, 1, rules.assets).mul_(fraction).div_(mean_price);
  prior.mean = full * 0.5;
  prior.variance = full * full * (1.0 / 12.0);
  prior.count = static_cast<double>(weight);
  return prior;
}

agents::PpoSettings ppo_settings(const Settings& settings, const Plan& plan) {
  const agents::Hyperparameters& hp = settings.hyperparameters;
  agents::PpoSettings ppo;
  ppo.batch_size = hp.batch_size;
  ppo.epochs = hp.ppo_epochs;
  ppo.gamma = hp.gamma;
  ppo.lambda = hp.gae_lambda;
  ppo.clip_range = hp.clip_range;
  ppo.entropy_coef = hp.entropy_coef;
  ppo.value_loss_coef = hp.value_loss_coef;
  ppo.max_grad_norm = hp.max_grad_norm;
  ppo.kl_target = hp.kl_target;
  ppo.micro_batch = plan.micro_batch;
  ppo.bf16 = settings.run.precision == "bf16";
  return ppo;
}

// Random weights, the encoder's from a file where one is given, held fast where that is wanted.
agents::Policy first_policy(const Settings& settings, c10::Device device) {
  const agents::Hyperparameters& hp = settings.hyperparameters;
  agents::Policy policy = agents::make_policy(
      architecture_of(settings), {static_cast<std::uint64_t>(settings.run.seed), hp.log_std_init, 0.01}, device);
  if (!hp.ft_use_pretrained || policy.architecture.network != agents::Network::market_context) return policy;
  start_from(read_pretrained(settings.run.pretrained), settings.run.pretrained, layout_of(settings), policy);
  if (!hp.ft_freeze_encoder) return policy;
  for (auto* weights : {&policy.actor, &policy.critic}) {
    for (const auto& [name, tensor] : *weights) {
      if (name.starts_with("encoder.")) weights->at(name).requires_grad_(false);
    }
  }
  return policy;
}

std::vector<at::Tensor> parameters(const agents::Policy& policy) {
  std::vector<at::Tensor> all = policy.actor.tensors();
  const std::vector<at::Tensor> critic = policy.critic.tensors();
  all.insert(all.end(), critic.begin(), critic.end());
  return all;
}

}  // namespace

void tell(bool background, const std::string& text) {
  if (background) {
    log::debug("train", text);
  } else {
    log::info("train", text);
  }
}

agents::Policy copy_of(const agents::Policy& policy) {
  return {policy.architecture, policy.actor.clone(), policy.critic.clone()};
}

void EpisodeReturns::add(const at::Tensor& reward, const at::Tensor& ended) {
  const at::Tensor r = reward.to(at::kCPU, at::kFloat).contiguous(), e = ended.to(at::kCPU).contiguous();
  const float* rewards = r.const_data_ptr<float>();
  const bool* ends = e.const_data_ptr<bool>();
  const std::int64_t worlds = r.size(1);
  sum.resize(static_cast<std::size_t>(worlds));
  length.resize(static_cast<std::size_t>(worlds));
  finished_sum = finished_length = 0;
  finished = 0;
  for (std::int64_t i = 0; i < r.numel(); ++i) {
    const auto world = static_cast<std::size_t>(i % worlds);
    sum[world] += rewards[i];
    length[world] += 1;
    if (!ends[i]) continue;
    finished_sum += sum[world];
    finished_length += length[world];
    ++finished;
    sum[world] = length[world] = 0;
  }
}

agents::NamedTensors EpisodeReturns::state() const {
  return {{"sum", at::tensor(at::ArrayRef(sum))}, {"length", at::tensor(at::ArrayRef(length))}};
}

void EpisodeReturns::restore(const agents::NamedTensors& saved) {
  for (const auto& [name, tensor] : saved) {
    const double* const numbers = tensor.const_data_ptr<double>();
    (name == "sum" ? sum : length).assign(numbers, numbers + tensor.numel());
  }
}

Trainer::State::State(const Settings& s, const env::Market& train, const env::Market& market, c10::Device d,
                      std::filesystem::path dir, Validate v, Profile& p, bool in_background, ProcessGroup* processes)
    : group(processes),
      settings(s),
      // In the background no clock ends a training, and many plans would be made.
      plan(make_plan(s, d, !in_background)),
      device(d),
      directory(std::move(dir)),
      validate(std::move(v)),
      profile(p),
      background(in_background),
      environment(std::make_shared<const env::Market>(market), layout_of(s), rules_of(s),
                  [&] {
                    env::Portfolios::Options options;
                    options.portfolios = plan.portfolios / shares();
                    options.first_portfolio = first_portfolio();
                    options.seed = static_cast<std::uint64_t>(s.run.seed);
                    options.episode_bars = s.run.episode_bars;
                    return options;
                  }()),
      policy(first_policy(s, d)),
      initial_actor(policy.actor.clone()),
      normalizer(market, layout_of(s), account_prior(train, rules_of(s), plan.samples), policy.architecture.network),
      rewards(plan.portfolios, s.hyperparameters.gamma),
      optimizer(parameters(policy), {0.9, 0.999, s.hyperparameters.adam_epsilon, 0}),
      ppo(policy, normalizer, optimizer, ppo_settings(s, plan), shard()) {}

void Trainer::State::note_reward_terms() {
  const at::Tensor terms = environment.take_reward_terms();
  const double total = std::max(terms.sum().item<double>(), 1e-300);
  std::vector<std::string> parts;
  for (std::int64_t k = 0; k < terms.numel(); ++k) {
    const double share = terms[k].item<double>() / total;
    reward_term_shares.push_back(share);
    if (share > 0) parts.push_back(str(env::kRewardTerms[k], " ", fixed(100 * share, 1), " %"));
  }
  tell(background, str("shares of the mean |reward| in the first rollout: ", join(parts, ", ")));
  for (std::size_t k = 0; k < reward_term_shares.size(); ++k) {
    if (reward_term_shares[k] > kDominantTerm && !background) {
      log::warning("train", str("the reward's term '", env::kRewardTerms[k], "' is ",
                                fixed(100 * reward_term_shares[k], 0), " % of the reward and drowns the others"));
    }
  }
}

void Trainer::State::validate_now(RunLog& run_log) {
  profile.enter("validation");
  RECORD_USER_SCOPE("validation");
  const Validation validation = validate(policy, normalizer);
  run_log.scalar("eval/score", validation.score, environment_steps);
  const bool better = !best || validation.score > best->score;
  log::info("train", str("iteration ", iteration, ": validation ", validation.text, better ? ", the best so far" : ""));
  if (!better) return;
  best = Snapshot{copy_of(policy), normalizer, validation.score, iteration};
}

Outcome Trainer::State::outcome(const std::string& ended, int signal) const {
  Outcome out{best ? *best : Snapshot{policy, normalizer, 0, iteration}};
  out.has_validated = best.has_value();
  out.iterations = iteration;
  out.environment_steps = environment_steps;
  out.optimizer_steps = optimizer_steps;
  out.seconds = seconds;
  out.weight_change = ft_transformer::relative_distance(out.best.policy.actor, initial_actor);
  out.ended = ended;
  out.signal = signal;
  out.reward_term_shares = reward_term_shares;
  return out;
}

Scalars Trainer::State::iterate(double fraction_done, const std::function<bool()>& keep_going) {
  const agents::Hyperparameters& hp = settings.hyperparameters;
  profile.enter("rollout");
  const Stopwatch watch;
  agents::Rollout rollout =
      agents::collect(environment, policy, normalizer, plan.horizon, static_cast<std::uint64_t>(settings.run.seed),
                      iteration * plan.horizon, first_portfolio(), ppo.settings().bf16, plan.rollout);
  if (any(environment.take_bad_action())) {
    throw Diverged(str("the policy gave an action that is not finite at iteration ", iteration + 1),
                   "the last good checkpoint is kept; a smaller --learning-rate or --max-grad-norm may help");
  }
  if (group != nullptr) rollout = group->gather(rollout);
  const at::Tensor ended = rollout.terminated.logical_or(rollout.truncated);
  episodes.add(rollout.reward, ended);
  if (iteration == 0) note_reward_terms();
  const at::Tensor normalized = rewards.normalize(rollout.reward, ended);
  profile.enter("update");
  const double learning_rate = scheduled_learning_rate(hp, fraction_done);
  const agents::UpdateMetrics metrics =
      ppo.update(rollout, normalized, learning_rate, hp.clip_range, static_cast<std::uint64_t>(settings.run.seed),
                 iteration, keep_going);
  if (!metrics.finite) {
    throw Diverged(
        str("loss, gradients or weights are not finite at iteration ", iteration + 1, " (policy loss ",
            metrics.policy_loss, ", value loss ", metrics.value_loss, ", gradient norm ", metrics.gradient_norm, ")"),
        "the last good checkpoint is kept; a smaller --learning-rate or --max-grad-norm may help");
  }
  // Before the first step the policy is still the one that acted (algorithms.md 1.2).
  if (any(ppo.settings().bf16 ? metrics.first_approx_kl > kMostDivergenceBf16
                              : metrics.first_ratio_error > kMostRatioError)) {
    throw Diverged(
        str("the first minibatch's probabilities are not those that the rollout acted by at iteration ", iteration + 1,
            " (a ratio is ", metrics.first_ratio_error, " off 1, the divergence ", metrics.first_approx_kl, ")"),
        "the device or the precision computes wrongly: scripts/gpu-check shows where; --precision fp32 or "
        "--device cpu may help");
  }
  normalizer.update_account(rollout.account, rollout.bar);
  profile.enter("other");
  frozen = metrics.optimizer_steps == 0 ? frozen + 1 : 0;
  if (frozen >= kFrozenIterations) {
    throw Diverged(str("training stands still: no optimiser step in ", frozen, " iterations"),
                   "a larger --kl-target lets the updates go on");
  }
  ++iteration;
  environment_steps += rollout.samples();
  optimizer_steps += metrics.optimizer_steps;
  seconds += watch.seconds();
  const env::Accounts& accounts = environment.accounts();
  const double capital = rules_of(settings).initial_capital;
  const double steps_per_second = static_cast<double>(rollout.samples()) / watch.seconds();
  const auto mean = [&](double sum) {
    return episodes.finished > 0 ? sum / static_cast<double>(episodes.finished) : std::nan("");
  };
  return {{"rollout/ep_rew_mean", mean(episodes.finished_sum)},
          {"rollout/ep_len_mean", mean(episodes.finished_length)},
          {"rollout/rew_mean", rollout.reward.mean().item<double>()},
          {"train/learning_rate", learning_rate},
          {"train/policy_gradient_loss", metrics.policy_loss},
          {"train/value_loss", metrics.value_loss},
          {"train/entropy_loss", -metrics.entropy},
          {"train/approx_kl", metrics.approx_kl},
          {"train/clip_fraction", metrics.clip_fraction},
          {"train/explained_variance", metrics.explained_variance},
          {"train/std", metrics.std},
          {"train/gradient_norm", metrics.gradient_norm},
          {"train/n_updates", static_cast<double>(optimizer_steps)},
          {"train/first_ratio_error", metrics.first_ratio_error},
          {"train/first_approx_kl", metrics.first_approx_kl},
          {"trade/value_mean", accounts.value.mean().item<double>() / capital},
          {"trade/invested_mean", 1.0 - (accounts.cash / accounts.value).mean().item<double>()},
          {"trade/orders_mean", accounts.orders.to(at::kDouble).mean().item<double>()},
          {"trade/fees_mean", accounts.fees.mean().item<double>() / capital},
          {"time/fps", steps_per_second},
          {"charts/SPS", steps_per_second},
          {"perf/iteration_seconds", watch.seconds()}};
}

}  // namespace ristretto::train
