// A library for LD_PRELOAD: the process dies at, or the disk fills up from, its N-th call of those by which files
// become durable or change their names. For test_faults.
//
//   FAULT_KILL=N     killed before the N-th call of fsync, fdatasync, rename, renameat, renameat2, symlink, link,
//   unlink FAULT_FULL=N     from the N-th write to a file on, write fails with ENOSPC FAULT_COUNT=FILE appends a byte
//   to FILE for each of the calls that FAULT_KILL counts
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>

namespace {

std::atomic<long> calls{0}, writes{0};

long number_of(const char* name) {
  const char* text = std::getenv(name);
  return text == nullptr ? 0 : std::atol(text);
}

template <class Function>
Function* real(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

void reach_point() {
  const long call = ++calls;
  if (const char* file = std::getenv("FAULT_COUNT")) {
    const int fd = open(file, O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0644);
    if (fd >= 0) {
      if (real<ssize_t(int, const void*, size_t)>("write")(fd, ".", 1) != 1) std::abort();
      close(fd);
    }
  }
  if (call == number_of("FAULT_KILL")) raise(SIGKILL);
}

bool disk_is_full(int fd) {
  struct stat status {};
  if (fd <= 2 || fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) return false;
  const long full = number_of("FAULT_FULL");
  if (full == 0 || ++writes < full) return false;
  errno = ENOSPC;
  return true;
}

}  // namespace

extern "C" {

int fsync(int fd) {
  reach_point();
  return real<int(int)>("fsync")(fd);
}
int fdatasync(int fd) {
  reach_point();
  return real<int(int)>("fdatasync")(fd);
}
int rename(const char* from, const char* to) {
  reach_point();
  return real<int(const char*, const char*)>("rename")(from, to);
}
int renameat(int a, const char* from, int b, const char* to) {
  reach_point();
  return real<int(int, const char*, int, const char*)>("renameat")(a, from, b, to);
}
int renameat2(int a, const char* from, int b, const char* to, unsigned flags) {
  reach_point();
  return real<int(int, const char*, int, const char*, unsigned)>("renameat2")(a, from, b, to, flags);
}
int symlink(const char* target, const char* path) {
  reach_point();
  return real<int(const char*, const char*)>("symlink")(target, path);
}
int link(const char* from, const char* to) {
  reach_point();
  return real<int(const char*, const char*)>("link")(from, to);
}
int unlink(const char* path) {
  reach_point();
  return real<int(const char*)>("unlink")(path);
}
ssize_t write(int fd, const void* bytes, size_t count) {
  if (disk_is_full(fd)) return -1;
  return real<ssize_t(int, const void*, size_t)>("write")(fd, bytes, count);
}
ssize_t writev(int fd, const iovec* parts, int count) {
  if (disk_is_full(fd)) return -1;
  return real<ssize_t(int, const iovec*, int)>("writev")(fd, parts, count);
}
}
