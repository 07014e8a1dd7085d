#include "train/sweep.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <thread>

#include "platform/error.h"
#include "platform/interrupt.h"
#include "platform/log.h"
#include "platform/text.h"
#include "studies/pruners/pruner.h"
#include "studies/samplers/make_sampler.h"
#include "studies/storage.h"
#include "studies/trial_settings.h"
#include "train/device.h"
#include "train/memory_budget.h"
#include "train/sweep_worker.h"

namespace ristretto::train {
namespace {

using formats::Json;

Json json_text(const std::string& text) {
  Json json;
  json.kind = Json::Kind::text;
  json.text = text;
  return json;
}

Json json_integer(std::int64_t value) {
  Json json;
  json.kind = Json::Kind::integer;
  json.integer = value;
  json.real = static_cast<double>(value);
  return json;
}

bool same_objective(const studies::Study& study, ObjectiveKind kind) {
  const Json* marker = studies::find(study.user_attributes, studies::kObjectiveAttribute);
  return marker != nullptr && marker->text == objective_text(kind);
}

// The study that trials are added to, made where it is not there, and what is said about it.
std::string open_study(studies::WritableStorage& storage, const SweepRequest& request, const Settings& settings) {
  std::string name = request.study_name.empty() ? str("ristretto-", name_of(request.objective)) : request.study_name;
  std::vector<std::string> names = storage.study_names();
  const auto exists = [&] { return std::find(names.begin(), names.end(), name) != names.end(); };
  if (exists()) {
    const studies::Study study = storage.read_study(name);
    if (study.directions != std::vector<studies::Direction>{studies::Direction::maximize}) {
      throw Error(Fault::usage, str("study '", name, "' does not maximise one objective"),
                  "choose another --study-name");
    }
    if (!same_objective(study, request.objective)) {
      if (request.continue_study) {
        log::warning("train",
                     str("study '", name, "' holds ", study.trials.size(),
                         " trials whose values came from another objective or environment: the new ones, marked ",
                         objective_text(request.objective), ", cannot be compared with them"));
        return name;
      }
      const std::string other = name;
      name += str("-", name_of(request.objective), "-v", kObjectiveVersion);
      log::info("train",
                str("the values of study '", other, "' came from another objective or environment; the trials go to '",
                    name, "' (--continue-study adds to '", other, "')"));
      if (exists()) {
        if (!same_objective(storage.read_study(name), request.objective)) {
          throw Error(Fault::usage, str("study '", name, "' is there with another objective"), "choose --study-name");
        }
        return name;
      }
    } else {
      log::info("train", str("study '", name, "' goes on: ", study.trials.size(), " trials"));
      return name;
    }
  }
  const std::int64_t id = storage.create_study(name, {studies::Direction::maximize}, studies::IfExists::reuse);
  const auto write = [&](const char* key, const std::string& text) {
    storage.set_study_attribute(id, studies::Scope::user, key, json_text(text));
  };
  write(studies::kObjectiveAttribute, objective_text(request.objective));
  write("ristretto:command", request.command);
  write("ristretto:settings", settings.as_ini());
  return name;
}

// The best trials of another study of the same file, as the first of this one; those parameters that are swept.
void queue_best(studies::WritableStorage& storage, const SweepRequest& request, std::int64_t study_id,
                const studies::SearchSpace& space) {
  const studies::Study from = storage.read_study(request.start_from);
  const std::vector<const studies::Trial*> best = studies::top(from, static_cast<std::size_t>(request.start_count));
  if (best.empty())
    throw Error(Fault::usage, str("study '", request.start_from, "' has no COMPLETE trial to start from"));
  for (const studies::Trial* trial : best) {
    std::vector<std::pair<std::string, agents::Value>> fixed_params;
    std::vector<std::string> outside;
    for (const auto& [name, range] : space) {
      const studies::Parameter* param = trial->find_param(name);
      if (param == nullptr) continue;
      const auto internal = studies::internal_value(range, param->value);
      if (internal && studies::contains(range, *internal)) {
        fixed_params.emplace_back(name, param->value);
      } else {
        outside.push_back(str(name, " ", agents::text_of(param->value)));
      }
    }
    studies::enqueue(storage, study_id, fixed_params,
                     {{"source_study", json_text(from.name)}, {"source_trial", json_integer(trial->number)}});
    log::info("train", str("queued: trial ", trial->number, " of ", from.name, ", ", fixed_params.size(), " of ",
                           space.size(), " parameters",
                           outside.empty() ? "" : str("; outside the ranges and drawn anew: ", join(outside, ", "))));
  }
}

}  // namespace

SweepResult sweep(const SweepRequest& request, const Settings& settings) {
  if (request.trials < 1) throw Error(Fault::usage, str("--trials is ", request.trials, ", expected 1 or more"));
  if (request.workers < 1) throw Error(Fault::usage, str("--workers is ", request.workers, ", expected 1 or more"));
  const studies::SearchSpace space = search_space(settings, request.space);
  studies::make_pruner(request.pruner, request.pruner_options);  // its errors before anything is written
  studies::SamplerOptions sampler_options;
  sampler_options.space = space;
  studies::make_sampler(request.sampler, sampler_options, 0);
  prepare_machine(settings);
  const Objective objective(request.objective, settings);

  const std::unique_ptr<studies::WritableStorage> storage = studies::create_storage(request.storage);
  const std::string name = open_study(*storage, request, settings);
  const studies::Study before = storage->read_study(name);
  if (!request.start_from.empty()) queue_best(*storage, request, before.id, space);

  // Each worker has its share of the threads and of the memory; the market's tables are one copy.
  const auto workers = std::min(request.workers, request.trials);
  Settings own = settings;
  const c10::Device device = device_of(settings.run.device);
  const std::int64_t budget = settings.run.memory_budget.empty()
                                  ? static_cast<std::int64_t>(kBudgetShare * static_cast<double>(free_bytes(device)))
                                  : parse_bytes(settings.run.memory_budget);
  own.run.memory_budget = str(budget / workers);
  const int threads = std::max(1, at::get_num_threads() / static_cast<int>(workers));
  log::info("train", str("objective ", objective_text(request.objective), ": ", objective.parts(),
                         " trainings a trial on ", with_thousands(objective.bars()), " bars; ", space.size(),
                         " parameters; ", workers, workers == 1 ? " worker of " : " workers of ", threads,
                         threads == 1 ? " thread, " : " threads, ", budget / workers / (1 << 20), " MiB"));

  Heart heart(request.storage);
  Shared shared{request, settings, objective, space, name, heart};
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
                     : shared.finished == 0     ? 1
                                                : 0;
  result.document = {{"storage", request.storage},
                     {"study", name},
                     {"objective", objective_text(request.objective)},
                     {"finished", shared.finished},
                     {"complete", shared.complete},
                     {"pruned", shared.pruned},
                     {"requeued", shared.requeued},
                     {"trials_in_study", after.trials.size()},
                     {"seconds", shared.watch.seconds()}};
  result.text =
      str("study ", name, ": ", shared.finished, " trials finished (", shared.complete, " complete, ", shared.pruned,
          " pruned) in ", duration_text(shared.watch.seconds()), ", ", after.trials.size(), " in all\n");
  if (best != nullptr) {
    result.document["best"] = {{"number", best->number}, {"value", best->values[0]}};
    result.text += str("best: trial ", best->number, ", ", fixed(best->values[0], 5),
                       "; chosen among many, so it promises too much: retrain judges it on bars that no trial saw\n");
  } else {
    result.text += "no trial is complete\n";
  }
  return result;
}

}  // namespace ristretto::train
