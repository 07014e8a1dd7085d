#include "train/memory_budget.h"

#include <ATen/Parallel.h>
#include <c10/util/Exception.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <new>

#include "env/large_blocks.h"
#include "platform/error.h"
#include "platform/text.h"
#include "train/device.h"
#include "train/settings.h"

namespace ristretto::train {
namespace {

constexpr std::int64_t kFloat = 4;

// The first number behind `name` in a file of the system's; nothing where there is none.
std::optional<std::int64_t> number_behind(const std::filesystem::path& file, std::string_view name) {
  std::ifstream in(file);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  const std::size_t at = text.find(name);
  if (at == std::string::npos) return std::nullopt;
  const std::size_t begin = text.find_first_not_of(" \t", at + name.size());
  if (begin == std::string::npos) return std::nullopt;
  return parse_number<std::int64_t>(text.substr(begin, text.find_first_of(" \n", begin) - begin));
}

// Samples at once on a CPU, as bench/ found them fastest.
std::int64_t most_on_cpu(agents::Network network) {
  switch (network) {
    case agents::Network::mlp:
      return 1024 * at::get_num_threads();  // more leave the caches: 2,048 a thread take up to 7 % longer
    case agents::Network::ft_transformer:
      return 512;  // 256 take 3 % longer, 2,048 half as long again
    case agents::Network::market_context:
      break;
  }
  return 1024;  // with 256 at once fewer samples share a bar: a tenth slower
}

}  // namespace

std::int64_t bytes_per_sample(const agents::Architecture& a) {
  // Each of actor and critic: the input, and for each of two hidden layers the output, its activation and both
  // gradients.
  std::int64_t numbers = 2 * a.observation + 2 * 2 * 4 * a.width;
  if (a.network == agents::Network::ft_transformer) {
    const std::int64_t tokens = a.encoder.features, d = a.encoder.d_token;
    // A block: two norms, queries, keys, values, attention's output, two residual sums, the hidden layer of 4d twice,
    // each with its gradient; scores of every head once, for the attention that recomputes keeps no more.
    const std::int64_t block = tokens * d * 2 * (2 + 3 + 2 + 2 + 8) + a.encoder.heads * tokens * tokens * 2;
    numbers += 2 * (a.encoder.blocks * block + tokens * d * 4);
  }
  if (a.network == agents::Network::market_context) {
    // As if every sample had a bar of its own: what is shared is known only when the samples are.
    const ft_transformer::MarketContextShape& c = a.context;
    const std::int64_t tokens = c.tokens_of(a.actions), d = c.d_token;
    const std::int64_t queries = 1 + a.actions;
    const std::int64_t block = tokens * d * 2 * (2 + 3 + 2 + 2 + 8) + c.heads * tokens * tokens * 2;
    const std::int64_t read =
        queries * d * 2 * (2 + 3 + 2 + 2 + 8 + 4) + tokens * d * 4 + c.heads * queries * tokens * 2;
    numbers += 2 * (c.blocks * block + tokens * d * 6 + read);
  }
  return numbers * kFloat;
}

std::int64_t bytes_of_weights(const agents::Architecture& a) {
  const std::int64_t both = agents::actor_template(a).parameters() + agents::critic_template(a).parameters();
  return both * kFloat * 4;  // weights, gradients, two moments
}

std::int64_t free_memory(const std::filesystem::path& root) {
  const auto kib = number_behind(root / "proc/meminfo", "MemAvailable:");
  const std::int64_t machine =
      kib ? *kib * 1024 : static_cast<std::int64_t>(sysconf(_SC_AVPHYS_PAGES)) * sysconf(_SC_PAGESIZE);
  const std::filesystem::path group = root / "sys/fs/cgroup";
  const auto limit = number_behind(group / "memory.max", ""), used = number_behind(group / "memory.current", "");
  if (!limit || !used) return machine;
  // Pages of files count as used there, and are given up when they are needed.
  const std::int64_t files = number_behind(group / "memory.stat", "\ninactive_file").value_or(0);
  return std::clamp<std::int64_t>(*limit - *used + files, 0, machine);
}

std::int64_t budget_bytes(const std::string& text, c10::Device device) {
  constexpr double kShare = 0.85;  // of what is free
  if (!text.empty()) return parse_bytes("memory-budget", text);
  env::LargeBlocks::instance().release();  // of an earlier training
  const std::int64_t free = device.is_cpu() ? free_memory() : free_device_bytes(device);
  return static_cast<std::int64_t>(kShare * static_cast<double>(free));
}

std::optional<std::string> out_of_memory(const std::exception& error) {
  if (dynamic_cast<const c10::OutOfMemoryError*>(&error) != nullptr) return "the device's memory is used up";
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr) return "the memory is used up";
  const auto* torch = dynamic_cast<const c10::Error*>(&error);
  if (torch == nullptr) return {};
  // What LibTorch's allocator says on a CPU, in an error like any other.
  static const std::string kTried = "you tried to allocate ";
  const std::string text = torch->what_without_backtrace();
  const std::size_t at = text.find(kTried);
  if (at == std::string::npos) return {};
  const std::string wanted = text.substr(at + kTried.size());
  return str("the memory does not hold ", wanted.substr(0, wanted.find('.')), " at once");
}

std::int64_t micro_batch_of(const agents::Architecture& architecture, std::int64_t batch_size,
                            std::int64_t budget_bytes, c10::Device device) {
  const std::int64_t room = budget_bytes - bytes_of_weights(architecture);
  const std::int64_t each = bytes_per_sample(architecture);
  if (room < each) {
    throw Error(Fault::usage,
                str("--memory-budget of ", budget_bytes >> 20, " MiB holds not one sample: weights and optimiser take ",
                    bytes_of_weights(architecture) >> 20, " MiB, a sample ", (each >> 10) + 1, " KiB"),
                "give more, or a smaller --net-dimension");
  }
  std::int64_t samples = std::min(batch_size, room / each);
  if (device.is_cpu()) samples = std::min(samples, most_on_cpu(architecture.network));
  return samples;
}

}  // namespace ristretto::train
