// The memory of large tensors: what was freed last comes back first, and what is kept has a bound.
#include <ATen/ops/full.h>
#include <c10/core/CPUAllocator.h>
#include <c10/util/Exception.h>
#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <fstream>
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
  c10::DataPtr first = blocks.allocate(8 * kMiB), second = blocks.allocate(8 * kMiB),
               large = blocks.allocate(16 * kMiB);
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

TEST_CASE("large blocks: what is kept can be given back") {
  LargeBlocks& blocks = LargeBlocks::instance();
  blocks.allocate(8 * kMiB).clear();
  CHECK(blocks.release() >= 8 * kMiB);
  CHECK(blocks.kept() == 0);
  CHECK(blocks.release() == 0);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // whose own memory has no room below such a limit
TEST_CASE("large blocks: without memory the error is LibTorch's, and what was kept is given up first") {
  const pid_t child = fork();
  if (child == 0) {
    LargeBlocks& blocks = LargeBlocks::instance();
    blocks.allocate(512 * kMiB).clear();
    std::size_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    rlimit limit{};
    getrlimit(RLIMIT_AS, &limit);
    limit.rlim_cur = pages * static_cast<std::size_t>(sysconf(_SC_PAGESIZE)) + 256 * kMiB;
    setrlimit(RLIMIT_AS, &limit);
    bool fitted = false;
    try {
      blocks.allocate(700 * kMiB);  // fits only where the kept block goes
      fitted = true;
      blocks.allocate(2048 * kMiB);
      _exit(1);
    } catch (const c10::Error& error) {
      const bool said = std::string(error.what_without_backtrace()).find("you tried to allocate") != std::string::npos;
      _exit(!fitted ? 2 : said && blocks.kept() == 0 ? 0 : 3);
    } catch (...) {
      _exit(4);
    }
  }
  int status = 0;
  waitpid(child, &status, 0);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}
#endif

TEST_CASE("large blocks: tensors live in them, grow, and die in other threads") {
  c10::SetCPUAllocator(&LargeBlocks::instance(), 1);  // and stays it: what is LibTorch's own may live on
  at::Tensor x = at::full({1 << 19}, 3.0);
  CHECK(begins_a_large_page(x.const_data_ptr()));
  x.resize_({1 << 20});
  CHECK(x.narrow(0, 0, 1 << 19).sum().item<float>() == 3.0f * (1 << 19));
  std::thread([x = std::move(x)]() mutable { x.reset(); }).join();
}

}  // namespace ristretto::env
