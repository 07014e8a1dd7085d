// A directory under deployments/: written from a trained policy, and opened as its consumer opens it (deployments.md).
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <optional>
#include <string>

#include "agents/policy.h"
#include "env/layout.h"
#include "env/step.h"
#include "ft_transformer/weights.h"
#include "release/manifest.h"
#include "release/trial.h"

namespace ristretto::release {

inline constexpr std::int64_t kMinimumProbeRows = 8;
// Absolute, on actions in [-1, 1]: kernels of another machine add the same float32 products in another order.
inline constexpr double kProbeTolerance = 1e-5;

// All that a deployment holds. Weights are folded: they take the served observation.
struct Content {
  agents::Architecture architecture;
  ft_transformer::Weights actor, critic;  // a critic that is not known is empty, and no file is written of it
  env::Layout layout;
  env::Rules rules;
  Json parameters = Json::object();  // best_trial's, external values
  long long trial_number = 0;
  std::string study_name;
  double trial_value = 0;
  Json user_attributes = Json::object();
  Json manifest_sections = Json::object();  // study, hyperparameters, training, data, metrics, serving ...: as they are
  at::Tensor probe_states;                  // [K >= kMinimumProbeRows, S] float32, finite
};

// Writes a complete directory, manifest.json last, everything fsynced: actor.pth, act_target.pth (a hard link), for an
// MLP critic.pth and cri_target.pth (if there is a critic), actor.safetensors, policy.pt, best_trial, metadata.json.
// best_trial's parameters that describe network and observation (net_dimension, lookback, use_ft_encoder, ft_*,
// norm_*_exp) are those of the network beside it. A file that is there already is replaced; training/ may have been put
// there before and is listed. The probe's expected output is that of the file written. name, version, status and parent
// are null until it is published. Throws Error(usage) where the parts do not fit each other, Error(incompatible) where
// weights are not finite or what was written does not verify.
void stage(const Content& content, const std::filesystem::path& directory);
// The SHA-256 of the actor.pth that is written of these weights: what tells them from all others.
std::string actor_hash(const ft_transformer::Weights& actor);

// Bytes that stage() will write.
std::int64_t staged_bytes(const agents::Architecture& architecture);

// A policy as it would be served. Immutable; copies share the tensors.
struct Model {
  std::filesystem::path path;  // links resolved
  agents::Architecture architecture;
  ft_transformer::Weights actor;                  // float32, CPU, names and order of actor.pth
  std::optional<ft_transformer::Weights> critic;  // of directories that hold one
  std::optional<env::Layout> layout;              // of the manifest; a dimension alone tells none
  std::optional<env::Rules> rules;
  std::optional<Json> manifest;
  std::optional<Trial> trial;
};

// A deployment directory (this project's, or the existing system's), a version directory, a single .pth or
// .safetensors. Files that a manifest lists are hashed as they are read. Throws Error(incompatible) where its consumer
// would refuse it or serve something else than actor.pth: no actor.pth, an act_target.pth that differs, a critic of
// another size.
Model load(const std::filesystem::path& path);

// The bars from here on had no part in its training or choice (the manifest's data.holdout_from); nothing where no
// manifest says.
std::optional<std::int64_t> unseen_from(const Model& model);

// states [N, S] -> actions [N, A] float32 in [-1, 1]. Throws Error(incompatible) for another S and for what is not
// finite.
at::Tensor predict(const Model& model, const at::Tensor& states);

// The first weight that holds NaN or infinity.
std::optional<std::string> non_finite_weight(const ft_transformer::Weights& weights);

// Re-hashes all files of a directory with a manifest, loads it as its consumer does, and runs the manifest's probe on
// actor.pth, actor.safetensors and policy.pt (an adopted directory has no probe). Throws Error(incompatible).
void verify(const std::filesystem::path& directory);
// Largest deviation from the manifest's probe over the three forms. Throws Error(incompatible) where it exceeds the
// tolerance or the manifest has none.
double run_probe(const Model& model);

}  // namespace ristretto::release
