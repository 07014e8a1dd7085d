#include "train/nightly.h"

#include <cstdio>

#include "cli/commands.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/study_options.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/interrupt.h"
#include "platform/text.h"

namespace ristretto::cli {

int nightly(const Arguments& arguments) {
  Options options("nightly [NAMES]",
                  "Retrains every deployment (or those of the comma-separated NAMES) that has new bars, judges, "
                  "promotes or keeps, and\nreports. Started again after a crash it goes on where it was; --time-budget "
                  "is of the whole night. Exit code 3:\nnothing was good enough.");
  options.positional("NAMES", false);
  declare_study(options);
  options.value("deployments", "DIR", "where models are served from [deployments]");
  options.value("runs", "DIR", "where runs, the journal and the reports are kept [runs]");
  options.value("sweep-trials", "N", "first add N trials to the study, begun with its best ones [0]");
  declare_judging(options);
  options.value("new-bars", "N", "how many bars newer than its last judgement make a deployment due [24]");
  options.value("disk-budget", "SIZE", "runs and deployments together, such as 20GiB; above it nothing is begun");
  options.value("webhook", "FILE", "the night's report is sent as JSON to the URL in this file's first line");
  options.flag("dry-run", "say which deployments are due, and do nothing");
  options.settings();
  if (!options.parse(arguments)) return 0;
  install_interrupt_handlers();

  train::NightlyRequest request;
  if (const auto names = options.find("NAMES")) request.names = split(*names, ',');
  request.deployments = existing_deployments(options);
  request.runs = directory(options, "runs");
  request.source = study_of(options);
  request.seeds = positive_number(options, "seeds");
  request.top_trials = positive_number(options, "top-trials");
  request.sweep_trials = whole_number(options, "sweep-trials", 0);
  if (request.sweep_trials < 0 || (request.sweep_trials > 0 && (!request.source || request.source->trial))) {
    throw Error(Fault::usage, str("--sweep-trials is ", request.sweep_trials, ", expected at least 0, and a study"),
                "add --storage and --study-name, without --trial");
  }
  if (const auto file = options.find("gates")) request.thresholds = release::read_thresholds(*file);
  request.new_bars = whole_number(options, "new-bars", request.new_bars);
  if (request.new_bars < 0) {
    throw Error(Fault::usage, str("--new-bars is ", request.new_bars, ", expected at least 0"),
                "0 retrains every deployment, also without new bars");
  }
  if (const auto size = options.find("disk-budget")) request.disk_bytes = train::parse_bytes("disk-budget", *size);
  if (const auto file = options.find("webhook")) request.webhook = train::read_webhook(*file);
  request.dry_run = options.has("dry-run");
  request.command = recorded_command("nightly", arguments);
  std::vector<train::Given> given = options.given();
  // The night's, not a model's.
  for (const train::Given& entry : given) {
    if (entry.name != "time_budget") continue;
    const auto seconds = parse_duration(entry.text);
    if (!seconds) {
      throw Error(Fault::usage, str("--time-budget is '", entry.text, "', expected a duration such as 90s, 3m, 8h"));
    }
    request.seconds = *seconds;
  }
  std::erase_if(given, [](const train::Given& entry) { return entry.name == "time_budget"; });
  const train::NightlyResult result = train::nightly(request, given);
  std::printf("%s", options.json() ? text_of(result.document).c_str() : result.text.c_str());
  return result.exit_code;
}

}  // namespace ristretto::cli
