#include "train/promote.h"

#include <cstdio>

#include "cli/commands.h"
#include "cli/options.h"
#include "cli/output.h"
#include "platform/interrupt.h"

namespace ristretto::cli {

int promote(const Arguments& arguments) {
  Options options("promote NAME VERSION",
                  "Judges VERSION (its number or id, or a staged directory such as runs/RUN) against what NAME serves "
                  "now,\nby the same gates as retrain, and serves it if it passes. Exit code 3: refused.");
  options.positional("NAME", true);
  options.positional("VERSION", true);
  options.value("deployments", "DIR", "where models are served from [deployments]");
  options.value("runs", "DIR", "where runs are kept [runs]");
  options.value("gates", "FILE", "an INI file of the thresholds that the gates of evidence judge by");
  options.flag("dry-run", "check what needs no look at the hold-out, say what it would be judged by, change nothing");
  options.settings({"bars", "holdout_from", "initial_capital", "fee_fraction", "slippage_fraction", "spread_fraction"});
  if (!options.parse(arguments)) return 0;
  install_interrupt_handlers();
  train::PromoteRequest request;
  request.name = options.get("NAME");
  request.what = options.get("VERSION");
  request.deployments = options.get("deployments", "deployments");
  request.runs = options.get("runs", "runs");
  request.dry_run = options.has("dry-run");
  if (const auto file = options.find("gates")) request.thresholds = release::read_thresholds(*file);
  const train::PromoteResult result = train::promote(request, options.given());
  std::printf("%s", options.json() ? text_of(result.document).c_str() : result.text.c_str());
  return result.exit_code;
}

}  // namespace ristretto::cli
