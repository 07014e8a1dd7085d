#include "train/retrain.h"

#include <cstdio>

#include "cli/commands.h"
#include "cli/options.h"
#include "cli/profile_option.h"
#include "cli/study_options.h"
#include "platform/error.h"
#include "platform/interrupt.h"
#include "platform/text.h"
#include "train/device.h"
#include "train/job.h"

namespace ristretto::cli {

int retrain(const Arguments& arguments) {
  Options options(
      "retrain NAME",
      "Trains NAME anew on today's bars with the study's best hyperparameters, judges it on bars that nothing has "
      "seen,\nwrites a new version of deployments/NAME and serves it if it passes.");
  options.positional("NAME", true);
  declare_study(options);
  options.value("from", "deployment", "take the hyperparameters of deployments/NAME itself instead of a study's");
  options.value("deployments", "DIR", "where models are served from [deployments]");
  options.value("runs", "DIR", "where runs are kept [runs]");
  options.flag("no-promote", "write and judge the version, but leave what is served as it is");
  options.flag("dry-run", "say what would be done with which settings, and do nothing");
  ProfileOption::declare(options);
  options.alias("n-timesteps,n", "steps");
  options.settings();
  if (!options.parse(arguments)) return 0;
  install_interrupt_handlers();

  train::RetrainRequest request;
  request.name = options.get("NAME");
  request.deployments = options.get("deployments", "deployments");
  request.runs = options.get("runs", "runs");
  request.promote = !options.has("no-promote");
  request.command = recorded_command("retrain", arguments);

  const std::optional<train::StudySource> source = study_of(options);
  std::optional<std::filesystem::path> deployment;
  if (const auto from = options.find("from")) {
    if (*from != "deployment" || source)
      throw Error(Fault::usage, str("--from is '", *from, "', expected deployment, and no --storage"));
    deployment = request.deployments / request.name;
  }
  const train::Resolved resolved = train::resolve(source, deployment, options.given());
  std::string settings_text = str("hyperparameters: ", resolved.origin, "\n", train::describe_parameters(resolved));
  for (const std::string& line : resolved.overridden) settings_text += str("  ", line, "\n");
  if (!options.json() || options.has("dry-run")) std::fputs(settings_text.c_str(), options.json() ? stderr : stdout);
  if (options.has("dry-run")) {
    train::prepare_machine(resolved.settings);
    const train::Data data = train::load_data(resolved.settings);
    train::report_plan(train::make_plan(resolved.settings, train::device_of(resolved.settings.run.device)),
                       resolved.settings, 0);
    std::printf("dry run: %s would be trained on %lld bars and judged on %lld; nothing was written\n",
                request.name.c_str(), static_cast<long long>(data.splits.train.market.bars_in_segments()),
                static_cast<long long>(data.splits.holdout.market.bars_in_segments()));
    return 0;
  }
  std::fflush(stdout);
  train::Profile profile;
  const ProfileOption recording(options);
  train::RetrainResult result = train::retrain(request, resolved, profile);
  recording.tell(result.document, result.text);
  std::printf("%s", options.json() ? (result.document.dump(2) + "\n").c_str() : result.text.c_str());
  return result.exit_code;
}

}  // namespace ristretto::cli
