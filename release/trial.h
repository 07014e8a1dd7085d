// best_trial: the pickled trial that consumers of a deployment read (deployments.md).
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "release/manifest.h"

namespace ristretto::release {

struct Trial {
  std::int64_t number = 0;
  Json parameters = Json::object();  // external values
  Json user_attributes = Json::object();
  std::optional<double> value;
};

// Of any class with number, params, user_attrs and value, or Optuna's FrozenTrial; no class is looked up. A value that
// is no plain data becomes the text "<its class>". Throws Error(incompatible).
Trial read_trial(const std::filesystem::path& path);
// The pickle of a types.SimpleNamespace, for which no class but the standard library's is needed.
std::string trial_bytes(const Trial& trial);

}  // namespace ristretto::release
