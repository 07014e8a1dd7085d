#include "cli/study_options.h"

#include "platform/error.h"
#include "platform/text.h"
#include "studies/storage.h"

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

std::int64_t whole_number(const Options& options, const std::string& option, std::int64_t otherwise) {
  const auto text = options.find(option);
  if (!text) return otherwise;
  const auto number = parse_number<std::int64_t>(*text);
  if (!number) throw Error(Fault::usage, str("--", option, " is '", *text, "', expected a whole number"));
  return *number;
}

std::int64_t positive_number(const Options& options, const std::string& option, std::int64_t otherwise) {
  const std::int64_t number = whole_number(options, option, otherwise);
  if (number < 1) throw Error(Fault::usage, str("--", option, " is ", number, ", expected at least 1"));
  return number;
}

std::string recorded_command(const std::string& name, const std::vector<std::string>& arguments) {
  std::string command = "ristretto " + name;
  for (const std::string& argument : arguments) command += " " + studies::without_password(argument);
  return command;
}

}  // namespace ristretto::cli
