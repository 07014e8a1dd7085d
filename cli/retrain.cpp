#include "train/retrain.h"

#include <algorithm>
#include <cstdio>

#include "cli/commands.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/profile_option.h"
#include "cli/study_options.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/interrupt.h"
#include "platform/text.h"
#include "release/versions.h"
#include "train/device.h"
#include "train/job.h"
#include "train/start.h"
#include "train/weights_behind.h"

namespace ristretto::cli {

int retrain(const Arguments& arguments) {
  Options options(
      "retrain NAME",
      "Trains NAME anew on today's bars with the study's best hyperparameters, judges it on bars that nothing has "
      "seen,\nwrites a new version of deployments/NAME and serves it if it passes.");
  options.positional("NAME", true);
  declare_study(options);
  options.value("from", "deployment|DIR",
                "take the hyperparameters of deployments/NAME itself instead of a study's; with a directory: train on "
                "from that deployment's weights, with its hyperparameters where no study is given");
  options.value("deployments", "DIR", "where models are served from [deployments]");
  options.value("runs", "DIR", "where runs are kept [runs]");
  declare_judging(options);
  options.flag("no-promote", "write and judge the version, but leave what is served as it is");
  options.flag("dry-run", "say what would be done with which settings, and do nothing");
  ProfileOption::declare(options);
  options.alias("n-timesteps,n", "steps");
  options.settings();
  if (!options.parse(arguments)) return 0;
  install_interrupt_handlers();
  const ProfileOption recording(options);

  train::RetrainRequest request;
  request.name = options.get("NAME");
  request.deployments = directory(options, "deployments");
  request.runs = directory(options, "runs");
  request.promote = !options.has("no-promote");
  request.command = recorded_command("retrain", arguments);

  const std::optional<train::StudySource> source = study_of(options);
  std::optional<std::filesystem::path> deployment;
  std::shared_ptr<const release::Start> start;
  std::vector<train::Given> given = options.given();
  if (const auto from = options.find("from"); from && *from != "deployment") {
    start = std::make_shared<const release::Start>(release::start_of(release::load(existing_model(*from))));
    if (std::any_of(given.begin(), given.end(),
                    [](const auto& entry) { return entry.name == "pretrained" && !entry.text.empty(); })) {
      throw Error(Fault::usage, "--from and --pretrained both say what the encoder begins with",
                  "leave one of them out");
    }
    const std::vector<train::Given> fixed = train::given_of(*start);
    given.insert(given.begin(), fixed.begin(), fixed.end());
    if (!source) deployment = *from;
  } else if (from) {
    if (source) throw Error(Fault::usage, "--from is 'deployment', and --storage gives hyperparameters as well");
    deployment = request.deployments / request.name;
  }
  request.seeds = positive_number(options, "seeds");
  if (const auto file = options.find("gates")) request.thresholds = release::read_thresholds(*file);
  std::vector<train::Resolved> trials =
      train::resolve_top(source, deployment, given, positive_number(options, "top-trials"));
  if (start) {
    const auto among = train::weights_chosen_among(start->source, request.deployments, request.name);
    for (train::Resolved& trial : trials) {
      trial.start = start;
      trial.start_chosen_among = among;
    }
  } else if (release::VersionStore(request.deployments).slot(request.name).kind == release::Slot::Kind::directory) {
    // In place of what is older than the versions: its weights may be worth more than new ones.
    auto fine_tuning = train::fine_tuning_of(request.deployments / request.name, trials[0]);
    if (fine_tuning) trials.push_back(std::move(*fine_tuning));
  }
  const train::Resolved& resolved = trials[0];
  std::string settings_text;
  for (const train::Resolved& trial : trials) {
    settings_text += str("hyperparameters: ", trial.origin, "\n", train::describe_parameters(trial));
    for (const std::string& line : trial.overridden) settings_text += str("  ", line, "\n");
  }
  if (!resolved.start_chosen_among.empty()) {
    std::int64_t among = 0;
    for (const release::StudyTrials& behind : resolved.start_chosen_among) among += behind.count;
    settings_text += str("weights: ", start->source.string(), ", chosen among ", with_thousands(among), " trials\n");
  }
  if (!options.json() || options.has("dry-run")) std::fputs(settings_text.c_str(), options.json() ? stderr : stdout);
  if (options.has("dry-run")) {
    train::prepare_machine(resolved.settings);
    const train::Data data = train::load_data(resolved.settings);
    const train::Plan plan = train::make_plan(resolved.settings, train::device_of(resolved.settings.run.device));
    train::report_plan(plan, resolved.settings, 0);
    const std::int64_t train_bars = data.splits.train.market.bars_in_segments();
    const std::int64_t holdout_bars = data.splits.holdout.market.bars_in_segments();
    if (options.json()) {
      Document document = {{"name", request.name},
                           {"dry_run", true},
                           {"hyperparameters_from", Document::array()},
                           {"seeds", request.seeds},
                           {"train_bars", train_bars},
                           {"holdout_bars", holdout_bars},
                           {"holdout_from", iso_utc(data.splits.holdout.first_time)},
                           {"planned_steps", plan.steps},
                           {"iterations", plan.iterations},
                           {"predicted_seconds_an_iteration", plan.predicted_seconds}};
      for (const train::Resolved& trial : trials) document["hyperparameters_from"].push_back(trial.origin);
      print(document);
    } else {
      std::printf("dry run: %s would be trained %lld times on %lld bars and judged on %lld; nothing was written\n",
                  request.name.c_str(), static_cast<long long>(request.seeds) * static_cast<long long>(trials.size()),
                  static_cast<long long>(train_bars), static_cast<long long>(holdout_bars));
    }
    return 0;
  }
  std::fflush(stdout);
  train::Profile profile;
  train::RetrainResult result = train::retrain(request, trials, profile);
  recording.tell(result.document, result.text);
  std::printf("%s", options.json() ? text_of(result.document).c_str() : result.text.c_str());
  return result.exit_code;
}

}  // namespace ristretto::cli
