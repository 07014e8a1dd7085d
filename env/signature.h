// One number for all of the environment's behaviour: equal on every machine, changed by every change of the rules.
#pragma once

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <cstdint>

namespace ristretto::env {

// FNV-1a over the bits of every state and reward of a scripted run: synthetic prices, pseudo-random actions, every rule
// and reward term on, windows of several lengths, resets included. The same on the CPU and on a GPU. The behaviour's
// signature is that of float64; trainings step in float32.
std::uint64_t signature(c10::Device device = c10::kCPU, c10::ScalarType type = c10::kDouble);

}  // namespace ristretto::env
