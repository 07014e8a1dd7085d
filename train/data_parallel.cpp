#include "train/data_parallel.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/full.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <vector>

#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::train {
namespace {

constexpr std::chrono::seconds kMeeting{300};  // until all have come
constexpr std::chrono::hours kTurn{12};        // while the first one validates, or a slower machine computes
constexpr std::size_t kPiece = 4 << 20;        // bytes: the store takes no more than 8 MiB at once

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr) {
    throw Error(Fault::usage, str("WORLD_SIZE is set, and ", name, " is not"),
                "start the processes by torchrun, or set RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT");
  }
  return value;
}

int number(const char* name, int least, int most) {
  const std::string text = variable(name);
  const auto value = parse_number<int>(text);
  if (!value || *value < least || *value > most) {
    throw Error(Fault::usage, str(name, " is '", text, "', expected a whole number of ", least, " to ", most));
  }
  return *value;
}

template <class Work>
auto talking(const Work& work) {
  try {
    return work();
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    const std::string text = error.what();
    throw Error(Fault::failed, str("the other processes of this run are not there: ", text.substr(0, text.find('\n'))),
                "their own messages say why");
  }
}

}  // namespace

// Gloo's headers are in no LibTorch that is to be had, and so its process group cannot be made from C++; the store can.
// Each process puts its tensor into the store, which the first one keeps, and takes the others' out.
struct ProcessGroup::Connection {
  int rank = 0, size = 1;
  c10::intrusive_ptr<c10d::TCPStore> store;
  std::uint64_t turn = 0;
  std::string start = "0";  // torchrun's store outlives the processes that it starts again

  std::string key(std::uint64_t of_turn, int of_rank) const {
    return str("ristretto/", start, "/", of_turn, "/", of_rank);
  }

  // The bytes of all, in order of rank; at most kPiece.
  std::vector<std::vector<std::uint8_t>> exchange(std::vector<std::uint8_t> own) {
    return talking([&] {
      ++turn;
      store->set(key(turn, rank), own);
      std::vector<std::vector<std::uint8_t>> all;
      for (int i = 0; i < size; ++i) all.push_back(i == rank ? std::move(own) : store->get(key(turn, i)));
      // Who has put this turn's has read the last one's.
      if (turn > 1) store->deleteKey(key(turn - 1, rank));
      return all;
    });
  }
  // Tensors of the others, shaped as `here`, which is contiguous and on the CPU.
  std::vector<at::Tensor> exchange(const at::Tensor& here) {
    std::vector<at::Tensor> out;
    for (int i = 0; i < size; ++i) out.push_back(at::empty_like(here));
    const auto* from = static_cast<const std::uint8_t*>(here.const_data_ptr());
    for (std::size_t begin = 0; begin < here.nbytes(); begin += kPiece) {
      const std::size_t end = std::min(begin + kPiece, here.nbytes());
      const auto all = exchange(std::vector<std::uint8_t>(from + begin, from + end));
      for (std::size_t i = 0; i < all.size(); ++i) {
        if (all[i].size() != end - begin) {
          throw Error(Fault::failed,
                      str("another process of this run sent ", all[i].size(), " bytes, expected ", end - begin),
                      "start all of them with the same settings and the same program");
        }
        std::memcpy(static_cast<std::uint8_t*>(out[i].mutable_data_ptr()) + begin, all[i].data(), all[i].size());
      }
    }
    return out;
  }
};

ProcessGroup::ProcessGroup() : connection_(std::make_unique<Connection>()) {}
ProcessGroup::~ProcessGroup() = default;
int ProcessGroup::rank() const { return connection_->rank; }
int ProcessGroup::size() const { return connection_->size; }

std::unique_ptr<ProcessGroup> ProcessGroup::of_environment() {
  if (std::getenv("WORLD_SIZE") == nullptr) return nullptr;
  constexpr int kMostProcesses = 4096;
  const int size = number("WORLD_SIZE", 1, kMostProcesses);
  if (size == 1) return nullptr;
  const int rank = number("RANK", 0, size - 1);
  c10d::TCPStoreOptions options;
  options.port = static_cast<std::uint16_t>(number("MASTER_PORT", 1, 65535));
  // torchrun's agent keeps the store itself, and says so.
  const char* agent = std::getenv("TORCHELASTIC_USE_AGENT_STORE");
  options.isServer = rank == 0 && (agent == nullptr || std::string(agent) != "True");
  options.numWorkers = static_cast<std::size_t>(size);
  options.timeout = kMeeting;
  std::unique_ptr<ProcessGroup> out(new ProcessGroup());
  out->connection_->rank = rank;
  out->connection_->size = size;
  out->connection_->store =
      talking([&] { return c10::make_intrusive<c10d::TCPStore>(variable("MASTER_ADDR"), options); });
  if (const char* count = std::getenv("TORCHELASTIC_RESTART_COUNT")) out->connection_->start = count;
  out->any(false);  // all have come
  out->connection_->store->setTimeout(kTurn);
  return out;
}

void ProcessGroup::sum(const at::Tensor& tensor) {
  const at::NoGradGuard no_grad;
  const std::vector<at::Tensor> all = connection_->exchange(tensor.to(at::kCPU).contiguous());
  at::Tensor total = all[0];  // in order of rank, so that it is the same number everywhere
  for (std::size_t i = 1; i < all.size(); ++i) total.add_(all[i]);
  tensor.copy_(total);
}

bool ProcessGroup::any(bool here) {
  const at::Tensor count = at::full({}, here ? 1 : 0, at::kInt);
  sum(count);
  return count.item<int>() > 0;
}

at::Tensor ProcessGroup::gather(const at::Tensor& part) {
  if (!part.defined()) return part;
  return at::cat(connection_->exchange(part.to(at::kCPU).contiguous()), 1).to(part.device());
}

agents::Rollout ProcessGroup::gather(const agents::Rollout& part) {
  agents::Rollout all;
  for (const auto member : {&agents::Rollout::account, &agents::Rollout::bar, &agents::Rollout::u,
                            &agents::Rollout::log_probability, &agents::Rollout::value, &agents::Rollout::reward,
                            &agents::Rollout::terminated, &agents::Rollout::truncated, &agents::Rollout::next_value}) {
    all.*member = gather(part.*member);
  }
  return all;
}

}  // namespace ristretto::train
