// The whole corpus of model files through every reader: what is hostile costs neither time nor memory nor runs.
#include <doctest/doctest.h>
#include <malloc.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <new>

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

TEST_CASE("model files: the deployments' pickles and weights cost no more") {
  for (const auto& entry : fs::recursive_directory_iterator(fs::path(RISTRETTO_GOLDEN) / "deployments")) {
    if (!entry.is_regular_file()) continue;
    const std::string name = entry.path().filename(), bytes = read_file(entry.path());
    CAPTURE(entry.path().string());
    for (const auto& [extension, read] : kReaders) takes(read, bytes, name);
  }
}
