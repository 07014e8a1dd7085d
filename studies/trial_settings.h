// From a trial's parameters to hyperparameters (study.md, "From a study's parameters to settings").
#pragma once

#include <string>
#include <vector>

#include "agents/hyperparameters.h"
#include "studies/study.h"

namespace ristretto::studies {

// Who sampled the study, and so which of its parameters reached the agent.
enum class Generation {
  cappuccino,  // the existing training script: Row::in_cappuccino
  ristretto,   // this project: all of them
};
const char* name_of(Generation generation);
// The user attribute of a study, or of a trial in a study of another origin, that marks the second; it holds the
// objective's name and version.
inline constexpr const char* kObjectiveAttribute = "ristretto:objective";
Generation generation_of(const Study& study);
Generation generation_of(const Study& study, const Trial& trial);
// The last bar that any trial of a study saw, ISO 8601: nothing before or at it can judge one of them.
inline constexpr const char* kSeenUntilAttribute = "ristretto:seen_until";
// Of a trial that was taken from a study which does not say what it has seen: the study's name.
inline constexpr const char* kOriginUnknownAttribute = "ristretto:origin_unknown";

struct Interpretation {
  bool use_untested = false;        // take what was sampled without effect
  bool activate_inert = false;      // take max_drawdown_penalty and volatility_penalty
  bool ignore_unknown = false;      // leave out parameters that the table does not know
  bool pretrained_encoder = false;  // weights of a pre-trained encoder are given to this run
};

// What happened to one parameter of the trial.
struct Taken {
  std::string name;
  agents::Value value;  // the trial's
  agents::Status status;
  bool applied;      // the hyperparameters hold it; otherwise they keep their default
  std::string note;  // why; empty for what is simply used
};

struct TrialSettings {
  Generation generation;
  agents::Hyperparameters hyperparameters;
  // In the trial's order; behind them what follows from it without being a parameter (use_ft_encoder).
  std::vector<Taken> parameters;
};

// Throws Error(usage) for parameters that the table does not know (with the nearest name) and for a trial without any;
// Error(incompatible) for a value that its row does not accept. Relations between rows are not checked: what overrides
// the study comes later.
TrialSettings settings_of_trial(const Study& study, const Trial& trial, const Interpretation& how = {});

}  // namespace ristretto::studies
