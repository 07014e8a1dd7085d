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
  const std::string mask =
      architecture.encoder.key_bias ? str(", ", attribute("encoder.key_bias"), ".reshape([1, 1, 1, -1])") : "";
  std::string source = str("  x = state.unsqueeze(2) * ", attribute("encoder.tokenizer.weight"), " + ",
                           attribute("encoder.tokenizer.bias"), "\n");
  for (std::int64_t i = 0; i < architecture.encoder.blocks; ++i) {
    const std::string block = str("encoder.blocks.", i, ".");
    source += str("  y = ", layer_norm(block + "norm1", "x", d), "\n");
    for (const char* which : {"q", "k", "v"}) {
      source += str("  ", which, " = ", linear(str(block, "attention.W_", which), "y"), ".reshape([-1, ", tokens, ", ",
                    heads, ", ", d / heads, "]).transpose(1, 2)\n");
    }
    source += str("  y = torch.scaled_dot_product_attention(q, k, v", mask, ").transpose(1, 2).reshape([-1, ", tokens,
                  ", ", d, "])\n", "  x = x + ", linear(block + "attention.W_out", "y"), "\n");
    source += str("  y = torch.relu(", linear(block + "feedforward.linear1", layer_norm(block + "norm2", "x", d)),
                  ")\n", "  x = x + ", linear(block + "feedforward.linear2", "y"), "\n");
  }
  source += str("  x = ", layer_norm("encoder.norm", "x", d), ".reshape([-1, ", tokens * d, "])\n");
  return source + str("  x = torch.relu(", linear("encoder.output_projection", "x"), ")\n",  //
                      "  x = torch.relu(", linear("net.1", "x"), ")\n",                      //
                      "  return torch.tanh(", linear("net.3", "x"), ")\n");
}

// ft_transformer/market_context.h, any number of assets.
std::string market_context_source(const Architecture& architecture, const ft_transformer::Weights& actor) {
  const ft_transformer::MarketContextShape& shape = architecture.context;
  const std::int64_t d = shape.d_token, heads = shape.heads, lags = shape.lookback, features = shape.features;
  const auto numbers = [&](const char* name) {
    const at::Tensor values = actor.at(name).to(at::kCPU, at::kDouble).contiguous();
    return std::vector<double>(values.const_data_ptr<double>(), values.const_data_ptr<double>() + values.numel());
  };
  const auto split = [&](const std::string& projected) {  // [B, T, d] -> [B, heads, T, d / heads]
    return str(projected, ".reshape([b, -1, ", heads, ", ", d / heads, "]).transpose(1, 2)");
  };
  // Attention of `queries` over `tokens`, and the feedforward behind it; x is what both add to.
  const auto block = [&](const std::string& path, const std::string& tokens) {
    const std::string name = path + "attention.";
    return str("  y = ", layer_norm(path + "norm1", "x", d), "\n", "  q = ", split(linear(name + "W_q", "y")), "\n",
               "  k = ", split(linear(name + "W_k", tokens)), "\n", "  v = ", split(linear(name + "W_v", tokens)), "\n",
               "  y = torch.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape([b, -1, ", d, "])\n",
               "  x = x + ", linear(name + "W_out", "y"), "\n", "  y = torch.relu(",
               linear(path + "feedforward.linear1", layer_norm(path + "norm2", "x", d)), ")\n", "  x = x + ",
               linear(path + "feedforward.linear2", "y"), "\n");
  };

  const std::vector<double> scales = numbers("input.scales"), roles = numbers("input.roles");
  std::string source =
      str("  b = state.size(0)\n  state = state.double()\n", "  n = (state.size(1) - 1) // ", 1 + lags * features, "\n",
          "  raw = (state[:, 1 + n:] / ", scales[2], ").reshape([b, ", lags, ", n, ", features, "])\n",
          "  cash = ((state[:, :1] / ", scales[0], " - ", attribute("input.account_mean"), "[0]) / ",
          attribute("input.account_std"), "[0]).float()\n", "  holdings = state[:, 1:1 + n] / ", scales[1], "\n");
  const auto reference = std::find(roles.begin(), roles.end(), static_cast<double>(ft_transformer::Role::reference));
  if (reference != roles.end()) {
    const auto at = reference - roles.begin();
    const auto role = [&](ft_transformer::Role which) {
      return str(attribute("input.roles"), " == ", static_cast<int>(which));
    };
    source +=
        str("  close = raw[:, :, :, ", at, ":", at + 1, "]\n", "  holdings = holdings * close[:, 0, :, 0]\n",
            "  divisor = torch.clamp_min(close, 1e-30)\n",
            "  relative = torch.log1p(torch.clamp((raw - close) / divisor, -0.999999, 1000000.0))\n",
            "  relative = torch.where(", role(ft_transformer::Role::plain), ", raw, relative)\n",
            "  relative = torch.where(", role(ft_transformer::Role::ratio),
            ", torch.clamp(raw / divisor, -1000000.0, 1000000.0), relative)\n", "  raw = torch.where(",
            role(ft_transformer::Role::log_product), ", torch.log1p(torch.clamp_min(raw * close, 0.0)), relative)\n");
  }
  source += str("  holdings = ((holdings - ", attribute("input.account_mean"), "[1]) / ",
                attribute("input.account_std"), "[1]).float()\n", "  windows = ((raw - ",
                attribute("input.market_mean"), ") / ", attribute("input.market_std"), ").float().transpose(1, 2)\n",
                "  flat = windows.reshape([b, n, ", lags * features, "])\n");
  const std::string tokenizer = attribute("encoder.tokenizer.weight"), bias = attribute("encoder.tokenizer.bias");
  source += shape.tokens == ft_transformer::MarketTokens::asset
                ? str("  x = torch.matmul(windows, ", tokenizer, ".t()) + ", bias, "\n")
                : str("  x = flat.unsqueeze(3) * ", tokenizer, " + ", bias, "\n");
  source += str("  x = (x + torch.matmul(flat, ", attribute("encoder.asset.weight"), ".t()).unsqueeze(2)).reshape([b, ",
                "-1, ", d, "])\n");
  for (std::int64_t i = 0; i < shape.blocks; ++i) source += block(str("encoder.blocks.", i, "."), "y");
  source += str("  market = ", layer_norm("encoder.norm", "x", d), "\n",
                "  own = ", linear("portfolio.own", str("market.reshape([b, n, -1, ", d, "]).mean(2)")), "\n");
  const std::string kind = attribute("portfolio.tokenizer.weight"), kind_bias = attribute("portfolio.tokenizer.bias");
  source += str("  cash = cash.unsqueeze(2) * ", kind, "[0] + ", kind_bias, "[0]\n", "  x = holdings.unsqueeze(2) * ",
                kind, "[1] + ", kind_bias, "[1] + own\n", "  x = torch.cat([cash, x], 1)\n");
  source += block("portfolio.", "market");
  source += str("  x = ", layer_norm("portfolio.norm", "x", d), "\n", "  holdings = x[:, 1:]\n",
                "  y = torch.cat([x[:, 0], holdings.mean(1)], 1)\n", "  y = torch.relu(", linear("net.0", "y"), ")\n",
                "  y = torch.relu(", linear("net.2", "y"), ")\n", "  y = torch.relu(", linear("head.asset", "holdings"),
                " + ", linear("head.trunk", "y"), ".unsqueeze(1))\n");
  return source + str("  return torch.tanh(", linear("head.action", "y"), ".squeeze(2))\n");
}

std::string source_of(const Architecture& architecture, const ft_transformer::Weights& actor) {
  switch (architecture.network) {
    case agents::Network::mlp:
      return mlp_source();
    case agents::Network::ft_transformer:
      return ft_transformer_source(architecture);
    case agents::Network::market_context:
      break;
  }
  return market_context_source(architecture, actor);
}

}  // namespace

void write_torchscript(const std::filesystem::path& path, const ft_transformer::Weights& actor,
                       const Architecture& architecture) {
  assert(architecture.activation == agents::Activation::relu && !architecture.encoder.published);
  torch::jit::Module module("Policy");
  for (const auto& [name, tensor] : actor) {
    module.register_buffer(attribute(name).substr(5), tensor.detach().to(at::kCPU, at::kFloat).contiguous());
  }
  module.define("def forward(self, state: Tensor) -> Tensor:\n" + source_of(architecture, actor));
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
