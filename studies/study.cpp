#include "studies/study.h"

#include <algorithm>
#include <array>

#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::studies {
namespace {

constexpr std::array<const char*, 3> kDirections = {"NOT_SET", "MINIMIZE", "MAXIMIZE"};
constexpr std::array<const char*, 5> kStates = {"RUNNING", "COMPLETE", "PRUNED", "FAIL", "WAITING"};

template <class Enum, std::size_t kCount>
std::optional<Enum> parse(const std::array<const char*, kCount>& names, std::string_view text) {
  const auto found = std::find(names.begin(), names.end(), text);
  if (found == names.end()) return std::nullopt;
  return static_cast<Enum>(found - names.begin());
}

bool better(Direction direction, double a, double b) { return direction == Direction::maximize ? a > b : a < b; }

void require_directions(const Study& study) {
  if (std::count(study.directions.begin(), study.directions.end(), Direction::not_set) == 0) return;
  throw Error(Fault::incompatible, str("study '", study.name,
                                       "' has the direction NOT_SET, expected MINIMIZE or MAXIMIZE: no trial of it is ",
                                       "better than another"));
}

std::vector<const Trial*> candidates(const Study& study) {
  require_directions(study);
  std::vector<const Trial*> trials;
  for (const Trial& trial : study.trials) {
    if (trial.state == State::complete && feasible(trial)) trials.push_back(&trial);
  }
  return trials;
}

// At least as good in every objective, and better in one.
bool dominates(const Study& study, const Trial& a, const Trial& b) {
  bool somewhere = false;
  for (std::size_t i = 0; i < study.directions.size(); ++i) {
    if (better(study.directions[i], b.values[i], a.values[i])) return false;
    somewhere = somewhere || better(study.directions[i], a.values[i], b.values[i]);
  }
  return somewhere;
}

}  // namespace

const char* name_of(Direction direction) { return kDirections[static_cast<std::size_t>(direction)]; }
const char* name_of(State state) { return kStates[static_cast<std::size_t>(state)]; }
std::optional<Direction> parse_direction(std::string_view text) { return parse<Direction>(kDirections, text); }
std::optional<State> parse_state(std::string_view text) { return parse<State>(kStates, text); }

const formats::Json* find(const std::vector<Attribute>& attributes, std::string_view key) {
  for (const Attribute& attribute : attributes) {
    if (attribute.key == key) return &attribute.value;
  }
  return nullptr;
}

const Parameter* Trial::find_param(std::string_view name) const {
  for (const Parameter& parameter : params) {
    if (parameter.name == name) return &parameter;
  }
  return nullptr;
}

const Trial& trial_of(const Study& study, std::int64_t number) {
  for (const Trial& trial : study.trials) {
    if (trial.number == number) return trial;
  }
  throw Error(Fault::usage,
              str("study '", study.name, "' has no trial ", number, ", expected ",
                  study.trials.empty() ? std::string("one of its trials, but it has none")
                                       : str(study.trials.front().number, " to ", study.trials.back().number)));
}

bool feasible(const Trial& trial) {
  using Kind = formats::Json::Kind;
  const auto violated = [](const formats::Json& value) {
    return (value.kind == Kind::real || value.kind == Kind::integer) && value.real > 0;
  };
  for (const Attribute& attribute : trial.system_attributes) {
    if (attribute.key == "constraints") {
      if (std::any_of(attribute.value.items.begin(), attribute.value.items.end(), violated)) return false;
    } else if (attribute.key.starts_with("constraints:") && violated(attribute.value)) {
      return false;
    }
  }
  return true;
}

std::vector<const Trial*> top(const Study& study, std::size_t limit) {
  if (study.directions.size() != 1) {
    throw Error(Fault::usage,
                str("study '", study.name, "' has ", study.directions.size(), " objectives, expected one: it has no ",
                    "order of best trials"),
                "name a trial by its number");
  }
  std::vector<const Trial*> trials = candidates(study);
  std::stable_sort(trials.begin(), trials.end(), [&](const Trial* a, const Trial* b) {
    return better(study.directions[0], a->values[0], b->values[0]);
  });
  if (trials.size() > limit) trials.resize(limit);
  return trials;
}

const Trial* best_trial(const Study& study) {
  const std::vector<const Trial*> best = top(study, 1);
  return best.empty() ? nullptr : best.front();
}

std::vector<const Trial*> pareto_front(const Study& study) {
  const std::vector<const Trial*> trials = candidates(study);
  std::vector<const Trial*> front;
  std::copy_if(trials.begin(), trials.end(), std::back_inserter(front), [&](const Trial* trial) {
    return std::none_of(trials.begin(), trials.end(),
                        [&](const Trial* other) { return dominates(study, *other, *trial); });
  });
  return front;
}

}  // namespace ristretto::studies
