// A directory of its own that goes with the test.
#pragma once

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <system_error>

namespace ristretto {

struct TemporaryDirectory {
  std::filesystem::path path;
  explicit TemporaryDirectory(const std::filesystem::path& parent = std::filesystem::temp_directory_path()) {
    std::string name = (parent / "ristretto-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw std::system_error(errno, std::generic_category(), name);
    path = name;
  }
  ~TemporaryDirectory() {
    std::error_code ignored;
    // Versions are read-only.
    for (std::filesystem::recursive_directory_iterator at(path, ignored), end; at != end; at.increment(ignored)) {
      if (at->symlink_status(ignored).type() != std::filesystem::file_type::directory) continue;
      std::filesystem::permissions(at->path(), std::filesystem::perms::owner_all, std::filesystem::perm_options::add,
                                   ignored);
    }
    std::filesystem::remove_all(path, ignored);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
};

}  // namespace ristretto
