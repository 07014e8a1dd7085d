#include "platform/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "platform/error.h"
#include "platform/file_fault.h"
#include "platform/text.h"

namespace ristretto {
namespace {

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

[[noreturn]] void fail(const std::string& what, const std::filesystem::path& path, int error) {
  throw Error(Fault::failed, str(path.string(), ": ", what, ": ", std::strerror(error)), hint_of(error));
}

// Whether all of `bytes` are written; errno says why not.
bool write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t put = write(fd, bytes.data(), bytes.size());
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(put));
  }
  return true;
}

}  // namespace

std::string read_file(const std::filesystem::path& path, std::size_t limit_bytes) {
  const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) fail("cannot be opened", path, errno);
  struct stat status {};
  if (fstat(file.get(), &status) != 0) fail("cannot be read", path, errno);
  if (S_ISDIR(status.st_mode)) fail("cannot be read", path, EISDIR);
  if (static_cast<std::size_t>(status.st_size) > limit_bytes) {
    throw Error(Fault::incompatible,
                str(path.string(), " has ", status.st_size, " bytes, expected at most ", limit_bytes));
  }
  // A byte more: the last read finds the end without another block of the size.
  std::string bytes(static_cast<std::size_t>(status.st_size) + 1, '\0');
  std::size_t filled = 0;
  for (;;) {
    if (filled == bytes.size()) bytes.resize(bytes.size() + 4096);  // files of /proc report no size
    const ssize_t got = read(file.get(), bytes.data() + filled, bytes.size() - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail("cannot be read", path, errno);
    if (got == 0) break;
    filled += static_cast<std::size_t>(got);
    if (filled > limit_bytes) {
      throw Error(Fault::incompatible, str(path.string(), " has more than ", limit_bytes, " bytes"));
    }
  }
  bytes.resize(filled);
  return bytes;
}

void sync_path(const std::filesystem::path& path) {
  const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) fail("cannot be opened", path, errno);
  if (fsync(file.get()) != 0) fail("cannot be flushed to the disk", path, errno);
}

void require_writable(const std::filesystem::path& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) fail("cannot be written", path, EISDIR);
  const std::filesystem::path parent = path.has_parent_path() ? path.parent_path() : ".";
  if (access(parent.c_str(), W_OK | X_OK) != 0) fail("cannot be created in its directory", path, errno);
}

void append_line(const std::filesystem::path& path, std::string_view line) {
  const Descriptor file(open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  if (file.get() < 0) fail("cannot be opened", path, errno);
  struct stat status {};
  if (fstat(file.get(), &status) != 0) fail("cannot be read", path, errno);
  char last = '\n';
  if (status.st_size > 0 && pread(file.get(), &last, 1, status.st_size - 1) != 1) fail("cannot be read", path, errno);
  const std::string text = str(last == '\n' ? "" : "\n", line, '\n');
  if (!write_all(file.get(), text)) {
    const int error = errno;
    // Best effort: where half a line stays, the next one begins anew.
    [[maybe_unused]] const int code = ftruncate(file.get(), status.st_size);
    fail("cannot be appended to", path, error);
  }
  if (fsync(file.get()) != 0) fail("cannot be flushed to the disk", path, errno);
  if (status.st_size == 0) sync_path(path.has_parent_path() ? path.parent_path() : ".");
}

void write_file_atomically(const std::filesystem::path& path, std::string_view bytes) {
  const std::filesystem::path directory = path.has_parent_path() ? path.parent_path() : ".";
  std::string temporary = (directory / (".tmp-" + path.filename().string() + "-XXXXXX")).string();
  const Descriptor file(mkostemp(temporary.data(), O_CLOEXEC));
  if (file.get() < 0) fail("cannot be created in its directory", path, errno);
  const auto give_up = [&](const char* what) {
    const int error = errno;
    unlink(temporary.c_str());
    fail(what, path, error);
  };
  if (!write_all(file.get(), bytes)) give_up("cannot be written");
  if (fchmod(file.get(), 0644) != 0 || fsync(file.get()) != 0) give_up("cannot be flushed to the disk");
  if (rename(temporary.c_str(), path.c_str()) != 0) give_up("cannot be put in place");
  sync_path(directory);
}

}  // namespace ristretto
