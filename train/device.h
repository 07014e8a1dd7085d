// The device a run computes on, and what it has.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <string>

namespace ristretto::train {

// "auto" (a GPU that this build has kernels for, else the CPU), "cpu", "cuda", "hip" (the same device to LibTorch).
// Throws Error(usage) where there is none.
c10::Device device_of(const std::string& name);
// "cpu, 2 threads" or the GPU's name.
std::string describe(c10::Device device);
std::int64_t free_device_bytes(c10::Device device);
// Waits for all work on the device.
void synchronize(c10::Device device);

}  // namespace ristretto::train
