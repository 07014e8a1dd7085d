// Zip archives (libzip): members by name, and archives whose bytes depend on their contents alone.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ristretto::formats {

struct ArchiveMember {
  std::string name;
  std::uint64_t size = 0;  // uncompressed
  bool stored = true;      // not compressed
};

// Read-only view of a zip archive held in memory. Not thread-safe.
class Archive {
 public:
  // Throws Error(incompatible): not a zip archive, cut, duplicate names. `bytes` must outlive the object.
  Archive(std::string_view bytes, std::string origin);
  ~Archive();
  Archive(const Archive&) = delete;
  Archive& operator=(const Archive&) = delete;

  const std::vector<ArchiveMember>& members() const { return members_; }
  // The member's bytes; at most `limit_bytes`, else Error(incompatible).
  std::string read(const std::string& name, std::uint64_t limit_bytes) const;
  // The member's first `count` bytes, or all of a shorter one.
  std::string read_head(const std::string& name, std::uint64_t count) const;

 private:
  std::size_t locate(const std::string& name) const;

  void* zip_ = nullptr;  // zip_t
  std::string origin_;
  std::vector<ArchiveMember> members_;
};

// STORED members in the order given, data aligned to `alignment` bytes, a fixed date: equal bytes for equal input.
std::string write_archive(const std::vector<std::pair<std::string, std::string>>& members, int alignment = 1);

}  // namespace ristretto::formats
