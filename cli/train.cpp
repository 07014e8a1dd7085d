#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/profile_option.h"
#include "cli/study_options.h"
#include "platform/atomic_file.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/interrupt.h"
#include "platform/lock.h"
#include "platform/text.h"
#include "train/job.h"
#include "train/resolve.h"
#include "train/trained_run.h"

namespace ristretto::cli {

namespace {

// One of several processes that is not the first: it learns with the others and leaves the writing to that one.
int help_train(const train::Settings& settings, train::ProcessGroup& group) {
  train::Profile profile;
  train::prepare_machine(settings);
  const train::Data data = train::load_data(settings);
  train::Trainer trainer(settings, data.splits.train.market, {}, {}, profile, train::Trainer::Manner::background,
                         &group);
  trainer.run(0);
  return 0;
}

}  // namespace

int train_run(const Arguments& arguments) {
  Options options(
      "train --run DIR",
      "Trains without a deployment. --resume goes on from the checkpoint in DIR with the settings of its config.ini.");
  options.value("run", "DIR", "the run directory: config.ini, checkpoint/, logs/, events.out.tfevents.*");
  options.flag("resume", "go on from DIR");
  declare_study(options);
  ProfileOption::declare(options);
  options.alias("n-timesteps,n", "steps");
  options.settings();
  if (!options.parse(arguments)) return 0;
  install_interrupt_handlers();
  const std::filesystem::path directory = options.get("run");
  if (directory.empty()) throw Error(Fault::usage, "ristretto train needs --run DIR", "--run runs/NAME");
  const bool resume = options.has("resume");
  const bool exists = std::filesystem::exists(directory / "config.ini");
  if (resume && !exists)
    throw Error(Fault::usage, str(directory.string(), " holds no run to resume: it has no config.ini"));
  if (!resume && exists) {
    throw Error(Fault::usage, str(directory.string(), " holds a run already"),
                "add --resume, or choose another directory");
  }
  const std::optional<train::StudySource> source = study_of(options);
  if (resume && source) {
    throw Error(Fault::usage, "--resume takes the settings of the run itself; leave --storage out");
  }
  std::vector<train::Given> given;
  if (resume) given = train::read_config((directory / "config.ini").string());
  const std::vector<train::Given> layers = options.given();
  given.insert(given.end(), layers.begin(), layers.end());
  const train::Resolved resolved = train::resolve(source, std::nullopt, given);
  const train::Settings& settings = resolved.settings;

  const std::unique_ptr<train::ProcessGroup> group = train::ProcessGroup::of_environment();
  if (group && group->rank() > 0) return help_train(settings, *group);
  std::filesystem::create_directories(directory);
  const ProfileOption recording(options);
  const FileLock lock(directory / ".lock", "train --run " + directory.string());
  train::Profile profile;
  train::prepare_machine(settings);
  train::Data data = train::load_data(settings);
  // One from before runs said which bars they have seen has only the settings' own cut.
  if (resume && std::filesystem::exists(directory / train::kOriginFile)) {
    train::cut_as_trained(data, train::read_run(directory));
  }
  train::Trainer trainer(settings, data.splits.train.market, directory,
                         train::validation_on(data, settings.run.precision == "bf16"), profile,
                         train::Trainer::Manner::foreground, group.get());
  if (resume) trainer.resume();
  if (!resume) train::write_origin(directory, resolved, settings, data);
  write_file_atomically(directory / "config.ini", settings.as_ini());
  train::report_plan(trainer.plan(), settings, profile.total());
  const double budget = trainer.plan().budget_seconds;
  const train::Outcome outcome = trainer.run(budget > 0 ? std::max(1.0, budget - profile.total()) : 0);
  nlohmann::ordered_json document = {{"run", directory.string()},
                                     {"steps", outcome.environment_steps},
                                     {"planned_steps", trainer.plan().steps},
                                     {"iterations", outcome.iterations},
                                     {"optimizer_steps", outcome.optimizer_steps},
                                     {"seconds", outcome.seconds},
                                     {"relative_weight_change", outcome.weight_change},
                                     {"ended", outcome.ended}};
  std::string text =
      str(directory.string(), ": ", with_thousands(outcome.environment_steps), " of ",
          with_thousands(trainer.plan().steps), " steps in ", duration_text(outcome.seconds), ", ended by ",
          outcome.ended, "; weights moved by ", fixed(100 * outcome.weight_change, 2), " %\n");
  recording.tell(document, text);
  std::printf("%s", options.json() ? text_of(document).c_str() : text.c_str());
  return outcome.signal != 0 ? interrupt_exit_code(outcome.signal) : 0;
}

}  // namespace ristretto::cli
