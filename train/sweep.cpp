#include "train/sweep.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <thread>

#include "platform/clock.h"
#include "platform/error.h"
#include "platform/interrupt.h"
#include "platform/log.h"
#include "platform/text.h"
#include "studies/distribution.h"
#include "studies/pruners/pruner.h"
#include "studies/samplers/make_sampler.h"
#include "studies/storage.h"
#include "studies/trial_settings.h"
#include "train/device.h"
#include "train/memory_budget.h"
#include "train/price_sum.h"
#include "train/studies_behind.h"
#include "train/sweep_worker.h"

namespace ristretto::train {
namespace {

using formats::Json;

constexpr const char* kExperiment = "ristretto:experiment";
constexpr const char* kSplits = "ristretto:splits";  // of studies without it: combinatorial

Json text_json(const std::string& text) { return studies::json_of(agents::Value(text)); }

std::string text_attribute(const studies::Study& study, const char* key) {
  const Json* found = studies::find(study.user_attributes, key);
  return found == nullptr ? std::string() : found->text;
}

bool has_finished_trials(const studies::Study& study) {
  return std::any_of(study.trials.begin(), study.trials.end(), [](const studies::Trial& trial) {
    return trial.state == studies::State::complete || trial.state == studies::State::pruned;
  });
}

// What makes a study one of this sweep's kind. The experiment last: a study without it has been left by a process that
// was killed before, and the next one marks it.
void mark(studies::WritableStorage& storage, std::int64_t study, const SweepRequest& request, const Settings& settings,
          const Objective& objective) {
  const auto write = [&](const char* key, const std::string& text) {
    storage.set_study_attribute(study, studies::Scope::user, key, text_json(text));
  };
  write(studies::kObjectiveAttribute, objective_text(request.objective));
  write(kSplits, name_of(request.splits));
  write(studies::kSeenUntilAttribute, iso_utc(objective.last_time()));
  write("ristretto:command", request.command);
  write("ristretto:settings", settings.as_ini());
  write(kExperiment, objective.experiment());
}

// The parts of an experiment that another has not.
std::string only_in(const std::string& experiment, const std::string& other) {
  const auto parts_of = [](std::string text) {
    std::replace(text.begin(), text.end(), ';', ',');
    std::vector<std::string> parts = split(text, ',');
    for (std::string& part : parts) part = trimmed(part);
    return parts;
  };
  const std::vector<std::string> others = parts_of(other);
  std::vector<std::string> parts = parts_of(experiment);
  std::erase_if(parts,
                [&](const std::string& part) { return std::find(others.begin(), others.end(), part) != others.end(); });
  return join(parts, ", ");
}

struct Target {
  std::string name;
  std::optional<studies::Study> study;  // as it is there
  bool of_another_kind = false;         // its marks are another's and stay as they are; each trial has its own
};

// The study that trials are to be added to, and what is said about it; storage: none where there is nothing yet. Throws
// Error(usage) where the study measures another experiment.
Target target_of(studies::Storage* storage, const SweepRequest& request, const Objective& objective) {
  const std::string marker = objective_text(request.objective);
  std::string name = request.study_name.empty() ? str("ristretto-", name_of(request.objective)) : request.study_name;
  const std::vector<std::string> names = storage == nullptr ? std::vector<std::string>() : storage->study_names();
  const auto exists = [&] { return std::find(names.begin(), names.end(), name) != names.end(); };
  if (exists()) {
    const studies::Study study = storage->read_study(name);
    const bool foreign = text_attribute(study, studies::kObjectiveAttribute) != marker && has_finished_trials(study);
    if (foreign && request.continue_study) {
      log::warning("train",
                   str("study '", name, "' holds ", study.trials.size(),
                       " trials whose values came from another objective or environment: the new ones, marked ", marker,
                       ", cannot be compared with them"));
    } else if (foreign) {
      const std::string other = name;
      name += str("-", name_of(request.objective), "-v", kObjectiveVersion);
      log::info("train",
                str("the values of study '", other, "' came from another objective or environment; the trials go to '",
                    name, "' (--continue-study adds to '", other, "')"));
    }
  }
  if (request.follow && exists()) {
    const std::string other = text_attribute(storage->read_study(name), kExperiment);
    if (!other.empty() && !same_but_for_the_order(other, objective.experiment())) {
      name += "-until-" + iso_utc(objective.last_time()).substr(0, 10);
      log::info("train", str("the bars or settings are others than before; the trials go to '", name, "'"));
    }
  }
  Target target{name, std::nullopt, false};
  if (!exists()) {
    log::info("train", str("study '", name, "' is new"));
    return target;
  }
  target.study = storage->read_study(name);
  log::info("train", str("study '", name, "' goes on: ", target.study->trials.size(), " trials"));
  target.of_another_kind = request.continue_study && has_finished_trials(*target.study) &&
                           text_attribute(*target.study, studies::kObjectiveAttribute) != marker;
  const std::string experiment = target.of_another_kind ? "" : text_attribute(*target.study, kExperiment);
  if (!experiment.empty() && !same_but_for_the_order(experiment, objective.experiment())) {
    throw Error(
        Fault::usage,
        str("study '", name, "' measures another experiment: it has [", only_in(experiment, objective.experiment()),
            "], now it would be [", only_in(objective.experiment(), experiment), "]"),
        "sweep with the same bars and settings, or into another --study-name");
  }
  return target;
}

// The target, made where it is not there and marked.
studies::Study open_study(studies::WritableStorage& storage, const SweepRequest& request, const Settings& settings,
                          const Objective& objective) {
  const Target target = target_of(&storage, request, objective);
  const std::int64_t id = storage.create_study(target.name, {studies::Direction::maximize}, studies::IfExists::reuse);
  if (!target.of_another_kind && text_attribute(storage.read_study(target.name), kExperiment).empty()) {
    mark(storage, id, request, settings, objective);
  }
  return storage.read_study(target.name);
}

// `--start-from`'s study. Throws Error(usage) where there is none, or none of its trials is complete.
studies::Study start_of(const SweepRequest& request, studies::Storage& storage) {
  const std::vector<std::string> names = storage.study_names();
  if (std::find(names.begin(), names.end(), request.start_from) == names.end()) {
    throw Error(Fault::usage, str("there is no study '", request.start_from, "' to start from"),
                names.empty() ? "" : str("--start-from one of: ", join(names, ", ")));
  }
  studies::Study study = storage.read_study(request.start_from);
  if (studies::best_trial(study) == nullptr) {
    throw Error(Fault::usage, str("study '", request.start_from, "' has no COMPLETE trial to start from"));
  }
  return study;
}

// A parameter keeps its kind through a study (Optuna's rule): said before any trial begins.
void require_compatible_space(const studies::Study& study, const studies::SearchSpace& space) {
  for (const auto& [name, range] : space) {
    for (const studies::Trial& trial : study.trials) {
      const studies::Parameter* param = trial.find_param(name);
      if (param == nullptr) continue;
      studies::require_compatible(param->distribution, range,
                                  str("study '", study.name, "': ", name, " was drawn from ",
                                      text_of(param->distribution), ", and now from ", text_of(range)));
      break;
    }
  }
}

// The best trials of another study of the same file, as the first of this one: those of their parameters that reached
// their agents and that are swept. Each once, however often the command is given.
void queue_best(studies::WritableStorage& storage, const SweepRequest& request, const studies::Study& study,
                const Settings& settings, const studies::SearchSpace& space) {
  const studies::Study from = start_of(request, storage);
  const bool seen_known = studies::find(from.user_attributes, studies::kSeenUntilAttribute) != nullptr;
  const std::vector<const studies::Trial*> best = studies::top(from, static_cast<std::size_t>(request.start_count));
  record_start(storage, study.name, from);  // before them: a choice that they led to must not go without it
  studies::Interpretation how;
  how.use_untested = settings.run.use_untested;
  how.activate_inert = settings.run.activate_inert;
  how.ignore_unknown = true;  // what this program does not know is not swept either
  for (const studies::Trial* trial : best) {
    const bool there = std::any_of(study.trials.begin(), study.trials.end(), [&](const studies::Trial& queued) {
      const Json* source = studies::find(queued.user_attributes, "source_study");
      const Json* number = studies::find(queued.user_attributes, "source_trial");
      return source != nullptr && number != nullptr && source->text == from.name && number->integer == trial->number;
    });
    if (there) continue;
    std::vector<std::pair<std::string, agents::Value>> fixed_params;
    std::vector<std::string> outside;
    for (const studies::Taken& taken : studies::settings_of_trial(from, *trial, how).parameters) {
      const agents::Range* range = studies::find_range(space, taken.name);
      if (range == nullptr || !taken.applied) continue;
      const auto internal = studies::internal_value(*range, taken.value);
      if (internal && studies::contains(*range, *internal)) {
        fixed_params.emplace_back(taken.name, taken.value);
      } else {
        outside.push_back(str(taken.name, " ", agents::text_of(taken.value)));
      }
    }
    std::vector<studies::Attribute> attributes = {{"source_study", text_json(from.name)},
                                                  {"source_trial", studies::json_of(agents::Value(trial->number))}};
    if (!seen_known && studies::find(trial->user_attributes, studies::kSeenUntilAttribute) == nullptr) {
      attributes.emplace_back(studies::kOriginUnknownAttribute, text_json(from.name));
    }
    studies::enqueue(storage, study.id, fixed_params, attributes);
    log::info("train", str("queued: trial ", trial->number, " of ", from.name, ", ", fixed_params.size(), " of ",
                           space.size(), " parameters",
                           outside.empty() ? "" : str("; outside the ranges and drawn anew: ", join(outside, ", "))));
  }
}

std::int64_t largest_lookback(const Settings& settings, const studies::SearchSpace& space) {
  const agents::Range* range = studies::find_range(space, "lookback");
  if (range == nullptr) return settings.hyperparameters.lookback;
  if (const auto* whole = std::get_if<agents::IntRange>(range)) return whole->high;
  std::int64_t largest = 1;
  for (const agents::Value& choice : std::get<agents::Choices>(*range).choices) {
    largest = std::max(largest, std::get<std::int64_t>(choice));
  }
  return largest;
}

// The times of the first and the last bar of each block: what ends at a gap and goes on behind it is one.
std::vector<std::pair<std::string, std::string>> blocks_of(const env::Market& market) {
  std::vector<std::pair<std::string, std::string>> blocks;
  std::int64_t end = -1;
  for (const env::Segment& segment : market.segments) {
    const auto time = [&](std::int64_t row) { return iso_utc(market.time[static_cast<std::size_t>(row)]); };
    if (segment.begin != end) blocks.emplace_back(time(segment.begin), "");
    blocks.back().second = time(segment.end - 1);
    end = segment.end;
  }
  return blocks;
}

std::string in_words(const env::Market& market) {
  std::vector<std::string> blocks;
  for (const auto& [first, last] : blocks_of(market)) blocks.push_back(str(first, " to ", last));
  return str(with_thousands(market.bars_in_segments()), " bars, ", join(blocks, " and "));
}

// Everything of a request that can be wrong without reading a study.
studies::SearchSpace checked_space(const SweepRequest& request, const Settings& settings) {
  if (request.trials < 1) throw Error(Fault::usage, str("--trials is ", request.trials, ", expected 1 or more"));
  if (request.workers < 1) throw Error(Fault::usage, str("--workers is ", request.workers, ", expected 1 or more"));
  const studies::SearchSpace space = search_space(settings, request.space);
  studies::make_pruner(request.pruner, request.pruner_options);
  studies::SamplerOptions sampler_options;
  sampler_options.space = space;
  studies::make_sampler(request.sampler, sampler_options, 0);
  return space;
}

}  // namespace

SplitKind splits_of(const std::string& storage, const std::string& study_name) {
  const std::string text = text_attribute(studies::open_storage(storage)->read_study(study_name), kSplits);
  return text.empty() ? SplitKind::combinatorial : parse_splits(text);
}

SweepResult plan_of(const SweepRequest& request, const Settings& settings) {
  const studies::SearchSpace space = checked_space(request, settings);
  const std::int64_t lookback = largest_lookback(settings, space);
  const Objective objective(request.objective, settings, lookback, request.splits);
  Settings longest = settings;  // whose test bars are those that every trial decides
  longest.hyperparameters.lookback = lookback;
  SweepResult plan;
  plan.document = {{"objective", objective_text(request.objective)},
                   {"experiment", objective.experiment()},
                   {"trainings_a_trial", objective.parts()},
                   {"splits", {{"kind", name_of(request.splits)}}}};
  const auto storage = studies::open_if_there(request.storage);
  if (!request.start_from.empty()) start_of(request, storage ? *storage : *studies::open_storage(request.storage));
  const Target target = target_of(storage.get(), request, objective);
  if (target.study) require_compatible_space(*target.study, space);
  plan.document["study"] = target.name;
  plan.document["trials_in_study"] = target.study ? target.study->trials.size() : 0;
  plan.text = str("objective ", objective_text(request.objective), ", ", name_of(request.splits),
                  " splits: ", objective.parts(), " trainings a trial\n");
  for (std::int64_t split = 0; split < objective.splits(); ++split) {
    const env::Market& train = objective.training_bars(split);
    const env::Market test = objective.test_bars(longest, split);
    plan.document["splits"]["bars"].push_back({{"train", blocks_of(train)}, {"test", blocks_of(test)}});
    plan.text +=
        str("  split ", split + 1, " trains on ", in_words(train), "\n", "          tests on  ", in_words(test), "\n");
  }
  for (const auto& [name, range] : space) {
    plan.document["space"][name] = text_of(range);
    plan.text += str(padded_right(name, 22), " ", text_of(range), "\n");
  }
  return plan;
}

SweepResult sweep(const SweepRequest& request, const Settings& settings) {
  const studies::SearchSpace space = checked_space(request, settings);  // its errors before anything is written
  prepare_machine(settings);
  const Objective objective(request.objective, settings, largest_lookback(settings, space), request.splits);

  if (!request.start_from.empty()) start_of(request, *studies::open_storage(request.storage));  // likewise
  const std::unique_ptr<studies::WritableStorage> storage = studies::create_storage(request.storage);
  const studies::Study before = open_study(*storage, request, settings, objective);
  const std::string& name = before.name;
  require_compatible_space(before, space);
  if (!request.start_from.empty() && request.start_from != name) queue_best(*storage, request, before, settings, space);

  // Each worker has its share of the threads and of the memory; the bars and their features are one copy.
  const auto workers = std::min(request.workers, request.trials);
  Settings own = settings;
  const std::int64_t budget = budget_bytes(settings.run.memory_budget, device_of(settings.run.device));
  own.run.memory_budget = str(budget / workers);
  const int threads = std::max(1, at::get_num_threads() / static_cast<int>(workers));
  log::info("train",
            str("objective ", objective_text(request.objective), ": ", objective.parts(), " trainings a trial on ",
                name_of(request.splits), " splits of ", with_thousands(objective.bars()), " bars; ", space.size(),
                " parameters; ", workers, workers == 1 ? " worker of " : " workers of ", threads,
                threads == 1 ? " thread, " : " threads, ", budget / workers / (1 << 20), " MiB"));

  studies::Heart heart(request.storage);
  Shared shared{request, objective, space, name, heart};
  if (const studies::Trial* best = studies::best_trial(before)) {
    shared.best = best->values[0];
    shared.best_number = best->number;
  }
  std::vector<std::thread> crew;
  for (std::int64_t i = 0; i < workers; ++i) {
    crew.emplace_back([&] {
      at::set_num_threads(threads);
      try {
        run_worker(shared, own);
      } catch (...) {
        const std::lock_guard lock(shared.mutex);
        if (!shared.fault) shared.fault = std::current_exception();
      }
    });
  }
  for (std::thread& thread : crew) thread.join();
  log::progress("");
  if (shared.fault) std::rethrow_exception(shared.fault);

  const studies::Study after = storage->read_study(name);
  const studies::Trial* best = studies::best_trial(after);
  SweepResult result;
  result.exit_code = interrupt_requested() != 0 ? interrupt_exit_code(interrupt_requested())
                     : shared.begun > 0 && shared.complete + shared.pruned == 0 ? 1
                                                                                : 0;
  result.document = {{"storage", studies::without_password(request.storage)},
                     {"study", name},
                     {"objective", objective_text(request.objective)},
                     {"splits", name_of(request.splits)},
                     {"finished", shared.finished},
                     {"complete", shared.complete},
                     {"pruned", shared.pruned},
                     {"failed", shared.failed},
                     {"requeued", shared.requeued},
                     {"trials_in_study", after.trials.size()},
                     {"seconds", shared.watch.seconds()}};
  result.text =
      str("study ", name, ": ", shared.finished, " trials finished (", shared.complete, " complete, ", shared.pruned,
          " pruned) in ", duration_text(shared.watch.seconds()), ", ", after.trials.size(), " in all\n");
  if (shared.begun == 0 && request.sampler == "grid" && interrupt_requested() == 0) {
    result.text += "every point of the grid is tried or under way\n";
  }
  if (best != nullptr) {
    result.document["best"] = {{"number", best->number}, {"value", best->values[0]}};
    result.text += str("best: trial ", best->number, ", ", fixed(best->values[0], 5),
                       "; chosen among many, so it promises too much: retrain judges it on bars from after ",
                       iso_utc(objective.last_time()), "\n");
  } else {
    result.text += "no trial is complete\n";
  }
  return result;
}

}  // namespace ristretto::train
