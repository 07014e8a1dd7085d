#include "train/promote.h"

#include <algorithm>
#include <optional>

#include "agents/checkpoint.h"
#include "evaluation/metrics_table.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/lock.h"
#include "platform/log.h"
#include "platform/text.h"
#include "release/deployment.h"
#include "release/directories.h"
#include "release/served_actor.h"
#include "release/sha256.h"
#include "train/current_bars.h"
#include "train/job.h"
#include "train/judge.h"
#include "train/record.h"
#include "train/resolve.h"
#include "train/retrain.h"
#include "train/service.h"
#include "train/trained_run.h"

namespace ristretto::train {
namespace {

namespace fs = std::filesystem;
using release::Json;

// What is to be judged, and what its manifest tells of its making.
struct Named {
  fs::path directory;
  std::string version;  // "": staged, not published
  release::Model model;
  env::Layout layout;
  Json manifest = Json::object();

  Json training(const char* field) const {
    return manifest.contains("training") ? manifest["training"].value(field, Json()) : Json();
  }
  std::int64_t count(const char* field) const {
    const Json value = training(field);
    return value.is_number_integer() ? value.get<std::int64_t>() : 0;
  }
};

// The staged directory in or at `path`, where there is one.
std::optional<fs::path> staged_in(const fs::path& path) {
  for (const fs::path& directory : {path / "deployment", path}) {
    if (fs::exists(directory / release::kManifest)) return directory;
  }
  return std::nullopt;
}

// Whether a run lies there whose weights are not those that are staged in it, if any are.
bool is_unstaged_run(const fs::path& path) {
  const fs::path checkpoint = path / kCheckpointDirectory / agents::kCheckpointFile;
  if (!fs::exists(path / "config.ini") || !fs::exists(checkpoint)) return false;
  const auto staged = staged_in(path);
  const fs::path kept = staged.value_or(path) / release::kTrainingDirectory / agents::kCheckpointFile;
  return !staged || !fs::exists(kept) || release::sha256_of_file(kept) != release::sha256_of_file(checkpoint);
}

Named find(const release::VersionStore& store, const PromoteRequest& request) {
  Named named;
  if (request.version.empty()) {
    named.directory = staged_in(request.directory).value();
  } else {
    named.version = store.find(request.name, request.version);
    named.directory = store.path_of(request.name, named.version);
  }
  named.model = release::load(named.directory);
  const auto layout = release::served_layout(named.model);
  if (!layout) {
    throw Error(Fault::incompatible, str(named.directory.string(), " has ", named.model.architecture.observation,
                                         " inputs, which fit no layout of today's environment"));
  }
  named.layout = *layout;
  if (named.model.manifest) named.manifest = *named.model.manifest;
  return named;
}

std::optional<std::string> unknown_origin_of(const Named& named, const Settings& settings) {
  const Json study = named.manifest.value("study", Json());
  if (!study.is_object() || release::text_at(study, "/seen_until") || names_holdout(settings)) return std::nullopt;
  return origin_is_unknown("the study of " + named.directory.string());
}

// Bars, money and costs; the hold-out that the candidate was not trained on.
Settings settings_for(const Named& named, const std::vector<Given>& given) {
  Settings settings;
  for (const Given& entry : given) settings.apply(entry);
  settings.run.assets = join(named.layout.assets, ",");
  const std::optional<std::int64_t> trained = release::unseen_from(named.model);
  if (settings.run.holdout_from.empty()) {
    if (!trained) {
      throw Error(Fault::usage, str(named.directory.string(), " does not say which bars it was trained on"),
                  "name the first bar that it has not seen: --holdout-from DATE");
    }
    settings.run.holdout_from = iso_utc(*trained);
  }
  require_unseen_from(settings.run.holdout_from, trained, named.directory.string());
  return settings;
}

env::Rules rules_for(const Named& named, const Settings& settings) {
  Settings plain = settings;
  plain.hyperparameters.lookback = named.layout.lookback;
  env::Rules rules = named.model.rules.value_or(rules_of(plain));
  const env::Rules trained = rules;
  if (settings.source_of("fee_fraction") != "default") rules.fee_fraction = settings.run.fee_fraction;
  if (settings.source_of("slippage_fraction") != "default") rules.slippage_fraction = settings.run.slippage_fraction;
  if (settings.source_of("spread_fraction") != "default") rules.spread_fraction = settings.run.spread_fraction;
  if (env::cost_fraction(rules) < env::cost_fraction(trained)) {
    throw Error(
        Fault::usage,
        str("a trade would cost ", env::cost_fraction(rules), " of its value, and ", named.directory.string(),
            " was trained with ", env::cost_fraction(trained), ": at lower costs it would pass for better than it is"),
        "leave the costs out, or retrain with them");
  }
  if (settings.source_of("initial_capital") != "default") rules.initial_capital = settings.run.initial_capital;
  return rules;
}

// Its files again as a directory to be published: a published version is never changed, its status neither.
fs::path copy_of(const Named& named, const PromoteRequest& request) {
  const fs::path copy = request.runs / str(".promote-", request.name);
  release::remove_tree(copy);
  fs::create_directories(request.runs);
  release::copy_tree(named.directory, copy);
  for (const auto& entry : fs::recursive_directory_iterator(copy)) {
    fs::permissions(entry.path(), fs::perms::owner_write, fs::perm_options::add);
  }
  fs::permissions(copy, fs::perms::owner_write, fs::perm_options::add);
  return copy;
}

// What its manifest tells of its training.
release::IntegrityInputs training_of(const Named& named) {
  release::IntegrityInputs inputs{named.directory, named.layout};
  inputs.environment_steps = named.count("environment_steps");
  inputs.optimizer_steps = named.count("optimizer_steps");
  const Json change = named.training("relative_weight_change");
  // Versions from before it was written have been through this gate when they were trained.
  inputs.claimed_steps = named.training("steps_an_iteration").is_number()
                             ? named.count("iterations") * named.count("steps_an_iteration")
                             : inputs.environment_steps;
  inputs.relative_weight_change = change.is_number() ? change.get<double>() : 0;
  return inputs;
}

// The verdict of its manifest, where it answers the question that is asked now.
std::optional<release::Verdict> recorded_verdict(const Named& named, const std::optional<std::string>& served,
                                                 const Settings& settings, const Data& data) {
  const std::string status = release::text_field(named.manifest, "status");
  if (named.version.empty() || status.empty() || !named.manifest.contains("gates")) return std::nullopt;
  if (release::text_field(named.manifest, "parent") != served.value_or("")) return std::nullopt;
  if (release::text_at(named.manifest, "/data/splits/holdout/last_bar") != iso_utc(data.splits.holdout.last_time) ||
      release::text_at(named.manifest, "/data/splits/holdout/first_bar") != iso_utc(data.splits.holdout.first_time)) {
    return std::nullopt;
  }
  const Json::json_pointer files("/data/files");
  const std::vector<const char*> costs = {"fee_fraction", "slippage_fraction", "spread_fraction", "initial_capital"};
  const bool other_costs =
      std::any_of(costs.begin(), costs.end(), [&](const char* name) { return settings.source_of(name) != "default"; });
  if (other_costs || !named.manifest.contains(files) ||
      named.manifest[files] != files_section(settings.run.bars, data.layout.assets)) {
    return std::nullopt;
  }
  const std::string how = str("judged against ", served.value_or("nothing"), " on the same bars before");
  return release::Verdict{status != "refused", status, status == "refused" ? "refused when " + how : how};
}

// gates: of integrity, those that need no look at the hold-out.
PromoteResult dry_run_of(Json document, const Data& data, const std::optional<std::string>& served,
                         const std::vector<release::GateResult>& gates) {
  PromoteResult result{std::move(document), "", 0};
  const bool passed = release::all_passed(gates);
  result.exit_code = passed ? 0 : static_cast<int>(Fault::refused);
  const std::int64_t bars = data.splits.holdout.market.bars_in_segments();
  result.document["dry_run"] = true;
  result.document["would_be_judged"] = passed;
  result.document["against"] = served ? Json(*served) : Json(nullptr);
  result.document["holdout_bars"] = bars;
  result.document["gates"] = gates_json(gates, {});
  result.text =
      passed ? str("dry run: it would be judged on ", bars, " bars from ", iso_utc(data.splits.holdout.first_time),
                   " against ", served.value_or("nothing"), "; nothing was looked at or changed\n")
             : str("dry run: refused: ", release::refusals(gates), "\n");
  return result;
}

// In a manifest: a version with the hash of a candidate's actor.pth holds these very weights.
constexpr const char* kActorHash = "/files/actor.pth/sha256";

PromoteResult promote_as(const std::string& version, const PromoteRequest& request, const std::vector<Given>& given) {
  log::info("promote", str(request.directory.string(), " is version ", version, ", and judged as that"));
  PromoteRequest again = request;
  again.version = version;
  return promote(again, given);
}

PromoteResult promote_run(const release::VersionStore& store, const PromoteRequest& request,
                          const std::vector<Given>& given) {
  const Resolved resolved = resolve_run(request.directory, given);
  std::optional<FileLock> lock;  // nobody trains on meanwhile
  if (!request.dry_run) lock.emplace(request.directory / ".lock", "promote --run " + request.directory.string());
  require_current_bars(resolved.settings.run.bars, layout_of(resolved.settings).assets);
  Profile profile;
  std::vector<Contender> contenders;
  contenders.push_back(trained_contender(resolved, profile));
  const Contender& contender = contenders[0];
  const auto version = version_with(store, request.name, kActorHash, release::actor_hash(contender.content.actor));
  if (version) return promote_as(version->id, request, given);
  if (request.dry_run) {
    require_unseen(resolved, *contender.data);
    return dry_run_of({{"name", request.name}, {"candidate", request.directory.string()}}, *contender.data,
                      store.served(request.name), {});
  }
  RetrainRequest retraining;
  retraining.name = request.name;
  retraining.deployments = request.deployments;
  retraining.runs = request.runs;
  retraining.run = request.directory;
  retraining.thresholds = request.thresholds.value_or(release::Thresholds{});
  retraining.command = request.command;
  RetrainResult judged = retrain(retraining, {resolved}, profile, std::move(contenders));
  judged.document["candidate"] = request.directory.string();
  return {std::move(judged.document), std::move(judged.text), judged.exit_code};
}

}  // namespace

bool is_candidate(const fs::path& directory) { return staged_in(directory) || is_unstaged_run(directory); }

PromoteResult promote(const PromoteRequest& request, const std::vector<Given>& given) {
  release::require_name(request.name);
  release::VersionStore store(request.deployments);
  store.slot(request.name);
  store.require_clock(request.name);
  if (request.version.empty() && (is_unstaged_run(request.directory) || !staged_in(request.directory))) {
    return promote_run(store, request, given);
  }
  const Named named = find(store, request);
  const std::optional<std::string> served = request.dry_run ? store.served(request.name) : store.adopt(request.name);
  if (named.version.empty()) {
    const std::string hash = release::sha256_of_file(named.directory / "actor.pth");
    if (const auto version = version_with(store, request.name, kActorHash, hash))
      return promote_as(version->id, request, given);
  } else if (served == named.version) {
    const std::string reason = str(request.name, " serves ", named.version, " already");
    return {{{"name", request.name}, {"version", named.version}, {"served", true}, {"reason", reason}},
            reason + ": nothing was judged or changed\n",
            0};
  }
  const Settings settings = settings_for(named, given);
  require_current_bars(settings.run.bars, named.layout.assets);
  const Data data = load_data(settings, named.layout, rules_for(named, settings));
  const release::Thresholds thresholds = request.thresholds.value_or(release::Thresholds{});
  PromoteResult result;
  result.document = {{"name", request.name},
                     {"candidate", named.version.empty() ? request.directory.string() : named.version}};

  if (request.dry_run) {
    release::IntegrityInputs inputs = training_of(named);
    if (served) inputs.served = store.path_of(request.name, *served);
    std::vector<release::GateResult> gates = release::integrity_gates(inputs, thresholds);
    std::erase_if(gates, [](const release::GateResult& gate) {  // these need a look
      return gate.name == "orders" || gate.name == "turnover" || gate.name == "trading_bars";
    });
    return dry_run_of(std::move(result.document), data, served, gates);
  }

  fs::create_directories(request.runs);
  const FileLock lock(request.runs / ("." + request.name + ".lock"), "promote " + request.name);
  Ending ending;
  std::optional<release::Verdict> recorded;
  if (!request.thresholds) recorded = recorded_verdict(named, served, settings, data);
  if (recorded) {
    ending = serve_version(store, request.name, named.version, served, *recorded, named.manifest["gates"]);
    result.document["gates"] = named.manifest["gates"];
  } else {
    const auto label = release::text_at(named.manifest, "/training/candidate");
    release::Content content;
    content.architecture = named.model.architecture;
    content.actor = named.model.actor;
    content.layout = named.layout;
    content.rules = data.rules;
    const auto background = read_background(named.directory / release::kTrainingDirectory / kEvidenceFile);
    const Candidate candidate{request.name,
                              label ? *label : release::content_hash(release::files_of(named.directory)),
                              settings,
                              data,
                              content,
                              {},
                              background.value_or(Background{}),
                              unknown_origin_of(named, settings)};
    release::Ledger ledger(request.deployments, request.name);
    const Judgement judgement = judge(candidate, store, ledger, thresholds);
    release::IntegrityInputs inputs = training_of(named);
    add_holdout(inputs, judgement, data, store, request.name);
    const auto [integrity, verdict, gates] = decide(judgement, release::integrity_gates(inputs, thresholds));
    conclude(judgement, verdict, ledger);
    const bool status_changes = verdict.status == "proven" && release::text_field(named.manifest, "status") != "proven";
    if (named.version.empty() || (release::all_passed(integrity) && status_changes)) {
      ending = put_in_service(store, request.name, copy_of(named, request), judgement.champion.version, integrity,
                              verdict, gates, true);
    } else {
      ending = serve_version(store, request.name, named.version, judgement.champion.version, verdict, gates);
    }
    result.document["holdout"] = evaluation::json_of(judgement.metrics);
    result.document["gates"] = gates;
    result.text = text_of(judgement, data) + text_of(integrity, judgement.evidence);
  }
  result.document["version"] = ending.version;
  result.document["status"] = ending.status;
  result.document["served"] = ending.served;
  result.document["reason"] = ending.reason;
  result.text += text_of(ending, request.deployments / request.name, named.directory);
  result.exit_code = ending.served ? 0 : static_cast<int>(Fault::refused);
  return result;
}

}  // namespace ristretto::train
