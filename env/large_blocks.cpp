#include "env/large_blocks.h"

#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <iterator>

namespace ristretto::env {
namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kLargePage = std::size_t{2} << 20;

std::size_t round_up(std::size_t bytes, std::size_t to) { return (bytes + to - 1) / to * to; }

}  // namespace

void keep_large_blocks() { c10::SetCPUAllocator(&LargeBlocks::instance(), 1); }

LargeBlocks& LargeBlocks::instance() {
  static auto* const one = new LargeBlocks;
  return *one;
}

c10::DeleterFnPtr LargeBlocks::raw_deleter() const {
  return [](void* block) {
    if (!instance().give_back(block)) c10::free_cpu(block);
  };
}

c10::DataPtr LargeBlocks::allocate(std::size_t bytes) {
  void* block = bytes < kLeast ? nullptr : take(round_up(bytes, kPage));
  if (block == nullptr) block = c10::alloc_cpu(bytes);  // throws where there is none
  return {block, block, raw_deleter(), c10::Device(c10::DeviceType::CPU)};
}

void LargeBlocks::copy_data(void* to, const void* from, std::size_t bytes) const { default_copy_data(to, from, bytes); }

std::size_t LargeBlocks::kept() const {
  const std::lock_guard lock(mutex_);
  return kept_bytes_;
}

// Null where the system has none.
void* LargeBlocks::take(std::size_t size) {
  const std::lock_guard lock(mutex_);
  const auto fits = [&](void* block) {
    const std::size_t has = sizes_.at(block);
    return has >= size && has - size <= size / 4;
  };
  void* block = nullptr;
  const auto last = std::find_if(kept_.rbegin(), kept_.rend(), fits);
  if (last != kept_.rend()) {
    block = *last;
    kept_.erase(std::next(last).base());
    kept_bytes_ -= sizes_.at(block);
  } else {
    const std::size_t most = std::max(most_in_use_, in_use_ + size);
    while (!kept_.empty() && in_use_ + size + kept_bytes_ > most + most / 8) release_oldest();
    block = map(size);
    while (block == nullptr && !kept_.empty()) {
      release_oldest();
      block = map(size);
    }
    if (block == nullptr) return nullptr;
    sizes_.emplace(block, size);
  }
  in_use_ += sizes_.at(block);
  most_in_use_ = std::max(most_in_use_, in_use_);
  return block;
}

// Null where the system has none.
void* LargeBlocks::map(std::size_t size) {
  void* const all = mmap(nullptr, size + kLargePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (all == MAP_FAILED) return nullptr;
  // What lies before the first large page, and behind the block.
  char* const begin = static_cast<char*>(all);
  const std::size_t before = round_up(reinterpret_cast<std::uintptr_t>(all), kLargePage) - reinterpret_cast<std::uintptr_t>(all);
  if (before > 0) munmap(begin, before);
  if (before < kLargePage) munmap(begin + before + size, kLargePage - before);
#if defined(MADV_HUGEPAGE)
  madvise(begin + before, size, MADV_HUGEPAGE);
#endif
  return begin + before;
}

// Whether it is one of these.
bool LargeBlocks::give_back(void* block) {
  if (reinterpret_cast<std::uintptr_t>(block) % kLargePage != 0) return false;
  const std::lock_guard lock(mutex_);
  const auto found = sizes_.find(block);
  if (found == sizes_.end()) return false;
  in_use_ -= found->second;
  kept_bytes_ += found->second;
  kept_.push_back(block);
  return true;
}

void LargeBlocks::release_oldest() {
  void* const block = kept_.front();
  kept_.erase(kept_.begin());
  const auto found = sizes_.find(block);
  kept_bytes_ -= found->second;
  munmap(block, found->second);
  sizes_.erase(found);
}

}  // namespace ristretto::env
