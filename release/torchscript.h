// policy.pt: the deterministic actor as a TorchScript module, for consumers that know no architecture.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>

#include "agents/policy.h"
#include "ft_transformer/weights.h"

namespace ristretto::release {

// Writes and fsyncs a module whose forward(state [N, S] float32) is tanh(mean) [N, A] for any N. Its buffers have the
// names of actor.pth with '_' for '.'. The actor is one of actor_template(architecture), on the CPU, of a deployed
// architecture (relu, tanh_gaussian). Throws Error(failed) where the file cannot be written.
void write_torchscript(const std::filesystem::path& path, const ft_transformer::Weights& actor,
                       const agents::Architecture& architecture);

// What the module in the file answers: states [N, S] -> actions [N, A]. Throws Error(incompatible) where it cannot be
// loaded or run.
at::Tensor run_torchscript(const std::filesystem::path& path, const at::Tensor& states);

}  // namespace ristretto::release
