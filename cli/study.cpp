#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <memory>

#include "cli/commands.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/study_trials.h"
#include "platform/atomic_file.h"
#include "platform/error.h"
#include "platform/text.h"
#include "studies/importance.h"
#include "studies/report.h"
#include "studies/storage.h"
#include "studies/trial_settings.h"

namespace ristretto::cli {
namespace {

using cli::json_of;
using studies::Study;
using studies::Trial;

constexpr const char* kVerbs = "list|show|best|top|trials|importance|export|report";
constexpr const char* kUsage = "study list|show|best|top|trials|importance|export|report --storage URL";
constexpr double kBarLength = 40;  // characters, of a share of 1

std::string directions_text(const Study& study) {
  std::vector<std::string> names;
  for (const studies::Direction direction : study.directions) names.emplace_back(studies::name_of(direction));
  return join(names, ", ");
}

// The best trial of a study of one objective, the Pareto front of one of several; none where there is no direction.
std::vector<const Trial*> best_of(const Study& study) {
  const bool directed = std::none_of(study.directions.begin(), study.directions.end(),
                                     [](auto direction) { return direction == studies::Direction::not_set; });
  if (!directed || study.directions.empty()) return {};
  return study.directions.size() == 1 ? studies::top(study, 1) : studies::pareto_front(study);
}

std::vector<std::pair<studies::State, std::int64_t>> counts_of(const Study& study) {
  using studies::State;
  std::vector<std::pair<State, std::int64_t>> counts;
  for (const State state : {State::complete, State::pruned, State::fail, State::running, State::waiting}) {
    counts.emplace_back(state, std::count_if(study.trials.begin(), study.trials.end(),
                                             [&](const Trial& trial) { return trial.state == state; }));
  }
  return counts;
}

std::optional<Instant> last_event(const Study& study) {
  std::optional<Instant> last;
  for (const Trial& trial : study.trials) last = std::max({last, trial.started, trial.completed});
  return last;
}

int print_list(studies::Storage& storage, bool json) {
  Document document = Document::array();
  Table table({"study", "direction", "trials", "complete", "running", "best", "trial", "last event"});
  for (const std::string& name : storage.study_names()) {
    const Study study = storage.read_study(name);
    const std::vector<const Trial*> best = best_of(study);
    const bool single = best.size() == 1 && study.directions.size() == 1;
    Document entry = {{"name", name}, {"directions", Document::array()}, {"trials", study.trials.size()}};
    for (const studies::Direction direction : study.directions)
      entry["directions"].push_back(studies::name_of(direction));
    std::vector<std::string> cells = {name, directions_text(study), str(study.trials.size())};
    for (const auto& [state, count] : counts_of(study)) {
      entry["states"][studies::name_of(state)] = count;
      if (state == studies::State::complete || state == studies::State::running) cells.push_back(str(count));
    }
    entry["best"] = single ? Document{{"number", best[0]->number}, {"value", json_of(best[0]->values[0])}} : Document();
    cells.push_back(single ? values_text(best[0]->values) : "-");
    cells.push_back(single ? str(best[0]->number) : "-");
    const std::string last = iso_of(last_event(study));
    entry["last_event"] = last.empty() ? Document() : Document(last);
    cells.push_back(last.empty() ? "-" : last);
    document.push_back(std::move(entry));
    table.row(std::move(cells));
  }
  if (json) {
    print(document);
  } else if (document.empty()) {
    std::printf("%s holds no studies\n", plain(storage.info().path).c_str());
  } else {
    table.print();
  }
  return 0;
}

std::string range_text(const agents::Range& range) {
  if (const auto* real = std::get_if<agents::FloatRange>(&range)) {
    return str("float ", real->low, " to ", real->high, real->step > 0 ? str(" step ", real->step) : std::string(),
               real->log ? " log" : "");
  }
  if (const auto* integer = std::get_if<agents::IntRange>(&range)) {
    return str("int ", integer->low, " to ", integer->high,
               integer->step != 1 ? str(" step ", integer->step) : std::string(), integer->log ? " log" : "");
  }
  std::vector<std::string> choices;
  for (const agents::Value& choice : std::get<agents::Choices>(range).choices) {
    choices.push_back(agents::text_of(choice));
  }
  return str("one of ", join(choices, ", "));
}

struct Sampled {
  std::string name, range;  // of the newest trial that has it: ranges may change on the way
  std::int64_t trials = 0;
};

std::vector<Sampled> sampled_in(const Study& study) {
  std::vector<Sampled> all;
  for (const Trial& trial : study.trials) {
    for (const studies::Parameter& parameter : trial.params) {
      auto found = std::find_if(all.begin(), all.end(), [&](const Sampled& s) { return s.name == parameter.name; });
      if (found == all.end()) found = all.insert(all.end(), {parameter.name, {}, 0});
      found->range = range_text(parameter.distribution);
      ++found->trials;
    }
  }
  return all;
}

int show(const studies::StorageInfo& info, const Study& study, bool json) {
  const std::vector<const Trial*> best = best_of(study);
  const std::vector<Sampled> sampled = sampled_in(study);
  if (json) {
    Document document = {{"name", study.name},
                         {"storage", info.url},
                         {"revision", info.revision},
                         {"library_version", info.library_version},
                         {"generation", studies::name_of(studies::generation_of(study))},
                         {"directions", Document::array()},
                         {"trials", study.trials.size()}};
    for (const auto direction : study.directions) document["directions"].push_back(studies::name_of(direction));
    for (const auto& [state, count] : counts_of(study)) document["states"][studies::name_of(state)] = count;
    document["best"] = Document::array();
    for (const Trial* trial : best) document["best"].push_back(json_of(*trial));
    document["user_attributes"] = json_of(study.user_attributes);
    document["parameters"] = Document::object();
    for (const Sampled& parameter : sampled) {
      document["parameters"][parameter.name] = {{"range", parameter.range}, {"trials", parameter.trials}};
    }
    print(document);
    return 0;
  }
  std::vector<std::string> counts;
  for (const auto& [state, count] : counts_of(study)) {
    if (count > 0) counts.push_back(str(count, " ", studies::name_of(state)));
  }
  const std::string states = counts.empty() ? std::string() : str(": ", join(counts, ", "));
  std::printf("%s\n", plain(study.name).c_str());
  std::printf("  storage     %s (Optuna %s, revision %s)\n", plain(info.url).c_str(),
              plain(info.library_version).c_str(), plain(info.revision).c_str());
  std::printf("  read as     %s\n", studies::name_of(studies::generation_of(study)));
  std::printf("  direction   %s\n", directions_text(study).c_str());
  std::printf("  trials      %zu%s\n", study.trials.size(), states.c_str());
  for (const Trial* trial : best) {
    std::printf("  best        trial %lld, %s\n", static_cast<long long>(trial->number),
                values_text(trial->values).c_str());
  }
  for (const studies::Attribute& attribute : study.user_attributes) {
    std::printf("  %s = %s\n", plain(attribute.key).c_str(), formats::write_json(attribute.value).c_str());
  }
  if (sampled.empty()) return 0;
  std::printf("\n");
  Table table({"parameter", "trials", "range"});
  for (const Sampled& parameter : sampled) table.row({parameter.name, str(parameter.trials), parameter.range});
  table.print();
  return 0;
}

int best(const Study& study, bool json) {
  const Trial* trial = studies::best_trial(study);
  if (trial == nullptr) {
    throw Error(Fault::failed, str("study '", study.name, "' has no COMPLETE trial, so it has no best one"),
                "ristretto study trials shows those there are");
  }
  studies::Interpretation how;
  how.ignore_unknown = true;
  std::vector<studies::Taken> parameters;
  std::string refusal;
  try {
    parameters = studies::settings_of_trial(study, *trial, how).parameters;
  } catch (const Error& error) {  // what a retrain would say; the trial is shown all the same
    refusal = error.what();
  }
  if (json) {
    Document document = json_of(*trial);
    document["study"] = study.name;
    document["parameters"] = refusal.empty() ? json_of(parameters) : Document();
    document["refusal"] = refusal.empty() ? Document() : Document(refusal);
    print(document);
    return 0;
  }
  std::printf("trial %lld of %s: %s (%s)\n", static_cast<long long>(trial->number), plain(study.name).c_str(),
              values_text(trial->values).c_str(), directions_text(study).c_str());
  if (refusal.empty()) {
    Table table({"parameter", "value", "status", "note"});
    for (const studies::Taken& taken : parameters) {
      table.row({taken.name, agents::text_of(taken.value), agents::name_of(taken.status), taken.note});
    }
    table.print();
  } else {
    Table table({"parameter", "value"});
    for (const studies::Parameter& parameter : trial->params) {
      table.row({parameter.name, agents::text_of(parameter.value)});
    }
    table.print();
    std::printf("no model can be trained from it: %s\n", plain(refusal).c_str());
  }
  for (const studies::Attribute& attribute : trial->user_attributes) {
    std::printf("%s = %s\n", plain(attribute.key).c_str(), formats::write_json(attribute.value).c_str());
  }
  return 0;
}

int print_importance(const Study& study, std::uint64_t seed, bool json) {
  const std::vector<studies::Importance> all = studies::importances(study, seed);
  if (json) {
    Document document = {{"study", study.name}, {"importance", Document::object()}};
    for (const studies::Importance& one : all) document["importance"][one.name] = one.share;
    print(document);
    return 0;
  }
  Table table({"parameter", "share", ""});
  for (const studies::Importance& one : all) {
    const auto length = static_cast<std::size_t>(std::lround(kBarLength * one.share));
    table.row({one.name, str(fixed(100 * one.share, 1), " %"), std::string(length, '#')});
  }
  table.print();
  return 0;
}

// To the file, or to standard output where none is named.
int write_out(const Options& options, const std::string& text) {
  if (const auto file = options.find("out")) {
    write_file_atomically(*file, text);
  } else {
    std::fwrite(text.data(), 1, text.size(), stdout);
  }
  return 0;
}

int write_report(const Options& options, const Study& study) {
  const std::string file = options.get("out", "study.html");
  studies::write_report(file, study);
  if (options.json()) {
    print({{"study", study.name}, {"report", file}});
  } else {
    std::printf("report: %s\n", plain(file).c_str());
  }
  return 0;
}

template <class Number>
Number number_of(const Options& options, const char* name, Number least, Number otherwise) {
  const auto text = options.find(name);
  if (!text) return otherwise;
  const auto number = parse_number<Number>(*text);
  if (!number || *number < least) {
    throw Error(Fault::usage, str("--", name, " is '", *text, "', expected a whole number of at least ", least));
  }
  return *number;
}

std::optional<studies::State> state_of(const Options& options) {
  auto text = options.find("state");
  if (!text) return std::nullopt;
  std::transform(text->begin(), text->end(), text->begin(), [](unsigned char c) { return std::toupper(c); });
  const auto state = studies::parse_state(*text);
  if (!state) {
    const std::vector<std::string> names = {"COMPLETE", "PRUNED", "FAIL", "RUNNING", "WAITING"};
    throw Error(Fault::usage, str("--state is '", options.get("state"), "', expected one of ", join(names, ", ")),
                str("did you mean ", nearest_name(*text, names), "?"));
  }
  return state;
}

std::string study_name(const Options& options, studies::Storage& storage) {
  if (const auto name = options.find("study-name")) return *name;
  const std::vector<std::string> names = storage.study_names();
  if (names.size() == 1) return names[0];
  throw Error(Fault::usage,
              str(storage.info().path, " holds ", names.size(), " studies, and --study-name is not given"),
              names.empty() ? "an empty storage has nothing to show" : str("choose one of: ", join(names, ", ")));
}

}  // namespace

int study(const Arguments& arguments) {
  Options options(kUsage,
                  "Reads an Optuna study; nothing of it is written. list: the studies of a storage; show: one of them; "
                  "best: its best trial,\nand what a retrain takes of each parameter (used, untested, inert); top: the "
                  "best trials in order; trials: all, by number;\nimportance: how much of the value each parameter "
                  "decides; export: all of the study as JSON, or its trials as CSV; report: a page\nwith charts, "
                  "study.html. With --json, NaN and infinities are the texts \"NaN\", \"Infinity\" and "
                  "\"-Infinity\".");
  options.positional(kVerbs, true);
  options.value("storage", "URL",
                "sqlite:///FILE or postgresql://USER@HOST/DB as Optuna names it, or a file; --db FILE is the same");
  options.alias("db", "storage");
  options.value("study-name", "NAME", "of the study in it, where it holds several; --study is the same");
  options.alias("study", "study-name");
  options.value("limit", "N", "of top: how many [10]; of trials: the last N [all]");
  options.value("state", "STATE", "of trials: COMPLETE, PRUNED, FAIL, RUNNING or WAITING only");
  options.flag("csv", "of top, trials and export: the trials as comma-separated values");
  options.value("out", "FILE", "of export: into this file [standard output]; of report: the page [study.html]");
  options.value("seed", "N", "of importance: of its random forest [0]");
  if (!options.parse(arguments)) return 0;
  const std::string what = options.get(kVerbs);
  const std::vector<std::string> known = split(kVerbs, '|');
  if (std::find(known.begin(), known.end(), what) == known.end()) {
    throw Error(Fault::usage, str("ristretto study has no '", what, "'"),
                str("did you mean '", nearest_name(what, known), "'? usage: ristretto ", kUsage));
  }
  const auto only_for = [&](const char* option, const std::vector<std::string>& readers) {
    if (options.has(option) && std::find(readers.begin(), readers.end(), what) == readers.end()) {
      throw Error(Fault::usage, str("ristretto study ", what, " does not read --", option),
                  str("it is for ristretto study ", join(readers, " and ")));
    }
  };
  only_for("state", {"trials"});
  only_for("limit", {"top", "trials"});
  only_for("csv", {"top", "trials", "export"});
  only_for("out", {"export", "report"});
  only_for("seed", {"importance"});
  if (what == "list") only_for("study-name", {"show", "best", "top", "trials", "importance", "export", "report"});
  const bool csv = options.has("csv");
  if (csv && options.json()) throw Error(Fault::usage, "--csv and --json are both given, expected one of them");
  const std::size_t limit =
      number_of<std::size_t>(options, "limit", 1, what == "top" ? 10 : std::numeric_limits<std::size_t>::max());
  const auto seed = number_of<std::uint64_t>(options, "seed", 0, 0);
  const std::optional<studies::State> state = state_of(options);
  const auto url = options.find("storage");
  if (!url) {
    throw Error(Fault::usage, str("ristretto study ", what, " needs --storage URL"),
                "an example is there: --storage sqlite:///data/studies/example.db");
  }
  const std::unique_ptr<studies::Storage> storage = studies::open_storage(*url);
  if (what == "list") return print_list(*storage, options.json());
  const Study study = storage->read_study(study_name(options, *storage));
  if (what == "show") return show(storage->info(), study, options.json());
  if (what == "best") return best(study, options.json());
  if (what == "importance") return print_importance(study, seed, options.json());
  if (what == "report") return write_report(options, study);
  if (what == "export" && !csv) return write_out(options, text_of(export_of(storage->info(), study)));
  std::vector<const Trial*> trials;
  if (what == "top") {
    trials = studies::top(study, limit);
  } else {
    for (const Trial& trial : study.trials) {
      if (!state || trial.state == *state) trials.push_back(&trial);
    }
    if (trials.size() > limit) trials.erase(trials.begin(), trials.end() - static_cast<std::ptrdiff_t>(limit));
  }
  if (csv) return write_out(options, csv_of(study, trials));
  return print_trials(trials, options.json());
}

}  // namespace ristretto::cli
