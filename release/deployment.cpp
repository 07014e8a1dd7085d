#include "release/deployment.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/tensor.h>

#include <algorithm>

#include "formats/safetensors.h"
#include "formats/torch_file.h"
#include "platform/atomic_file.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/text.h"
#include "release/sha256.h"
#include "release/torchscript.h"

namespace ristretto::release {
namespace {

using ft_transformer::Weights;
namespace fs = std::filesystem;

[[noreturn]] void incompatible(const std::string& message, const std::string& hint = {}) {
  throw Error(Fault::incompatible, message, hint);
}

// What is known about a directory's model besides its weights.
struct Surroundings {
  std::optional<Json> manifest;
  std::optional<Trial> trial;
};

Surroundings surroundings_of(const fs::path& directory) {
  Surroundings around;
  around.manifest = read_manifest(directory);
  const fs::path trial = directory / "best_trial";
  if (fs::exists(trial)) around.trial = read_trial(trial);
  return around;
}

// The file's bytes, which must be those that the manifest lists, if there is one.
std::string read_listed(const fs::path& path, const std::optional<Json>& manifest) {
  std::string bytes = read_file(path);
  if (!manifest) return bytes;
  const std::string name = path.filename().string();
  const auto files = manifest->find("files");
  if (files == manifest->end() || !files->contains(name)) incompatible(str(path.string(), " is not in the manifest"));
  const std::string listed = text_field(files->at(name), "sha256"), found = sha256(bytes);
  if (found != listed) {
    incompatible(
        str(path.string(), " has sha256 ", found.substr(0, 12), "..., the manifest says ", listed.substr(0, 12), "..."),
        "something wrote into a version: serve another one (rollback)");
  }
  return bytes;
}

Weights read_weights(std::string_view bytes, const fs::path& path) {
  const std::string origin = path.string();
  const auto arrays = path.extension() == ".safetensors" ? formats::read_safetensors(bytes, origin).arrays
                                                         : formats::read_torch_bytes(bytes, origin);
  return ft_transformer::weights_of(arrays);
}

// The weights of the template's names, in its order.
Weights ordered(const Weights& weights, const Weights& expected, const std::string& origin) {
  Weights out;
  for (const auto& [name, tensor] : expected) {
    if (weights.contains(name)) out.add(name, weights.at(name));
  }
  for (const auto& [name, tensor] : weights) {
    if (!expected.contains(name)) out.add(name, tensor);
  }
  out.require_same_shapes(expected, origin);
  return out.to(at::kCPU, at::kFloat);
}

std::int64_t heads_of(const Surroundings& around, const fs::path& path) {
  if (around.manifest && around.manifest->contains("architecture")) {
    return architecture_of(around.manifest->at("architecture"), path.string()).encoder.heads;
  }
  if (around.trial) {
    const auto heads = around.trial->parameters.find("ft_n_heads");
    if (heads != around.trial->parameters.end() && heads->is_number_integer()) return heads->get<std::int64_t>();
  }
  incompatible(str(path.string(),
                   " holds an FT-Transformer, whose number of heads its weights do not show, and neither a"
                   " manifest nor best_trial beside it gives ft_n_heads"));
}

Model model_of(const Weights& weights, const fs::path& path, const Surroundings& around) {
  Model model;
  const bool transformer = weights.contains("encoder.tokenizer.weight") && !ft_transformer::is_market_context(weights);
  model.architecture = agents::architecture_of(weights, transformer ? heads_of(around, path) : 0, path.string());
  model.actor = ordered(weights, agents::actor_template(model.architecture), path.string());
  model.manifest = around.manifest;
  model.trial = around.trial;
  if (!model.manifest) return model;
  const std::string origin = manifest_path(path.parent_path()).value_or(path).string();
  const Json found = section_of(model.architecture);
  if (model.manifest->contains("architecture") &&
      section_of(architecture_of(model.manifest->at("architecture"), origin)) != found) {
    incompatible(str(origin, " says the architecture is ", line_of(model.manifest->at("architecture")), ", ",
                     path.filename().string(), " holds ", line_of(found)));
  }
  if (model.manifest->contains("layout")) {
    model.layout = layout_of(model.manifest->at("layout"), origin);
    if (model.layout->size() != model.architecture.observation) {
      incompatible(str(origin, ": the layout names ", model.layout->size(), " columns, the network reads ",
                       model.architecture.observation));
    }
  }
  if (model.manifest->contains("environment")) model.rules = rules_of(model.manifest->at("environment"), origin);
  return model;
}

bool same_weights(const Weights& a, const Weights& b) {
  if (a.size() != b.size()) return false;
  return std::all_of(a.begin(), a.end(), [&](const Weights::Entry& entry) {
    return b.contains(entry.first) && b.at(entry.first).sizes() == entry.second.sizes() &&
           at::equal(b.at(entry.first), entry.second);
  });
}

// Today's consumer reads act_target.pth after actor.pth into the same network: it, not actor.pth, would be served.
void require_same_target(const fs::path& actor, const Weights& weights, const std::optional<Json>& manifest) {
  const fs::path target = actor.parent_path() / "act_target.pth";
  if (!fs::exists(target) || fs::equivalent(actor, target)) return;
  if (!same_weights(weights, read_weights(read_listed(target, manifest), target))) {
    incompatible(str(target.string(), " differs from actor.pth beside it, and is what the existing trader would serve"),
                 "replace act_target.pth by a copy of the one that is meant, or remove it");
  }
}

Model load_directory(const fs::path& directory) {
  const fs::path actor = directory / "actor.pth";
  if (!fs::exists(actor)) {
    incompatible(str(directory.string(), " holds no actor.pth: the existing trader would serve random weights"),
                 fs::exists(directory / "stored_agent" / "actor.pth")
                     ? "there is one in stored_agent/, from which that trader reads the number of assets only"
                     : "");
  }
  const Surroundings around = surroundings_of(directory);
  const Weights weights = read_weights(read_listed(actor, around.manifest), actor);
  require_same_target(actor, weights, around.manifest);
  Model model = model_of(weights, actor, around);
  model.path = directory;
  const fs::path critic = directory / "critic.pth";
  if (fs::exists(critic)) {
    try {
      model.critic = ordered(read_weights(read_listed(critic, around.manifest), critic),
                             agents::critic_template(model.architecture), critic.string());
    } catch (const Error& error) {
      incompatible(error.what(), "the existing trader refuses to start with a critic that does not fit actor.pth");
    }
  }
  return model;
}

// A file of a directory with a manifest that lists it as it is belongs to that directory's model.
Model load_file(const fs::path& path) {
  const std::string bytes = read_file(path);
  const Weights weights = read_weights(bytes, path);
  Surroundings around = surroundings_of(path.parent_path());
  if (around.manifest) {
    const auto files = around.manifest->find("files");
    const std::string name = path.filename().string();
    if (files == around.manifest->end() || !files->contains(name) ||
        text_field(files->at(name), "sha256") != sha256(bytes)) {
      around.manifest.reset();
    }
  }
  Model model = model_of(weights, path, around);
  model.path = path;
  return model;
}

at::Tensor matrix_of(const Json& rows, const std::string& origin) {
  try {
    const auto values = rows.get<std::vector<std::vector<double>>>();
    std::vector<double> flat;
    for (const auto& row : values) flat.insert(flat.end(), row.begin(), row.end());
    if (!values.empty() && flat.size() == values.size() * values[0].size()) {
      return at::tensor(flat, at::kDouble).reshape({static_cast<std::int64_t>(values.size()), -1}).to(at::kFloat);
    }
  } catch (const nlohmann::json::exception&) {
    // said below
  }
  incompatible(str(origin, ": the probe's rows are no matrix of numbers"));
}

}  // namespace

Model load(const fs::path& path) {
  std::error_code error;
  const fs::path resolved = fs::canonical(path, error);  // once, so that no load mixes versions
  if (error) incompatible(str(path.string(), " cannot be opened: ", error.message()));
  return fs::is_directory(resolved) ? load_directory(resolved) : load_file(resolved);
}

std::optional<std::string> non_finite_weight(const Weights& weights) {
  for (const auto& [name, tensor] : weights) {
    if (!at::isfinite(tensor).all().item<bool>()) return name;
  }
  return std::nullopt;
}

std::optional<std::int64_t> unseen_from(const Model& model) {
  if (!model.manifest) return std::nullopt;
  for (const char* field : {"/data/holdout_from", "/data/splits/holdout/first_bar"}) {
    if (const auto time = time_at(*model.manifest, field)) return time;
  }
  return std::nullopt;
}

at::Tensor predict(const Model& model, const at::Tensor& states) {
  const std::int64_t size = model.architecture.observation;
  const bool any_assets = model.architecture.network == agents::Network::market_context;
  if (states.dim() != 2 ||
      (any_assets ? ft_transformer::assets_of_observation(model.architecture.context, states.size(1)) == 0
                  : states.size(1) != size)) {
    std::vector<std::string> shape;
    for (const std::int64_t length : states.sizes()) shape.push_back(str(length));
    incompatible(
        str("states of shape [", join(shape, ", "), "] do not fit ", model.path.string(), ", expected [N, ", size, "]",
            any_assets ? str(", or another number of assets: 1 + n (1 + ",
                             model.architecture.context.features * model.architecture.context.lookback, ")")
                       : std::string()),
        model.layout ? "" : "the layout a model was trained on goes with its weights: convert, or retrain");
  }
  const at::NoGradGuard no_gradients;
  const at::Tensor input = states.to(at::kCPU, at::kFloat);
  if (!at::isfinite(input).all().item<bool>()) incompatible("the states hold NaN or infinity");
  const at::Tensor actions =
      agents::deterministic(model.architecture, agents::actor_mean(model.actor, model.architecture, input));
  if (!at::isfinite(actions).all().item<bool>()) {
    const auto weight = non_finite_weight(model.actor);
    incompatible(str(model.path.string(), " answers with NaN: ",
                     weight ? str(*weight, " holds NaN or infinity") : std::string("its numbers overflow")));
  }
  return actions;
}

double run_probe(const Model& model) {
  const std::string origin = model.path.string();
  if (!model.manifest || !model.manifest->contains("probe")) incompatible(origin + " has no manifest with a probe");
  const Json& probe = model.manifest->at("probe");
  if (!probe.contains("input") || !probe.contains("output") || !probe.contains("tolerance") ||
      !probe["tolerance"].is_number()) {
    incompatible(origin + ": the manifest's probe lacks input, output or tolerance");
  }
  const at::Tensor input = matrix_of(probe["input"], origin), expected = matrix_of(probe["output"], origin);
  double worst = 0;
  const auto compare = [&](const std::string& form, const at::Tensor& found) {
    if (found.sizes() != expected.sizes())
      incompatible(str(origin, ": ", form, " answers the probe with another shape"));
    const double deviation = (found - expected).abs().max().item<double>();
    if (!(deviation <= probe["tolerance"].get<double>())) {
      incompatible(str(origin, ": ", form, " misses the probe by ", deviation, ", expected at most ",
                       line_of(probe["tolerance"])));
    }
    worst = std::max(worst, deviation);
  };
  compare("actor.pth", predict(model, input));
  const Json& files = model.manifest->at("files");
  if (files.contains("actor.safetensors")) {
    compare("actor.safetensors", predict(load(model.path / "actor.safetensors"), input));
  }
  if (files.contains("policy.pt")) compare("policy.pt", run_torchscript(model.path / "policy.pt", input));
  return worst;
}

void verify(const fs::path& directory) {
  const fs::path resolved = fs::canonical(directory);
  const auto manifest = read_manifest(resolved);
  if (!manifest) incompatible(resolved.string() + " has no manifest");
  require_files(resolved, *manifest);
  const Model model = load(resolved);
  if (const auto weight = non_finite_weight(model.actor)) {
    incompatible(str(resolved.string(), "/actor.pth: ", *weight, " holds NaN or infinity"));
  }
  if (manifest->contains("probe") || !manifest->contains("adopted")) run_probe(model);
}

}  // namespace ristretto::release
