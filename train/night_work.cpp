#include "train/night_work.h"

#include <algorithm>
#include <set>

#include "agents/hyperparameters.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/log.h"
#include "platform/text.h"
#include "release/ledger.h"
#include "release/versions.h"
#include "train/current_bars.h"
#include "train/job.h"
#include "train/start.h"
#include "train/sweep.h"

namespace ristretto::train {
namespace {

namespace fs = std::filesystem;

constexpr double kGrownHoldout = 1.25;  // times the settings' share of the bars
constexpr std::size_t kNamesShown = 5;
constexpr double kSweepShare = 0.25;  // of the night, for new trials

// Where the newest version's hold-out was cut: later bars have trained nothing of this name.
std::string holdout_of(const release::VersionStore& store, const std::string& name) {
  const std::vector<release::Version> versions = store.list(name);
  for (auto version = versions.rbegin(); version != versions.rend(); ++version) {
    try {
      const auto manifest = release::read_manifest(version->path);
      const auto from = manifest ? release::text_at(*manifest, "/data/holdout_from") : std::nullopt;
      if (from) return *from;
    } catch (const std::exception&) {
      continue;  // a damaged version says nothing
    }
  }
  return "";
}

std::optional<release::Opening> last_judgement(const NightlyRequest& request, const std::string& name) {
  release::LedgerRecord record = release::Ledger(request.deployments, name).read();
  std::erase_if(record.openings, [](const release::Opening& o) { return o.purpose != release::kJudgement; });
  return record.openings.empty() ? std::nullopt : std::optional(record.openings.back());
}

std::vector<Resolved> trials_of(const NightlyRequest& request, const std::optional<StudySource>& source,
                                const std::vector<Given>& given, const std::string& name) {
  std::optional<fs::path> deployment;
  if (!source) deployment = request.deployments / name;
  return resolve_top(source, deployment, given, request.top_trials);
}

}  // namespace

void warn_of_fixed(const std::vector<Given>& given, bool of_study) {
  std::vector<std::string> names;
  std::set<std::string> places;
  for (const Given& entry : given) {
    if (entry.source == "command line" || (entry.name != "seed" && agents::find_row(entry.name) == nullptr)) continue;
    names.push_back(entry.name);
    places.insert(entry.source.substr(0, entry.source.rfind(':')));
  }
  if (names.empty()) return;
  const std::size_t more = names.size() - std::min(names.size(), kNamesShown);
  names.resize(names.size() - more);
  log::warning("nightly", str(join(names, ", "), more > 0 ? str(" and ", more, " more") : std::string(), " (",
                              join({places.begin(), places.end()}, ", "),
                              ") will be the same for every model and every night, in place of ",
                              of_study ? "the study's" : "each deployment's own",
                              " hyperparameters and a new seed; leave out what is not meant so"));
}

bool pins_holdout(const std::vector<Given>& given) {
  return std::any_of(given.begin(), given.end(), [](const Given& entry) { return entry.name == "holdout_from"; });
}

std::string holdout_from(const NightlyRequest& request, const std::optional<StudySource>& source,
                         const std::vector<Given>& given, const std::string& name) {
  if (pins_holdout(given)) return "";
  std::string from = holdout_of(release::VersionStore(request.deployments), name);
  if (const auto last = last_judgement(request, name); from.empty() && last) {
    from = iso_utc(last->holdout_from.value_or(last->first_bar));
  }
  std::optional<fs::path> deployment;
  if (!source) deployment = request.deployments / name;
  Settings settings = resolve(source, deployment, given).settings;
  settings.run.pretrained.clear();  // it may not have seen this cut's hold-out, and only the share is asked
  const Data data = load_data(settings);
  if (from.empty()) return iso_utc(data.splits.holdout_from);
  const std::int64_t share = data.market.between(data.splits.holdout_from, {}).bars_in_segments();
  const std::int64_t grown = data.market.between(parse_utc(from), {}).bars_in_segments();
  return static_cast<double>(grown) > kGrownHoldout * static_cast<double>(share) ? iso_utc(data.splits.holdout_from)
                                                                                 : from;
}

std::string add_trials(const NightlyRequest& request, const StudySource& source, const std::vector<Given>& given,
                       const std::string& from) {
  std::vector<Given> layers = given;
  if (!from.empty() && !pins_holdout(given)) layers.push_back({"holdout_from", from, "the earliest hold-out"});
  const std::string study = resolve(source, std::nullopt, given).study_name;
  SweepRequest sweeping;
  sweeping.storage = source.storage;
  sweeping.study_name = study;
  sweeping.trials = request.sweep_trials;
  sweeping.seconds = request.seconds * kSweepShare;
  sweeping.command = request.command;
  sweeping.follow = true;  // the hold-out moves on
  sweeping.splits = splits_of(source.storage, study);
  sweeping.start_from = study;
  sweeping.start_count = request.top_trials;
  return sweep(sweeping, resolve(std::nullopt, std::nullopt, layers).settings).document["study"];
}

Work work_of(const NightlyRequest& request, const std::optional<StudySource>& source, const std::vector<Given>& given,
             const std::string& name, const std::string& from, std::int64_t seed, double seconds_left) {
  std::vector<Given> layers = given;
  const auto last = last_judgement(request, name);
  if (!from.empty() && !pins_holdout(given)) layers.push_back({"holdout_from", from, kLastHoldout});
  // The same bars with the same seed would give the same weights again.
  layers.insert(layers.begin(), {"seed", str(seed), "the night"});
  if (seconds_left > 0) layers.push_back({"time_budget", str(seconds_left, "s"), "what is left of the night"});
  Work work;
  work.trials = trials_of(request, source, layers, name);
  auto fine_tuning = fine_tuning_of(request.deployments / name, work.trials[0]);
  if (fine_tuning) work.trials.push_back(std::move(*fine_tuning));
  const Settings& settings = work.trials[0].settings;
  require_current_bars(settings.run.bars, layout_of(settings).assets);
  const Data data = load_data(settings);
  const auto newer = last ? std::optional(last->last_bar + 1) : std::nullopt;
  work.new_bars = data.splits.holdout.market.between(newer, {}).bars_in_segments();
  return work;
}

}  // namespace ristretto::train
