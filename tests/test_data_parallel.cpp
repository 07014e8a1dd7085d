// One process and two learn the same (performance.md, rule 9).
#include <ATen/TensorOperators.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <doctest/doctest.h>
#include <fcntl.h>
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
#include "train/data_parallel.h"

namespace ristretto::train {
namespace {

constexpr double kRounding = 1e-5;  // of weights: gradients summed in another order, over 24 optimiser steps

struct TemporaryDirectory {
  std::filesystem::path path;
  TemporaryDirectory() {
    std::string name = (std::filesystem::temp_directory_path() / "ristretto-XXXXXX").string();
    path = mkdtemp(name.data());
  }
  ~TemporaryDirectory() { std::filesystem::remove_all(path); }
};

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

pid_t start(const std::filesystem::path& run, int rank, int size, int port, std::vector<std::string> more = {}) {
  std::vector<std::string> words = {RISTRETTO_PROGRAM,
                                    "train",
                                    "--run",
                                    run.string(),
                                    "--bars",
                                    std::string(RISTRETTO_SOURCE) + "/data/crypto_1h",
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
  words.insert(words.end(), more.begin(), more.end());
  std::fflush(stdout);
  const pid_t child = fork();
  if (child != 0) return child;
  setenv("RANK", str(rank).c_str(), 1);
  setenv("WORLD_SIZE", str(size).c_str(), 1);
  setenv("MASTER_ADDR", "127.0.0.1", 1);
  setenv("MASTER_PORT", str(port).c_str(), 1);
  const int log = open((run.string() + str(".", rank, ".log")).c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
  dup2(log, STDERR_FILENO);
  dup2(log, STDOUT_FILENO);
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  execv(pointers[0], pointers.data());
  _exit(99);
}

int finish(pid_t child) {
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

TEST_CASE("data parallel: sums of more than the store takes at once") {
  constexpr std::int64_t kNumbers = 3'000'000;  // 12 MB
  const std::string port = str(free_port());
  const auto sum_as = [&](int rank, const std::function<void()>& then) {
    setenv("RANK", str(rank).c_str(), 1);
    setenv("WORLD_SIZE", "2", 1);
    setenv("MASTER_ADDR", "127.0.0.1", 1);
    setenv("MASTER_PORT", port.c_str(), 1);
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
  for (const char* name : {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}) unsetenv(name);
  CHECK(right);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("data parallel: two processes learn what one learns from the same portfolios and minibatches") {
  const TemporaryDirectory directory;
  const auto one = directory.path / "one", two = directory.path / "two";
  const int port = free_port();
  const pid_t alone = start(one, 0, 1, port);
  CHECK(finish(alone) == 0);
  const pid_t first = start(two, 0, 2, port), second = start(two, 1, 2, port);
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
  CHECK(finish(start(directory.path / "run", 2, 2, 1)) == static_cast<int>(Fault::usage));  // RANK of WORLD_SIZE
  const int port = free_port();
  const pid_t first = start(directory.path / "odd", 0, 3, port), second = start(directory.path / "odd", 1, 3, port),
              third = start(directory.path / "odd", 2, 3, port);  // 64 portfolios
  for (const pid_t child : {first, second, third}) CHECK(finish(child) == static_cast<int>(Fault::usage));
}

}  // namespace ristretto::train
