// The step on a GPU, CUDA or HIP: one thread a portfolio. Launched on LibTorch's current stream by environment.cpp.
#if defined(__HIPCC__)
#include <hip/hip_runtime.h>
#define gpuStream_t hipStream_t
#define gpuGetLastError hipGetLastError
#define gpuGetErrorString hipGetErrorString
#define gpuGetDevice hipGetDevice
#define gpuSetDevice hipSetDevice
#define gpuMemGetInfo hipMemGetInfo
#define gpuSuccess hipSuccess
#else
#include <cuda_runtime.h>
#define gpuStream_t cudaStream_t
#define gpuGetLastError cudaGetLastError
#define gpuGetErrorString cudaGetErrorString
#define gpuGetDevice cudaGetDevice
#define gpuSetDevice cudaSetDevice
#define gpuMemGetInfo cudaMemGetInfo
#define gpuSuccess cudaSuccess
#endif

#include <string>

#include "env/step_launch.h"
#include "platform/error.h"

namespace ristretto::env {
namespace {

constexpr int kThreads = 128;

__device__ std::int64_t this_thread() { return static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; }

template <class R>
__global__ void step_kernel(Batch<R> batch) {
  const std::int64_t k = this_thread();
  if (k < batch.portfolios) step_lanes<R, R, 1>(batch, k);
}

template <class R>
__global__ void open_kernel(Batch<R> batch) {
  const std::int64_t k = this_thread();
  if (k >= batch.portfolios) return;
  if (batch.fixed_windows) {
    open_account<R>(batch, k);
  } else {
    begin_episode<R>(batch, k);
  }
}

__global__ void random_kernel(float* out, std::int64_t worlds, std::int64_t columns, std::uint64_t seed,
                              std::uint64_t step, std::int64_t first_world, RandomKind kind) {
  const std::int64_t world = this_thread();
  if (world >= worlds) return;
  fill_random(out + world * columns, columns, seed, static_cast<std::uint64_t>(first_world + world), step, kind);
}

unsigned blocks_for(std::int64_t threads) { return static_cast<unsigned>((threads + kThreads - 1) / kThreads); }

template <class Status>
void check(Status status, const char* what, const char* how = "") {
  if (status != gpuSuccess) throw Error(Fault::failed, std::string(what) + how + ": " + gpuGetErrorString(status));
}

void check_launch(const char* what) { check(gpuGetLastError(), what, " could not be launched"); }

template <class R>
void launch_step(const Batch<R>& batch, void* stream) {
  step_kernel<R><<<blocks_for(batch.portfolios), kThreads, 0, static_cast<gpuStream_t>(stream)>>>(batch);
  check_launch("the environment's step");
}

template <class R>
void launch_open(const Batch<R>& batch, void* stream) {
  open_kernel<R><<<blocks_for(batch.portfolios), kThreads, 0, static_cast<gpuStream_t>(stream)>>>(batch);
  check_launch("the environment's reset");
}

}  // namespace

void step_on_gpu(const Batch<float>& batch, void* stream) { launch_step(batch, stream); }
void step_on_gpu(const Batch<double>& batch, void* stream) { launch_step(batch, stream); }
void open_on_gpu(const Batch<float>& batch, void* stream) { launch_open(batch, stream); }
void open_on_gpu(const Batch<double>& batch, void* stream) { launch_open(batch, stream); }

void random_on_gpu(float* out, std::int64_t worlds, std::int64_t columns, std::uint64_t seed, std::uint64_t step,
                   std::int64_t first_world, RandomKind kind, void* stream) {
  random_kernel<<<blocks_for(worlds), kThreads, 0, static_cast<gpuStream_t>(stream)>>>(out, worlds, columns, seed, step,
                                                                                       first_world, kind);
  check_launch("the random numbers");
}

std::int64_t free_bytes_on_gpu(int device) {
  constexpr const char* kWhat = "the device's free memory could not be read";
  int current = 0;
  std::size_t free = 0, all = 0;
  check(gpuGetDevice(&current), kWhat);
  check(gpuSetDevice(device), kWhat);
  const auto status = gpuMemGetInfo(&free, &all);
  check(gpuSetDevice(current), kWhat);
  check(status, kWhat);
  return static_cast<std::int64_t>(free);
}

}  // namespace ristretto::env
