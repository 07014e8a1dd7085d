// Memory of large tensors on a CPU.
#pragma once

#include <c10/core/Allocator.h>

#include <cstddef>
#include <mutex>
#include <unordered_map>
#include <vector>

namespace ristretto::env {

// LibTorch's CPU allocator (c10::SetCPUAllocator) for a program that allocates the same large tensors again and again.
// Blocks of 256 KiB and more begin at a large page and are kept when they are freed; of those that fit the one freed
// last is taken, which the shared cache may still hold. malloc takes the one freed first, so that a thread's tensors
// wander through some 300 MB, and gives its heaps of 64 MB back and takes them again. A block may be a quarter larger
// than what is asked of it; blocks in use and kept are together never more than an eighth above the most that were ever
// in use.
class LargeBlocks final : public c10::Allocator {
 public:
  static constexpr std::size_t kLeast = std::size_t{1} << 18;

  // There is one: a block's deleter knows its address alone. It is never destroyed, for tensors may outlive main.
  static LargeBlocks& instance();

  // Throws as LibTorch's own allocator does where there is no memory.
  c10::DataPtr allocate(std::size_t bytes) override;
  c10::DeleterFnPtr raw_deleter() const override;
  void copy_data(void* to, const void* from, std::size_t bytes) const override;

  std::size_t kept() const;  // bytes
  // Gives what is kept back to the system; how many bytes.
  std::size_t release();

 private:
  struct Block {
    void* begin;
    std::size_t size;
  };
  LargeBlocks() = default;
  void* take(std::size_t size);
  bool give_back(void* block);
  void release_oldest();

  mutable std::mutex mutex_;
  std::unordered_map<void*, std::size_t> sizes_;  // of blocks in use and kept
  std::vector<Block> kept_;                       // the one freed last is the last
  std::size_t in_use_ = 0, most_in_use_ = 0, kept_bytes_ = 0;
};

// From here on this process' tensors live in them; not where a sanitizer watches over malloc's.
void keep_large_blocks();

}  // namespace ristretto::env
