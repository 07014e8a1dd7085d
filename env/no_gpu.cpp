// The launches of a build without GPU kernels: one clear sentence instead of a missing symbol.
#ifndef RISTRETTO_WITH_GPU

#include "env/step_launch.h"
#include "platform/error.h"

namespace ristretto::env {
namespace {

[[noreturn]] void refuse() {
  throw Error(Fault::usage, "this build of ristretto has no GPU kernels",
              "configure with the preset cuda or rocm, or use --device cpu");
}

}  // namespace

void step_on_gpu(const Batch<float>&, void*) { refuse(); }
void step_on_gpu(const Batch<double>&, void*) { refuse(); }
void open_on_gpu(const Batch<float>&, void*) { refuse(); }
void open_on_gpu(const Batch<double>&, void*) { refuse(); }
void random_on_gpu(float*, std::int64_t, std::int64_t, std::uint64_t, std::uint64_t, std::int64_t, RandomKind, void*) {
  refuse();
}
std::int64_t free_bytes_on_gpu(int) { refuse(); }

}  // namespace ristretto::env

#endif
