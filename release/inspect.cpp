#include "release/inspect.h"

#include <algorithm>
#include <cmath>

#include "formats/npz.h"
#include "formats/safetensors.h"
#include "formats/sb3.h"
#include "formats/torch_file.h"
#include "platform/atomic_file.h"
#include "platform/error.h"
#include "platform/text.h"
#include "release/lost_trial.h"

namespace ristretto::release {
namespace {

namespace fs = std::filesystem;
using ft_transformer::Weights;
using Kind = Finding::Kind;

class Inspector {
 public:
  Inspector(const fs::path& path, const InspectOptions& options) : options_(options) {
    found_.path = path;
    directory_ = fs::is_directory(path) ? path : path.parent_path();
    found_.kind = fs::is_directory(path) ? "deployment" : "file";
  }

  Inspection run() {
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

 private:
  void add(Kind kind, const std::string& text, const std::string& hint = {}) {
    for (const Finding& finding : found_.findings) {
      if (finding.text == text) return;
    }
    found_.findings.push_back({kind, text, hint});
  }
  void fault(const std::string& text, const std::string& hint = {}) { add(Kind::fault, text, hint); }
  void unserved(const std::string& text, const std::string& hint) { add(Kind::unserved, text, hint); }

  // Runs `read`; its Error becomes a fault.
  template <class Read>
  bool reading(Read read) {
    try {
      read();
      return true;
    } catch (const Error& error) {
      fault(error.what(), error.hint());
      return false;
    }
  }

  void read_surroundings() {
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

  std::optional<fs::path> weights_file() {
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

  void read_weights(const fs::path& file) {
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
      add(Kind::note,
          "action_std_log is of a newer ElegantRL, whose state_avg and state_std this program does not fold");
    }
  }

  std::int64_t known_heads() const {
    if (found_.manifest && found_.manifest->contains("architecture")) {
      const Json& section = found_.manifest->at("architecture");
      if (section.is_object() && section.contains("heads") && section["heads"].is_number_integer()) {
        return section["heads"].get<std::int64_t>();
      }
    }
    return found_.trial ? whole_parameter(*found_.trial, "ft_n_heads").value_or(0) : 0;
  }

  void describe_sb3(const formats::Sb3Policy& policy) {
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

  void complete_trial() {
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

  void compare_parameters(const agents::Architecture& a) {
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
        add(Kind::corrected,
            str("best_trial says ", name, " ", *says, ", the weights have ", is, ": the weights count"));
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

  // What release::load refuses, its consumer refuses or serves as something else.
  void load_as_served() {
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

  void explain_layout() {
    const agents::Architecture& a = *found_.architecture;
    found_.fits = layouts_of(a.observation, a.actions);
    Model model;
    model.architecture = a;
    model.trial = found_.trial;
    if (found_.manifest && found_.manifest->contains("layout")) {
      reading([&] { model.layout = layout_of(found_.manifest->at("layout"), found_.path.string()); });
    }
    found_.layout = own_layout(model);
    const std::int64_t lookback = found_.trial ? whole_parameter(*found_.trial, "lookback").value_or(0) : 0;
    const bool has_lookback = lookback > 0 && found_.trial_from != kWeightsAlone;
    found_.layout_from = model.layout ? "the manifest" : has_lookback ? "its dimension and trial" : "its dimension";
    if (!found_.layout) {
      std::vector<std::string> fits;
      for (const LayoutFit& fit : found_.fits) fits.push_back(text_of(fit));
      fault(str(a.observation, " values and ", a.actions, " actions are no layout of the default assets",
                fits.empty() ? "" : "; the dimension fits ", join(fits, " or ")));
      return;
    }
    if (lookback > 0 && !model.layout && lookback != found_.layout->lookback) explain_lookback(lookback);
    correct_assets();
    if (!model.layout) explain_order();
    compare_with_today();
  }

  void explain_lookback(std::int64_t lookback) {
    const std::int64_t n = found_.layout->assets_count();
    const auto wanted = [&](const char* set) {
      return 1 + n + n * lookback * static_cast<std::int64_t>(env::feature_set(set).size());
    };
    const std::string text =
        str("actor.pth takes ", found_.layout->size(), " values; best_trial (lookback ", lookback, ") wants ",
            wanted("alpaca-11"), " with 11 features, ", wanted("alpaca-14"), " with 14; ", found_.layout->size(),
            " is lookback ", found_.layout->lookback, " of ", found_.layout->features.size(), " features");
    if (is_mlp() && found_.layout->features == env::feature_set("alpaca-14")) {
      add(Kind::corrected, text + ", which the existing trader works out itself");
    } else {
      fault(text, "the weights are of another trial: find theirs, or retrain");
    }
  }

  bool is_mlp() const { return found_.architecture->network == agents::Network::mlp; }

  // Lists of assets that somebody gives: they do not change what the weights were trained on.
  void correct_assets() {
    std::vector<std::pair<std::string, std::vector<std::string>>> claims;
    if (options_.assets) claims.emplace_back("--assets", *options_.assets);
    const auto claim = [&](const std::string& where, const Json& section) {
      for (const char* name : {"assets", "tickers", "ticker_list", "stocks"}) {
        if (!section.is_object() || !section.contains(name) || !section[name].is_array()) continue;
        std::vector<std::string> assets;
        for (const Json& asset : section[name]) assets.push_back(asset.is_string() ? asset.get<std::string>() : "?");
        claims.emplace_back(str(where, "'s ", name), assets);
      }
    };
    claim("metadata.json", metadata_);
    if (found_.trial && found_.trial_from == "best_trial") claim("best_trial", found_.trial->user_attributes);
    for (const auto& [where, assets] : claims) {
      if (assets == found_.layout->assets) continue;
      if (assets == processor_order() && found_.layout->assets == env::default_assets() && where != "--assets") {
        found_.layout->assets = assets;
        order_from_ = where;
        continue;
      }
      add(Kind::corrected,
          str(where, " names ", assets.size(), " assets (", join(assets, " "), "); the model was trained on ",
              found_.layout->assets.size(), " (", join(found_.layout->assets, " "), "), which are taken"));
    }
  }

  void explain_order() {
    const auto ratio = eth_over_link(directory_, *found_.layout);
    if (ratio && *ratio * kOrderEvidence <= 1)
      order_from_ =
          str("its optimizer's state (LINK's column got inputs ", fixed(1 / *ratio, 0), " times those of ETH's)");
    if (!order_from_.empty()) {
      found_.layout->assets = processor_order();
      unserved(
          str("trained with ETH before LINK, says ", order_from_,
              ": the existing trader would serve it with the two exchanged"),
          "evaluate serves it in its own order with --assets; convert with --assets in the trader's carries it over");
    } else if (ratio && *ratio >= kOrderEvidence) {
      add(Kind::note, str("its optimizer's state agrees with the order of assets (ETH's inputs were ", fixed(*ratio, 0),
                          " times LINK's)"));
    } else {
      add(Kind::note,
          "nothing here tells whether it was trained with ETH before LINK, as the existing data processor "
          "delivers them (docs/compatibility.md)");
    }
  }

  void compare_with_today() {
    env::Layout today = *found_.layout;
    today.assets = env::default_assets();
    today.features = env::feature_set("alpaca-14");
    const std::vector<std::string> ours = found_.layout->names(), theirs = today.names();
    const auto has = [](const std::vector<std::string>& names, const std::string& name) {
      return std::find(names.begin(), names.end(), name) != names.end();
    };
    for (const std::string& name : theirs) {
      if (!has(ours, name)) found_.difference.missing.push_back(name);
    }
    for (std::size_t i = 0; i < ours.size(); ++i) {
      if (!has(theirs, ours[i])) found_.difference.unknown.push_back(ours[i]);
    }
    if (found_.difference.missing.empty() && found_.difference.unknown.empty()) {
      for (std::size_t i = 0; i < ours.size(); ++i) {
        if (ours[i] != theirs[i]) found_.difference.moved.push_back(ours[i]);
      }
    }
  }

  void decide() {
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

  // Why today's trader does not serve what runs.
  void explain_difference() {
    if (!found_.architecture || !found_.layout || found_.kind == "Stable-Baselines3 policy") return;
    const bool has_manifest = found_.manifest && found_.manifest->contains("layout");
    if (has_manifest) return;
    if (!is_mlp()) {
      unserved(
          "the existing trader builds an MLP whatever best_trial says, so no FT-Transformer is served by it, and "
          "without a manifest nothing else opens the directory",
          "predict and evaluate run it; retrain makes a version with policy.pt");
    }
    if (!found_.difference.missing.empty() || !found_.difference.unknown.empty()) {
      unserved(str("today's environment observes ", today_size(), " values at this lookback, the model takes ",
                   found_.layout->size()),
               is_mlp() ? "predict and evaluate run it in its own layout; convert --to alpaca-14 carries it over"
                        : "predict and evaluate run it in its own layout; retrain makes one for today's");
    }
  }

  std::int64_t today_size() const {
    env::Layout today = *found_.layout;
    today.features = env::feature_set("alpaca-14");
    return today.size();
  }

  const InspectOptions& options_;
  fs::path directory_;
  Inspection found_;
  Json metadata_;
  bool had_trial_ = false;
  std::string order_from_;
};

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
    if (finding.kind != Kind::fault) continue;
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
