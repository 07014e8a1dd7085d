#include <cstdio>

#include "cli/commands.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/study_options.h"
#include "platform/error.h"
#include "platform/text.h"
#include "release/thresholds.h"
#include "train/resolve.h"

namespace ristretto::cli {
namespace {

using cli::json_of;

// What follows from the settings, and no option sets.
std::vector<std::pair<std::string, std::int64_t>> derived_from(const train::Settings& settings) {
  const std::int64_t portfolios = train::portfolios_of(settings);
  const std::int64_t horizon = settings.hyperparameters.base_target_step;
  const std::int64_t steps = train::steps_of(settings), iteration = portfolios * horizon;
  const agents::Architecture architecture = train::architecture_of(settings);
  return {{"portfolios", portfolios},
          {"horizon_bars", horizon},
          {"steps_per_iteration", iteration},
          {"iterations", (steps + iteration - 1) / iteration},
          {"steps", steps},
          {"observation", architecture.observation},
          {"actions", architecture.actions}};
}

Document json_of(const train::RunSettings& run, const train::RunRow& row) {
  return std::visit([&](auto member) -> Document { return run.*member; }, row.member);
}

Document document_of(const train::Resolved& resolved) {
  const train::Settings& settings = resolved.settings;
  Document document = {{"origin", resolved.origin}, {"settings", Document::object()}};
  for (const train::RunRow& row : train::run_table()) {
    document["settings"][row.name] = {{"value", json_of(settings.run, row)}, {"source", settings.source_of(row.name)}};
  }
  for (const agents::Row& row : agents::table()) {
    document["settings"][row.name] = {{"value", json_of(agents::get(settings.hyperparameters, row))},
                                      {"source", settings.source_of(row.name)}};
  }
  for (const auto& [name, number] : derived_from(settings)) document["derived"][name] = number;
  document["parameters"] = json_of(resolved.parameters);
  document["overridden"] = resolved.overridden;
  return document;
}

}  // namespace

int config(const Arguments& arguments) {
  Options options(
      "config",
      "Every setting in force and where it came from: default, study's trial, --config FILE, RISTRETTO_NAME "
      "in the environment,\ncommand line, the later over the earlier; and what follows from them. The text "
      "is itself a file for --config, in\nwhich defaults are comments.");
  declare_study(options);
  options.flag("gates", "the thresholds of all gates instead: a file for the --gates of retrain, promote and nightly");
  options.alias("n-timesteps,n", "steps");
  options.settings();
  if (!options.parse(arguments)) return 0;
  if (options.has("gates")) {
    if (options.json()) {
      Document document;
      for (const release::ThresholdRow& row : release::threshold_table()) {
        document[row.name] = {{"value", release::Thresholds{}.*(row.member)}, {"help", row.help}};
      }
      print(document);
    } else {
      std::fputs(release::text_of(release::Thresholds{}).c_str(), stdout);
    }
    return 0;
  }
  const std::optional<train::StudySource> source = study_of(options);
  const train::Resolved resolved = train::resolve(source, std::nullopt, options.given());
  if (options.json()) {
    print(document_of(resolved));
    return 0;
  }
  std::printf("; hyperparameters: %s\n%s\n; what follows from them\n", plain(resolved.origin).c_str(),
              resolved.settings.as_ini(train::Settings::Defaults::commented).c_str());
  for (const auto& [name, number] : derived_from(resolved.settings)) {
    std::printf("; %s = %s\n", name.c_str(), with_thousands(number).c_str());
  }
  for (const std::string& line : resolved.overridden) std::printf("; %s\n", line.c_str());
  return 0;
}

}  // namespace ristretto::cli
