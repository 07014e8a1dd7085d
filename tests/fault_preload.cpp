// A library for LD_PRELOAD: the process dies at its N-th call of those by which files become durable or change their
// names, or finds the disk full, a directory read-only or another time. For test_faults and test_nightly.
//
//   FAULT_LOG=FILE       appends a line "call path" for each call that FAULT_KILL counts
//   FAULT_KILL=N         killed before the N-th call of fsync, fdatasync, rename*, symlink, link, unlink, remove, and
//   of
//                        pwrite, copy_file_range and sendfile to a file (SQLite's, and std::filesystem's copies)
//   FAULT_FULL=N         from the N-th write to a file on, writes fail with ENOSPC
//   FAULT_READONLY=DIR   whatever would change something below DIR, a path without links, fails with EROFS
//   FAULT_CLOCK=SECONDS  is added to the time of day
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>

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

using Open = int(const char*, int, ...);
using Write = ssize_t(int, const void*, size_t);

std::string path_of(int fd) {
  char target[PATH_MAX];
  const ssize_t length = readlink(("/proc/self/fd/" + std::to_string(fd)).c_str(), target, sizeof target);
  return length < 0 ? "" : std::string(target, static_cast<size_t>(length));
}

void reach_point(const char* call, const std::string& path) {
  const long number = ++calls;
  if (const char* file = std::getenv("FAULT_LOG")) {
    const std::string line = std::string(call) + " " + path + "\n";
    const int fd = real<Open>("open")(file, O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0644);
    if (fd >= 0) {
      if (real<Write>("write")(fd, line.data(), line.size()) != static_cast<ssize_t>(line.size())) std::abort();
      close(fd);
    }
  }
  if (number == number_of("FAULT_KILL")) raise(SIGKILL);
}

bool is_file(int fd) {
  struct stat status {};
  return fd > 2 && fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
}

bool disk_is_full(int fd) {
  if (!is_file(fd)) return false;
  const long full = number_of("FAULT_FULL");
  if (full == 0 || ++writes < full) return false;
  errno = ENOSPC;
  return true;
}

bool is_read_only(const char* path, int directory = AT_FDCWD) {
  const char* below = std::getenv("FAULT_READONLY");
  if (below == nullptr || path == nullptr) return false;
  std::string absolute = path;
  if (absolute.empty() || absolute[0] != '/') {
    char here[PATH_MAX];
    const std::string base = directory != AT_FDCWD                  ? path_of(directory)
                             : getcwd(here, sizeof here) != nullptr ? std::string(here)
                                                                    : std::string();
    absolute = base + "/" + absolute;
  }
  const size_t length = std::strlen(below);
  if (absolute.compare(0, length, below) != 0 || (absolute.size() > length && absolute[length] != '/')) return false;
  errno = EROFS;
  return true;
}

bool would_change(int flags) { return (flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC)) != 0; }

int open_as(const char* name, const char* path, int flags, mode_t mode) {
  if (would_change(flags) && is_read_only(path)) return -1;
  return real<Open>(name)(path, flags, mode);
}

mode_t mode_in(va_list list, int flags) { return (flags & O_CREAT) != 0 ? va_arg(list, mode_t) : 0; }

}  // namespace

extern "C" {

int fsync(int fd) {
  reach_point("fsync", path_of(fd));
  return real<int(int)>("fsync")(fd);
}
int fdatasync(int fd) {
  reach_point("fdatasync", path_of(fd));
  return real<int(int)>("fdatasync")(fd);
}
int rename(const char* from, const char* to) {
  if (is_read_only(from) || is_read_only(to)) return -1;
  reach_point("rename", to);
  return real<int(const char*, const char*)>("rename")(from, to);
}
int renameat(int a, const char* from, int b, const char* to) {
  if (is_read_only(from, a) || is_read_only(to, b)) return -1;
  reach_point("renameat", to);
  return real<int(int, const char*, int, const char*)>("renameat")(a, from, b, to);
}
int renameat2(int a, const char* from, int b, const char* to, unsigned flags) {
  if (is_read_only(from, a) || is_read_only(to, b)) return -1;
  reach_point("renameat2", to);
  return real<int(int, const char*, int, const char*, unsigned)>("renameat2")(a, from, b, to, flags);
}
int symlink(const char* target, const char* path) {
  if (is_read_only(path)) return -1;
  reach_point("symlink", path);
  return real<int(const char*, const char*)>("symlink")(target, path);
}
int link(const char* from, const char* to) {
  if (is_read_only(to)) return -1;
  reach_point("link", to);
  return real<int(const char*, const char*)>("link")(from, to);
}
int unlink(const char* path) {
  if (is_read_only(path)) return -1;
  reach_point("unlink", path);
  return real<int(const char*)>("unlink")(path);
}
int remove(const char* path) {
  if (is_read_only(path)) return -1;
  reach_point("remove", path);
  return real<int(const char*)>("remove")(path);
}
ssize_t write(int fd, const void* bytes, size_t count) {
  if (disk_is_full(fd)) return -1;
  return real<Write>("write")(fd, bytes, count);
}
ssize_t writev(int fd, const iovec* parts, int count) {
  if (disk_is_full(fd)) return -1;
  return real<ssize_t(int, const iovec*, int)>("writev")(fd, parts, count);
}
ssize_t pwrite(int fd, const void* bytes, size_t count, off_t offset) {
  if (disk_is_full(fd)) return -1;
  if (is_file(fd)) reach_point("pwrite", path_of(fd));
  return real<ssize_t(int, const void*, size_t, off_t)>("pwrite")(fd, bytes, count, offset);
}
ssize_t pwrite64(int fd, const void* bytes, size_t count, off64_t offset) {
  if (disk_is_full(fd)) return -1;
  if (is_file(fd)) reach_point("pwrite", path_of(fd));
  return real<ssize_t(int, const void*, size_t, off64_t)>("pwrite64")(fd, bytes, count, offset);
}
ssize_t copy_file_range(int in, off64_t* from, int out, off64_t* to, size_t count, unsigned flags) {
  if (disk_is_full(out)) return -1;
  reach_point("copy_file_range", path_of(out));
  return real<ssize_t(int, off64_t*, int, off64_t*, size_t, unsigned)>("copy_file_range")(in, from, out, to, count,
                                                                                          flags);
}
ssize_t sendfile(int out, int in, off_t* offset, size_t count) {
  if (disk_is_full(out)) return -1;
  if (is_file(out)) reach_point("sendfile", path_of(out));
  return real<ssize_t(int, int, off_t*, size_t)>("sendfile")(out, in, offset, count);
}
ssize_t sendfile64(int out, int in, off64_t* offset, size_t count) {
  if (disk_is_full(out)) return -1;
  if (is_file(out)) reach_point("sendfile", path_of(out));
  return real<ssize_t(int, int, off64_t*, size_t)>("sendfile64")(out, in, offset, count);
}

int open(const char* path, int flags, ...) {
  va_list list;
  va_start(list, flags);
  const mode_t mode = mode_in(list, flags);
  va_end(list);
  return open_as("open", path, flags, mode);
}
int open64(const char* path, int flags, ...) {
  va_list list;
  va_start(list, flags);
  const mode_t mode = mode_in(list, flags);
  va_end(list);
  return open_as("open64", path, flags, mode);
}
FILE* fopen(const char* path, const char* mode) {
  if (std::strpbrk(mode, "wa+") != nullptr && is_read_only(path)) return nullptr;
  return real<FILE*(const char*, const char*)>("fopen")(path, mode);
}
FILE* fopen64(const char* path, const char* mode) {
  if (std::strpbrk(mode, "wa+") != nullptr && is_read_only(path)) return nullptr;
  return real<FILE*(const char*, const char*)>("fopen64")(path, mode);
}
int mkostemp(char* path, int flags) {
  if (is_read_only(path)) return -1;
  return real<int(char*, int)>("mkostemp")(path, flags);
}
int mkdir(const char* path, mode_t mode) {
  struct stat status {};
  if (stat(path, &status) != 0 && is_read_only(path)) return -1;
  return real<int(const char*, mode_t)>("mkdir")(path, mode);
}
int chmod(const char* path, mode_t mode) {
  if (is_read_only(path)) return -1;
  return real<int(const char*, mode_t)>("chmod")(path, mode);
}

int clock_gettime(clockid_t clock, timespec* time) noexcept {
  static const auto function = real<int(clockid_t, timespec*)>("clock_gettime");
  static const long shift = number_of("FAULT_CLOCK");
  const int code = function(clock, time);
  if (clock == CLOCK_REALTIME) time->tv_sec += shift;
  return code;
}
time_t time(time_t* out) noexcept {
  const time_t now = real<time_t(time_t*)>("time")(nullptr) + number_of("FAULT_CLOCK");
  if (out != nullptr) *out = now;
  return now;
}
}
