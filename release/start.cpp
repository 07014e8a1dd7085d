#include "release/start.h"

#include <algorithm>

#include "agents/checkpoint.h"
#include "agents/optimizer.h"
#include "formats/safetensors.h"
#include "formats/torch_file.h"
#include "platform/atomic_file.h"
#include "platform/error.h"
#include "platform/log.h"
#include "platform/text.h"
#include "release/inspect.h"

namespace ristretto::release {
namespace {

namespace fs = std::filesystem;
using agents::MomentPair;
using ft_transformer::Weights;

constexpr const char* kVersionField = "start_version";
constexpr const char* kVersion = "1";

// Without what market_context's files say of its input, which no training has.
Weights trained_of(const Weights& of_file) {
  Weights out;
  for (const auto& [name, tensor] : of_file) {
    if (!name.starts_with("input.")) out.add(name, tensor);
  }
  return out;
}

// Those with the prefix, which is taken away, in the template's order; nothing where they do not fit it.
std::optional<Weights> fitting(const Weights& all, const std::string& prefix, const Weights& expected) {
  Weights out;
  for (const auto& [name, tensor] : expected) {
    if (!all.contains(prefix + name) || all.at(prefix + name).sizes() != tensor.sizes()) return std::nullopt;
    out.add(name, all.at(prefix + name));
  }
  return out.to(at::kCPU, at::kFloat);
}

std::optional<MomentPair> pair_of(const Weights& all, const std::string& prefix, const Weights& expected) {
  auto first = fitting(all, prefix + "_first/", expected), second = fitting(all, prefix + "_second/", expected);
  if (!first || !second) return std::nullopt;
  return MomentPair{*first, *second};
}

// Adam's state as torch saves it: by the number of the parameter.
std::optional<MomentPair> adam_of(const fs::path& file, const Weights& expected) {
  if (!fs::exists(file)) return std::nullopt;
  const formats::NamedArrays arrays = formats::read_torch_file(file);
  MomentPair out;
  int number = 0;
  for (const auto& [name, tensor] : expected) {
    const formats::Array* first = formats::find(arrays, str("state.", number, ".exp_avg"));
    const formats::Array* second = formats::find(arrays, str("state.", number, ".exp_avg_sq"));
    ++number;
    if (first == nullptr || second == nullptr) return std::nullopt;  // before the first update
    out.first.add(name, ft_transformer::tensor_of(*first));
    out.second.add(name, ft_transformer::tensor_of(*second));
  }
  const auto fits = [&](const Weights& weights) {
    return std::all_of(weights.begin(), weights.end(),
                       [&](const auto& entry) { return entry.second.sizes() == expected.at(entry.first).sizes(); });
  };
  if (!fits(out.first) || !fits(out.second)) return std::nullopt;
  return MomentPair{out.first.to(at::kCPU, at::kFloat), out.second.to(at::kCPU, at::kFloat)};
}

void read_converted(const fs::path& file, Start& start, const Weights& actor, const Weights& critic) {
  const formats::Safetensors content = formats::read_safetensors(read_file(file), file.string());
  const auto field = [&](const char* name) {
    const auto found = content.metadata.find(name);
    return found == content.metadata.end() ? std::string() : found->second;
  };
  if (field(kVersionField) != kVersion) {
    throw Error(Fault::incompatible,
                str(file.string(), ": ", kVersionField, " is '", field(kVersionField), "', expected ", kVersion),
                "a newer version of this program may have written it");
  }
  const Weights all = ft_transformer::weights_of(content.arrays);
  if (const auto kept = fitting(all, "critic/", critic)) {
    start.critic = *kept;
    start.critic_normalized = field("critic_normalized") == "true";
  }
  start.actor_moments = pair_of(all, "actor", actor);
  start.critic_moments = pair_of(all, "critic", critic);
  start.moments_normalized = field("moments_normalized") == "true";
}

void read_own(const fs::path& training, Start& start, const Weights& actor, const Weights& critic) {
  const agents::Checkpoint checkpoint = agents::read_checkpoint(training);
  Weights all;
  for (const auto& [name, tensor] : checkpoint.tensors) all.add(name, tensor);
  if (start.critic.size() == 0) {
    for (const char* prefix : {"best_critic/", "critic/"}) {
      const auto kept = fitting(all, prefix, critic);
      if (!kept) continue;
      start.critic = *kept;
      start.critic_normalized = true;
      break;
    }
  }
  if (!all.contains("adam/first_moment") || !all.contains("adam/second_moment")) return;
  std::vector<at::Tensor> parameters = actor.tensors();
  for (const at::Tensor& tensor : critic.tensors()) parameters.push_back(tensor);
  const std::vector<at::Tensor> first = agents::Optimizer::pieces(all.at("adam/first_moment"), parameters);
  const std::vector<at::Tensor> second = agents::Optimizer::pieces(all.at("adam/second_moment"), parameters);
  MomentPair of_actor, of_critic;
  std::size_t k = 0;
  for (const auto& [network, pair] : {std::pair{&actor, &of_actor}, std::pair{&critic, &of_critic}}) {
    for (const auto& [name, tensor] : *network) {
      pair->first.add(name, first[k]);
      pair->second.add(name, second[k++]);
    }
  }
  start.actor_moments = of_actor;
  start.critic_moments = of_critic;
  start.moments_normalized = true;
}

void add(formats::NamedArrays& out, const std::string& prefix, const Weights& weights) {
  for (const auto& [name, array] : ft_transformer::arrays_of(weights)) out.emplace_back(prefix + name, array);
}

}  // namespace

Start start_of(const Model& model) {
  if (const auto weight = non_finite_weight(model.actor)) {
    throw Error(Fault::incompatible, str(model.path.string(), ": ", *weight, " holds NaN or infinity"));
  }
  Start start;
  start.source = model.path;
  start.architecture = model.architecture;
  // In the order of assets that it was trained in, as far as that can be seen.
  const std::optional<env::Layout> layout = model.layout ? model.layout : inspect(model.path).layout;
  if (!layout) {
    throw Error(Fault::incompatible,
                str(model.path.string(), " takes ", model.architecture.observation, " values and ",
                    model.architecture.actions, " actions: no layout that is known"),
                "ristretto inspect lists what fits");
  }
  start.layout = *layout;
  start.actor = model.actor;
  if (model.critic) start.critic = *model.critic;
  if (!fs::is_directory(model.path)) return start;
  start.unseen_from = unseen_from(model);
  const Weights actor = trained_of(agents::actor_template(start.architecture));
  const Weights critic = trained_of(agents::critic_template(start.architecture));
  const fs::path training = model.path / kTrainingDirectory;
  try {
    if (fs::exists(training / kStartFile)) {
      read_converted(training / kStartFile, start, actor, critic);
    } else if (fs::exists(training / agents::kCheckpointFile)) {
      read_own(training, start, actor, critic);
    } else {
      start.actor_moments = adam_of(model.path / "act_optim.pth", actor);
      start.critic_moments = adam_of(model.path / "cri_optim.pth", critic);
    }
  } catch (const Error& error) {
    if (error.fault() != Fault::incompatible) throw;
    // The weights are whole, and moments are soon gathered anew.
    log::warning("start", str("the optimizer's state is left out: ", error.what()));
  }
  return start;
}

Start carried(const Start& start, const Mapping& mapping, const std::vector<double>& constants) {
  const agents::Architecture& before = start.architecture;
  Start out = start;
  out.architecture = carried(before, mapping);
  out.layout = mapping.to;
  out.actor = carried(start.actor, before, mapping, constants, /*actor=*/true);
  if (start.critic.size() > 0) {
    // What is normalised knows no scales, and a removed column is on average 0 there.
    Mapping unscaled = mapping;
    unscaled.from.scales = unscaled.to.scales;
    const std::vector<double> zeros(constants.size(), 0.0);
    out.critic = start.critic_normalized ? carried(start.critic, before, unscaled, zeros, /*actor=*/false)
                                         : carried(start.critic, before, mapping, constants, /*actor=*/false);
  }
  const auto moments = [&](const std::optional<MomentPair>& pair, bool actor) -> std::optional<MomentPair> {
    if (!pair) return std::nullopt;
    Mapping scaled = mapping;
    if (start.moments_normalized) scaled.from.scales = scaled.to.scales;
    return MomentPair{carried_moments(pair->first, before, scaled, actor, 1),
                      carried_moments(pair->second, before, scaled, actor, 2)};
  };
  out.actor_moments = moments(start.actor_moments, true);
  out.critic_moments = moments(start.critic_moments, false);
  return out;
}

void write_start(const fs::path& directory, const Start& start) {
  formats::NamedArrays arrays;
  add(arrays, "critic/", start.critic);
  for (const auto& [prefix, pair] :
       {std::pair{"actor", &start.actor_moments}, std::pair{"critic", &start.critic_moments}}) {
    if (!*pair) continue;
    add(arrays, str(prefix, "_first/"), (*pair)->first);
    add(arrays, str(prefix, "_second/"), (*pair)->second);
  }
  if (arrays.empty()) return;
  fs::create_directories(directory / kTrainingDirectory);
  const std::map<std::string, std::string> fields = {
      {kVersionField, kVersion},
      {"layout_hash", hash_of(start.layout)},
      {"critic_normalized", start.critic_normalized ? "true" : "false"},
      {"moments_normalized", start.moments_normalized ? "true" : "false"}};
  write_file_atomically(directory / kTrainingDirectory / kStartFile, formats::write_safetensors(arrays, fields));
}

}  // namespace ristretto::release
