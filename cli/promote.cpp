#include "train/promote.h"

#include <algorithm>
#include <cstdio>

#include "cli/commands.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/study_options.h"
#include "platform/error.h"
#include "platform/interrupt.h"

namespace ristretto::cli {

int promote(const Arguments& arguments) {
  const auto names_trial = [](const std::string& argument) {
    return argument == "--trial" || argument == "--trial-id" || argument.starts_with("--trial=") ||
           argument.starts_with("--trial-id=");
  };
  if (std::any_of(arguments.begin(), arguments.end(), names_trial)) return retrain(arguments);
  Options options(
      "promote NAME VERSION|DIR",
      "Judges what is named against what NAME serves now, by the same gates as retrain, and serves it if it passes: a\n"
      "version (--version V is the same as VERSION), a run of ristretto train or a staged directory (--run DIR is the\n"
      "same as DIR), or a trial of a study, which is trained first: --trial N is retrain NAME --trial N and takes the\n"
      "options of that. Exit code 3: refused.");
  options.positional("NAME", true);
  options.positional("VERSION|DIR", false);
  options.value("version", "V", "a version of NAME, by number or id");
  options.value("run", "DIR", "a run; it becomes a version, judged on bars that had no part in its training");
  declare_study(options);
  options.value("deployments", "DIR", "where models are served from [deployments]");
  options.value("runs", "DIR", "where runs are kept [runs]");
  options.value("gates", "FILE", "an INI file of the gates' thresholds; ristretto config --gates writes one");
  options.flag("dry-run", "check what needs no look at the hold-out, say what it would be judged by, change nothing");
  options.settings({"bars", "holdout_from", "initial_capital", "fee_fraction", "slippage_fraction", "spread_fraction"});
  if (!options.parse(arguments)) return 0;
  if (options.has("storage") || options.has("study-name")) {
    throw Error(Fault::usage, "--storage and --study-name name a study, and no trial of it is named",
                "add --trial N; ristretto retrain takes the best one");
  }
  const auto named = options.find("VERSION|DIR"), version = options.find("version"), run = options.find("run");
  if (named.has_value() + version.has_value() + run.has_value() != 1) {
    throw Error(Fault::usage, "ristretto promote needs one of VERSION, --version V, --run DIR and --trial N",
                "usage: ristretto promote NAME VERSION|DIR");
  }
  install_interrupt_handlers();
  train::PromoteRequest request;
  request.name = options.get("NAME");
  if (run || (named && train::is_candidate(*named))) {
    request.directory = run ? *run : *named;
  } else {
    request.version = version ? *version : *named;
  }
  request.deployments = directory(options, "deployments");
  request.runs = directory(options, "runs");
  request.dry_run = options.has("dry-run");
  request.command = recorded_command("promote", arguments);
  if (const auto file = options.find("gates")) request.thresholds = release::read_thresholds(*file);
  const train::PromoteResult result = train::promote(request, options.given());
  std::printf("%s", options.json() ? text_of(result.document).c_str() : result.text.c_str());
  return result.exit_code;
}

}  // namespace ristretto::cli
