// A command's options: declared, parsed and shown. Boost.ProgramOptions lives behind this and nowhere else.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "train/settings.h"

namespace ristretto::cli {

class Options {
 public:
  // usage: what stands behind "ristretto ", such as "retrain NAME". Every command has --help, --config, --json,
  // --log-level,
  // --log-format, -v and -q.
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

  // False when --help was asked for and printed. Throws Error(usage) with the nearest name.
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

}  // namespace ristretto::cli
