#include <ATen/TensorOperators.h>
#include <doctest/doctest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <fstream>

#include "agents/policy.h"
#include "env/layout.h"
#include "formats/npz.h"
#include "ft_transformer/weights.h"
#include "platform/atomic_file.h"
#include "platform/text.h"
#include "release/versions.h"
#include "release_fixture.h"

using namespace ristretto;
using namespace ristretto::release;
namespace fs = std::filesystem;

namespace {

const std::string kPython = RISTRETTO_SOURCE "/.venv-interop/bin/python";
// Actions in [-1, 1] and values of float32 networks, of another build of PyTorch.
constexpr double kTolerance = 1e-5;

bool have_python() {
  if (std::system((kPython + " -c 'import torch, numpy' 2> /dev/null").c_str()) == 0) return true;
  MESSAGE("skipped: ", kPython, " cannot import torch and numpy; scripts/setup --interop makes it");
  return false;
}

int exit_code(const std::string& command) {
  const int status = std::system(command.c_str());
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace

TEST_SUITE("interop") {
  TEST_CASE("deployment: Python opens what is served in every form, and it answers as here") {
    if (!have_python()) return;
    for (const agents::Network network : {agents::Network::mlp, agents::Network::ft_transformer}) {
      const std::string name = agents::name_of(network);
      CAPTURE(name);
      const Scratch scratch;
      VersionStore store(scratch / "deployments");
      stage(small_content(network), scratch / "staged");
      const std::string id = store.publish(name, scratch / "staged", {std::nullopt, "unproven", Json::array()});
      store.serve(name, id, std::nullopt, "a test");
      const std::string place = (scratch / "deployments").string() + "/" + name;

      const at::Tensor states = some_states(17, small_layout().size());
      const std::string states_file = (scratch / "states.npz").string(), answers = (scratch / "answers.npz").string();
      write_file_atomically(states_file, formats::write_npz({{"states", ft_transformer::array_of(states)}}));
      REQUIRE(exit_code(str(kPython, " -W ignore " RISTRETTO_SOURCE "/tests/interop/read_deployment.py ", place, " ",
                            states_file, " ", answers)) == 0);
      const Model model = load(place);
      const at::Tensor actions = predict(model, states);
      const auto found = formats::read_npz(answers);
      CHECK(found.size() == (network == agents::Network::mlp ? 7 : 5));
      for (const auto& [form, array] : found) {
        const at::Tensor expected =
            form == "critic" ? agents::critic_value(*model.critic, model.architecture, states) : actions;
        const at::Tensor answer = ft_transformer::tensor_of(array);
        REQUIRE(answer.sizes() == expected.sizes());
        const double deviation = (answer - expected).abs().max().item<double>();
        CHECK_MESSAGE(deviation <= kTolerance, form);
        MESSAGE(name, ", ", form, ": ", deviation);
      }

      const std::string inspect = kPython + " -W ignore " RISTRETTO_SOURCE "/scripts/python/ristretto_deployment.py ";
      CHECK(exit_code(inspect + place + " > /dev/null") == 0);
      const fs::path trial = store.path_of(name, id) / "best_trial";
      fs::permissions(trial, fs::perms{0644});
      std::ofstream(trial, std::ios::app) << "x";
      CHECK(exit_code(inspect + place + " 2> /dev/null") == 4);
    }
  }

  TEST_CASE("deployment: a state_dict that today's PyTorch saves is loaded as it is") {
    if (!have_python()) return;
    const Scratch scratch;
    const std::string file = (scratch / "actor.pth").string();
    REQUIRE(exit_code(kPython +
                      " -c \"import torch; from torch import nn; torch.manual_seed(0); m = nn.Module(); "
                      "m.net = nn.Sequential(nn.Linear(15, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), "
                      "nn.Linear(8, 2)); m.a_std_log = nn.Parameter(torch.full((1, 2), -0.5)); "
                      "torch.save(m.state_dict(), '" +
                      file + "')\"") == 0);
    const Model model = load(file);
    CHECK(model.architecture.observation == 15);
    CHECK(model.architecture.width == 8);
    CHECK(model.architecture.actions == 2);
    CHECK(tag_of(model) == -0.5);
  }
}
