// What training, retraining and judging share: bars to splits, and the backtests of an agent in training.
#pragma once

#include <string>

#include "evaluation/backtest.h"
#include "evaluation/splits.h"
#include "train/settings.h"
#include "train/trainer.h"

namespace ristretto::train {

// The settings' bars as the agent may see them. Prices float64, on the CPU.
struct Data {
  env::Layout layout;
  env::Rules rules;
  env::Market market;  // all bars
  evaluation::Splits splits;
};
Data load_data(const Settings& settings);
// The same for a model that exists, by its layout and rules.
Data load_data(const Settings& settings, const env::Layout& layout, const env::Rules& rules);

// Threads, and the device's name checked, before anything is computed.
void prepare_machine(const Settings& settings);

// The policy of an agent in training on `market`: normalised observations in, tanh(mean) out; networks on their own
// device.
evaluation::Actor actor_of(const Snapshot& snapshot, const env::Market& market, bool bf16);
// Validates by the Sharpe ratio per bar on the validation split; an agent that does not trade scores below all others.
Validate validation_on(const Data& data, bool bf16);

// What the time budget will hold, said before it is spent; a warning where that is too little to be useful.
void report_plan(const Plan& plan, const Settings& settings, double used_seconds);

// One line for people: "return +3.1 %, Sharpe 0.42 (annual), drawdown 12.0 %, 812 orders".
std::string summary_of(const evaluation::Backtest& backtest);

}  // namespace ristretto::train
