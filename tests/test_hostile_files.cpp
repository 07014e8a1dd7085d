// The whole corpus of model files through every reader: what is hostile costs neither time nor memory nor runs.
#include <doctest/doctest.h>
#include <malloc.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <new>

#include "formats/archive.h"
#include "formats/npz.h"
#include "formats/pickle.h"
#include "formats/safetensors.h"
#include "formats/sb3.h"
#include "formats/torch_file.h"
#include "platform/atomic_file.h"
#include "platform/error.h"
#include "platform/text.h"
#include "release/trial.h"

namespace {

// Heap bytes in use through operator new, and the most there were since the last reset. One thread only.
std::size_t in_use = 0, most_in_use = 0;

}  // namespace

void* operator new(std::size_t size) {
  void* block = std::malloc(size);
  if (block == nullptr) throw std::bad_alloc();
  in_use += malloc_usable_size(block);
  if (in_use > most_in_use) most_in_use = in_use;
  return block;
}
void operator delete(void* block) noexcept {
  if (block == nullptr) return;
  in_use -= malloc_usable_size(block);
  std::free(block);
}
void operator delete(void* block, std::size_t) noexcept { operator delete(block); }

using namespace ristretto;
using namespace ristretto::formats;
namespace fs = std::filesystem;

namespace {

constexpr double kMostSeconds = 1;  // algorithms.md 7, test 17
constexpr std::size_t kMostBytes = std::size_t{64} << 20;

const fs::path kCorpus = fs::path(RISTRETTO_GOLDEN) / "algorithms/ckpt";

using Reader = std::function<void(const std::string& bytes, const std::string& origin)>;
const std::vector<std::pair<std::string, Reader>> kReaders{
    {".pth", [](const std::string& bytes, const std::string& origin) { read_torch_bytes(bytes, origin); }},
    {".safetensors", [](const std::string& bytes, const std::string& origin) { read_safetensors(bytes, origin); }},
    {".npz", [](const std::string& bytes, const std::string& origin) { read_npz_bytes(bytes, origin); }},
    {".npy", [](const std::string& bytes, const std::string& origin) { read_npy(bytes, origin); }},
    {".zip", [](const std::string& bytes, const std::string& origin) { read_sb3_bytes(bytes, origin); }},
    {".pkl", [](const std::string& bytes, const std::string& origin) { read_pickle(bytes, origin); }}};

std::string text_of(const std::string& text) {
  const auto size = static_cast<std::uint32_t>(text.size());
  return "X" + std::string(reinterpret_cast<const char*>(&size), sizeof size) + text;
}

// Whether the reader takes the file; checks what it costs, and that a refusal is an Error(incompatible) with the name.
bool takes(const Reader& read, const std::string& bytes, const std::string& name) {
  const std::size_t before = in_use;
  most_in_use = in_use;
  const auto start = std::chrono::steady_clock::now();
  bool taken = true;
  try {
    read(bytes, name);
  } catch (const Error& error) {
    taken = false;
    CHECK(error.fault() == Fault::incompatible);
    CHECK(std::string(error.what()).find(name) != std::string::npos);
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  CHECK(seconds < kMostSeconds);
  CHECK(most_in_use - before < kMostBytes);
  return taken;
}

}  // namespace

TEST_CASE("model files: each hostile file is refused in under a second and 64 MB, each good one is read") {
  const fs::path trace = fs::temp_directory_path() / "PWNED_BY_PICKLE";
  REQUIRE_FALSE(fs::exists(trace));
  std::size_t bad = 0, good = 0;
  for (const auto& entry : fs::directory_iterator(kCorpus)) {
    const std::string name = entry.path().filename(), bytes = read_file(entry.path());
    CAPTURE(name);
    const bool hostile = name.starts_with("bad_") || name == "ok_be.npy";  // well-formed, but big-endian: refused too
    for (const auto& [extension, read] : kReaders) {
      CAPTURE(extension);
      const bool taken = takes(read, bytes, name);
      if (entry.path().extension() == extension) {
        CHECK(taken == !hostile);
        ++(hostile ? bad : good);
      } else if (hostile && extension != ".pkl") {
        CHECK_FALSE(taken);
      }
    }
  }
  CHECK(bad == 31);   // 13 .pth, 16 .safetensors, one .npz, one .npy
  CHECK(good == 15);  // 6 .pth, 6 .safetensors, 3 .npz
  CHECK_FALSE(fs::exists(trace));
}

TEST_CASE("model files: a best_trial of a few bytes whose lists hold each other twice is refused at once") {
  std::string bytes = std::string("\x80\x02}(X\x06\0\0\0numberK\x01X\x06\0\0\0params}X\x01\0\0\0x]q\0", 38);
  for (char level = 0; level < 40; ++level) {
    // Off the stack; a list of it twice; remembered as the next one.
    bytes += std::string("0](h") + level + "h" + level + "eq" + static_cast<char>(level + 1);
  }
  bytes += "su.";
  const fs::path path = fs::temp_directory_path() / str("ristretto-", getpid(), "-best_trial");
  write_file_atomically(path, bytes);
  const auto read = [&](const std::string&, const std::string&) { release::read_trial(path); };
  CHECK_FALSE(takes(read, bytes, "holds more than 1000000 values"));
  fs::remove(path);
}

TEST_CASE("model files: texts that a pickle names again and again are not copied without end") {
  const auto read = [](const std::string& bytes, const std::string& origin) { read_pickle(bytes, origin); };
  const auto repeated = [](const std::string& text, int times) {
    std::string out;
    for (int i = 0; i < times; ++i) out += text;
    return out;
  };
  // Names of globals from one text of the memo, made and dropped. Octal escapes end after three digits.
  const auto globals = [&](std::size_t size, int times) {
    return "\200\4" + text_of(std::string(size, 'a')) + "q\0010" + repeated("h\1h\1\2230", times) + "N.";
  };
  CHECK_FALSE(takes(read, globals(60'000, 20'000), "globals"));
  CHECK_FALSE(takes(read, globals(1025, 1), "globals"));
  CHECK_FALSE(takes(read, globals(1024, 100'000), "globals"));
  CHECK(takes(read, globals(1024, 100), "globals"));
  // Bytes as Python 2 wrote them, from one text of the memo.
  const auto encoded = [&](std::size_t size, int times) {
    return "\200\2c_codecs\nencode\nq\0020" + text_of(std::string(size, 'a')) + "q\0010" +
           repeated("h\2h\1\205R0", times) + "N.";
  };
  CHECK_FALSE(takes(read, encoded(60'000, 20'000), "encoded"));
  CHECK(takes(read, encoded(60'000, 10), "encoded"));
  CHECK(takes(read, encoded(4'000'000, 1), "encoded"));
}

TEST_CASE("model files: names of tensors that repeat their dictionaries' are not copied without end") {
  const auto read = [](const std::string& bytes, const std::string& origin) { read_torch_bytes(bytes, origin); };
  const std::string tensor = "ctorch._utils\n_rebuild_tensor_v2\n((" + text_of("storage") + "ctorch\nFloatStorage\n" +
                             text_of("0") + text_of("cpu") + "K\4tQI0\n))\211ccollections\nOrderedDict\n)RtRq\0010";
  // A dictionary of `values` times `value`, by their numbers.
  const auto numbered = [](int values, const std::string& value) {
    std::string out = "}(";
    for (int i = 0; i < values; ++i) out += "M" + std::string{static_cast<char>(i), static_cast<char>(i >> 8)} + value;
    return out + "u";
  };
  const auto file = [&](std::size_t prefix, const std::string& value) {
    return write_archive({{"p/data.pkl", "\200\2" + tensor + "}" + text_of(std::string(prefix, 'a')) + value + "s."},
                          {"p/data/0", std::string(16, '\0')}});
  };
  CHECK_FALSE(takes(read, file(300'000, numbered(10'000, "h\1")), "names"));
  CHECK_FALSE(takes(read, file(4'090, numbered(60'000, "h\1")), "names"));
  CHECK_FALSE(takes(read, file(4'097, "h\1"), "names"));
  CHECK(takes(read, file(4'096, "h\1"), "names"));
  CHECK(takes(read, file(4'090, numbered(1'000, "h\1")), "names"));
  // Names of what is no tensor are not kept, but made.
  CHECK(takes(read, file(4'080, numbered(1'000, "N") + "q\0020" + numbered(990, "h\2")), "names"));
}

TEST_CASE("model files: reading a file takes its size once") {
  const fs::path path = fs::temp_directory_path() / str("ristretto-", getpid(), "-file");
  constexpr std::size_t kSize = std::size_t{32} << 20;
  write_file_atomically(path, std::string(kSize, 'a'));
  const std::size_t before = in_use;
  most_in_use = in_use;
  const std::string bytes = read_file(path);
  CHECK(most_in_use - before < kSize + kSize / 4);
  CHECK(bytes == std::string(kSize, 'a'));
  fs::remove(path);
}

TEST_CASE("model files: the deployments' pickles and weights cost no more") {
  for (const auto& entry : fs::recursive_directory_iterator(fs::path(RISTRETTO_GOLDEN) / "deployments")) {
    if (!entry.is_regular_file()) continue;
    const std::string name = entry.path().filename(), bytes = read_file(entry.path());
    CAPTURE(entry.path().string());
    for (const auto& [extension, read] : kReaders) takes(read, bytes, name);
  }
}
