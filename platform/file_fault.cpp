#include "platform/file_fault.h"

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "platform/text.h"

namespace ristretto {

std::string message_of(const std::exception& error) {
  const auto* of_files = dynamic_cast<const std::filesystem::filesystem_error*>(&error);
  if (of_files == nullptr) return error.what();
  // "filesystem error: cannot create directories: Read-only file system [a] [b]"
  std::string what = of_files->what();
  if (const std::string prefix = "filesystem error: "; what.starts_with(prefix)) what.erase(0, prefix.size());
  what.resize(std::min(what.size(), what.find(':')));
  const std::filesystem::path &first = of_files->path1(), &second = of_files->path2();
  return str(first.empty() ? "a file" : first.string(), second.empty() ? "" : " to " + second.string(), ": ", what,
             ": ", of_files->code().message());
}

std::string hint_of(int system_error) {
  switch (system_error) {
    case EROFS:
    case EACCES:
    case EPERM:
      return "make it writable for this user, or name another directory";
    case ENOSPC:
    case EDQUOT:
      return "free space: remove old runs, and old versions (ristretto prune)";
    default:
      return "";
  }
}

}  // namespace ristretto
