#include "train/resolve.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "platform/clock.h"
#include "platform/error.h"
#include "platform/text.h"
#include "release/deployment.h"
#include "release/manifest.h"
#include "studies/storage.h"
#include "train/studies_behind.h"
#include "train/sweep_worker.h"

namespace ristretto::train {
namespace {

agents::Value value_of(const release::Json& json) {
  if (json.is_boolean()) return json.get<bool>();
  if (json.is_number_integer()) return json.get<std::int64_t>();
  if (json.is_number()) return json.get<double>();
  if (json.is_string()) return json.get<std::string>();
  return std::monostate{};
}

// Switches that decide how the study is read stand above it, so they are looked up first.
bool switched_on(const std::vector<Given>& given, const char* name) {
  bool on = false;
  for (const Given& entry : given) {
    if (entry.name == name) on = entry.text == "true";
  }
  return on;
}

// The existing trader's constant stands above a study's value, unless somebody asks for the study's.
bool asks_for_study(const Given& entry) { return entry.name == "norm_action" && entry.text == "study"; }

void take(Resolved& resolved, const studies::Study& study, const std::vector<Given>& given) {
  studies::Interpretation how;
  how.use_untested = switched_on(given, "use_untested");
  how.activate_inert = switched_on(given, "activate_inert");
  how.ignore_unknown = switched_on(given, "ignore_unknown");
  how.pretrained_encoder = std::any_of(
      given.begin(), given.end(), [](const Given& entry) { return entry.name == "pretrained" && !entry.text.empty(); });
  studies::TrialSettings settings = studies::settings_of_trial(study, *resolved.trial, how);
  resolved.settings.hyperparameters = settings.hyperparameters;
  resolved.generation = settings.generation;
  const formats::Json* seen = studies::find(resolved.trial->user_attributes, studies::kSeenUntilAttribute);
  if (seen == nullptr) seen = studies::find(study.user_attributes, studies::kSeenUntilAttribute);
  const bool unknown = studies::find(resolved.trial->user_attributes, studies::kOriginUnknownAttribute) != nullptr;
  if (seen != nullptr && !unknown) resolved.seen_until = parse_utc(seen->text);
  for (const studies::Taken& taken : settings.parameters) {
    if (taken.applied) resolved.settings.sources[taken.name] = str("study trial ", resolved.trial->number);
  }
  resolved.parameters = std::move(settings.parameters);
}

void take_from_study(Resolved& resolved, const StudySource& source, const std::vector<Given>& given) {
  const std::unique_ptr<studies::Storage> storage = studies::open_storage(source.storage);
  std::string name = source.study_name;
  if (name.empty()) {
    const std::vector<std::string> names = storage->study_names();
    if (names.size() != 1) {
      throw Error(Fault::usage,
                  str(storage->info().path, " holds ", names.size(), " studies, and --study-name is not given"),
                  str("choose one of: ", join(names, ", ")));
    }
    name = names[0];
  }
  const studies::Study study = storage->read_study(name);
  const studies::Trial* trial = source.trial ? &studies::trial_of(study, *source.trial) : studies::best_trial(study);
  if (trial == nullptr) {
    throw Error(Fault::usage, str("study '", name, "' has no COMPLETE trial, so it has no best one"),
                "run more trials, or name one with --trial");
  }
  if (trial->state != studies::State::complete) {
    throw Error(Fault::usage, str("trial ", trial->number, " of study '", name, "' is ", studies::name_of(trial->state),
                                  ", expected COMPLETE"));
  }
  resolved.trial = *trial;
  resolved.storage = storage->info().path;
  resolved.library_version = storage->info().library_version;
  resolved.study_name = name;
  resolved.studies = studies_behind(study, storage->info());
  resolved.trials = 0;
  for (const release::StudyTrials& behind : resolved.studies) resolved.trials += behind.count;
  const formats::Json* objective = studies::find(study.user_attributes, studies::kObjectiveAttribute);
  if (objective != nullptr && objective->text == objective_text(ObjectiveKind::robust)) {
    for (const studies::Trial& other : study.trials) {
      // The ratio itself, as this retrain's own are: the value is an excess less a penalty.
      const formats::Json* sharpe = studies::find(other.user_attributes, "mean_sharpe_bot");
      const bool known = other.state == studies::State::complete && sharpe != nullptr;
      if (known && other.number != trial->number && std::isfinite(sharpe->real)) {
        resolved.trial_sharpes.push_back(sharpe->real);
      }
    }
  }
  resolved.origin = str("study ", name, ", trial ", trial->number,
                        trial->values.size() == 1 ? str(" (value ", fixed(trial->values[0], 6), ")") : std::string());
  take(resolved, study, given);
}

void take_from_deployment(Resolved& resolved, const std::filesystem::path& deployment,
                          const std::vector<Given>& given) {
  const release::Trial saved = release::read_trial(deployment / "best_trial");
  studies::Trial trial;
  trial.number = saved.number;
  trial.state = studies::State::complete;
  if (saved.value) trial.values = {*saved.value};
  for (const auto& [name, value] : saved.parameters.items()) {
    trial.params.push_back({name, value_of(value), agents::Choices{{value_of(value)}}});
  }
  resolved.trial = trial;
  resolved.origin = str(kBestTrialOf, deployment.string(), " (trial ", trial.number, ")");
  take(resolved, studies::Study{}, given);
  // What its manifest remembers of the study; a damaged one, nothing.
  std::optional<release::Json> manifest;
  try {
    manifest = release::read_manifest(std::filesystem::canonical(deployment));
  } catch (const Error& error) {
    if (error.fault() != Fault::incompatible) throw;
  }
  if (!manifest || !manifest->contains("study")) return;
  const release::Json& section = (*manifest)["study"];
  if (section.is_null()) {
    // Its values were chosen without one: no trial, and no bars that it was chosen by.
    resolved.trial.reset();
    resolved.origin = kBestTrialOf + deployment.string();
    for (const studies::Taken& taken : resolved.parameters) {
      if (taken.applied) resolved.settings.sources[taken.name] = resolved.origin;
    }
    return;
  }
  if (!section.is_object()) return;
  resolved.seen_until = release::time_at(section, "/seen_until");
  if (section.contains("trials") && section["trials"].is_number_integer()) {
    resolved.trials = std::max<std::int64_t>(1, section["trials"].get<std::int64_t>());
    try {
      resolved.studies = release::studies_of(section.value("studies", release::Json::array()));
    } catch (const std::exception&) {
      throw Error(Fault::incompatible,
                  str((deployment / release::kManifest).string(), ": study.studies is ",
                      release::line_of(section["studies"]), R"(, expected [{"id": "...", "trials": N}, ...])"));
    }
  }
}

}  // namespace

std::optional<std::int64_t> chosen_until(const Resolved& resolved) {
  if (resolved.seen_until) return resolved.seen_until;
  if (!names_holdout(resolved.settings)) return std::nullopt;
  const auto from = parse_utc(resolved.settings.run.holdout_from);
  return from ? std::optional(*from - 1) : std::nullopt;
}

std::optional<std::string> unknown_origin(const Resolved& resolved) {
  if (!resolved.trial || chosen_until(resolved)) return std::nullopt;
  return origin_is_unknown(resolved.origin);
}

std::string origin_is_unknown(const std::string& origin) {
  return origin +
         " does not say which bars it was chosen by: --holdout-from DATE says it, and so does a study that "
         "ristretto sweep makes";
}

void check_given(const std::vector<Given>& given) {
  Settings settings;
  for (const Given& entry : given) {
    if (!asks_for_study(entry)) settings.apply(entry);
  }
}

Resolved resolve(const std::optional<StudySource>& source, const std::optional<std::filesystem::path>& deployment,
                 const std::vector<Given>& given) {
  Resolved resolved;
  resolved.origin = "defaults";
  if (source) {
    take_from_study(resolved, *source, given);
  } else if (deployment) {
    take_from_deployment(resolved, *deployment, given);
  }
  for (const Given& entry : given) {
    if (asks_for_study(entry)) {
      if (!resolved.settings.source_of("norm_action").starts_with("study")) {
        throw Error(Fault::usage, "--norm-action is 'study', but no study's trial gives one");
      }
      resolved.settings.sources["norm_action"] = "command line: the " + resolved.settings.source_of("norm_action");
      continue;
    }
    resolved.settings.apply(entry);
  }
  resolved.overridden = apply_serving(resolved.settings);
  check(resolved.settings);
  return resolved;
}

std::vector<Resolved> resolve_top(const std::optional<StudySource>& source,
                                  const std::optional<std::filesystem::path>& deployment,
                                  const std::vector<Given>& given, std::int64_t count) {
  std::vector<Resolved> trials = {resolve(source, deployment, given)};
  if (count == 1) return trials;
  if (!source || source->trial) {
    throw Error(Fault::usage, str("--top-trials is ", count, ", and ",
                                  source ? "--trial names one" : "there is no study to take them from"));
  }
  const studies::Study study = studies::open_storage(source->storage)->read_study(trials[0].study_name);
  const std::vector<const studies::Trial*> best = studies::top(study, static_cast<std::size_t>(count));
  if (static_cast<std::int64_t>(best.size()) < count) {
    throw Error(Fault::usage,
                str("--top-trials is ", count, ", and study '", study.name, "' has ", best.size(), " COMPLETE trials"),
                "run more trials, or ask for fewer");
  }
  for (std::size_t k = 1; k < best.size(); ++k) {
    trials.push_back(resolve(StudySource{source->storage, study.name, best[k]->number}, std::nullopt, given));
  }
  return trials;
}

std::string describe_parameters(const Resolved& resolved) {
  std::size_t name_width = 0, value_width = 0;
  for (const studies::Taken& taken : resolved.parameters) {
    name_width = std::max(name_width, taken.name.size());
    value_width = std::max(value_width, agents::text_of(taken.value).size());
  }
  std::string out;
  for (const studies::Taken& taken : resolved.parameters) {
    std::string name = taken.name, value = agents::text_of(taken.value), status = agents::name_of(taken.status);
    name.resize(name_width, ' ');
    value.resize(value_width, ' ');
    status.resize(8, ' ');
    const agents::Row* row = agents::find_row(taken.name);
    std::string note = taken.note;
    if (row != nullptr && taken.applied) {
      const std::string in_force = agents::text_of(agents::get(resolved.settings.hyperparameters, *row));
      if (in_force != agents::text_of(taken.value)) {
        note = str(in_force, " in force: ", resolved.settings.source_of(taken.name));
      }
    }
    out += str("  ", name, "  ", value, "  ", status, note.empty() ? "" : "  ", note, "\n");
  }
  return out;
}

}  // namespace ristretto::train
