#include "release/inspect.h"

#include <algorithm>

#include "formats/npz.h"
#include "formats/safetensors.h"
#include "formats/torch_file.h"
#include "platform/atomic_file.h"
#include "platform/text.h"
#include "release/inspector.h"
#include "release/lost_trial.h"

namespace ristretto::release {
namespace {

namespace fs = std::filesystem;
using ft_transformer::Weights;

bool is_deployment(const fs::path& directory) {
  for (const char* name : {"actor.pth", "act_target.pth", "best_trial", kManifest, "metadata.json", "stored_agent"}) {
    if (fs::exists(directory / name)) return true;
  }
  return false;
}

bool is_model_file(const fs::path& path) {
  for (const char* extension : {".pth", ".safetensors"}) {
    if (path.extension() == extension) return true;
  }
  return false;
}

void collect(const fs::path& directory, std::vector<fs::path>& out) {
  if (is_deployment(directory)) {
    out.push_back(directory);
    return;
  }
  std::vector<fs::path> entries;
  for (const auto& entry : fs::directory_iterator(directory)) {
    if (!entry.path().filename().string().starts_with(".")) entries.push_back(entry.path());
  }
  std::sort(entries.begin(), entries.end());
  for (const fs::path& entry : entries) {
    if (fs::is_directory(entry)) {
      collect(entry, out);
    } else if (is_model_file(entry)) {
      out.push_back(entry);
    }
  }
}

}  // namespace

Inspector::Inspector(const fs::path& path, const InspectOptions& options) : options_(options) {
  found_.path = path;
  directory_ = fs::is_directory(path) ? path : path.parent_path();
  found_.kind = fs::is_directory(path) ? "deployment" : "file";
}

Inspection Inspector::run() {
  read_surroundings();
  const std::optional<fs::path> file = weights_file();
  if (file) read_weights(*file);
  if (found_.kind != "Stable-Baselines3 policy") {
    if (found_.architecture) complete_trial();
    if (file) load_as_served();
    if (found_.architecture) explain_layout();
  }
  decide();
  return std::move(found_);
}

void Inspector::add(Kind kind, const std::string& text, const std::string& hint) {
  for (const Finding& finding : found_.findings) {
    if (finding.text == text) return;
  }
  found_.findings.push_back({kind, text, hint});
}

void Inspector::read_surroundings() {
  if (directory_.empty()) directory_ = ".";
  reading([&] { found_.manifest = read_manifest(directory_); });
  const fs::path trial = directory_ / "best_trial";
  if (fs::exists(trial)) {
    had_trial_ = true;
    if (reading([&] { found_.trial = read_trial(trial); })) found_.trial_from = "best_trial";
  }
  const fs::path metadata = directory_ / "metadata.json";
  if (fs::exists(metadata)) {
    metadata_ = Json::parse(read_file(metadata), nullptr, /*allow_exceptions=*/false);
    if (!metadata_.is_object()) add(Kind::note, "metadata.json is no JSON object");
  }
  if (metadata_.is_object() && metadata_.value("temporary", Json()) == Json(true)) {
    add(Kind::note, "metadata.json calls the deployment temporary");
  }
}

std::optional<fs::path> Inspector::weights_file() {
  if (found_.kind == "file") return found_.path;
  const fs::path actor = directory_ / "actor.pth";
  if (fs::exists(actor)) return actor;
  const fs::path stored = directory_ / "stored_agent" / "actor.pth";
  const bool has_stored = fs::exists(stored);
  fault("no weights: there is no actor.pth, and the existing trader would serve random ones without a word",
        has_stored ? "stored_agent/ has one, from which that trader reads the number of assets only: copy it to "
                     "actor.pth if it is the one that is meant"
                   : "");
  if (has_stored) return stored;
  return std::nullopt;
}

void Inspector::read_weights(const fs::path& file) {
  Weights weights;
  const bool read = reading([&] {
    const std::string bytes = read_file(file);
    const std::string origin = file.string();
    if (formats::is_sb3(bytes)) {
      describe_sb3(formats::read_sb3_bytes(bytes, origin));
      return;
    }
    formats::NamedArrays arrays;
    if (file.extension() == ".safetensors") {
      arrays = formats::read_safetensors(bytes, origin).arrays;
    } else if (file.extension() == ".npz") {
      arrays = formats::read_npz_bytes(bytes, origin);
    } else {
      arrays = formats::read_torch_bytes(bytes, origin);
    }
    weights = ft_transformer::weights_of(arrays);
  });
  if (!read || weights.size() == 0) return;
  const std::string prefix = "module.";
  if (std::all_of(weights.begin(), weights.end(), [&](const auto& w) { return w.first.starts_with(prefix); })) {
    fault(str("every key of ", file.filename().string(), " has the prefix 'module.'"),
          "torch.nn.DataParallel wrote it: save model.module.state_dict() instead");
    Weights bare;
    for (const auto& [name, tensor] : weights) bare.add(name.substr(prefix.size()), tensor);
    weights = bare;
  }
  const std::int64_t heads = known_heads();
  reading([&] {
    // The heads leave no trace in shapes: with 1 the rest is read.
    found_.architecture = agents::architecture_of(weights, std::max<std::int64_t>(heads, 1), file.string());
    found_.architecture->encoder.heads = heads;
    if (const auto name = non_finite_weight(weights)) {
      fault(str(file.filename().string(), ": ", *name, " holds NaN or infinity"),
            "the training diverged: serve another snapshot, or retrain");
    }
  });
  if (!found_.architecture && weights.contains("action_std_log")) {
    add(Kind::note, "action_std_log is of a newer ElegantRL, whose state_avg and state_std this program does not fold");
  }
}

std::int64_t Inspector::known_heads() const {
  if (found_.manifest && found_.manifest->contains("architecture")) {
    const Json& section = found_.manifest->at("architecture");
    if (section.is_object() && section.contains("heads") && section["heads"].is_number_integer()) {
      return section["heads"].get<std::int64_t>();
    }
  }
  return found_.trial ? whole_parameter(*found_.trial, "ft_n_heads").value_or(0) : 0;
}

void Inspector::describe_sb3(const formats::Sb3Policy& policy) {
  found_.kind = "Stable-Baselines3 policy";
  const auto size = [&](const char* name, std::size_t dimension) -> std::optional<std::int64_t> {
    const formats::Array* array = formats::find(policy.weights, name);
    if (array == nullptr || array->shape.size() != 2) return std::nullopt;
    return array->shape[dimension];
  };
  const auto observation = size("mlp_extractor.policy_net.0.weight", 1);
  const auto width = size("mlp_extractor.policy_net.0.weight", 0), actions = size("action_net.weight", 0);
  if (observation && width && actions) {
    agents::Architecture architecture;
    architecture.observation = *observation;
    architecture.width = *width;
    architecture.actions = *actions;
    architecture.activation = agents::Activation::tanh;  // its default; policy_kwargs are a pickle that is not read
    architecture.distribution = agents::Distribution::gaussian;
    found_.architecture = architecture;
    found_.fits = layouts_of(*observation, *actions);
  }
  fault(str("a policy of Stable-Baselines3", policy.version.empty() ? "" : " ", policy.version,
            ": its action is the clipped mean of a Gaussian over other hidden layers, the deployed one is tanh(mean) "
            "over ReLU"),
        "no exact conversion exists: retrain");
}

void Inspector::complete_trial() {
  const agents::Architecture& a = *found_.architecture;
  if (!found_.trial && found_.kind == "deployment") {
    if (!had_trial_) {
      found_.trial_is_lost = true;
      unserved("best_trial is missing", str("--out ", (found_.path / "best_trial").string(),
                                            " writes the one below; --storage URL looks for it in a study"));
    }
    LostTrial lost = find_trial(a, {options_.storage, options_.study_name, options_.trial}, metadata_);
    found_.trial = lost.trial;
    found_.trial_from = lost.from;
    for (const std::string& note : lost.notes) add(Kind::note, note);
    if (a.encoder.heads == 0) found_.architecture->encoder.heads = known_heads();
  }
  if (!found_.trial) return;
  const std::string guess = text_field(found_.trial->user_attributes, kReconstructed);
  if (had_trial_ && guess == kWeightsAlone) {
    unserved("best_trial was made from the weights alone: the scales of the observation in it are assumed",
             "remove it and look for the real one with --storage URL; evaluate runs it at these scales");
  } else if (had_trial_ && !guess.empty()) {
    add(Kind::note, str("best_trial was lost and found again in ", guess));
  }
  compare_parameters(a);
}

void Inspector::compare_parameters(const agents::Architecture& a) {
  const Trial& trial = *found_.trial;
  const bool transformer = a.network == agents::Network::ft_transformer;
  const bool context = a.network == agents::Network::market_context;
  const auto flag = trial.parameters.find("use_ft_encoder");
  const bool says_transformer = flag != trial.parameters.end() && *flag == Json(true);
  if (transformer && !says_transformer) {
    unserved("the weights are an FT-Transformer's, but the parameters lack use_ft_encoder, as --force-ft trials do",
             "no FT-Transformer is served by the existing trader in any case: predict and evaluate run it");
  }
  if (context) {
    const auto encoder = trial.parameters.find("encoder");
    if (encoder == trial.parameters.end() || *encoder != Json("market_context")) {
      add(Kind::corrected, "best_trial does not say encoder market_context, which the weights are of: they count");
    }
  }
  if (a.network == agents::Network::mlp && says_transformer) {
    add(Kind::corrected, "best_trial says use_ft_encoder, the weights are an MLP's, and the MLP is what is served");
  }
  const auto differs = [&](const char* name, std::int64_t is) {
    const auto says = whole_parameter(trial, name);
    if (says && *says != is) {
      add(Kind::corrected, str("best_trial says ", name, " ", *says, ", the weights have ", is, ": the weights count"));
    }
  };
  differs("net_dimension", a.width);
  if (transformer) {
    differs("ft_d_token", a.encoder.d_token);
    differs("ft_n_blocks", a.encoder.blocks);
  }
  if (context) {
    differs("ft_d_token", a.context.d_token);
    differs("ft_n_blocks", a.context.blocks);
  }
  const auto batch = whole_parameter(trial, "batch_size");
  if (batch && *batch >= 0 && *batch < 16) {
    add(Kind::corrected, str("best_trial says batch_size ", *batch,
                             ": the index of a categorical, not its choice; training alone "
                             "reads it"));
  }
}

void Inspector::load_as_served() {
  if (found_.kind == "deployment" && !fs::exists(directory_ / "actor.pth")) return;
  const bool transformer = found_.architecture && found_.architecture->network == agents::Network::ft_transformer;
  if (transformer && !had_trial_ && !found_.manifest) {
    if (found_.architecture->encoder.heads == 0) {
      fault("nothing tells the number of heads of its attention",
            "give best_trial with ft_n_heads, or --storage of its study");
    }
    return;  // best_trial is missing, which is said
  }
  if (found_.path.extension() == ".npz") {
    add(Kind::note, "predict and evaluate read .pth and .safetensors: this is described only");
    return;
  }
  for (const Finding& finding : found_.findings) {
    if (finding.kind == Kind::fault && finding.text.find("'module.'") != std::string::npos) return;
  }
  reading([&] { load(found_.path); });
}

void Inspector::decide() {
  explain_difference();
  const bool faulty = std::any_of(found_.findings.begin(), found_.findings.end(), [](const Finding& finding) {
    return finding.kind == Kind::fault || finding.kind == Kind::unserved;
  });
  if (faulty || !found_.architecture || !found_.layout) return;
  const Difference& d = found_.difference;
  if (is_mlp() && d.missing.empty() && d.unknown.empty() && d.moved.empty()) {
    found_.served_by = "cappuccino";
  } else if (found_.manifest && found_.manifest->contains("layout") && found_.manifest->contains("environment")) {
    found_.served_by = "ristretto";
  }
}

Inspection inspect(const fs::path& path, const InspectOptions& options) {
  if (!fs::exists(path))
    throw Error(Fault::incompatible, str(path.string(), " is not there"),
                "name a deployment, a file or a directory of them");
  return Inspector(path, options).run();
}

std::vector<fs::path> models_under(const fs::path& path) {
  std::vector<fs::path> out;
  if (!fs::exists(path))
    throw Error(Fault::incompatible, str(path.string(), " is not there"),
                "name a deployment, a file or a directory of them");
  if (!fs::is_directory(path)) return {path};
  collect(path, out);
  if (out.empty()) {
    throw Error(Fault::incompatible, str(path.string(),
                                         " holds no model: neither actor.pth nor best_trial, nor a "
                                         ".pth or .safetensors file, in it or below"));
  }
  return out;
}

std::vector<std::vector<std::string>> commands_of(const Inspection& inspection, const std::string& bars,
                                                  const std::vector<std::string>& lookup) {
  for (const Finding& finding : inspection.findings) {
    if (finding.kind != Finding::Kind::fault) continue;
    throw Error(Fault::incompatible, str(inspection.path.string(), ": ", finding.text), finding.hint);
  }
  std::vector<std::vector<std::string>> commands;
  if (inspection.trial_is_lost) {
    commands.push_back({"inspect", inspection.path.string(), "--out", (inspection.path / "best_trial").string()});
    commands.back().insert(commands.back().end(), lookup.begin(), lookup.end());
  }
  commands.push_back({"evaluate", inspection.path.string(), "--bars", bars});
  if (!inspection.manifest && inspection.layout->assets != env::default_assets()) {
    commands.back().insert(commands.back().end(), {"--assets", join(inspection.layout->assets, ",")});
  }
  return commands;
}

}  // namespace ristretto::release
