#include "train/device.h"

#include <ATen/Context.h>
#include <ATen/DeviceAccelerator.h>
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm_ops.h>
#include <ATen/ops/ones.h>
#include <torch/headeronly/version.h>

#include <algorithm>
#include <vector>

#include "platform/clock.h"
#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::train {
namespace {

#ifdef RISTRETTO_WITH_GPU
constexpr bool kGpuKernels = true;
#else
constexpr bool kGpuKernels = false;
#endif

}  // namespace

c10::Device device_of(const std::string& name) {
  const bool gpu_found = kGpuKernels && at::hasCUDA();
  if (name == "cpu" || (name == "auto" && !gpu_found)) return at::kCPU;
  if (name == "auto") return {at::kCUDA, 0};
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
  return {at::kCUDA, 0};
}

std::string describe(c10::Device device) {
  if (device.is_cpu()) return str("cpu, ", at::get_num_threads(), " threads");
  return str("GPU ", static_cast<int>(device.index()));
}

std::int64_t free_device_bytes(c10::Device device) {
#if TORCH_VERSION_MAJOR > 2 || TORCH_VERSION_MINOR >= 11
  return static_cast<std::int64_t>(at::accelerator::getMemoryInfo(device.index()).first);
#else
  (void)device;
  throw Error(Fault::usage, "this release of LibTorch cannot tell the device's free memory", "give --memory-budget");
#endif
}

void synchronize(c10::Device device) {
  if (!device.is_cpu()) at::accelerator::synchronizeDevice(device.index());
}

double measure_matmul_rate(c10::Device device) {
  constexpr std::int64_t kSize = 1024;
  constexpr int kTimes = 5;
  const auto options = at::TensorOptions().dtype(at::kFloat).device(device);
  const at::Tensor a = at::ones({kSize, kSize}, options), b = at::ones({kSize, kSize}, options);
  std::vector<double> seconds;
  for (int i = 0; i <= kTimes; ++i) {
    const Stopwatch watch;
    const at::Tensor c = at::_ops::mm::call(a, b);
    synchronize(device);
    if (i > 0) seconds.push_back(watch.seconds());  // the first one loads the library
  }
  std::nth_element(seconds.begin(), seconds.begin() + kTimes / 2, seconds.end());
  return 2.0 * kSize * kSize * kSize / seconds[kTimes / 2];
}

}  // namespace ristretto::train
