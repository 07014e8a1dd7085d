#include "cli/options.h"

#include <algorithm>
#include <boost/program_options.hpp>
#include <cstdio>
#include <map>
#include <sstream>

#include "platform/error.h"
#include "platform/log.h"
#include "platform/text.h"
#include "studies/storage.h"

namespace po = boost::program_options;

namespace ristretto::cli {
namespace {

std::string dashed(std::string name) {
  std::replace(name.begin(), name.end(), '_', '-');
  return name;
}

constexpr unsigned kLineWidth = 120;

// Where declared_by listens, since a command's options exist only inside it.
thread_local Declared* listener = nullptr;

}  // namespace

Declared declared_by(int (*command)(const std::vector<std::string>&)) {
  Declared declared;
  listener = &declared;
  command({});
  listener = nullptr;
  return declared;
}

struct Options::Parts {
  std::string usage, summary;
  po::options_description shown{"Options", kLineWidth, kLineWidth / 2};
  po::options_description setting_options{"Settings (also in --config and as RISTRETTO_NAME)", kLineWidth,
                                          kLineWidth / 2};
  po::options_description hidden{"", kLineWidth};
  po::positional_options_description positions;
  std::vector<std::string> required, names, setting_names;
  std::map<std::string, std::string> aliases;
  po::variables_map values;
};

Options::Options(std::string usage, std::string summary) : parts_(std::make_unique<Parts>()) {
  parts_->usage = std::move(usage);
  parts_->summary = std::move(summary);
  parts_->shown.add_options()("help,h", "shows this");
  parts_->names.emplace_back("help");
  flag("json", "one JSON document on standard output instead of text");
  value("log-level", "LEVEL", "debug, info, warning, error or off");
  value("log-format", "FORMAT", "text or json");
  parts_->shown.add_options()("verbose,v", po::bool_switch(), "the same as --log-level debug")(
      "quiet,q", po::bool_switch(), "the same as --log-level warning");
  parts_->names.insert(parts_->names.end(), {"verbose", "quiet"});
}

Options::~Options() = default;

void Options::flag(const std::string& name, const std::string& help) {
  parts_->shown.add_options()(name.c_str(), po::bool_switch(), help.c_str());
  parts_->names.push_back(name.substr(0, name.find(',')));
}

void Options::value(const std::string& name, const std::string& argument, const std::string& help) {
  parts_->shown.add_options()(name.c_str(), po::value<std::string>()->value_name(argument), help.c_str());
  parts_->names.push_back(name.substr(0, name.find(',')));
}

void Options::alias(const std::string& name, const std::string& target) {
  parts_->hidden.add_options()(name.c_str(), po::value<std::string>());
  parts_->aliases[name.substr(0, name.find(','))] = target;
}

void Options::positional(const std::string& name, bool required) {
  parts_->hidden.add_options()(name.c_str(), po::value<std::string>());
  parts_->positions.add(name.c_str(), 1);
  if (required) parts_->required.push_back(name);
}

void Options::settings() { settings(train::all_names()); }

void Options::settings(const std::vector<std::string>& names) {
  value("config", "FILE", "settings as INI lines, name = value");
  const agents::Hyperparameters defaults;
  const train::RunSettings run_defaults;
  for (const std::string& name : names) {
    std::string help, argument = "VALUE";
    bool is_switch = false;
    for (const train::RunRow& row : train::run_table()) {
      if (name != row.name) continue;
      const std::string otherwise = train::text_of(run_defaults, row);
      is_switch = std::holds_alternative<bool train::RunSettings::*>(row.member);
      help = otherwise.empty() || is_switch || otherwise == "0" ? row.help : str(row.help, " [", otherwise, "]");
      argument = is_switch ? "BOOL" : row.argument;
    }
    if (const agents::Row* row = agents::find_row(name)) {
      help = str(row->help, " [", agents::text_of(agents::get(defaults, *row)), "]");
    }
    auto* semantic = po::value<std::string>()->value_name(argument);
    if (is_switch) semantic = semantic->implicit_value("true", "true");
    parts_->setting_options.add_options()(dashed(name).c_str(), semantic, help.c_str());
    parts_->setting_names.push_back(name);
    parts_->names.push_back(dashed(name));
  }
}

bool Options::parse(const std::vector<std::string>& arguments) {
  if (listener != nullptr) {
    for (const std::string& name : parts_->names) listener->options.push_back("--" + name);
    if (parts_->positions.max_total_count() > 0) {
      const std::string& first = parts_->positions.name_for_position(0);
      if (first.find('|') != std::string::npos) listener->choices = split(first, '|');
    }
    return false;
  }
  po::options_description all;
  all.add(parts_->shown).add(parts_->setting_options).add(parts_->hidden);
  const std::string command = parts_->usage.substr(0, parts_->usage.find(' '));
  try {
    const int style = po::command_line_style::default_style & ~po::command_line_style::allow_guessing;
    po::store(po::command_line_parser(arguments).options(all).positional(parts_->positions).style(style).run(),
              parts_->values);
  } catch (const po::unknown_option& unknown) {
    std::string name = unknown.get_option_name();
    name.erase(0, name.find_first_not_of('-'));
    throw Error(
        Fault::usage, str("ristretto ", command, " has no option '--", name, "'"),
        str("did you mean --", nearest_name(name, parts_->names), "? ristretto ", command, " --help lists them all"));
  } catch (const po::too_many_positional_options_error&) {
    throw Error(Fault::usage, str("ristretto ", command, " got more arguments than it takes"),
                str("usage: ristretto ", parts_->usage));
  } catch (const po::error& error) {
    throw Error(Fault::usage, str("ristretto ", command, ": ", error.what()), str("usage: ristretto ", parts_->usage));
  }
  if (parts_->values.count("help") > 0) {
    std::ostringstream text;
    text << "usage: ristretto " << parts_->usage << " [options]\n\n" << parts_->summary << "\n\n" << parts_->shown;
    if (!parts_->setting_names.empty()) text << "\n" << parts_->setting_options;
    std::fputs(text.str().c_str(), stdout);
    return false;
  }
  for (const std::string& name : parts_->required) {
    if (!has(name)) {
      throw Error(Fault::usage, str("ristretto ", command, " needs ", name), str("usage: ristretto ", parts_->usage));
    }
  }
  log::Level level = log::Level::info;
  if (has("verbose")) level = log::Level::debug;
  if (has("quiet")) level = log::Level::warning;
  if (const auto text = find("log-level")) level = log::parse_level(*text);
  const std::string format = get("log-format", "text");
  if (format != "text" && format != "json") {
    throw Error(Fault::usage, str("--log-format is '", format, "', expected text or json"));
  }
  log::configure(level, format == "json" ? log::Format::json : log::Format::text);
  return true;
}

bool Options::has(const std::string& name) const {
  const auto& values = parts_->values;
  if (const auto found = values.find(name); found != values.end()) {
    const bool* on = boost::any_cast<bool>(&found->second.value());
    if (on == nullptr || *on) return true;
  }
  return std::any_of(parts_->aliases.begin(), parts_->aliases.end(),
                     [&](const auto& alias) { return alias.second == name && values.count(alias.first) > 0; });
}

std::optional<std::string> Options::find(const std::string& name) const {
  const auto& values = parts_->values;
  if (values.count(name) > 0) return values[name].as<std::string>();
  for (const auto& [alias, target] : parts_->aliases) {
    if (target == name && values.count(alias) > 0) return values[alias].as<std::string>();
  }
  return std::nullopt;
}

std::string Options::get(const std::string& name, const std::string& otherwise) const {
  return find(name).value_or(otherwise);
}

std::vector<train::Given> Options::given() const {
  std::vector<train::Given> layers;
  if (const auto file = find("config")) layers = train::read_config(*file);
  const std::vector<train::Given> environment = train::read_environment();
  layers.insert(layers.end(), environment.begin(), environment.end());
  for (const std::string& name : parts_->setting_names) {
    if (const auto text = find(dashed(name))) layers.push_back({name, *text, "command line"});
  }
  return layers;
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

std::filesystem::path directory(const Options& options, const std::string& option) {
  const std::filesystem::path path = options.get(option, option);
  std::filesystem::path there = std::filesystem::absolute(path);
  std::error_code none;
  while (!std::filesystem::exists(there, none) && there.has_relative_path()) there = there.parent_path();
  if (!std::filesystem::is_directory(there, none)) {
    throw Error(Fault::usage, str("--", option, " is ", path.string(), ", and ", there.string(), " is no directory"));
  }
  return path;
}

std::filesystem::path existing_deployments(const Options& options) {
  std::filesystem::path path = directory(options, "deployments");
  if (!std::filesystem::exists(path)) {
    throw Error(Fault::usage, str("there is no directory ", path.string()),
                "go where it is, or name it with --deployments; the first retrain makes it");
  }
  return path;
}

std::filesystem::path existing_model(const std::string& path) {
  if (std::filesystem::exists(std::filesystem::symlink_status(path))) return path;
  const std::filesystem::path deployed = std::filesystem::path("deployments") / path;
  throw Error(Fault::usage, str("there is no ", path),
              std::filesystem::exists(deployed)
                  ? str("did you mean ", deployed.string(), "?")
                  : "a model is named by its directory or file, such as deployments/NAME");
}

std::string recorded_command(const std::string& name, const std::vector<std::string>& arguments) {
  std::string command = "ristretto " + name;
  for (const std::string& argument : arguments) command += " " + studies::without_password(argument);
  return command;
}

}  // namespace ristretto::cli
