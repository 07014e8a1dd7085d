#include "platform/lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <thread>

#include "platform/clock.h"
#include "platform/error.h"
#include "platform/file_fault.h"
#include "platform/text.h"

namespace ristretto {

FileLock::FileLock(const std::filesystem::path& path, const std::string& purpose, double wait_seconds) {
  fd_ = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd_ < 0) {
    const int error = errno;
    throw Error(Fault::failed, str(path.string(), ": cannot be opened: ", std::strerror(error)), hint_of(error));
  }
  const Stopwatch waited;
  while (flock(fd_, LOCK_EX | LOCK_NB) != 0) {
    const int error = errno;
    if (error == EINTR) continue;
    if (error == EWOULDBLOCK && waited.seconds() < wait_seconds) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      continue;
    }
    char holder[256] = {};
    const ssize_t length = pread(fd_, holder, sizeof holder - 1, 0);
    close(fd_);
    if (error != EWOULDBLOCK) {
      throw Error(Fault::failed, str(path.string(), ": cannot be locked: ", std::strerror(error)));
    }
    throw Error(Fault::busy,
                str(path.string(), " is locked by ", length > 0 ? std::string(holder) : std::string("another process")),
                "wait for it to end, or stop it; the lock goes with its process");
  }
  const std::string holder = str("process ", static_cast<long long>(getpid()), " (", purpose, ")");
  if (ftruncate(fd_, 0) != 0 || pwrite(fd_, holder.data(), holder.size(), 0) < 0) {
    // The lock is held all the same; only its description for others is missing.
  }
}

FileLock::~FileLock() {
  if (fd_ >= 0) close(fd_);
}

}  // namespace ristretto
