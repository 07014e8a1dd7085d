// What a training that goes on from a deployment begins with: its weights, and Adam's moments where they are kept.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "agents/unfold.h"
#include "release/deployment.h"
#include "release/surgery.h"

namespace ristretto::release {

inline constexpr const char* kStartFile = "start.safetensors";

struct Start {
  std::filesystem::path source;
  agents::Architecture architecture;
  env::Layout layout;
  ft_transformer::Weights actor;
  ft_transformer::Weights critic;  // empty where none is kept
  // By the names of the networks' weights; nothing, or the critic's empty, where none are kept.
  std::optional<agents::MomentPair> actor_moments, critic_moments;
  // Critic and moments are of this project's training, which normalises what it reads; else of served observations, as
  // the actor always is.
  bool critic_normalized = false, moments_normalized = false;
  // Seconds since 1970, UTC: where the bars begin that trained nothing of it. Not known where no manifest says it.
  std::optional<std::int64_t> unseen_from;
};

// Of a directory: training/start.safetensors (a converted one), training/checkpoint.safetensors (a version of this
// project), or act_optim.pth and cri_optim.pth (the existing system). Moments that do not fit the network beside them
// are left out. Throws Error(incompatible) where the layout is not known (old_layouts.h).
Start start_of(const Model& model);
// The same for another layout; constants as carried() of the weights takes them.
Start carried(const Start& start, const Mapping& mapping, const std::vector<double>& constants);
// directory/training/start.safetensors: all of it but the actor. Nothing is written where there is nothing.
void write_start(const std::filesystem::path& directory, const Start& start);

}  // namespace ristretto::release
