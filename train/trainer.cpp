#include <ATen/TensorOperators.h>

#include <algorithm>
#include <cmath>

#include "agents/optimizer.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/interrupt.h"
#include "platform/log.h"
#include "platform/text.h"
#include "train/device.h"
#include "train/run_log.h"
#include "train/start.h"
#include "train/trainer_state.h"

namespace ristretto::train {
namespace {

constexpr double kValidationShare = 0.04;   // of the run, between two validations
constexpr double kMostOfBudget = 0.04;      // of a time budget that may go to validating,
constexpr double kMostOfTime = 0.2;         // and of the time without one
constexpr double kCheckpointSeconds = 120;  // at most this much training is lost to a crash
constexpr double kTradableShare = 0.01;     // of episode starts, below which an asset counts as out of reach

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

}  // namespace

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
  if (!directory.empty()) std::filesystem::create_directories(directory / kCheckpointDirectory);
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
                "start a new run");
  }
  state_->restore();
}

Outcome Trainer::saved() {
  State& s = *state_;
  s.restore_networks();
  if (!s.best) {
    throw Error(Fault::usage,
                str(s.directory.string(), " holds no weights that were validated: its ", s.iteration,
                    s.iteration == 1 ? " iteration" : " iterations", " ended before that"),
                str("train on: ristretto train --resume --run ", s.directory.string()));
  }
  return s.outcome(s.environment_steps >= s.plan.steps ? "steps" : "time budget or signal", 0);
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
  // How much of the run is over.
  const auto by_steps = [&] { return static_cast<double>(s.environment_steps) / static_cast<double>(s.plan.steps); };
  // What was interrupted goes on with its schedule, what had ended begins one.
  const double begun = s.progress < 1 ? s.progress : 0;
  const auto by_time = [&] { return seconds_left > 0 ? begun + (1 - begun) * watch.seconds() / seconds_left : 0.0; };
  const auto progress = [&] { return std::max(by_steps(), by_time()); };
  // Goes up with each part of either.
  const auto part = [&] {
    return std::floor(by_steps() / kValidationShare) + std::floor(by_time() / kValidationShare);
  };
  double last_part = part();
  const auto save = [&] {
    s.profile.enter("checkpoint");
    s.save();
    since_checkpoint.restart();
    s.profile.enter("other");
  };
  const auto validate_and_save = [&] {
    if (s.validate && validated_at != s.iteration) {
      last_part = part();
      const Stopwatch validating;
      s.validate_now(run_log);
      validation_seconds = validating.seconds();
      validated_at = s.iteration;
      since_validation.restart();
    }
    save();
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
      s.progress = 1;  // whatever the clock read after the last iteration
      break;
    }
    const double fraction = s.of_first(progress());  // clocks differ, and it sets the learning rate
    const Stopwatch iterating;
    const Scalars scalars = s.iterate(fraction, keep_going);
    ++done_here;
    s.progress = progress();
    run_log.update(s.iteration, s.environment_steps, scalars);

    const double rate = static_cast<double>(s.plan.samples) / iterating.seconds();
    const double to_go = static_cast<double>(s.plan.steps - s.environment_steps) / rate;
    const double left = seconds_left > 0 ? std::min(to_go, std::max(0.0, seconds_left - watch.seconds())) : to_go;
    run_log.progress(progress(), s.environment_steps, rate, left,
                     str("reward ", fixed(scalars[2].second * 1e3, 3), "e-3"));
    // The first at once, so that what is interrupted early can be served. Then by parts of the run, so that without a
    // time budget the same iterations are validated however fast the machine is; but in runs so short that validating
    // would be a large part of them.
    const double most = seconds_left > 0 ? kMostOfBudget : kMostOfTime;
    const bool slow = since_validation.seconds() * most < validation_seconds;
    const bool validation_due = s.validate && (!s.best || (part() > last_part && !slow));
    if (validation_due) {
      validate_and_save();
    } else if (since_checkpoint.seconds() >= kCheckpointSeconds) {
      save();
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

  return s.outcome(ended, signal);
}

}  // namespace ristretto::train
