#include "formats/tensorboard.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <system_error>

#include "platform/error.h"
#include "platform/log.h"
#include "platform/text.h"

namespace ristretto::formats {
namespace {

constexpr std::size_t kFlushBytes = std::size_t{1} << 16;

// CRC-32C (Castagnoli), reflected.
constexpr std::array<std::uint32_t, 256> crc_table() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82F63B78U : 0U);
    table[i] = crc;
  }
  return table;
}

// As TFRecord stores it: rotated and shifted, so that a checksum of data with checksums inside stays meaningful.
std::uint32_t masked_crc(std::string_view bytes) {
  static constexpr auto kTable = crc_table();
  std::uint32_t crc = 0xFFFFFFFFU;
  for (const char byte : bytes) crc = (crc >> 8) ^ kTable[(crc ^ static_cast<unsigned char>(byte)) & 0xFF];
  crc = ~crc;
  return ((crc >> 15) | (crc << 17)) + 0xA282EAD8U;
}

template <class T>
void raw(std::string& out, T number) {
  out.append(reinterpret_cast<const char*>(&number), sizeof number);
}

// Protocol buffers: a field's number and wire type, then its value.
enum class Wire : std::uint32_t { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };

void varint(std::string& out, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>((value & 0x7F) | 0x80);
  out += static_cast<char>(value);
}

void key(std::string& out, std::uint32_t field, Wire wire) {
  varint(out, field << 3 | static_cast<std::uint32_t>(wire));
}

std::string bytes_field(std::uint32_t field, std::string_view bytes) {
  std::string out;
  key(out, field, Wire::bytes);
  varint(out, bytes.size());
  return out.append(bytes);
}

std::string varint_field(std::uint32_t field, std::uint64_t value) {
  std::string out;
  key(out, field, Wire::varint);
  varint(out, value);
  return out;
}

std::string record(const std::string& event) {
  std::string out;
  raw(out, std::uint64_t{event.size()});
  raw(out, masked_crc(out));
  out += event;
  raw(out, masked_crc(event));
  return out;
}

double wall_seconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// tensorflow/core/util/event.proto: wall_time 1, step 2, file_version 3, summary 5.
std::string event(std::int64_t step, const std::string& content) {
  std::string out;
  key(out, 1, Wire::fixed64);
  raw(out, wall_seconds());
  return out + varint_field(2, static_cast<std::uint64_t>(step)) + content;
}

// tensorflow/core/framework/summary.proto: a Summary of one Value {tag 1, simple_value 2, tensor 8, metadata 9}.
std::string summary(const std::string& tag, const std::string& content) {
  return bytes_field(5, bytes_field(1, bytes_field(1, tag) + content));
}

}  // namespace

EventWriter::EventWriter(const std::filesystem::path& directory) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) throw Error(Fault::failed, str(directory.string(), ": cannot be created: ", error.message()));
  char host[256] = "";
  gethostname(host, sizeof host - 1);
  path_ = directory / str("events.out.tfevents.", static_cast<std::int64_t>(wall_seconds()), '.', host, '.', getpid());
  fd_ = open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd_ < 0) throw Error(Fault::failed, str(path_.string(), ": cannot be opened: ", std::strerror(errno)));
  pending_ = record(event(0, bytes_field(3, "brain.Event:2")));
}

EventWriter::~EventWriter() {
  try {
    flush();
  } catch (const Error& error) {
    log::warning("formats", error.what());
  }
  close(fd_);
}

void EventWriter::scalar(const std::string& tag, double value, std::int64_t step) {
  std::string simple_value;
  key(simple_value, 2, Wire::fixed32);
  raw(simple_value, static_cast<float>(value));
  pending_ += record(event(step, summary(tag, simple_value)));
  if (pending_.size() >= kFlushBytes) flush();
}

void EventWriter::text(const std::string& tag, const std::string& markdown, std::int64_t step) {
  constexpr std::uint64_t kStringType = 7;   // DT_STRING
  constexpr std::uint64_t kTensorClass = 2;  // DATA_CLASS_TENSOR
  const std::string metadata = bytes_field(1, bytes_field(1, "text")) + varint_field(4, kTensorClass);
  const std::string one_dimension = bytes_field(2, varint_field(1, 1));
  const std::string tensor = varint_field(1, kStringType) + bytes_field(2, one_dimension) + bytes_field(8, markdown);
  pending_ += record(event(step, summary(tag, bytes_field(8, tensor) + bytes_field(9, metadata))));
  if (pending_.size() >= kFlushBytes) flush();
}

void EventWriter::flush() {
  std::size_t done = 0;
  while (done < pending_.size()) {
    const ssize_t written = write(fd_, pending_.data() + done, pending_.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) {
      const std::string reason = std::strerror(errno);
      pending_.erase(0, done);  // what is written must not be written again
      throw Error(Fault::failed, str(path_.string(), ": cannot be written: ", reason));
    }
    done += static_cast<std::size_t>(written);
  }
  pending_.clear();
}

}  // namespace ristretto::formats
