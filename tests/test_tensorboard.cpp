#include <doctest/doctest.h>
#include <unistd.h>

#include <cstring>
#include <ctime>
#include <filesystem>
#include <map>

#include "formats/tensorboard.h"
#include "platform/atomic_file.h"
#include "platform/error.h"
#include "platform/text.h"
#include "temporary_directory.h"

using namespace ristretto;
using namespace ristretto::formats;

namespace {

template <class T>
T number_at(std::string_view bytes, std::size_t at) {
  T value{};
  REQUIRE(at + sizeof value <= bytes.size());
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

// CRC-32C bit by bit, then TFRecord's mask.
std::uint32_t masked_crc(std::string_view bytes) {
  std::uint32_t crc = ~0U;
  for (const char byte : bytes) {
    crc ^= static_cast<unsigned char>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = (crc & 1) != 0 ? (crc >> 1) ^ 0x82F63B78U : crc >> 1;
  }
  crc = ~crc;
  return ((crc >> 15) | (crc << 17)) + 0xA282EAD8U;
}

std::vector<std::string> records_of(const std::string& file) {
  std::vector<std::string> out;
  for (std::size_t at = 0; at < file.size();) {
    const auto length = number_at<std::uint64_t>(file, at);
    CHECK(number_at<std::uint32_t>(file, at + 8) == masked_crc(file.substr(at, 8)));
    out.push_back(file.substr(at + 12, length));
    CHECK(number_at<std::uint32_t>(file, at + 12 + length) == masked_crc(out.back()));
    at += 12 + length + 4;
  }
  return out;
}

// The fields of a protocol-buffer message: numbers as their raw little-endian bytes.
std::multimap<std::uint64_t, std::string> fields_of(std::string_view message) {
  std::multimap<std::uint64_t, std::string> out;
  std::size_t at = 0;
  const auto varint = [&] {
    std::uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
      REQUIRE(at < message.size());
      const auto byte = static_cast<unsigned char>(message[at++]);
      value |= std::uint64_t{byte & 0x7FU} << shift;
      if (byte < 0x80) return value;
    }
  };
  while (at < message.size()) {
    const std::uint64_t key = varint();
    std::size_t size = key % 8 == 1 ? 8 : 4;
    if (key % 8 == 0) {
      const std::uint64_t value = varint();
      out.emplace(key / 8, std::string(reinterpret_cast<const char*>(&value), 8));
      continue;
    }
    if (key % 8 == 2) size = varint();
    REQUIRE(at + size <= message.size());
    out.emplace(key / 8, message.substr(at, size));
    at += size;
  }
  return out;
}

std::string field(std::string_view message, std::uint64_t number) {
  const auto fields = fields_of(message);
  REQUIRE(fields.count(number) == 1);
  return fields.find(number)->second;
}

std::filesystem::path only_file(const std::filesystem::path& directory) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) files.push_back(entry.path());
  REQUIRE(files.size() == 1);
  return files[0];
}

}  // namespace

TEST_CASE("tensorboard: the checksum is CRC-32C") {
  // RFC 3720, B.4: 32 bytes of zeros give 0x8A9136AA.
  CHECK(masked_crc(std::string(32, '\0')) == ((0x8A9136AAU >> 15) | (0x8A9136AAU << 17)) + 0xA282EAD8U);
}

TEST_CASE("tensorboard: a file holds the version, scalars and texts as Event messages") {
  const TemporaryDirectory folder;
  const auto before = static_cast<double>(std::time(nullptr));
  {
    EventWriter writer(folder.path / "runs" / "one");
    writer.scalar("train/return", 0.5, 7);
    writer.flush();
    CHECK(records_of(read_file(only_file(folder.path / "runs" / "one"))).size() == 2);
    writer.scalar("train/kl", -1e-3, std::int64_t{1} << 40);
    writer.text("settings", "| a | b |\n", 3);
  }
  const std::filesystem::path path = only_file(folder.path / "runs" / "one");
  CHECK(path.filename().string().find("events.out.tfevents.") == 0);
  CHECK(path.filename().string().find(str('.', getpid())) != std::string::npos);
  const std::vector<std::string> events = records_of(read_file(path));
  REQUIRE(events.size() == 4);
  for (const std::string& event : events) {
    const auto wall_time = number_at<double>(field(event, 1), 0);
    CHECK(wall_time >= before);
    CHECK(wall_time <= before + 60);
  }
  CHECK(field(events[0], 3) == "brain.Event:2");
  const auto value = [&](std::size_t i) { return field(field(events[i], 5), 1); };
  const auto step = [&](std::size_t i) { return number_at<std::int64_t>(field(events[i], 2), 0); };

  CHECK(step(1) == 7);
  CHECK(field(value(1), 1) == "train/return");
  CHECK(number_at<float>(field(value(1), 2), 0) == 0.5F);
  CHECK(step(2) == std::int64_t{1} << 40);
  CHECK(number_at<float>(field(value(2), 2), 0) == -1e-3F);

  CHECK(step(3) == 3);
  CHECK(field(value(3), 1) == "settings");
  const std::string tensor = field(value(3), 8);
  CHECK(number_at<std::uint64_t>(field(tensor, 1), 0) == 7);                      // DT_STRING
  CHECK(number_at<std::uint64_t>(field(field(field(tensor, 2), 2), 1), 0) == 1);  // one dimension of size 1
  CHECK(field(tensor, 8) == "| a | b |\n");
  CHECK(field(field(field(value(3), 9), 1), 1) == "text");  // metadata.plugin_data.plugin_name
}

TEST_CASE("tensorboard: many scalars are written before a flush, in whole records") {
  const TemporaryDirectory folder;
  EventWriter writer(folder.path);
  for (int i = 0; i < 5000; ++i) writer.scalar("loss", i, i);
  const std::size_t written = records_of(read_file(only_file(folder.path))).size();
  CHECK(written > 1000);
  writer.flush();
  CHECK(records_of(read_file(only_file(folder.path))).size() == 5001);
}

TEST_CASE("tensorboard: a directory that cannot be made is an Error") {
  const TemporaryDirectory folder;
  write_file_atomically(folder.path / "file", "a file");
  CHECK_THROWS_AS(EventWriter(folder.path / "file" / "runs"), Error);
}
