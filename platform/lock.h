// One process at a time: an advisory lock (flock) on a file, released when the object or the process goes.
#pragma once

#include <filesystem>
#include <string>

namespace ristretto {

class FileLock {
 public:
  // Creates `path` if needed and waits up to `wait_seconds` for the lock. Throws Error(busy) naming the file and the
  // process that holds it (which writes its id and `purpose` into the file).
  FileLock(const std::filesystem::path& path, const std::string& purpose, double wait_seconds = 0);
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  int fd_ = -1;
};

}  // namespace ristretto
