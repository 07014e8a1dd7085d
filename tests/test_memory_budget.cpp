#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>

#include "env/large_blocks.h"
#include "temporary_directory.h"
#include "train/memory_budget.h"

using namespace ristretto;
using namespace ristretto::train;

TEST_CASE("memory budget: what is free is the machine's, or the container's share where that is less") {
  const TemporaryDirectory root;
  const auto write = [&](const char* file, const char* text) {
    const std::filesystem::path path = root.path / file;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text;
  };
  write("proc/meminfo", "MemTotal:       2000 kB\nMemAvailable:   1000 kB\n");
  CHECK(free_memory(root.path) == 1000 * 1024);
  write("sys/fs/cgroup/memory.max", "max\n");
  write("sys/fs/cgroup/memory.current", "700000\n");
  CHECK(free_memory(root.path) == 1000 * 1024);
  write("sys/fs/cgroup/memory.max", "800000\n");
  CHECK(free_memory(root.path) == 100000);
  write("sys/fs/cgroup/memory.stat", "anon 500000\nfile 200000\ninactive_file 150000\nactive_file 50000\n");
  CHECK(free_memory(root.path) == 250000);
  write("sys/fs/cgroup/memory.max", "600000\n");
  CHECK(free_memory(root.path) == 50000);
  CHECK(free_memory() > 0);
}

TEST_CASE("memory budget: what an earlier training left in blocks is given back first") {
  env::LargeBlocks& blocks = env::LargeBlocks::instance();
  blocks.allocate(std::size_t{16} << 20).clear();
  CHECK(blocks.kept() > 0);
  CHECK(budget_bytes("4GiB", c10::Device(c10::DeviceType::CPU)) == std::int64_t{4} << 30);
  CHECK(blocks.kept() > 0);
  CHECK(budget_bytes("", c10::Device(c10::DeviceType::CPU)) > 0);
  CHECK(blocks.kept() == 0);
}
