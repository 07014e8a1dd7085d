#include "env/large_blocks.h"

#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>
#include <c10/util/Exception.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <iterator>

namespace ristretto::env {
namespace {

constexpr std::size_t kPages = std::size_t{64} << 10;  // whole ones, of all systems
constexpr std::size_t kLargePage = std::size_t{2} << 20;

// [size] at a large page, or null where the system has none.
void* map(std::size_t size) {
  void* const all = mmap(nullptr, size + kLargePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (all == MAP_FAILED) return nullptr;
  const std::size_t before = -reinterpret_cast<std::uintptr_t>(all) % kLargePage;
  char* const begin = static_cast<char*>(all) + before;
  if (before > 0) munmap(all, before);
  munmap(begin + size, kLargePage - before);
#if defined(MADV_HUGEPAGE)
  madvise(begin, size, MADV_HUGEPAGE);
#endif
  return begin;
}

}  // namespace

void keep_large_blocks() {
#if !defined(__SANITIZE_ADDRESS__)
  c10::SetCPUAllocator(&LargeBlocks::instance(), 1);
#endif
}

LargeBlocks& LargeBlocks::instance() {
  static auto* const one = new LargeBlocks;
  return *one;
}

c10::DeleterFnPtr LargeBlocks::raw_deleter() const {
  // Not all that comes here is ours: LibTorch's oneDNN frees by the allocator of the day what an earlier one gave.
  return [](void* block) {
    if (!instance().give_back(block)) c10::free_cpu(block);
  };
}

c10::DataPtr LargeBlocks::allocate(std::size_t bytes) {
  void* block = bytes < kLeast || bytes > PTRDIFF_MAX ? nullptr : take((bytes + kPages - 1) / kPages * kPages);
  if (block == nullptr) {
    try {
      block = c10::alloc_cpu(bytes);
    } catch (const c10::Error&) {
      if (release() == 0) throw;
      block = c10::alloc_cpu(bytes);
    }
  }
  return {block, block, raw_deleter(), c10::Device(c10::DeviceType::CPU)};
}

void LargeBlocks::copy_data(void* to, const void* from, std::size_t bytes) const { default_copy_data(to, from, bytes); }

std::size_t LargeBlocks::kept() const {
  const std::lock_guard lock(mutex_);
  return kept_bytes_;
}

std::size_t LargeBlocks::release() {
  const std::lock_guard lock(mutex_);
  const std::size_t bytes = kept_bytes_;
  while (!kept_.empty()) release_oldest();
  return bytes;
}

// Null where the system has none.
void* LargeBlocks::take(std::size_t size) {
  const std::lock_guard lock(mutex_);
  Block block{nullptr, size};
  const auto last = std::find_if(kept_.rbegin(), kept_.rend(),
                                 [&](const Block& one) { return one.size >= size && one.size - size <= size / 4; });
  if (last != kept_.rend()) {
    block = *last;
    kept_.erase(std::next(last).base());
    kept_bytes_ -= block.size;
  } else {
    const std::size_t most = std::max(most_in_use_, in_use_ + size);
    while (!kept_.empty() && in_use_ + size + kept_bytes_ > most + most / 8) release_oldest();
    if (kept_.capacity() <= sizes_.size()) kept_.reserve(2 * sizes_.size() + 1);  // so that freeing it cannot fail
    while ((block.begin = map(size)) == nullptr && !kept_.empty()) release_oldest();
    if (block.begin == nullptr) return nullptr;
    sizes_.emplace(block.begin, size);
  }
  in_use_ += block.size;
  most_in_use_ = std::max(most_in_use_, in_use_);
  return block.begin;
}

// Whether it is one of these.
bool LargeBlocks::give_back(void* block) {
  if (reinterpret_cast<std::uintptr_t>(block) % kLargePage != 0) return false;  // small ones wait for nobody
  const std::lock_guard lock(mutex_);
  const auto found = sizes_.find(block);
  if (found == sizes_.end()) return false;
  in_use_ -= found->second;
  kept_bytes_ += found->second;
  kept_.push_back({block, found->second});
  return true;
}

void LargeBlocks::release_oldest() {
  const Block block = kept_.front();
  kept_.erase(kept_.begin());
  kept_bytes_ -= block.size;
  sizes_.erase(block.begin);
  munmap(block.begin, block.size);
}

}  // namespace ristretto::env
