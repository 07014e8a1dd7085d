// The memory of large tensors: what was freed last comes back first, and what is kept has a bound.
#include <ATen/ops/full.h>
#include <c10/core/CPUAllocator.h>
#include <c10/util/Exception.h>
#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <string>
#include <thread>
#include <utility>

#include "env/large_blocks.h"

namespace ristretto::env {
namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20;
constexpr std::size_t kLargePage = 2 * kMiB;

bool begins_a_large_page(const void* block) { return reinterpret_cast<std::uintptr_t>(block) % kLargePage == 0; }

}  // namespace

TEST_CASE("large blocks: the one freed last is taken first, by any thread, where it is not much too large") {
  LargeBlocks& blocks = LargeBlocks::instance();
  c10::DataPtr first = blocks.allocate(8 * kMiB), second = blocks.allocate(8 * kMiB), large = blocks.allocate(16 * kMiB);
  const void *const of_first = first.get(), *const of_second = second.get();
  CHECK(begins_a_large_page(of_first));
  CHECK(begins_a_large_page(of_second));
  const std::size_t before = blocks.kept();
  first.clear();
  second.clear();
  large.clear();
  CHECK(blocks.kept() == before + 32 * kMiB);
  std::thread([&] {
    const c10::DataPtr third = blocks.allocate(7 * kMiB);
    CHECK(third.get() == of_second);
    const c10::DataPtr fourth = blocks.allocate(7 * kMiB);
    CHECK(fourth.get() == of_first);
    CHECK(blocks.kept() == before + 16 * kMiB);
  }).join();
}

TEST_CASE("large blocks: small ones are LibTorch's") {
  LargeBlocks& blocks = LargeBlocks::instance();
  const std::size_t before = blocks.kept();
  blocks.allocate(LargeBlocks::kLeast - 1).clear();
  CHECK(blocks.kept() == before);
  CHECK(blocks.allocate(0).get() == nullptr);
}

TEST_CASE("large blocks: sizes that never come back are not kept") {
  LargeBlocks& blocks = LargeBlocks::instance();
  const std::size_t most = 64 * kMiB;
  for (std::size_t size = 2 * kMiB; size <= most; size = size * 3 / 2) blocks.allocate(size).clear();
  CHECK(blocks.kept() <= most + most / 8);
}

TEST_CASE("large blocks: without memory the error is LibTorch's, and what was kept is given up first") {
  const pid_t child = fork();
  if (child == 0) {
    LargeBlocks& blocks = LargeBlocks::instance();
    const std::size_t large = 512 * kMiB;
    blocks.allocate(large).clear();
    rlimit limit{};
    getrlimit(RLIMIT_AS, &limit);
    limit.rlim_cur = 4096 * kMiB;  // address space of a process with LibTorch, and not 4 GiB more
    setrlimit(RLIMIT_AS, &limit);
    try {
      const c10::DataPtr none = blocks.allocate(4096 * kMiB);
      _exit(1);
    } catch (const c10::Error& error) {
      const bool said = std::string(error.what_without_backtrace()).find("you tried to allocate") != std::string::npos;
      _exit(said && blocks.kept() == 0 ? 0 : 2);
    }
  }
  int status = 0;
  waitpid(child, &status, 0);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("large blocks: tensors live in them, grow, and die in other threads") {
  c10::Allocator* const before = c10::GetCPUAllocator();
  keep_large_blocks();
  {
    at::Tensor x = at::full({1 << 19}, 3.0);
    CHECK(begins_a_large_page(x.const_data_ptr()));
    x.resize_({1 << 20});
    CHECK(x.narrow(0, 0, 1 << 19).sum().item<float>() == 3.0f * (1 << 19));
    std::thread([x = std::move(x)]() mutable { x.reset(); }).join();
  }
  c10::SetCPUAllocator(before, 1);
}

}  // namespace ristretto::env
