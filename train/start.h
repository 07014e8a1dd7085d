// A training that goes on from a deployment's weights: `retrain --from DIR`, and in place of an old deployment.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "agents/normalizer.h"
#include "agents/optimizer.h"
#include "agents/policy.h"
#include "release/start.h"
#include "train/resolve.h"
#include "train/settings.h"

namespace ristretto::train {

// What the weights fix: features, assets, lookback, scales and the network's size. To stand below what the user gives.
// Throws Error(incompatible) where its features are no known set's.
std::vector<Given> given_of(const release::Start& start);

// Sets networks and moments, which stay where they are, to the deployment's, seen through the normalizer; of
// market_context, which nothing can be folded into, the normalizer to the deployment's statistics. Key biases of
// tokens that convert hid become -8, so that training can raise them: from here on they are seen, if little. Adam's
// step counter stays at 0: large ones would make the first step of new columns 3 learning rates long (algorithms.md 6).
// Throws Error(incompatible) that names the difference where layout or network are not the training's;
// market_context takes any assets.
void begin_from(const release::Start& start, const env::Layout& layout, agents::Policy& policy,
                agents::Normalizer& normalizer, agents::Optimizer& optimizer);

// The hyperparameters of `clean` with the network of the deployment in `directory`, carried over to their features by
// name: fine-tuning it is tried beside the clean retrain, and validation chooses. Nothing, with a line in the log that
// says why, where it cannot be.
std::optional<Resolved> fine_tuning_of(const std::filesystem::path& directory, const Resolved& clean);

}  // namespace ristretto::train
