#include "cli/study_options.h"

#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::cli {

void declare_study(Options& options) {
  options.value("storage", "URL",
                "the study: sqlite:///FILE or postgresql://USER@HOST/DB as Optuna names it, or a file");
  options.alias("db", "storage");
  options.value("study-name", "NAME", "of the study in it");
  options.alias("study", "study-name");
  options.value("trial", "N", "of the study; default: the best");
  options.alias("trial-id", "trial");
}

std::optional<train::StudySource> study_of(const Options& options) {
  const auto storage = options.find("storage");
  if (!storage) {
    if (options.has("study-name") || options.has("trial")) {
      throw Error(Fault::usage, "--study-name and --trial need --storage", "add --storage sqlite:///FILE");
    }
    return std::nullopt;
  }
  train::StudySource source{*storage, options.get("study-name"), std::nullopt};
  if (options.has("trial")) source.trial = whole_number(options, "trial", 0);
  return source;
}

void declare_judging(Options& options) {
  options.value("seeds", "N", "train from N seeds; the one that is median by validation is the candidate [1]");
  options.value("top-trials", "N", "train the study's N best trials; the best by validation is the candidate [1]");
  options.value("gates", "FILE", "an INI file of the gates' thresholds; ristretto config --gates writes one");
}

}  // namespace ristretto::cli
