#include "train/sweep.h"

#include <cstdio>

#include "cli/commands.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/study_options.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/interrupt.h"
#include "platform/text.h"
#include "studies/pruners/pruner.h"
#include "studies/samplers/make_sampler.h"
#include "train/resolve.h"

namespace ristretto::cli {
namespace {

constexpr std::int64_t kTrials = 50;

// "NAME=VALUE,NAME=VALUE"
std::map<std::string, std::string> pairs_of(const std::string& option, const std::string& text) {
  std::map<std::string, std::string> out;
  for (const std::string& pair : split(text, ',')) {
    const std::size_t equals = pair.find('=');
    if (equals == std::string::npos) {
      throw Error(Fault::usage, str("--", option, " is '", text, "', expected NAME=VALUE,NAME=VALUE"));
    }
    out[pair.substr(0, equals)] = pair.substr(equals + 1);
  }
  return out;
}

std::vector<std::string> words_of(const std::string& text) {
  std::vector<std::string> out;
  for (const std::string& word : split(text, ' ')) {
    if (!word.empty()) out.push_back(word);
  }
  return out;
}

}  // namespace

int sweep(const Arguments& arguments) {
  Options options(
      "sweep --storage URL",
      "Searches hyperparameters: each trial of the study trains on purged splits of the bars and is "
      "worth what its\nagents earn on the bars they did not see. A setting that is given is fixed; the others are "
      "drawn.");
  options.value(
      "storage", "URL",
      "sqlite:///FILE or postgresql://USER@HOST/DB as Optuna names it, or a file; made where it is not there");
  options.alias("db", "storage");
  options.value("study-name", "NAME", "of the study [ristretto-OBJECTIVE]; one of another objective is left alone");
  options.alias("study", "study-name");
  options.flag("continue-study", "add to --study-name though its values came from another objective or environment");
  options.value("trials", "N", str("to be finished by this call [", kTrials, "]"));
  options.alias("n-trials", "trials");
  options.value("workers", "K", "trials at once, each with its share of threads and memory [1]");
  options.alias("n-jobs,j", "workers");
  options.value("objective", "NAME", "robust, or cappuccino: the existing study's [robust]");
  options.value("splits", "NAME", "combinatorial, k-fold or walk-forward: 6 of any, purged [combinatorial]");
  options.value("sampler", "NAME", str(join(studies::sampler_names(), ", "), " [tpe]"));
  options.value("pruner", "NAME", str(join(studies::pruner_names(), ", "), " [median]"));
  options.value("pruner-options", "NAME=VALUE,...", "of the pruner, by Optuna's names");
  options.value("space", "\"NAME=RANGE ...\"",
                "ranges LOW:HIGH, LOW:HIGH:STEP, LOW:HIGH:log or A,B,C in place of the usual");
  options.value("start-from", "STUDY", "of the same storage: its best trials are tried first");
  options.value("start-count", "N", "how many of them [1]");
  options.value("grace", "SECONDS",
                "without a heartbeat, after which a worker counts as killed: at least twice the heartbeat interval of "
                "all who share the study [120]");
  options.flag("dry-run", "say what would be searched, and do nothing");
  options.alias("n-timesteps,n", "steps");
  options.settings();
  if (!options.parse(arguments)) return 0;
  install_interrupt_handlers();

  train::SweepRequest request;
  request.storage = options.get("storage");
  if (request.storage.empty())
    throw Error(Fault::usage, "ristretto sweep needs --storage", "--storage sqlite:///sweep.db");
  request.study_name = options.get("study-name");
  request.continue_study = options.has("continue-study");
  request.objective = train::parse_objective(options.get("objective", "robust"));
  request.splits = train::parse_splits(options.get("splits", "combinatorial"));
  request.trials = whole_number(options, "trials", kTrials);
  request.workers = whole_number(options, "workers", 1);
  request.sampler = options.get("sampler", "tpe");
  request.pruner = options.get("pruner", "median");
  if (const auto text = options.find("pruner-options")) request.pruner_options = pairs_of("pruner-options", *text);
  request.space = words_of(options.get("space"));
  request.start_from = options.get("start-from");
  request.start_count = whole_number(options, "start-count", 1);
  request.grace_seconds = whole_number(options, "grace", request.grace_seconds);
  request.command = recorded_command("sweep", arguments);

  train::Resolved resolved = train::resolve(std::nullopt, std::nullopt, options.given());
  train::Settings& settings = resolved.settings;
  if (!settings.run.time_budget.empty()) {  // the sweep's: a training that is cut short by the clock is no experiment
    request.seconds = *parse_duration(settings.run.time_budget);
    settings.run.time_budget.clear();
  }
  if (options.has("dry-run")) {
    const train::SweepResult plan = train::plan_of(request, settings);
    std::printf("%s", options.json() ? text_of(plan.document).c_str() : plan.text.c_str());
    return 0;
  }
  const train::SweepResult result = train::sweep(request, settings);
  std::printf("%s", options.json() ? text_of(result.document).c_str() : result.text.c_str());
  return result.exit_code;
}

}  // namespace ristretto::cli
