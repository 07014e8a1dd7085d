#include "train/trained_run.h"

#include "agents/checkpoint.h"
#include "platform/atomic_file.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/text.h"
#include "train/record.h"
#include "train/trainer.h"

namespace ristretto::train {
namespace {

namespace fs = std::filesystem;
using release::Json;

constexpr int kOriginFormat = 1;

Json range_of(const evaluation::Split& split) {
  return {{"first_bar", iso_utc(split.first_time)}, {"last_bar", iso_utc(split.last_time)}};
}

std::int64_t time_of(const Json& origin, const std::string& pointer) {
  const auto time = release::time_at(origin, pointer);
  if (!time) throw std::invalid_argument(str("it has no time at ", pointer));
  return *time;
}

void read_origin(const Json& origin, TrainedRun& run, Resolved& resolved) {
  if (origin.at("format") != kOriginFormat) {
    throw std::invalid_argument(str("format ", release::line_of(origin.at("format")), ", expected ", kOriginFormat));
  }
  run.making = origin.at("making");
  run.train = {time_of(origin, "/train/first_bar"), time_of(origin, "/train/last_bar")};
  run.validation = {time_of(origin, "/validation/first_bar"), time_of(origin, "/validation/last_bar")};
  run.holdout_from = time_of(origin, "/holdout_from");
  // Values that are still those that it began with are from where they were then.
  for (const agents::Row& row : agents::table()) {
    const Json& then = origin.at("hyperparameters").at(row.name);
    if (then.at("value") != release::json_of(agents::get(run.settings.hyperparameters, row))) continue;
    run.settings.sources[row.name] = then.at("source").get<std::string>();
  }
  resolved.origin = origin.at("origin").get<std::string>();
  resolved.trials = origin.at("trials").get<std::int64_t>();
  resolved.trial_sharpes = origin.at("trial_sharpes").get<std::vector<double>>();
  resolved.start_chosen_among = release::studies_of(origin.value("start_chosen_among", Json::array()));
  const Json& study = run.making.at("study");
  if (!study.is_object()) return;
  resolved.study_name = study.at("name").get<std::string>();
  resolved.seen_until = release::time_at(study, "/seen_until");
  resolved.studies = release::studies_of(study.value("studies", Json::array()));
  studies::Trial trial;
  trial.number = study.at("trial").get<std::int64_t>();
  trial.state = studies::State::complete;
  if (study.at("value").is_number()) trial.values = {study.at("value").get<double>()};
  resolved.trial = trial;
}

evaluation::Split as_trained(const evaluation::Split& split, const env::Market& market, const TrainedRun::Range& range,
                             const fs::path& run) {
  env::Market part = market.between(range.first, range.last + 1);
  if (part.segments.empty()) {
    throw Error(Fault::incompatible,
                str(run.string(), " had the bars ", iso_utc(range.first), " to ", iso_utc(range.last), " as its ",
                    split.name, " part, and there are none now"),
                "name the bars it was trained on: --bars DIR");
  }
  return {split.name, std::move(part), range.first, range.last};
}

// The run as it was trained, and its origin but for the settings.
std::pair<std::shared_ptr<TrainedRun>, Resolved> read(const fs::path& directory) {
  if (!fs::exists(directory / "config.ini")) {
    throw Error(Fault::usage, directory.string() + " holds no run: it has no config.ini",
                "name the directory that was given to train --run, or one below runs/");
  }
  if (!fs::exists(directory / kCheckpointDirectory / agents::kCheckpointFile)) {
    throw Error(Fault::usage, str(directory.string(), " has no ", kCheckpointDirectory, "/", agents::kCheckpointFile),
                "of a night, the next one removes it: what was chosen there is a version (ristretto list)");
  }
  const fs::path file = directory / kOriginFile;
  if (!fs::exists(file)) {
    throw Error(Fault::usage,
                str(directory.string(), " does not say which bars it has seen: it is older than ", kOriginFile,
                    ", which tells that"),
                "train anew: ristretto retrain, or train --run");
  }
  auto run = std::make_shared<TrainedRun>();
  run->directory = directory;
  run->settings = resolve(std::nullopt, std::nullopt, read_config((directory / "config.ini").string())).settings;
  Resolved resolved;
  try {
    read_origin(Json::parse(read_file(file)), *run, resolved);
  } catch (const std::exception& error) {
    throw Error(Fault::incompatible, str(file.string(), " is damaged: ", error.what()),
                "without it nothing says which bars the run has seen: train anew");
  }
  return {run, resolved};
}

}  // namespace

void write_origin(const fs::path& run, const Resolved& resolved, const Settings& settings, const Data& data,
                  std::int64_t trainings) {
  const Json origin = {{"format", kOriginFormat},
                       {"origin", resolved.origin},
                       {"trials", resolved.trials + trainings - 1},
                       {"trial_sharpes", resolved.trial_sharpes},
                       {"start_chosen_among", release::json_of(resolved.start_chosen_among)},
                       {"making", making_of(resolved, settings)},
                       {"hyperparameters", hyperparameters_section(settings)},
                       {"train", range_of(data.splits.train)},
                       {"validation", range_of(data.splits.validation)},
                       {"holdout_from", iso_utc(data.splits.holdout_from)}};
  write_file_atomically(run / kOriginFile, release::line_of(origin) + "\n");
}

TrainedRun read_run(const fs::path& directory) { return *read(directory).first; }

Resolved resolve_run(const fs::path& run, const std::vector<Given>& given) {
  auto [trained, out] = read(run);
  // Judging is done on the CPU, whatever it was trained on: so its networks are read there.
  trained->settings.apply({"device", "cpu", "judging"});
  std::string holdout = iso_utc(trained->holdout_from);
  std::string source = kLastHoldout;
  for (const Given& entry : given) {
    if (entry.name == "bars") trained->settings.apply(entry);
    if (entry.name == "holdout_from") {
      holdout = entry.text;
      source = entry.source;
      require_unseen_from(holdout, trained->holdout_from, run.string());
    }
    for (const RunRow& row : run_table()) {
      const std::string_view name = row.name;
      if (name != entry.name || (name != "initial_capital" && !name.ends_with("_fraction"))) continue;
      Settings other = trained->settings;
      other.apply(entry);
      if (text_of(other.run, row) == text_of(trained->settings.run, row)) continue;
      throw Error(Fault::usage,
                  str(name, " is ", text_of(other.run, row), " (", entry.source, "), but ", run.string(),
                      " was trained with ", text_of(trained->settings.run, row), ", and is judged so"),
                  "leave it out; promote --version judges what it became at higher costs");
    }
  }
  out.settings = trained->settings;
  out.settings.apply({"holdout_from", holdout, source});
  out.trained = trained;
  return out;
}

void cut_as_trained(Data& data, const TrainedRun& run) {
  evaluation::Splits& splits = data.splits;
  splits.train = as_trained(splits.train, data.market, run.train, run.directory);
  splits.validation = as_trained(splits.validation, data.market, run.validation, run.directory);
  splits.purged_bars = data.market.bars_in_segments() - splits.holdout.market.bars_in_segments() -
                       splits.train.market.bars_in_segments() - splits.validation.market.bars_in_segments();
}

Data load_data(const Resolved& resolved) {
  Data data = load_data(resolved.settings);
  if (resolved.trained) cut_as_trained(data, *resolved.trained);
  return data;
}

}  // namespace ristretto::train
