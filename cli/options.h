// A command's options: declared, parsed and shown. Boost.ProgramOptions lives behind this and nowhere else.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "train/settings.h"

namespace ristretto::cli {

// What a command declares, for shell completion.
struct Declared {
  std::vector<std::string> options;  // "--storage" and so on, without aliases
  std::vector<std::string> choices;  // of the first argument, where its name lists them: "check|features"
};
// Runs a command up to its Options::parse, which fills this in and returns false; nothing is printed.
Declared declared_by(int (*command)(const std::vector<std::string>&));

class Options {
 public:
  // usage: what stands behind "ristretto ", such as "retrain NAME". Every command has --help, --json,
  // --log-level, --log-format, -v and -q.
  Options(std::string usage, std::string summary);
  ~Options();
  Options(const Options&) = delete;
  Options& operator=(const Options&) = delete;

  void flag(const std::string& name, const std::string& help);
  void value(const std::string& name, const std::string& argument, const std::string& help);
  void alias(const std::string& name, const std::string& target);  // takes a value; not shown in --help
  void positional(const std::string& name, bool required);
  // Every row of the tables of settings, as --dashed-names: all of them, or the named ones.
  void settings();
  void settings(const std::vector<std::string>& names);

  // False when --help was asked for and printed: there is nothing to do then. Throws Error(usage) with the nearest
  // name.
  bool parse(const std::vector<std::string>& arguments);

  bool has(const std::string& name) const;
  std::optional<std::string> find(const std::string& name) const;
  std::string get(const std::string& name, const std::string& otherwise = {}) const;
  bool json() const { return has("json"); }
  // The layers above the study: config file, environment, command line, in this order.
  std::vector<train::Given> given() const;

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

// Of `option`, a whole number; `otherwise` where it was not given. Throws Error(usage).
std::int64_t whole_number(const Options& options, const std::string& option, std::int64_t otherwise);
// Of `option`, at least 1, which is also what is taken where it was not given. Throws Error(usage).
std::int64_t positive_number(const Options& options, const std::string& option, std::int64_t otherwise = 1);
// Of the option, or the one of its name; it need not be there yet. Throws Error(usage) where a file is in its place.
std::filesystem::path directory(const Options& options, const std::string& option);
// Of --deployments. Throws Error(usage) where it is not there: a mistyped one would be one without models.
std::filesystem::path existing_deployments(const Options& options);
// Throws Error(usage) where nothing is at `path`.
std::filesystem::path existing_model(const std::string& path);

// "ristretto sweep --storage ...", for studies and manifests: as typed, but for the password of a database.
std::string recorded_command(const std::string& name, const std::vector<std::string>& arguments);

}  // namespace ristretto::cli
