#include "train/contenders.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <exception>
#include <map>
#include <optional>

#include "agents/checkpoint.h"
#include "env/random.h"
#include "evaluation/metrics.h"
#include "platform/atomic_file.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/log.h"
#include "platform/text.h"
#include "release/served_actor.h"
#include "train/record.h"
#include "train/trained_run.h"

namespace ristretto::train {
namespace {

using release::Json;
using release::json_of;

constexpr double kLadderSeconds = 6;      // the reference agents on the hold-out, the gates, and the rest of judging
constexpr double kBytesPerSecond = 20e6;  // writing, hashing and verifying a version
// Hold-out at three costs, champion and look-ahead take about as long as a validation each.
constexpr double kJudgingValidations = 6;
constexpr std::int64_t kProbeRows = 16;
constexpr const char* kFinished = "finished";

// States that the model may meet: bars spread over the hold-out, accounts between all cash and full positions.
at::Tensor probe_states(const Data& data, std::uint64_t seed) {
  const env::Market& market = data.splits.holdout.market;
  std::vector<std::int32_t> bars;
  for (const env::Segment& segment : market.segments) {
    for (std::int64_t row = segment.begin + data.layout.lookback - 1; row < segment.end; ++row)
      bars.push_back(static_cast<std::int32_t>(row));
  }
  const std::int64_t n = data.layout.assets_count();
  env::Observation observation;
  observation.bar = at::zeros({kProbeRows}, at::kInt);
  observation.account = env::uniform(kProbeRows, 1 + n, seed, 0, at::kCPU) * data.rules.initial_capital;
  for (std::int64_t k = 0; k < kProbeRows; ++k) {
    const std::int32_t bar = bars[bars.size() * static_cast<std::size_t>(k) / kProbeRows];
    observation.bar[k] = bar;
    observation.account[k].narrow(0, 1, n).div_(market.price[bar].to(at::kFloat) * static_cast<double>(n));
  }
  return env::materialize(observation, market.tech, data.layout);
}

release::Content content_of(const Resolved& resolved, const Settings& settings, const Data& data,
                            const Snapshot& best) {
  release::Content content;
  content.architecture = architecture_of(settings);
  const ft_transformer::Weights actor = best.policy.actor.to(at::kCPU, at::kFloat);
  const ft_transformer::Weights critic = best.policy.critic.to(at::kCPU, at::kFloat);
  content.actor = best.normalizer.folded(actor, content.architecture, data.layout);
  content.critic = best.normalizer.folded(critic, content.architecture, data.layout);
  content.layout = data.layout;
  content.rules = data.rules;
  for (const agents::Row& row : agents::table())
    content.parameters[row.name] = json_of(agents::get(settings.hyperparameters, row));
  if (resolved.trial) {
    content.trial_number = resolved.trial->number;
    content.trial_value = resolved.trial->values.empty() ? 0 : resolved.trial->values[0];
  }
  content.study_name = resolved.study_name;
  content.probe_states = probe_states(data, static_cast<std::uint64_t>(settings.run.seed));
  return content;
}

// What is judged of a training that has ended: the served form of its best weights.
void take_served_form(Contender& contender, const Resolved& resolved) {
  const Data& data = *contender.data;
  contender.content = content_of(resolved, contender.settings, data, contender.outcome.best);
  contender.outcome.best.policy = {};
  const env::Market& validation = data.splits.validation.market;
  contender.validated =
      evaluation::backtest(validation, data.layout, data.rules, actor_of(contender.content, validation));
}

}  // namespace

evaluation::Actor actor_of(const release::Content& content, const env::Market& market) {
  return release::actor_of(content.actor, content.architecture, content.layout, market);
}

std::vector<Contender> train_contenders(const std::vector<Resolved>& trials, std::int64_t seeds,
                                        const std::filesystem::path& directory, Profile& profile) {
  std::vector<Contender> contenders;
  const auto count = trials.size() * static_cast<std::size_t>(seeds);
  std::exception_ptr given_up;
  for (std::size_t trial = 0; trial < trials.size(); ++trial) {
    std::shared_ptr<const Data> data;
    for (std::int64_t seed = 0; seed < seeds; ++seed) {
      const std::size_t begun = trial * static_cast<std::size_t>(seeds) + static_cast<std::size_t>(seed);
      Settings settings = trials[trial].settings;
      settings.run.seed += seed;
      if (!data) data = std::make_shared<const Data>(load_data(settings));
      const std::filesystem::path run =
          count == 1 ? directory : directory / str(kTrialRun, trial + 1, "-seed-", settings.run.seed);
      const std::filesystem::path finished = run / kFinished;
      const bool had_ended = std::filesystem::exists(finished);  // before the process died: it has had its time
      const bool resumed = std::filesystem::exists(run / kCheckpointDirectory / agents::kCheckpointFile);
      std::filesystem::create_directories(run);
      const auto lock = std::make_shared<const FileLock>(run / ".lock", "retrain, in " + run.string());
      if (!resumed) write_origin(run, trials[trial], settings, *data, static_cast<std::int64_t>(count));
      write_file_atomically(run / "config.ini", settings.as_ini());
      if (count > 1) {
        log::info("train",
                  str("training ", begun + 1, " of ", count, ": ", trials[trial].origin, ", seed ", settings.run.seed));
      }
      profile.enter("set-up");
      const bool bf16 = settings.run.precision == "bf16";
      Trainer trainer(settings, data->splits.train.market, run, validation_on(*data, bf16), profile);
      if (resumed && !had_ended) trainer.resume();
      Plan plan = trainer.plan();
      const auto left = static_cast<double>(count - begun);
      const double used = profile.total();
      double training_seconds = 0;
      if (plan.budget_seconds > 0) {
        const double reserve =
            kLadderSeconds + static_cast<double>(release::staged_bytes(architecture_of(settings))) / kBytesPerSecond;
        training_seconds = std::max(1.0, (plan.budget_seconds - used - reserve) / left);
        plan.budget_seconds = used + (plan.budget_seconds - used) / left;
      }
      if (!had_ended) report_plan(plan, settings, used);
      // Each seed is judged too, all of them in what the last one leaves.
      const double validations = left > 1 ? 1 : kJudgingValidations + static_cast<double>(count - 1);
      std::optional<Outcome> outcome;
      try {
        if (had_ended) {
          outcome = trainer.saved();
          outcome->ended = split(read_file(finished), '\n')[0];
        } else {
          if (!resumed && trials[trial].start) trainer.start_from(*trials[trial].start);
          outcome = trainer.run(training_seconds, validations);
        }
      } catch (const Error& error) {
        // Old weights that cannot be trained on from leave the clean retrain. Hyperparameters of which a seed diverges
        // are none to serve: its other seeds would be judged as if it had not.
        const bool of_weights = trials[trial].start && error.fault() == Fault::incompatible;
        if (dynamic_cast<const Diverged*>(&error) == nullptr && !of_weights) throw;
        given_up = std::current_exception();
        log::warning("train",
                     str(trials[trial].origin, " is given up at seed ", settings.run.seed, ": ", error.what()));
        std::erase_if(contenders, [trial](const Contender& contender) { return contender.trial == trial; });
        break;
      }
      Json making = making_of(trials[trial], settings);
      contenders.push_back({trial,
                            lock,
                            std::move(settings),
                            data,
                            std::move(making),
                            run,
                            trainer.plan(),
                            std::move(*outcome),
                            {},
                            {}});
      Contender& added = contenders.back();
      if (added.outcome.signal != 0) return contenders;
      write_file_atomically(finished, added.outcome.ended + "\n");
      profile.enter("judging");
      take_served_form(added, trials[trial]);
    }
  }
  if (contenders.empty()) std::rethrow_exception(given_up);
  return contenders;
}

Contender trained_contender(const Resolved& resolved, Profile& profile) {
  const TrainedRun& run = *resolved.trained;
  const auto data = std::make_shared<const Data>(load_data(resolved));
  Trainer trainer(run.settings, data->splits.train.market, run.directory, {}, profile, Trainer::Manner::background);
  Contender contender{0,  nullptr, resolved.settings, data, run.making, run.directory, trainer.plan(), trainer.saved(),
                      {}, {}};
  take_served_form(contender, resolved);
  return contender;
}

std::size_t choose(const std::vector<double>& scores, const std::vector<std::size_t>& trials) {
  std::map<std::size_t, std::vector<std::size_t>> of_trial;
  for (std::size_t k = 0; k < scores.size(); ++k) of_trial[trials[k]].push_back(k);
  std::optional<std::size_t> best;
  for (auto& [trial, members] : of_trial) {
    std::stable_sort(members.begin(), members.end(),
                     [&](std::size_t a, std::size_t b) { return scores[a] < scores[b]; });
    const std::size_t median = members[(members.size() - 1) / 2];
    if (!best || scores[median] > scores[*best]) best = median;
  }
  return best.value();
}

std::size_t choose(const std::vector<Contender>& contenders) {
  std::vector<double> scores;
  std::vector<std::size_t> trials;
  for (const Contender& contender : contenders) {
    scores.push_back(contender.outcome.best.score);
    trials.push_back(contender.trial);
  }
  return choose(scores, trials);
}

Background background_of(const std::vector<Contender>& contenders, const std::vector<Resolved>& trials) {
  Background out;
  out.trial_count = 0;
  for (const Resolved& trial : trials) {
    if (trial.trials <= out.trial_count) continue;
    out.trial_count = trial.trials;
    out.studies = trial.studies;
    if (!out.studies.empty()) --out.studies[0].count;  // the one that was trained here is this retrain's
  }
  out.trial_count += static_cast<std::int64_t>(contenders.size()) - 1;
  // All that begin with weights begin with the same.
  const auto begun = std::find_if(trials.begin(), trials.end(),
                                  [](const Resolved& trial) { return !trial.start_chosen_among.empty(); });
  if (begun != trials.end()) {
    for (const release::StudyTrials& behind : begun->start_chosen_among) {
      out.trial_count += release::merge(out.studies, behind);
    }
  }
  out.trial_sharpes = trials[0].trial_sharpes;
  out.trials.resize(trials.size());
  std::vector<double> seeds(trials.size());
  for (const Contender& contender : contenders) {
    out.trial_sharpes.push_back(evaluation::metrics_of(contender.validated).sharpe);
    TimedReturns& sum = out.trials[contender.trial];
    ++seeds[contender.trial];
    if (sum.time.empty()) {
      sum = returns_of(contender.validated);
      continue;
    }
    // Seeds of one trial decide the same bars.
    for (std::size_t t = 0; t < sum.returns.size(); ++t) sum.returns[t] += contender.validated.simple_returns[t];
  }
  for (std::size_t k = 0; k < out.trials.size(); ++k) {
    for (double& mean : out.trials[k].returns) mean /= seeds[k];
  }
  std::erase_if(out.trials, [](const TimedReturns& trial) { return trial.time.empty(); });  // given up
  return out;
}

}  // namespace ristretto::train
