#include "train/device.h"

#include <ATen/Context.h>
#include <ATen/DeviceAccelerator.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdlib>

#include "env/step_launch.h"
#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::train {
namespace {

#ifdef RISTRETTO_WITH_GPU
constexpr bool kGpuKernels = true;
#else
constexpr bool kGpuKernels = false;
#endif

// torchrun's processes on one machine have a GPU each, as long as there are as many.
c10::DeviceIndex own_gpu() {
  const char* const rank = std::getenv("WORLD_SIZE") == nullptr ? nullptr : std::getenv("LOCAL_RANK");
  const int number = rank == nullptr ? 0 : parse_number<int>(rank).value_or(0);
  return static_cast<c10::DeviceIndex>(std::max(0, number) % std::max<int>(1, at::accelerator::deviceCount()));
}

}  // namespace

c10::Device device_of(const std::string& name) {
  const bool gpu_found = kGpuKernels && at::hasCUDA();
  if (name == "cpu" || (name == "auto" && !gpu_found)) return at::kCPU;
  if (name == "auto") return {at::kCUDA, own_gpu()};
  if (name != "cuda" && name != "hip") {
    throw Error(Fault::usage, str("--device is '", name, "', expected auto, cpu, cuda or hip"));
  }
  if (!kGpuKernels) {
    throw Error(Fault::usage, str("--device is ", name, ", but this build has no GPU kernels"),
                "configure with the preset cuda or rocm");
  }
  if (!gpu_found) {
    throw Error(Fault::usage, str("--device is ", name, ", but LibTorch sees no such device"),
                "check the driver (nvidia-smi, rocminfo), or use --device cpu");
  }
  return {at::kCUDA, own_gpu()};
}

std::string describe(c10::Device device) {
  if (device.is_cpu()) return str("cpu, ", at::get_num_threads(), " threads");
  return str("GPU ", static_cast<int>(device.index()));
}

std::int64_t free_device_bytes(c10::Device device) {
  at::accelerator::emptyCache();  // blocks that LibTorch keeps of a training before this one are free as well
  return env::free_bytes_on_gpu(device.index());
}

void synchronize(c10::Device device) {
  if (!device.is_cpu()) at::accelerator::synchronizeDevice(device.index());
}

}  // namespace ristretto::train
