#include <algorithm>
#include <cmath>

#include "platform/error.h"
#include "platform/text.h"
#include "train/sweep.h"

namespace ristretto::train {
namespace {

using agents::Choices;
using agents::FloatRange;
using agents::IntRange;

[[noreturn]] void bad_range(const std::string& text, const std::string& expected) {
  throw Error(Fault::usage, str("--space '", text, "': expected ", expected),
              "write NAME=LOW:HIGH, NAME=LOW:HIGH:STEP, NAME=LOW:HIGH:log or NAME=A,B,C");
}

// A value of the row's type, within its bounds.
agents::Value admitted(const agents::Row& row, const std::string& text) {
  agents::Hyperparameters scratch;
  const agents::Value value = agents::parse_value(row, text);
  agents::set(scratch, row, value);
  return value;
}

agents::Range parse_range(const agents::Row& row, const std::string& text, const std::string& range) {
  const std::vector<std::string> parts = split(range, ':');
  if (parts.size() == 1) {
    Choices choices;
    for (const std::string& choice : split(range, ',')) choices.choices.push_back(admitted(row, choice));
    if (choices.choices.empty()) bad_range(text, "values");
    return choices;
  }
  if (parts.size() > 3) bad_range(text, "at most LOW:HIGH and a step or log");
  const bool log = parts.size() == 3 && parts[2] == "log";
  const agents::Value low = admitted(row, parts[0]), high = admitted(row, parts[1]);
  if (const auto* first = std::get_if<std::int64_t>(&low)) {
    IntRange out{*first, std::get<std::int64_t>(high), 1, log};
    if (parts.size() == 3 && !log) {
      const auto step = parse_number<std::int64_t>(parts[2]);
      if (!step || *step < 1) bad_range(text, "a step of 1 or more");
      out.step = *step;
    }
    if (out.low > out.high) bad_range(text, "LOW no more than HIGH");
    if (log && out.low < 1) bad_range(text, "a LOW of at least 1 for a logarithmic range");
    out.high -= (out.high - out.low) % out.step;
    return out;
  }
  if (const auto* first = std::get_if<double>(&low)) {
    FloatRange out{*first, std::get<double>(high), 0, log};
    if (parts.size() == 3 && !log) {
      const auto step = parse_number<double>(parts[2]);
      if (!step || !(*step > 0)) bad_range(text, "a step above 0");
      out.step = *step;
    }
    if (out.low > out.high) bad_range(text, "LOW no more than HIGH");
    if (log && out.low <= 0) bad_range(text, "a LOW above 0 for a logarithmic range");
    return out;
  }
  bad_range(text, str("choices, for ", row.name, " is no number"));
}

// What somebody fixed stands in the trial too, so that a trial is whole.
agents::Range only(const agents::Value& value) {
  if (const auto* number = std::get_if<std::int64_t>(&value)) return IntRange{*number, *number};
  if (const auto* number = std::get_if<double>(&value)) return FloatRange{*number, *number};
  return Choices{{value}};
}

}  // namespace

std::string text_of(const agents::Range& range) {
  if (const auto* choices = std::get_if<Choices>(&range)) {
    std::vector<std::string> texts;
    for (const agents::Value& choice : choices->choices) texts.push_back(agents::text_of(choice));
    return join(texts, ",");
  }
  if (const auto* whole = std::get_if<IntRange>(&range)) {
    return str(whole->low, ":", whole->high, whole->log ? ":log" : whole->step == 1 ? "" : str(":", whole->step));
  }
  const auto& real = std::get<FloatRange>(range);
  return str(real.low, ":", real.high, real.log ? ":log" : real.step == 0 ? "" : str(":", real.step));
}

studies::SearchSpace search_space(const Settings& settings, const std::vector<std::string>& space) {
  studies::SearchSpace out;
  std::vector<std::string> names;
  std::map<std::string, agents::Range> given;
  for (const std::string& text : space) {
    const std::size_t equals = text.find('=');
    if (equals == std::string::npos) bad_range(text, "a name and a range");
    std::string name = text.substr(0, equals);
    std::replace(name.begin(), name.end(), '-', '_');
    const agents::Row* row = agents::find_row(name);
    if (row == nullptr) {
      for (const agents::Row& each : agents::table()) names.emplace_back(each.name);
      throw Error(Fault::usage, str("--space names the unknown parameter '", name, "'"),
                  str("did you mean '", nearest_name(name, names), "'?"));
    }
    if (settings.source_of(name) != "default") {
      throw Error(Fault::usage, str("--space names ", name, ", which is fixed by ", settings.source_of(name)),
                  "leave out one of the two");
    }
    given[name] = parse_range(*row, text, text.substr(equals + 1));
  }
  // Where the network itself is searched, what any of them reads is.
  std::vector<Settings> networks{settings};
  if (const auto found = given.find("encoder"); found != given.end()) {
    networks.clear();
    for (const agents::Value& choice : std::get<Choices>(found->second).choices) {
      networks.push_back(settings);
      networks.back().hyperparameters.encoder = std::get<std::string>(choice);
      if (settings.run.serving == "cappuccino" && agents::has_attention(networks.back().hyperparameters)) {
        throw Error(Fault::usage,
                    str("--space names encoder ", agents::text_of(choice), ", and --serving cappuccino builds an MLP"),
                    "add --serving ristretto");
      }
    }
  }
  const auto is_read = [&](const agents::Row& row) {
    return !row.unread && std::any_of(networks.begin(), networks.end(),
                                      [&](const Settings& each) { return agents::reads(each.hyperparameters, row); });
  };
  for (const auto& [name, range] : given) {
    if (!is_read(*agents::find_row(name))) {
      throw Error(Fault::usage, str("--space names ", name, ", which this network does not read"));
    }
  }
  bool any = false;
  for (const agents::Row& row : agents::table()) {
    if (!is_read(row)) continue;
    if (const auto found = given.find(row.name); found != given.end()) {
      out.emplace_back(row.name, found->second);
      any = true;
    } else if (settings.source_of(row.name) != "default") {
      out.emplace_back(row.name, only(agents::get(settings.hyperparameters, row)));
    } else if (row.swept) {
      out.emplace_back(row.name, *row.swept);
      any = true;
    }
  }
  if (!any) throw Error(Fault::usage, "there is nothing to sweep: every parameter is fixed");
  return out;
}

}  // namespace ristretto::train
