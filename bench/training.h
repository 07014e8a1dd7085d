// Training end to end: rollout, update and what is between them.
#pragma once

#include <vector>

#include "bench/measure.h"

namespace ristretto::bench {

// Beside Stable-Baselines3.
void add_training(std::vector<Case>& cases, const Options& options);
// Beside the PPO of ElegantRL, of whose family the existing trainer is.
void add_training_existing(std::vector<Case>& cases, const Options& options);

}  // namespace ristretto::bench
