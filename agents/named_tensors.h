// Saved state as ordered name -> tensor: what the parts of a trainer give to a checkpoint and take back.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <utility>
#include <vector>

namespace ristretto::agents {

// Tensors of a state() are the live ones: write or clone them before the next update.
using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

// The tensor of that name. Throws Error(incompatible) where it is missing or of another shape; `owner` names whose
// state it is.
const at::Tensor& saved(const NamedTensors& state, const std::string& name, at::IntArrayRef shape,
                        const std::string& owner);

}  // namespace ristretto::agents
