// Everything in force, with where each value came from: defaults <- study's trial <- config file <- environment <-
// command line -> Settings -> trainer, manifest. There is no other channel.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "agents/hyperparameters.h"
#include "agents/policy.h"
#include "env/layout.h"
#include "env/step.h"

namespace ristretto::train {

// What is no hyperparameter: data, machine, time. "" and 0 mean: chosen by the rules in the row's help.
struct RunSettings {
  std::string bars = "data/crypto_1h";
  std::string assets;
  std::string features;
  std::string serving;
  double initial_capital = 500;
  double fee_fraction = 0.0025;
  double slippage_fraction = 0;
  double spread_fraction = 0;
  std::int64_t episode_bars = 1024;
  std::string holdout_from;
  std::int64_t steps = 0;
  std::string time_budget;
  std::int64_t portfolios = 0;
  std::string memory_budget;
  std::string pretrained;
  std::string device = "auto";
  std::string precision = "fp32";
  std::int64_t threads = 0;
  std::int64_t seed = 0;
  bool use_untested = false;
  bool activate_inert = false;
  bool ignore_unknown = false;
};

struct RunRow {
  using Member =
      std::variant<double RunSettings::*, std::int64_t RunSettings::*, bool RunSettings::*, std::string RunSettings::*>;
  const char* name;  // with underscores; the command line's has dashes
  Member member;
  const char* argument;  // "DIR", "N": what --help shows
  bool resumable;        // may change between a checkpoint and its resume
  const char* help;
};
const std::vector<RunRow>& run_table();

// One layer's value for a name, as text, and where it stands ("command line", "config.ini:12", "RISTRETTO_SEED").
struct Given {
  std::string name;  // with underscores
  std::string text;
  std::string source;
};

struct Settings {
  agents::Hyperparameters hyperparameters;
  RunSettings run;
  std::map<std::string, std::string> sources;  // of every row's name; absent: default

  // Applies one value. Throws Error(usage) with the nearest name where no row is called so.
  void apply(const Given& given);
  const std::string& source_of(const std::string& name) const;
  // The settings as an INI file's text, each line with its source behind "; ". commented: what nobody chose is a
  // comment, so that the text read back chooses what was chosen and no more.
  enum class Defaults { kept, commented };
  std::string as_ini(Defaults defaults = Defaults::kept) const;
};

// The source of a hold-out that was put where the last one began; nobody says by it which bars are unseen.
inline constexpr const char* kLastHoldout = "the last hold-out";
// How the source of a value begins that was taken from a deployment which no study is known of.
inline constexpr const char* kBestTrialOf = "best_trial of ";
// Whether the user named the first bar that nothing has seen.
bool names_holdout(const Settings& settings);
// Throws Error(usage) where `holdout_from` is no date, or one before `trained`: earlier bars trained `whose`.
void require_unseen_from(const std::string& holdout_from, std::optional<std::int64_t> trained,
                         const std::string& whose);

std::vector<std::string> all_names();
std::string text_of(const RunSettings& run, const RunRow& row);

// INI lines "name = value", with ";" and "#" comments; sections are accepted and ignored. Throws Error(usage) with file
// and line. Names with dashes or underscores.
std::vector<Given> read_config(const std::string& path);
// RISTRETTO_<NAME> of every known name; an unknown RISTRETTO_ name is an Error(usage) with the nearest.
std::vector<Given> read_environment();

// Serving profiles (environment.md, "Served here"): what the model's consumer fixes. Fills in what nobody chose, and
// returns a line for each study value that the profile overrides.
std::vector<std::string> apply_serving(Settings& settings);

// Throws Error(usage) where settings contradict each other, or name an option that the chosen architecture does not
// read.
void check(const Settings& settings);

// Throws Error(usage) where a trade would cost all of its value or more.
void check_costs(const env::Rules& rules);

env::Layout layout_of(const Settings& settings);
env::Rules rules_of(const Settings& settings);
agents::Architecture architecture_of(const Settings& settings);
// Portfolios stepped together: --portfolios, else batch_size * minibatches / horizon rounded up to a multiple of 64.
std::int64_t portfolios_of(const Settings& settings);
// Environment steps of a whole run: --steps, else the larger of base_break_step and 200 iterations.
std::int64_t steps_of(const Settings& settings);
// Bytes of "4GiB", "512MiB", "1000000". Throws Error(usage) that names the option.
std::int64_t parse_bytes(const std::string& option, const std::string& text);

inline constexpr std::int64_t kUsefulIterations = 200;  // study.md: what a run takes unless it is told otherwise

}  // namespace ristretto::train
