#include "release/surgery.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/mv.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cassert>
#include <unordered_map>

#include "platform/error.h"
#include "platform/text.h"
#include "release/manifest.h"
#include "release/sha256.h"

namespace ristretto::release {
namespace {

using agents::Network;
using ft_transformer::Weights;

std::vector<std::int64_t> places_of(const std::vector<std::string>& wanted, const std::vector<std::string>& known) {
  std::unordered_map<std::string, std::int64_t> place;
  for (std::size_t i = 0; i < known.size(); ++i) place.emplace(known[i], static_cast<std::int64_t>(i));
  std::vector<std::int64_t> out;
  for (const std::string& name : wanted) {
    const auto found = place.find(name);
    out.push_back(found == place.end() ? -1 : found->second);
  }
  return out;
}

// Rows (dimension 0) or columns (1) of `tensor` by place; what has none is `fresh` there.
at::Tensor rearranged(const at::Tensor& tensor, std::int64_t dimension, const std::vector<std::int64_t>& places,
                      const at::Tensor& fresh) {
  at::Tensor out = fresh.clone();
  for (std::size_t i = 0; i < places.size(); ++i) {
    if (places[i] < 0) continue;
    out.select(dimension, static_cast<std::int64_t>(i)).copy_(tensor.select(dimension, places[i]));
  }
  return out;
}

at::Tensor zeros_with(const at::Tensor& tensor, std::int64_t dimension, std::size_t size) {
  std::vector<std::int64_t> sizes = tensor.sizes().vec();
  sizes[static_cast<std::size_t>(dimension)] = static_cast<std::int64_t>(size);
  return at::zeros(sizes, tensor.options());
}

// [S'] what the weight of each column is multiplied by: old scale over new.
at::Tensor factors_of(const Mapping& mapping) {
  const std::vector<double> before = mapping.from.column_scales(), after = mapping.to.column_scales();
  std::vector<double> factors(after.size(), 1.0);
  for (std::size_t j = 0; j < after.size(); ++j) {
    if (mapping.columns[j] >= 0) factors[j] = before[static_cast<std::size_t>(mapping.columns[j])] / after[j];
  }
  return at::tensor(factors, at::kDouble);
}

bool adds_tokens(const Mapping& mapping) {
  return std::any_of(mapping.columns.begin(), mapping.columns.end(), [](std::int64_t j) { return j < 0; });
}

// What hides a new token from the others' attention: e^-25 is 1e-11 of a score's weight (algorithms.md 6). Its gradient
// is as small: begin_from() raises it to where it learns.
constexpr double kHidden = -25;

struct Fresh {
  at::Tensor tokens;          // [S', d] the tokenizer's weight where a token is new; undefined: zeros
  double key_bias = 0;        // of a new token
  bool mean_log_std = false;  // a new action's exploration is the mean of the others'; else 0
};

// Everything but the bias; `factors` [S'] multiply the first weight.
Weights rearranged(const Weights& weights, const agents::Architecture& architecture, const Mapping& mapping,
                   const at::Tensor& factors, bool actor, const Fresh& fresh) {
  const bool tokens = architecture.network == Network::ft_transformer;
  const std::string last = tokens ? "net.3." : "net.4.";
  const auto rows = [&](const at::Tensor& tensor, const std::vector<std::int64_t>& places) {
    return rearranged(tensor, 0, places, zeros_with(tensor, 0, places.size()));
  };
  const at::Tensor new_key_bias = at::full({mapping.to.size()}, fresh.key_bias, at::kDouble);
  Weights out;
  for (const auto& [name, value] : weights) {
    at::Tensor tensor = value.detach().to(at::kCPU, at::kDouble);
    if (name == "net.0.weight" && !tokens) {
      tensor = rearranged(tensor, 1, mapping.columns, zeros_with(tensor, 1, mapping.columns.size())) * factors;
    } else if (name == "encoder.tokenizer.weight") {
      tensor = rows(tensor, mapping.columns) * factors.unsqueeze(1);
      for (std::size_t j = 0; fresh.tokens.defined() && j < mapping.columns.size(); ++j) {
        const auto row = static_cast<std::int64_t>(j);
        if (mapping.columns[j] < 0) tensor.select(0, row).copy_(fresh.tokens.select(0, row));
      }
    } else if (name == "encoder.tokenizer.bias") {
      tensor = rows(tensor, mapping.columns);
    } else if (name == "encoder.key_bias") {
      tensor = rearranged(tensor, 0, mapping.columns, new_key_bias);
    } else if (name == "encoder.output_projection.weight") {
      const std::int64_t width = tensor.size(0), d = architecture.encoder.d_token;
      const at::Tensor blocks = tensor.view({width, -1, d});
      tensor = rearranged(blocks, 1, mapping.columns, zeros_with(blocks, 1, mapping.columns.size())).view({width, -1});
    } else if (actor && (name == last + "weight" || name == last + "bias")) {
      tensor = rows(tensor, mapping.actions);
    } else if (name == "a_std_log") {
      const double value_of_new = fresh.mean_log_std ? tensor.mean().item<double>() : 0.0;
      tensor = rearranged(tensor, 1, mapping.actions,
                          at::full({1, static_cast<std::int64_t>(mapping.actions.size())}, value_of_new, at::kDouble));
    }
    out.add(name, tensor);
    if (name == "encoder.tokenizer.bias" && adds_tokens(mapping) && !weights.contains("encoder.key_bias")) {
      const at::Tensor old = at::zeros({mapping.from.size()}, at::kDouble);
      out.add("encoder.key_bias", rearranged(old, 0, mapping.columns, new_key_bias));
    }
  }
  return out;
}

void require_known(const agents::Architecture& architecture) {
  if (architecture.network == Network::mlp || architecture.network == Network::ft_transformer) return;
  throw Error(Fault::usage,
              str("a network of the kind ", agents::name_of(architecture.network), " cannot be carried over"),
              "an mlp or ft_transformer can; retrain makes a new one");
}

}  // namespace

std::vector<std::string> Mapping::added_names() const {
  const std::vector<std::string> names = to.names();
  std::vector<std::string> out;
  for (std::size_t j = 0; j < names.size(); ++j) {
    if (columns[j] < 0) out.push_back(names[j]);
  }
  return out;
}

Mapping mapping_of(const env::Layout& from, const env::Layout& to) {
  Mapping mapping;
  mapping.from = from;
  mapping.to = to;
  const std::vector<std::string> before = from.names(), after = to.names();
  mapping.columns = places_of(after, before);
  mapping.actions = places_of(to.assets, from.assets);
  const std::vector<std::int64_t> kept = places_of(before, after);
  for (std::size_t j = 0; j < kept.size(); ++j) {
    if (kept[j] < 0) mapping.removed.push_back(static_cast<std::int64_t>(j));
  }
  for (const std::string& asset : from.assets) {
    if (std::find(to.assets.begin(), to.assets.end(), asset) == to.assets.end()) {
      mapping.removed_assets.push_back(asset);
    }
  }
  return mapping;
}

std::string hash_of(const Mapping& mapping) {
  std::string text = str(hash_of(mapping.from), ' ', hash_of(mapping.to), '\n');
  for (const std::int64_t j : mapping.columns) text += str(j, '\n');
  text += '\n';
  for (const std::int64_t i : mapping.actions) text += str(i, '\n');
  return sha256(text).substr(0, 16);
}

Weights carried(const Weights& weights, const agents::Architecture& architecture, const Mapping& mapping,
                const std::vector<double>& constants, bool actor, std::uint64_t seed) {
  assert(constants.size() == mapping.removed.size());
  require_known(architecture);
  const at::NoGradGuard no_gradients;
  const bool tokens = architecture.network == Network::ft_transformer;
  Fresh fresh;
  fresh.mean_log_std = true;
  if (tokens) {
    fresh.tokens = at::empty({mapping.to.size(), architecture.encoder.d_token}, at::kFloat);
    ft_transformer::xavier_uniform_(fresh.tokens, 1, at::make_generator<at::CPUGeneratorImpl>(seed));
    fresh.key_bias = kHidden;
  }
  Weights out = rearranged(weights, architecture, mapping, factors_of(mapping), actor, fresh);
  if (!tokens && !mapping.removed.empty()) {
    const at::Tensor removed = at::tensor(mapping.removed, at::kLong);
    const at::Tensor first = weights.at("net.0.weight").detach().to(at::kCPU, at::kDouble);
    at::Tensor& bias = out.at("net.0.bias");
    bias = bias + first.index_select(1, removed).mv(at::tensor(constants, at::kDouble));
  }
  return out.to(at::kCPU, at::kFloat);
}

Weights carried_moments(const Weights& moments, const agents::Architecture& architecture, const Mapping& mapping,
                        bool actor, int order) {
  require_known(architecture);
  const at::NoGradGuard no_gradients;
  const at::Tensor factors = 1.0 / factors_of(mapping);
  return rearranged(moments, architecture, mapping, order == 1 ? factors : factors * factors, actor, {})
      .to(at::kCPU, at::kFloat);
}

agents::Architecture carried(const agents::Architecture& architecture, const Mapping& mapping) {
  agents::Architecture out = architecture;
  out.observation = mapping.to.size();
  out.actions = mapping.to.assets_count();
  if (out.network == Network::ft_transformer) {
    out.encoder.features = out.observation;
    out.encoder.key_bias = architecture.encoder.key_bias || adds_tokens(mapping);
  }
  return out;
}

}  // namespace ristretto::release
