#include "release/directories.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <map>
#include <utility>
#include <vector>

#include "platform/atomic_file.h"
#include "platform/error.h"
#include "platform/file_fault.h"
#include "platform/text.h"

namespace ristretto::release {
namespace {

namespace fs = std::filesystem;

constexpr mode_t kFileMode = 0444, kDirectoryMode = 0555, kOpenDirectoryMode = 0755;

[[noreturn]] void fail(const fs::path& path, const std::string& what, int error, const std::string& hint = {}) {
  throw Error(Fault::failed, str(path.string(), ": cannot be ", what, ": ", std::strerror(error)),
              hint.empty() ? hint_of(error) : hint);
}

void set_mode(const fs::path& path, mode_t mode) {
  if (chmod(path.c_str(), mode) != 0) fail(path, "given another mode", errno);
}

}  // namespace

void copy_tree(const fs::path& from, const fs::path& to) {
  std::map<std::pair<dev_t, ino_t>, fs::path> copied;  // files with several names
  fs::create_directory(to);
  for (const auto& entry : fs::recursive_directory_iterator(from)) {
    const fs::path target = to / entry.path().lexically_relative(from);
    if (entry.is_directory()) {
      fs::create_directory(target);
      continue;
    }
    struct stat status {};
    if (stat(entry.path().c_str(), &status) != 0) fail(entry.path(), "read", errno);
    const auto [first, is_new] = copied.try_emplace({status.st_dev, status.st_ino}, target);
    std::error_code unlinkable;
    if (!is_new) fs::create_hard_link(first->second, target, unlinkable);
    if (is_new || unlinkable) fs::copy_file(entry.path(), target);
  }
}

void make_directories(const fs::path& directory) {
  if (!fs::create_directories(directory)) return;
  sync_path(directory.parent_path());
  sync_path(directory.parent_path().parent_path());
}

void sync_tree(const fs::path& directory) {
  for (const auto& entry : fs::directory_iterator(directory)) {
    if (entry.is_directory()) {
      sync_tree(entry.path());
    } else {
      sync_path(entry.path());
    }
  }
  sync_path(directory);
}

void require_own(const fs::path& directory) {
  const auto require = [&](const fs::path& path) {
    struct stat status {};
    if (lstat(path.c_str(), &status) != 0) fail(path, "read", errno);
    if (geteuid() == 0 || status.st_uid == geteuid()) return;
    throw Error(Fault::failed, str(path.string(), " belongs to another user, so it cannot be made read-only"),
                "sudo chown -R $USER " + directory.string());
  };
  require(directory);
  for (const auto& entry : fs::recursive_directory_iterator(directory)) require(entry.path());
}

void make_read_only(const fs::path& directory) {
  for (const auto& entry : fs::directory_iterator(directory)) {
    if (entry.is_directory()) {
      make_read_only(entry.path());
    } else {
      set_mode(entry.path(), kFileMode);
    }
  }
  set_mode(directory, kDirectoryMode);
}

void remove_tree(const fs::path& directory) {
  if (!fs::is_directory(fs::symlink_status(directory))) {
    fs::remove(directory);
    return;
  }
  set_mode(directory, kOpenDirectoryMode);
  for (const auto& entry : fs::directory_iterator(directory)) remove_tree(entry.path());
  fs::remove(directory);
}

std::int64_t bytes_below(const fs::path& directory) {
  std::int64_t sum = 0;
  if (!fs::exists(directory)) return 0;
  std::error_code gone;  // what another retrain has just moved
  const auto end = fs::recursive_directory_iterator();
  for (auto entry = fs::recursive_directory_iterator(directory, gone); !gone && entry != end; entry.increment(gone)) {
    std::error_code ignored;
    if (!entry->is_regular_file(ignored) || entry->is_symlink(ignored)) continue;
    const std::uintmax_t size = entry->file_size(ignored);
    if (!ignored) sum += static_cast<std::int64_t>(size);
  }
  return sum;
}

void remove_from_read_only(const fs::path& file) {
  set_mode(file.parent_path(), kOpenDirectoryMode);
  fs::remove(file);
  set_mode(file.parent_path(), kDirectoryMode);
}

void move_tree(const fs::path& from, const fs::path& to) {
  if (std::rename(from.c_str(), to.c_str()) == 0) return;
  if (errno != EXDEV) fail(from, str("moved to ", to.string()), errno);
  copy_tree(from, to);
  remove_tree(from);
}

void rename_new(const fs::path& from, const fs::path& to) {
  if (renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return;
  int error = errno;
  if (error == EINVAL || error == ENOSYS) {
    if (fs::exists(fs::symlink_status(to))) {
      error = EEXIST;
    } else {
      if (std::rename(from.c_str(), to.c_str()) == 0) return;
      error = errno;
    }
  }
  if (error == EEXIST) {
    throw Error(Fault::refused, str(to.string(), " appeared meanwhile, expected it to be free"), "start again");
  }
  fail(to, "put in place", error);
}

void exchange(const fs::path& a, const fs::path& b) {
  if (renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE) == 0) return;
  const bool unknown = errno == EINVAL || errno == ENOSYS;
  fail(a, "exchanged with its link", errno,
       unknown
           ? "its file system cannot exchange two names: while nothing opens it, move the directory away, promote, and "
             "keep the old one where it is"
           : "");
}

void rename_over(const fs::path& from, const fs::path& to) {
  if (std::rename(from.c_str(), to.c_str()) != 0) fail(to, "replaced", errno);
}

}  // namespace ristretto::release
