// The launches of step_batch.h: step_cpu.cpp, once for each instruction set, and step_gpu.cu. No torch.
#pragma once

#include <cstdint>

#include "env/step_batch.h"

namespace ristretto::env {

// Portfolios [begin, end) on the calling thread.
#define RISTRETTO_DECLARE_STEP(isa)                                                  \
  namespace isa {                                                                    \
  void step_range(const Batch<float>& batch, std::int64_t begin, std::int64_t end);  \
  void step_range(const Batch<double>& batch, std::int64_t begin, std::int64_t end); \
  }
RISTRETTO_DECLARE_STEP(baseline)
RISTRETTO_DECLARE_STEP(avx2)
RISTRETTO_DECLARE_STEP(avx512)
#undef RISTRETTO_DECLARE_STEP

// All portfolios on the device of batch's pointers, on `stream` (a cudaStream_t or hipStream_t; null: the default one).
// Only in a build with RISTRETTO_GPU. Throw Error(failed) with the device's reason.
void step_on_gpu(const Batch<float>& batch, void* stream);
void step_on_gpu(const Batch<double>& batch, void* stream);
void open_on_gpu(const Batch<float>& batch, void* stream);  // begin_episode, or open_account with fixed windows
void open_on_gpu(const Batch<double>& batch, void* stream);
// [worlds, columns] float32 of env/random.h.
void random_on_gpu(float* out, std::int64_t worlds, std::int64_t columns, std::uint64_t seed, std::uint64_t step,
                   std::int64_t first_world, RandomKind kind, void* stream);
// What the device has left for everybody (LibTorch tells it from 2.11 on only).
std::int64_t free_bytes_on_gpu(int device);

}  // namespace ristretto::env
