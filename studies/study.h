// A study of Optuna and its trials, decoded: external values, distributions, attributes. Knows of no database
// (study.md, "Tables", "Value forms"); storage.h reads one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agents/hyperparameters.h"
#include "formats/json_text.h"
#include "platform/clock.h"

namespace ristretto::studies {

enum class Direction { not_set, minimize, maximize };
enum class State { running, complete, pruned, fail, waiting };
// Optuna's names: MAXIMIZE, COMPLETE ...; parse_* give nothing for another text.
const char* name_of(Direction direction);
const char* name_of(State state);
std::optional<Direction> parse_direction(std::string_view text);
std::optional<State> parse_state(std::string_view text);

struct Attribute {
  std::string key;
  formats::Json value;
};
// nullptr where there is none.
const formats::Json* find(const std::vector<Attribute>& attributes, std::string_view key);

struct Parameter {
  std::string name;
  agents::Value value;  // external: a categorical's choice, not its index
  agents::Range distribution;
};

struct Report {
  std::int64_t step;
  double value;  // NaN and infinities occur
};

struct Trial {
  std::int64_t id = 0;  // of the database, over all its studies
  std::int64_t number = 0;
  State state = State::waiting;
  std::vector<double> values;     // one an objective, +-inf occur; PRUNED: at most one; empty while there is no result
  std::vector<Parameter> params;  // in the order in which they were asked for
  std::vector<Attribute> user_attributes, system_attributes;
  std::vector<Report> reports;  // intermediate values, by step
  std::optional<Instant> started, completed;

  const Parameter* find_param(std::string_view name) const;  // nullptr where there is none
};

struct Study {
  std::int64_t id = 0;
  std::string name;
  std::vector<Direction> directions;  // one an objective
  std::vector<Attribute> user_attributes, system_attributes;
  std::vector<Trial> trials;  // by id, which is by number
};

// Throws Error(usage) that names the numbers there are.
const Trial& trial_of(const Study& study, std::int64_t number);

// No constraint of the trial is above 0; both forms, `constraints` and `constraints:<name>`. A trial without any is
// feasible, as in Optuna 5.0 (4.9 passes such a trial over when a better one is infeasible, and reads the first form
// only).
bool feasible(const Trial& trial);

// The `limit` best COMPLETE and feasible trials, best first, of equals the one with the lowest id. Throws Error(usage)
// for a study of several objectives, Error(incompatible) for one without a direction.
std::vector<const Trial*> top(const Study& study, std::size_t limit);
// The first of them, nullptr where there is none: Optuna's best_trial from 4.0 on.
const Trial* best_trial(const Study& study);
// The COMPLETE and feasible trials that no other is better than in all objectives: Optuna's best_trials. By number.
std::vector<const Trial*> pareto_front(const Study& study);

}  // namespace ristretto::studies
