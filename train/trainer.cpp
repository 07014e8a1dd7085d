#include "train/trainer.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/stack.h>
#include <ATen/record_function.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "agents/checkpoint.h"
#include "agents/optimizer.h"
#include "agents/rollout.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/interrupt.h"
#include "platform/log.h"
#include "platform/text.h"
#include "train/device.h"
#include "train/pretrain.h"
#include "train/run_log.h"
#include "train/schedule.h"
#include "train/start.h"

namespace ristretto::train {
namespace {

constexpr double kValidationShare = 0.04;   // of the time that may go to validating
constexpr double kCheckpointSeconds = 120;  // at most this much training is lost to a crash
constexpr double kDominantTerm = 0.80;      // share of one reward term that deserves a warning
constexpr double kTradableShare = 0.01;     // of episode starts, below which an asset counts as out of reach
constexpr int kFrozenIterations = 3;        // updates without an optimiser step, or without any change of weights

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

// What a run tells about itself.
void tell(bool background, const std::string& text) {
  if (background) {
    log::debug("train", text);
  } else {
    log::info("train", text);
  }
}

void require_tradable(const env::Market& market, const env::Rules& rules, bool background) {
  const std::vector<double> shares = env::tradable_shares(market, rules);
  std::vector<std::string> parts;
  for (std::size_t i = 0; i < shares.size(); ++i)
    parts.push_back(str(market.assets[i], " ", fixed(100 * shares[i], 0), " %"));
  tell(background, str("episode starts at which the largest order reaches the asset's minimum: ", join(parts, ", ")));
  if (std::all_of(shares.begin(), shares.end(), [](double share) { return share < kTradableShare; })) {
    // The largest norm_action at which the cheapest of the assets' minimum orders is reached at the mean price.
    const at::Tensor mean_price = market.price.to(at::kCPU, at::kDouble).mean(0);
    double enough = 0;
    for (std::int64_t i = 0; i < rules.assets; ++i) {
      enough = std::max(enough, rules.initial_capital / (mean_price[i].item<double>() * rules.min_qty[i]));
    }
    throw Error(Fault::usage,
                str("the agent could not trade: with norm_action ", rules.norm_action, " and capital ",
                    rules.initial_capital, " its largest order is below the minimum quantity of every asset at ",
                    fixed(100 * (1 - kTradableShare), 0), " % of the episode starts or more"),
                str("use --norm-action ", static_cast<long long>(enough),
                    " or less (100 is what is served), or more --initial-capital"));
  }
}

double weight_change(const ft_transformer::Weights& now, const ft_transformer::Weights& initial) {
  double change = 0, size = 0;
  for (const auto& [name, tensor] : now) {
    const at::Tensor before = initial.at(name).to(at::kCPU, at::kDouble);
    const at::Tensor difference = tensor.detach().to(at::kCPU, at::kDouble) - before;
    change += (difference * difference).sum().item<double>();
    size += (before * before).sum().item<double>();
  }
  return std::sqrt(change / std::max(size, 1e-300));
}

agents::NamedTensors named(const ft_transformer::Weights& weights) {
  agents::NamedTensors out;
  for (const auto& [name, tensor] : weights) out.emplace_back(name, tensor.detach());
  return out;
}

void copy_into(ft_transformer::Weights& weights, const agents::NamedTensors& saved, const char* what) {
  const at::NoGradGuard no_gradients;
  for (const auto& [name, tensor] : saved) {
    if (!weights.contains(name) || !weights.at(name).sizes().equals(tensor.sizes())) {
      throw Error(Fault::incompatible,
                  str("the checkpoint's ", what, " holds '", name, "', which this network has not in that shape"),
                  "it was written with other settings: start a new run");
    }
    weights.at(name).copy_(tensor);
  }
}

agents::Policy copy_of(const agents::Policy& policy) {
  return {policy.architecture, policy.actor.clone(), policy.critic.clone()};
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

}  // namespace

// Running sums of each world's episode, on the host.
struct EpisodeReturns {
  std::vector<double> sum, length;
  double finished_sum = 0, finished_length = 0;
  std::int64_t finished = 0;

  void add(const at::Tensor& reward, const at::Tensor& ended) {  // [horizon, N]
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
};

struct Trainer::State {
  ProcessGroup* group;  // nullptr: this process alone
  Settings settings;
  Plan plan;
  c10::Device device;
  std::filesystem::path directory;
  Validate validate;
  Profile& profile;
  bool background;

  env::Portfolios environment;
  agents::Policy policy;
  ft_transformer::Weights initial_actor;
  agents::Normalizer normalizer;
  agents::RewardNormalizer rewards;
  agents::Optimizer optimizer;
  agents::Ppo ppo;

  std::int64_t iteration = 0, environment_steps = 0, optimizer_steps = 0;
  double seconds = 0;  // of training, in this and earlier processes
  std::optional<Snapshot> best;
  std::vector<double> reward_term_shares;
  int frozen = 0;

  static std::vector<at::Tensor> parameters(const agents::Policy& policy) {
    std::vector<at::Tensor> all = policy.actor.tensors();
    const std::vector<at::Tensor> critic = policy.critic.tensors();
    all.insert(all.end(), critic.begin(), critic.end());
    return all;
  }

  State(const Settings& s, const env::Market& train, const env::Market& market, c10::Device d,
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

  int shares() const { return group != nullptr ? group->size() : 1; }
  std::int64_t first_portfolio() const { return group != nullptr ? group->rank() * (plan.portfolios / shares()) : 0; }
  agents::Shard shard() const {
    if (group == nullptr) return {};
    return {group->rank(), group->size(), [this](const at::Tensor& tensor) { group->sum(tensor); }};
  }
  // The same answer in every process.
  bool any(bool here) const { return group != nullptr ? group->any(here) : here; }
  // The first process's number, in all of them.
  double of_first(double here) const {
    if (group == nullptr) return here;
    const at::Tensor number = at::full({}, group->rank() == 0 ? here : 0.0, at::kDouble);
    group->sum(number);
    return number.item<double>();
  }

  void note_reward_terms() {
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

  // The checkpoint holds row numbers: they mean the same only on the same rows.
  std::string bars_identity() const {
    const env::Market& market = environment.market();
    std::string out = str(market.rows(), " rows");
    for (const env::Segment& segment : market.segments) out += str(" ", segment.begin, "-", segment.end);
    if (!market.time.empty()) out += str(", ", iso_utc(market.time.front()), " to ", iso_utc(market.time.back()));
    return out + str(", sum of prices ", market.price.sum(at::kDouble).item<double>());
  }

  void save() {
    if (directory.empty()) return;
    RECORD_USER_SCOPE("checkpoint");
    agents::Checkpoint checkpoint;
    agents::add_prefixed(checkpoint.tensors, "actor/", named(policy.actor));
    agents::add_prefixed(checkpoint.tensors, "critic/", named(policy.critic));
    agents::add_prefixed(checkpoint.tensors, "initial_actor/", named(initial_actor));
    agents::add_prefixed(checkpoint.tensors, "adam/", optimizer.state());
    agents::add_prefixed(checkpoint.tensors, "normalizer/", normalizer.state());
    agents::add_prefixed(checkpoint.tensors, "rewards/", rewards.state());
    agents::add_prefixed(checkpoint.tensors, "environment/", environment.state());
    if (best) {
      agents::add_prefixed(checkpoint.tensors, "best_actor/", named(best->policy.actor));
      agents::add_prefixed(checkpoint.tensors, "best_critic/", named(best->policy.critic));
      agents::add_prefixed(checkpoint.tensors, "best_normalizer/", best->normalizer.state());
      checkpoint.fields["best_score"] = str(best->score);
      checkpoint.fields["best_iteration"] = str(best->iteration);
    }
    checkpoint.fields["bars"] = bars_identity();
    checkpoint.fields["layout"] = release::line_of(release::section_of(layout_of(settings)));
    checkpoint.fields["iteration"] = str(iteration);
    checkpoint.fields["environment_steps"] = str(environment_steps);
    checkpoint.fields["optimizer_steps"] = str(optimizer_steps);
    checkpoint.fields["seconds"] = str(seconds);
    for (const agents::Row& row : agents::table()) {
      checkpoint.fields[str("hyperparameter/", row.name)] = agents::text_of(agents::get(settings.hyperparameters, row));
    }
    for (const RunRow& row : run_table()) {
      if (!row.resumable) checkpoint.fields[str("run/", row.name)] = text_of(settings.run, row);
    }
    agents::write_checkpoint(directory / "checkpoint", checkpoint);
  }

  void restore() {
    const agents::Checkpoint checkpoint = agents::read_checkpoint(directory / "checkpoint");
    const auto field = [&](const std::string& name) -> const std::string& {
      const auto found = checkpoint.fields.find(name);
      if (found == checkpoint.fields.end()) {
        throw Error(Fault::incompatible, str(directory.string(), ": the checkpoint has no '", name, "'"));
      }
      return found->second;
    };
    // By names, before the settings that they follow from.
    if (const auto saved = checkpoint.fields.find("layout"); saved != checkpoint.fields.end()) {
      const release::Json section = release::Json::parse(saved->second, nullptr, /*allow_exceptions=*/false);
      const std::string other = env::difference(layout_of(settings), release::layout_of(section, directory.string()));
      if (!other.empty()) {
        throw Error(
            Fault::incompatible,
            str("the run in ", directory.string(), " observes another layout than the settings ask for now: ", other),
            "resume with the same settings, or start a new run");
      }
    }
    agents::Hyperparameters old_values;
    for (const agents::Row& row : agents::table()) {
      agents::set(old_values, row, agents::parse_value(row, field(str("hyperparameter/", row.name))));
    }
    agents::require_resumable(old_values, settings.hyperparameters);
    for (const RunRow& row : run_table()) {
      if (row.resumable) continue;
      const std::string now = text_of(settings.run, row), before = field(str("run/", row.name));
      if (now != before) {
        throw Error(Fault::incompatible,
                    str("the run in ", directory.string(), " has ", row.name, " '", before, "', now it is '", now, "'"),
                    "resume with the same settings, or start a new run");
      }
    }
    if (field("bars") != bars_identity()) {
      throw Error(Fault::incompatible,
                  str("the run in ", directory.string(), " was trained on the bars ", field("bars"), ", now they are ",
                      bars_identity()),
                  "resume with the bars it began with and --holdout-from its hold-out's first bar, or start a new run");
    }
    copy_into(policy.actor, agents::with_prefix(checkpoint.tensors, "actor/"), "actor");
    copy_into(policy.critic, agents::with_prefix(checkpoint.tensors, "critic/"), "critic");
    copy_into(initial_actor, agents::with_prefix(checkpoint.tensors, "initial_actor/"), "initial actor");
    optimizer.restore(agents::with_prefix(checkpoint.tensors, "adam/"));
    normalizer.restore(agents::with_prefix(checkpoint.tensors, "normalizer/"));
    rewards.restore(agents::with_prefix(checkpoint.tensors, "rewards/"));
    environment.restore(agents::with_prefix(checkpoint.tensors, "environment/"));
    iteration = parse_number<std::int64_t>(field("iteration")).value_or(0);
    environment_steps = parse_number<std::int64_t>(field("environment_steps")).value_or(0);
    optimizer_steps = parse_number<std::int64_t>(field("optimizer_steps")).value_or(0);
    seconds = parse_number<double>(field("seconds")).value_or(0);
    if (checkpoint.fields.count("best_score") > 0) {
      Snapshot found{copy_of(policy), normalizer, 0, 0};
      copy_into(found.policy.actor, agents::with_prefix(checkpoint.tensors, "best_actor/"), "best actor");
      copy_into(found.policy.critic, agents::with_prefix(checkpoint.tensors, "best_critic/"), "best critic");
      found.normalizer.restore(agents::with_prefix(checkpoint.tensors, "best_normalizer/"));
      found.score = parse_number<double>(field("best_score")).value_or(0);
      found.iteration = parse_number<std::int64_t>(field("best_iteration")).value_or(0);
      best = std::move(found);
    }
  }

  void validate_now(RunLog& run_log) {
    profile.enter("validation");
    RECORD_USER_SCOPE("validation");
    const Validation validation = validate(policy, normalizer);
    run_log.scalar("eval/score", validation.score, environment_steps);
    const bool better = !best || validation.score > best->score;
    log::info("train",
              str("iteration ", iteration, ": validation ", validation.text, better ? ", the best so far" : ""));
    if (!better) return;
    best = Snapshot{copy_of(policy), normalizer, validation.score, iteration};
  }

  // One iteration; returns its figures.
  Scalars iterate(double fraction_done, EpisodeReturns& returns, const std::function<bool()>& keep_going) {
    const agents::Hyperparameters& hp = settings.hyperparameters;
    profile.enter("rollout");
    const Stopwatch watch;
    agents::Rollout rollout =
        agents::collect(environment, policy, normalizer, plan.horizon, static_cast<std::uint64_t>(settings.run.seed),
                        iteration * plan.horizon, first_portfolio(), ppo.settings().bf16, ppo.settings().micro_batch);
    if (any(environment.take_bad_action())) {
      throw Error(Fault::failed, str("the policy gave an action that is not finite at iteration ", iteration + 1),
                  "the last good checkpoint is kept; a smaller --learning-rate or --max-grad-norm may help");
    }
    if (group != nullptr) rollout = group->gather(rollout);
    const at::Tensor ended = rollout.terminated.logical_or(rollout.truncated);
    returns.add(rollout.reward, ended);
    if (iteration == 0) note_reward_terms();
    const at::Tensor normalized = rewards.normalize(rollout.reward, ended);
    profile.enter("update");
    const double learning_rate = scheduled_learning_rate(hp, fraction_done);
    const agents::UpdateMetrics metrics =
        ppo.update(rollout, normalized, learning_rate, hp.clip_range, static_cast<std::uint64_t>(settings.run.seed),
                   iteration, keep_going);
    if (!metrics.finite) {
      throw Error(
          Fault::failed,
          str("loss, gradients or weights are not finite at iteration ", iteration + 1, " (policy loss ",
              metrics.policy_loss, ", value loss ", metrics.value_loss, ", gradient norm ", metrics.gradient_norm, ")"),
          "the last good checkpoint is kept; a smaller --learning-rate or --max-grad-norm may help");
    }
    normalizer.update_account(rollout.account, rollout.bar);
    profile.enter("other");
    frozen = metrics.optimizer_steps == 0 ? frozen + 1 : 0;
    if (frozen >= kFrozenIterations) {
      throw Error(Fault::failed, str("training stands still: no optimiser step in ", frozen, " iterations"),
                  "a larger --kl-target lets the updates go on");
    }
    ++iteration;
    environment_steps += rollout.samples();
    optimizer_steps += metrics.optimizer_steps;
    seconds += watch.seconds();
    const env::Accounts& accounts = environment.accounts();
    const double capital = rules_of(settings).initial_capital;
    const double steps_per_second = static_cast<double>(rollout.samples()) / watch.seconds();
    const double episodes = static_cast<double>(std::max<std::int64_t>(1, returns.finished));
    return {{"rollout/ep_rew_mean", returns.finished > 0 ? returns.finished_sum / episodes : std::nan("")},
            {"rollout/ep_len_mean", returns.finished > 0 ? returns.finished_length / episodes : std::nan("")},
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
            {"trade/value_mean", accounts.value.mean().item<double>() / capital},
            {"trade/invested_mean", 1.0 - (accounts.cash / accounts.value).mean().item<double>()},
            {"trade/orders_mean", accounts.orders.to(at::kDouble).mean().item<double>()},
            {"trade/fees_mean", accounts.fees.mean().item<double>() / capital},
            {"time/fps", steps_per_second},
            {"charts/SPS", steps_per_second},
            {"perf/iteration_seconds", watch.seconds()}};
  }
};

Trainer::Trainer(const Settings& settings, const env::Market& train, std::filesystem::path directory, Validate validate,
                 Profile& profile, Manner manner, ProcessGroup* group) {
  const bool background = manner == Manner::background;
  check(settings);
  if (group != nullptr && portfolios_of(settings) % group->size() != 0) {
    throw Error(Fault::usage, str("--portfolios is ", portfolios_of(settings), ", expected a multiple of the ",
                                  group->size(), " processes (WORLD_SIZE)"));
  }
  const c10::Device device = device_of(settings.run.device);
  const env::Rules rules = rules_of(settings);
  require_tradable(train, rules, background);
  if (rules.max_position_fraction > 0) {
    const double ramp = rules.max_position_fraction * rules.norm_action;
    const double sight = 1.0 / std::max(1e-9, 1.0 - settings.hyperparameters.gamma);
    const std::string text = str("a full position takes ", fixed(ramp, 0), " bars of largest orders; gamma ",
                                 settings.hyperparameters.gamma, " looks about ", fixed(sight, 0), " bars ahead");
    if (sight < ramp && !background) {
      log::warning("train", text + ": less than that, so the agent sees the cost of a position before its gain");
    } else {
      tell(background, text);
    }
  }
  if (!directory.empty()) std::filesystem::create_directories(directory / "checkpoint");
  state_ = std::make_unique<State>(settings, train, train.to(device, at::kFloat), device, std::move(directory),
                                   std::move(validate), profile, background, group);
}

Trainer::~Trainer() = default;

const Plan& Trainer::plan() const { return state_->plan; }

void Trainer::resume() {
  if (state_->group != nullptr) {
    throw Error(Fault::usage,
                "a run of several processes (WORLD_SIZE) cannot be resumed: its checkpoint holds the "
                "portfolios of the first one alone",
                "start a new run, or go on with one process");
  }
  state_->restore();
}

void Trainer::start_from(const release::Start& start) {
  State& s = *state_;
  begin_from(start, layout_of(s.settings), s.policy, s.normalizer, s.optimizer);
  s.initial_actor = s.policy.actor.clone();
}

Outcome Trainer::run(double seconds_left, double validations_after) {
  State& s = *state_;
  const Stopwatch watch;
  RunLog run_log(s.directory, !s.background);
  const auto signal_now = [&] { return s.background ? 0 : interrupt_requested(); };
  EpisodeReturns returns;
  Stopwatch since_checkpoint, since_validation;
  double validation_seconds = 0;
  std::int64_t validated_at = -1;
  if (s.validate) {
    s.profile.enter("validation");
    const Stopwatch validating;
    log::info("train", str(s.iteration == 0 ? "before training" : "as resumed", ": validation ",
                           s.validate(s.policy, s.normalizer).text));
    validation_seconds = validating.seconds();
    since_validation.restart();
    s.profile.enter("other");
  }
  if (s.iteration == 0) s.save();  // from here on the run can be resumed
  if (seconds_left > 0) seconds_left = std::max(1.0, seconds_left - (1 + validations_after) * validation_seconds);
  std::string ended = "steps";
  int signal = 0;
  const auto validate_and_save = [&] {
    if (s.validate && validated_at != s.iteration) {
      const Stopwatch validating;
      s.validate_now(run_log);
      validation_seconds = validating.seconds();
      validated_at = s.iteration;
      since_validation.restart();
    }
    s.profile.enter("checkpoint");
    s.save();
    since_checkpoint.restart();
    s.profile.enter("other");
  };

  // An update that is under way ends at its next minibatch when the time is up or a signal came.
  // Several processes end between iterations, where they ask each other.
  const auto keep_going = [&] {
    return s.group != nullptr || (signal_now() == 0 && (seconds_left <= 0 || watch.seconds() < seconds_left));
  };
  std::int64_t done_here = 0;
  while (s.environment_steps < s.plan.steps) {
    signal = signal_now();
    if (s.any(signal != 0)) {
      ended = signal == 2 ? "SIGINT" : signal == 0 ? "a signal to another process" : "SIGTERM";
      break;
    }
    if (s.any(seconds_left > 0 && done_here > 0 && watch.seconds() >= seconds_left)) {
      ended = "time budget";
      break;
    }
    const double by_steps = static_cast<double>(s.environment_steps) / static_cast<double>(s.plan.steps);
    const double by_time = seconds_left > 0 ? watch.seconds() / seconds_left : 0;
    const double fraction = s.of_first(std::max(by_steps, by_time));  // clocks differ, and it sets the learning rate
    const Stopwatch iterating;
    const Scalars scalars = s.iterate(fraction, returns, keep_going);
    ++done_here;
    run_log.update(s.iteration, s.environment_steps, scalars);

    const double rate = static_cast<double>(s.plan.samples) / iterating.seconds();
    const double to_go = static_cast<double>(s.plan.steps - s.environment_steps) / rate;
    const double left = seconds_left > 0 ? std::min(to_go, std::max(0.0, seconds_left - watch.seconds())) : to_go;
    run_log.progress(std::max(static_cast<double>(s.environment_steps) / static_cast<double>(s.plan.steps),
                              seconds_left > 0 ? watch.seconds() / seconds_left : 0.0),
                     s.environment_steps, rate, left, str("reward ", fixed(scalars[2].second * 1e3, 3), "e-3"));
    const bool validation_due = s.validate && since_validation.seconds() * kValidationShare >= validation_seconds;
    if (validation_due) {
      validate_and_save();
    } else if (since_checkpoint.seconds() >= kCheckpointSeconds) {
      s.profile.enter("checkpoint");
      s.save();
      since_checkpoint.restart();
      s.profile.enter("other");
    }
  }
  if (signal == 0) signal = signal_now();
  if (signal == 0) {
    validate_and_save();
    signal = signal_now();  // one that came while validating
  } else {
    s.save();
  }
  if (signal != 0) ended = signal == 2 ? "SIGINT" : "SIGTERM";

  Outcome outcome{s.best ? *s.best : Snapshot{s.policy, s.normalizer, 0, s.iteration}};
  outcome.iterations = s.iteration;
  outcome.environment_steps = s.environment_steps;
  outcome.optimizer_steps = s.optimizer_steps;
  outcome.seconds = s.seconds;
  outcome.weight_change = weight_change(outcome.best.policy.actor, s.initial_actor);
  outcome.ended = ended;
  outcome.signal = signal;
  outcome.reward_term_shares = s.reward_term_shares;
  return outcome;
}

}  // namespace ristretto::train
