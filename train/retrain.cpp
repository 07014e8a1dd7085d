#include "train/retrain.h"

#include <algorithm>
#include <optional>

#include "agents/checkpoint.h"
#include "evaluation/metrics_table.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/interrupt.h"
#include "platform/lock.h"
#include "platform/log.h"
#include "platform/text.h"
#include "release/directories.h"
#include "train/contenders.h"
#include "train/current_bars.h"
#include "train/judge.h"
#include "train/record.h"
#include "train/trained_run.h"

namespace ristretto::train {
namespace {

using release::Json;

std::filesystem::path new_run_directory(const RetrainRequest& request) {
  const std::string stamp = stamp_utc(now_seconds());
  std::filesystem::create_directories(request.runs);
  for (int attempt = 1;; ++attempt) {
    const std::filesystem::path directory =
        request.runs / str(request.name, "-", stamp, attempt > 1 ? str("-", attempt) : std::string());
    if (std::filesystem::create_directory(directory)) return directory;
  }
}

// For what `runs` trainings and the version will write.
void require_room(const RetrainRequest& request, const std::vector<Resolved>& trials, std::int64_t runs) {
  std::int64_t staged = 0, checkpoint = 0;
  for (const Resolved& trial : trials) {
    staged = std::max(staged, release::staged_bytes(architecture_of(trial.settings)));
    checkpoint = std::max(checkpoint, checkpoint_bytes(trial.settings));
  }
  // A version holds its run's newest checkpoint. Of each run there are the newest, the one before and, for a moment, a
  // third.
  release::require_room(request.deployments, 2 * staged + checkpoint);
  if (runs == 0) return;
  const std::int64_t there = request.run.empty() ? 0 : release::bytes_below(request.run);  // of a run that goes on
  const std::int64_t more = std::max<std::int64_t>(0, 2 * runs * checkpoint - there);
  release::require_room(request.runs, 2 * staged + checkpoint + more);
}

// What the ledger tells candidates apart by: the run's name, and of one among several what it is one of.
std::string label_of(const std::filesystem::path& run) {
  const std::string name = run.filename().string();
  return name.starts_with(kTrialRun) ? str(run.parent_path().filename().string(), "/", name) : name;
}

RetrainResult interrupted(const std::string& name, const Contender& last) {
  RetrainResult result;
  result.exit_code = interrupt_exit_code(last.outcome.signal);
  const std::string run = last.directory.string();
  result.text =
      str(last.outcome.ended, " after ", with_thousands(last.outcome.environment_steps), " steps; the run is saved in ",
          run, "\nit trains on with: ristretto train --resume --run ", run, "\n");
  result.text +=
      last.outcome.has_validated
          ? str("and is judged, and served where it passes, with: ristretto promote ", name, " --run ", run, "\n")
          : "it was interrupted before its first validation: nothing of it can be served yet\n";
  result.document = {{"name", name},
                     {"ended", last.outcome.ended},
                     {"run", run},
                     {"steps", last.outcome.environment_steps},
                     {"validated", last.outcome.has_validated}};
  return result;
}

}  // namespace

void require_unseen(const Resolved& resolved, const Data& data) {
  if (const release::Start* start = resolved.start.get()) {
    if (!start->unseen_from && !names_holdout(resolved.settings)) {
      throw Error(Fault::usage, str(start->source.string(), " does not say which bars it was trained on"),
                  "name the first bar that it has not seen: --holdout-from DATE");
    }
    if (start->unseen_from && *start->unseen_from > data.splits.holdout_from) {
      throw Error(Fault::usage,
                  str("the hold-out begins at ", iso_utc(data.splits.holdout_from), ", but bars before ",
                      iso_utc(*start->unseen_from), " trained ", start->source.string(), ": they cannot judge it"),
                  str("--holdout-from ", iso_utc(*start->unseen_from)));
    }
  }
  if (const auto unknown = unknown_origin(resolved)) {
    log::warning("retrain", *unknown + "; until then no version of it is proven");
  }
  if (!resolved.seen_until || *resolved.seen_until < data.splits.holdout.first_time) return;
  throw Error(Fault::usage,
              str("the hold-out begins at ", iso_utc(data.splits.holdout.first_time), ", but ", resolved.origin,
                  " was chosen by bars up to ", iso_utc(*resolved.seen_until), ": they cannot judge it"),
              str("--holdout-from a date after that"));
}

RetrainResult retrain(const RetrainRequest& request, const std::vector<Resolved>& trials, Profile& profile,
                      std::vector<Contender> trained) {
  release::require_name(request.name);
  const Settings& settings = trials.at(0).settings;
  std::filesystem::create_directories(request.deployments);
  std::filesystem::create_directories(request.runs);
  const FileLock lock(request.runs / ("." + request.name + ".lock"), "retrain " + request.name);
  release::VersionStore store(request.deployments);
  // What is not ours is refused before hours are spent.
  if (store.slot(request.name).kind == release::Slot::Kind::directory) {
    release::require_own(request.deployments / request.name);
  }
  store.require_clock(request.name);
  require_room(request, trials, trained.empty() ? static_cast<std::int64_t>(trials.size()) * request.seeds : 0);

  // Train.
  prepare_machine(settings);
  require_current_bars(settings.run.bars, layout_of(settings).assets);
  for (const Resolved& trial : trials) {
    const Data data = load_data(trial);
    require_unseen(trial, data);
    if (&trial != &trials[0]) continue;
    log::info("train", str(data.layout.size(), " inputs: ", data.layout.assets_count(), " assets x ",
                           data.layout.features.size(), " features x ", data.layout.lookback, " bars; train ",
                           iso_utc(data.splits.train.first_time), " to ", iso_utc(data.splits.train.last_time),
                           ", hold-out from ", iso_utc(data.splits.holdout.first_time)));
  }
  const std::filesystem::path run_directory = request.run.empty() ? new_run_directory(request) : request.run;
  std::vector<Contender> contenders =
      !trained.empty() ? std::move(trained) : train_contenders(trials, request.seeds, run_directory, profile);
  if (contenders.back().outcome.signal != 0) return interrupted(request.name, contenders.back());

  // Judge the candidate: the served form of the weights, on bars that nothing has seen.
  profile.enter("judging");
  Contender& chosen = contenders[choose(contenders)];
  if (chosen.outcome.optimizer_steps == 0) {  // else a look at the hold-out would be spent on random weights
    throw Error(Fault::failed,
                str("the time was up before the first update ended (", chosen.outcome.ended,
                    "): nothing was learned, and nothing is judged"),
                str("give more time, or train on: ristretto train --resume --run ", chosen.directory.string()));
  }
  const Resolved& resolved = trials[chosen.trial];
  const std::string label = label_of(std::filesystem::canonical(run_directory));
  Candidate candidate{
      request.name, label, chosen.settings, *chosen.data, chosen.content, {}, background_of(contenders, trials)};
  for (const Contender& contender : contenders) {
    if (contender.trial == chosen.trial) candidate.seeds.push_back(&contender.content);
  }
  candidate.origin_unknown = unknown_origin(resolved);
  release::Ledger ledger(request.deployments, request.name);
  const Judgement judgement = judge(candidate, store, ledger, request.thresholds);

  // Write it.
  profile.enter("writing");
  release::Content content = chosen.content;
  content.manifest_sections = manifest_sections(chosen, judgement, contenders.size(), candidate.label, request.command);
  const std::filesystem::path staged = run_directory / "deployment";
  const std::filesystem::path training = staged / release::kTrainingDirectory;
  std::filesystem::create_directories(training);
  // What was staged there before is no candidate any more, should this process die within the copies.
  std::filesystem::remove(staged / release::kManifest);
  for (const auto& file :
       {chosen.directory / "config.ini", chosen.directory / kCheckpointDirectory / agents::kCheckpointFile}) {
    std::filesystem::copy_file(file, training / file.filename(), std::filesystem::copy_options::overwrite_existing);
  }
  write_background(training / kEvidenceFile, judgement.background);
  release::stage(content, staged);
  const Outcome& outcome = chosen.outcome;
  release::IntegrityInputs inputs{staged, chosen.data->layout};
  inputs.environment_steps = outcome.environment_steps;
  inputs.claimed_steps = outcome.iterations * chosen.plan.samples;
  inputs.optimizer_steps = outcome.optimizer_steps;
  inputs.relative_weight_change = outcome.weight_change;
  add_holdout(inputs, judgement, *chosen.data, store, request.name);
  const auto [integrity, verdict, gates] = decide(judgement, release::integrity_gates(inputs, request.thresholds));
  conclude(judgement, verdict, ledger);

  // Before the step that cannot be taken back: a full disk must not hide what was served.
  const std::filesystem::path report = run_directory / "report.html";
  write_report(report, str(request.name, " on the hold-out"), judgement, integrity, *chosen.data);
  RetrainResult result;
  if (const int signal = interrupt_requested(); signal != 0) {
    result.exit_code = interrupt_exit_code(signal);
    result.text = str("interrupted before anything was published; the candidate lies in ", staged.string(), "\n");
    result.document = {{"name", request.name},
                       {"ended", "interrupted"},
                       {"run", run_directory.string()},
                       {"steps", outcome.environment_steps}};
    return result;
  }
  const Ending ending = put_in_service(store, request.name, staged, judgement.champion.version, integrity, verdict,
                                       gates, request.promote);
  profile.enter("other");
  result.exit_code = ending.served || ending.as_asked ? 0 : static_cast<int>(Fault::refused);

  // Tell.
  const double total = profile.total();
  result.document = {{"name", request.name},
                     {"version", ending.version},
                     {"status", verdict.status},
                     {"served", ending.served},
                     {"reason", ending.reason},
                     {"hyperparameters_from", resolved.origin},
                     {"seed", chosen.settings.run.seed},
                     {"contenders", contenders.size()},
                     {"steps", outcome.environment_steps},
                     {"planned_steps", chosen.plan.steps},
                     {"iterations", outcome.iterations},
                     {"seconds", total},
                     {"training_share", (profile.seconds_in("rollout") + profile.seconds_in("update")) / total},
                     {"holdout", evaluation::json_of(judgement.metrics)},
                     {"gates", gates},
                     {"run", run_directory.string()},
                     {"report", report.string()}};
  result.document.update(evaluation::json_of(findings_of(judgement, *chosen.data)));
  for (const auto& [phase, seconds] : profile.seconds()) result.document["phases"][phase] = seconds;
  const double share = static_cast<double>(outcome.environment_steps) / static_cast<double>(chosen.plan.steps);
  result.text =
      str("\n", request.name, ": trained ", with_thousands(outcome.environment_steps), " of ",
          with_thousands(chosen.plan.steps), " steps (", fixed(100 * share, 1), " %) in ",
          duration_text(outcome.seconds), ", ended by ", outcome.ended, "; kept iteration ", outcome.best.iteration,
          " of ", outcome.iterations, "\n", "hyperparameters: ", resolved.origin, "\n");
  if (contenders.size() > 1) {
    result.text += str("chosen among ", contenders.size(), " trainings by validation: seed ", chosen.settings.run.seed,
                       ", the median of ", request.seeds, "\n");
  }
  result.text += text_of(judgement, *chosen.data);
  result.text += text_of(integrity, judgement.evidence);
  result.text += text_of(ending, request.deployments / request.name, staged);
  result.text += str(text_of(profile), "; report: ", report.string(), "\n");
  return result;
}

}  // namespace ristretto::train
