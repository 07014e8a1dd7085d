// All that a bit-exact resume needs, to a directory and back (algorithms.md 2.5): one safetensors file, replaced
// atomically.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "agents/normalizer.h"

namespace ristretto::agents {

inline constexpr int kCheckpointVersion = 1;
inline constexpr const char* kCheckpointFile = "checkpoint.safetensors";

struct Checkpoint {
  NamedTensors tensors;  // prefixed by room: "actor/", "critic/", "adam/", "normalizer/", "environment/" ...
  std::map<std::string, std::string>
      fields;  // numbers and texts: iteration, environment_steps, hyperparameters_hash ...
};

// `directory`/checkpoint.safetensors, fsynced; the previous one stays as previous.safetensors until the next write.
void write_checkpoint(const std::filesystem::path& directory, const Checkpoint& checkpoint);
// Throws Error(incompatible) where the newest is damaged and names the previous one as the hint where that one is
// whole.
Checkpoint read_checkpoint(const std::filesystem::path& directory);

// Helpers for the prefixes.
void add_prefixed(NamedTensors& out, const std::string& prefix, const NamedTensors& tensors);
NamedTensors with_prefix(const NamedTensors& all, const std::string& prefix);

}  // namespace ristretto::agents
