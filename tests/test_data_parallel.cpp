// One process and two learn the same (performance.md, rule 9).
#include <ATen/TensorOperators.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <map>

#include "agents/checkpoint.h"
#include "platform/error.h"
#include "platform/text.h"
#include "program_fixture.h"
#include "train/data_parallel.h"

namespace ristretto::train {
namespace {

constexpr double kRounding = 1e-5;  // of weights: gradients summed in another order, over 24 optimiser steps

// One that is free now.
int free_port() {
  const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  REQUIRE(bind(socket, reinterpret_cast<sockaddr*>(&address), size) == 0);
  REQUIRE(getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size) == 0);
  close(socket);
  return ntohs(address.sin_port);
}

// As torchrun tells a process which of how many it is.
const char* const kVariables[] = {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"};
void set_environment(int rank, int size, int port) {
  const std::string values[] = {str(rank), str(size), "127.0.0.1", str(port)};
  for (int k = 0; k < 4; ++k) setenv(kVariables[k], values[k].c_str(), 1);
}

pid_t start_rank(const std::filesystem::path& run, int rank, int size, int port) {
  const std::vector<std::string> arguments = {"train",
                                              "--run",
                                              run.string(),
                                              "--bars",
                                              kSource + "/data/crypto_1h",
                                              "--steps",
                                              "8192",
                                              "--portfolios",
                                              "64",
                                              "--base-target-step",
                                              "32",
                                              "--net-dimension",
                                              "16",
                                              "--batch-size",
                                              "500",
                                              "--ppo-epochs",
                                              "2",
                                              "--lookback",
                                              "1",
                                              "--threads",
                                              "1",
                                              "--seed",
                                              "3"};
  set_environment(rank, size, port);
  const std::string log = str(run.string(), ".", rank);
  const pid_t child = start(arguments, run.parent_path(), log + ".out", log + ".err");
  for (const char* name : kVariables) unsetenv(name);
  return child;
}

}  // namespace

TEST_CASE("data parallel: sums of more than the store takes at once") {
  constexpr std::int64_t kNumbers = 3'000'000;  // 12 MB
  const int port = free_port();
  const auto sum_as = [&](int rank, const std::function<void()>& then) {
    set_environment(rank, 2, port);
    const auto group = ProcessGroup::of_environment();
    const at::Tensor numbers = at::arange(kNumbers, at::kFloat) * (rank + 1);
    group->sum(numbers);
    if (then) then();
    return at::equal(numbers, at::arange(kNumbers, at::kFloat) * 3);
  };
  const pid_t child = fork();
  if (child == 0) {
    try {
      _exit(sum_as(1, {}) ? 0 : 1);
    } catch (...) {
      _exit(1);
    }
  }
  int status = 0;
  // The first process keeps what the second one still reads.
  const bool right = sum_as(0, [&] { REQUIRE(waitpid(child, &status, 0) == child); });
  for (const char* name : kVariables) unsetenv(name);
  CHECK(right);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("data parallel: two processes learn what one learns from the same portfolios and minibatches") {
  const TemporaryDirectory directory;
  const auto one = directory.path / "one", two = directory.path / "two";
  const int port = free_port();
  const pid_t alone = start_rank(one, 0, 1, port);
  CHECK(finish(alone) == 0);
  const pid_t first = start_rank(two, 0, 2, port), second = start_rank(two, 1, 2, port);
  CHECK(finish(first) == 0);
  CHECK(finish(second) == 0);
  const agents::Checkpoint expected = agents::read_checkpoint(one / "checkpoint");
  const agents::Checkpoint found = agents::read_checkpoint(two / "checkpoint");
  CHECK(found.fields.at("optimizer_steps") == expected.fields.at("optimizer_steps"));
  CHECK(found.fields.at("environment_steps") == "8192");
  int compared = 0;
  for (const auto& [name, tensor] : expected.tensors) {
    if (name.rfind("actor/", 0) != 0 && name.rfind("critic/", 0) != 0 && name.rfind("normalizer/", 0) != 0) continue;
    ++compared;
    const auto other = std::find_if(found.tensors.begin(), found.tensors.end(),
                                    [&name = name](const auto& entry) { return entry.first == name; });
    REQUIRE(other != found.tensors.end());
    const double scale = std::max(1.0, tensor.abs().max().item<double>());
    CHECK_MESSAGE((other->second - tensor).abs().max().item<double>() < kRounding * scale, name);
  }
  CHECK(compared >= 14);
  // They moved far more than that.
  CHECK(std::stod(expected.fields.at("seconds")) > 0);
}

TEST_CASE("data parallel: what cannot be is said in one sentence") {
  const TemporaryDirectory directory;
  CHECK(finish(start_rank(directory.path / "run", 2, 2, 1)) == static_cast<int>(Fault::usage));  // RANK of WORLD_SIZE
  const int port = free_port();
  const pid_t first = start_rank(directory.path / "odd", 0, 3, port),
              second = start_rank(directory.path / "odd", 1, 3, port),
              third = start_rank(directory.path / "odd", 2, 3, port);  // 64 portfolios
  for (const pid_t child : {first, second, third}) CHECK(finish(child) == static_cast<int>(Fault::usage));
}

}  // namespace ristretto::train
