#include "release/torchscript.h"

#include <ATen/core/grad_mode.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>

#include <algorithm>
#include <cassert>
#include <sstream>

#include "platform/atomic_file.h"
#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::release {
namespace {

using agents::Architecture;

// Names in TorchScript's text have no dots.
std::string attribute(std::string name) {
  std::replace(name.begin(), name.end(), '.', '_');
  return "self." + name;
}

std::string linear(const std::string& name, const std::string& input) {
  return str("torch.linear(", input, ", ", attribute(name + ".weight"), ", ", attribute(name + ".bias"), ")");
}

std::string layer_norm(const std::string& name, const std::string& input, std::int64_t size) {
  return str("torch.layer_norm(", input, ", [", size, "], ", attribute(name + ".weight"), ", ",
             attribute(name + ".bias"), ", 1e-05)");
}

std::string mlp_source() {
  return str("  x = torch.relu(", linear("net.0", "state"), ")\n",  //
             "  x = torch.relu(", linear("net.2", "x"), ")\n",      //
             "  return torch.tanh(", linear("net.4", "x"), ")\n");
}

// algorithms.md 1.1.
std::string ft_transformer_source(const Architecture& architecture) {
  const std::int64_t tokens = architecture.observation, d = architecture.encoder.d_token;
  const std::int64_t heads = architecture.encoder.heads;
  std::string source = str("  x = state.unsqueeze(2) * ", attribute("encoder.tokenizer.weight"), " + ",
                           attribute("encoder.tokenizer.bias"), "\n");
  for (std::int64_t i = 0; i < architecture.encoder.blocks; ++i) {
    const std::string block = str("encoder.blocks.", i, ".");
    source += str("  y = ", layer_norm(block + "norm1", "x", d), "\n");
    for (const char* which : {"q", "k", "v"}) {
      source += str("  ", which, " = ", linear(str(block, "attention.W_", which), "y"), ".reshape([-1, ", tokens, ", ",
                    heads, ", ", d / heads, "]).transpose(1, 2)\n");
    }
    source += str("  y = torch.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape([-1, ", tokens, ", ", d,
                  "])\n", "  x = x + ", linear(block + "attention.W_out", "y"), "\n");
    source += str("  y = torch.relu(", linear(block + "feedforward.linear1", layer_norm(block + "norm2", "x", d)),
                  ")\n", "  x = x + ", linear(block + "feedforward.linear2", "y"), "\n");
  }
  source += str("  x = ", layer_norm("encoder.norm", "x", d), ".reshape([-1, ", tokens * d, "])\n");
  return source + str("  x = torch.relu(", linear("encoder.output_projection", "x"), ")\n",  //
                      "  x = torch.relu(", linear("net.1", "x"), ")\n",                      //
                      "  return torch.tanh(", linear("net.3", "x"), ")\n");
}

}  // namespace

void write_torchscript(const std::filesystem::path& path, const ft_transformer::Weights& actor,
                       const Architecture& architecture) {
  assert(architecture.activation == agents::Activation::relu && !architecture.encoder.published);
  torch::jit::Module module("Policy");
  for (const auto& [name, tensor] : actor) {
    module.register_buffer(attribute(name).substr(5), tensor.detach().to(at::kCPU, at::kFloat).contiguous());
  }
  module.define("def forward(self, state: Tensor) -> Tensor:\n" +
                (architecture.network == agents::Network::mlp ? mlp_source() : ft_transformer_source(architecture)));
  module.train(false);
  std::ostringstream bytes;
  module.save(bytes);
  write_file_atomically(path, bytes.str());
}

at::Tensor run_torchscript(const std::filesystem::path& path, const at::Tensor& states) {
  std::istringstream bytes(read_file(path));
  const at::NoGradGuard no_gradients;
  try {
    torch::jit::Module module = torch::jit::load(bytes, at::Device(at::kCPU));
    return module.forward({states}).toTensor();
  } catch (const std::exception& error) {
    throw Error(Fault::incompatible,
                str(path.string(), ": does not run as TorchScript: ", split(error.what(), '\n').front()));
  }
}

}  // namespace ristretto::release
