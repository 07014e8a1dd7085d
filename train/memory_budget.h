// A memory budget, not a batch size, decides the micro-batch (performance.md, rule 5).
#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <exception>
#include <filesystem>
#include <optional>
#include <string>

#include "agents/policy.h"

namespace ristretto::train {

// Bytes that one sample's forward and backward through actor and critic keep, float32: inputs, activations, gradients.
std::int64_t bytes_per_sample(const agents::Architecture& architecture);
// Bytes of the weights, their gradients and Adam's moments.
std::int64_t bytes_of_weights(const agents::Architecture& architecture);
// Bytes of this machine's memory that are free now, or of the container's share where that is less. root: where proc/
// and sys/ lie.
std::int64_t free_memory(const std::filesystem::path& root = "/");
// What fits `budget_bytes` behind the weights, at most batch_size, at least 1; on a CPU no more than runs fastest.
// Throws Error(usage) where not even one fits.
std::int64_t micro_batch_of(const agents::Architecture& architecture, std::int64_t batch_size,
                            std::int64_t budget_bytes, c10::Device device);

// What to tell of an error that says that the memory is used up, LibTorch's or the program's; none for another error.
std::optional<std::string> out_of_memory(const std::exception& error);

// Bytes: what `text` says, such as 4GiB; where it is empty, most of what is free. Throws Error(usage) for another text.
std::int64_t budget_bytes(const std::string& text, c10::Device device);

}  // namespace ristretto::train
