// The device stream that LibTorch works on, without naming CUDA or HIP.
#pragma once

#include <c10/core/Device.h>

namespace ristretto::env {

// A cudaStream_t or hipStream_t as void*. LibTorch 2.10 cannot say it: there the default stream is LibTorch's own, too,
// unless somebody changes it, and null names it. (architecture.md, "Building, as measured")
void* current_stream(c10::Device device);

}  // namespace ristretto::env
