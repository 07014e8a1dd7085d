#include "env/stream.h"

#include <ATen/DeviceAccelerator.h>
#include <torch/headeronly/version.h>

namespace ristretto::env {

void* current_stream(c10::Device device) {
#if TORCH_VERSION_MAJOR > 2 || TORCH_VERSION_MINOR >= 11
  return at::accelerator::getCurrentStream(device.index() < 0 ? 0 : device.index()).native_handle();
#else
  (void)device;
  return nullptr;
#endif
}

}  // namespace ristretto::env
