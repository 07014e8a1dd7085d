#include "release/convert.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>

#include "env/bars.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/log.h"
#include "platform/text.h"
#include "release/directories.h"
#include "release/inspect.h"
#include "release/lost_trial.h"
#include "release/served_actor.h"
#include "release/sha256.h"
#include "release/start.h"

namespace ristretto::release {
namespace {

namespace fs = std::filesystem;

// What a removed column may add to the input of the first layer's units and still count as nothing: float32's rounding
// of sums of order one.
constexpr double kNegligible = 1e-8;

std::vector<std::string> united(std::vector<std::string> names, const std::vector<std::string>& more) {
  for (const std::string& name : more) {
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  }
  return names;
}

// The layout that the source was trained on, and by what that is known.
env::Layout source_layout(const ConvertRequest& request, const Model& model, std::string& known_by) {
  if (model.layout) {
    if (request.trained && *request.trained != model.layout->assets) {
      throw Error(Fault::usage, str("--trained-assets is ", join(*request.trained, ","), ", the manifest of ",
                                    model.path.string(), " says ", join(model.layout->assets, ",")));
    }
    known_by = "the manifest";
    return *model.layout;
  }
  if (!model.trial) {
    throw Error(Fault::incompatible,
                str(model.path.string(), " has no best_trial, so the scales of its observation are not known"),
                str("ristretto inspect ", model.path.string(), " --storage URL --out ",
                    (fs::is_directory(model.path) ? model.path / "best_trial" : fs::path("best_trial")).string(),
                    " looks for it in a study"));
  }
  const Inspection found = inspect(request.source);
  if (!found.layout) {
    throw Error(Fault::incompatible,
                str(model.path.string(), " takes ", model.architecture.observation, " values and ",
                    model.architecture.actions, " actions: no layout that is known"),
                "ristretto inspect lists what fits");
  }
  env::Layout layout = *found.layout;
  known_by = found.layout_from;
  if (request.trained) {
    const std::vector<std::string>& order = *request.trained;
    if (!std::is_permutation(order.begin(), order.end(), layout.assets.begin(), layout.assets.end())) {
      throw Error(Fault::usage,
                  str("--trained-assets is ", join(order, ","), ", expected an order of ", join(layout.assets, ",")));
    }
    layout.assets = order;
    known_by += ", its assets by --trained-assets";
  }
  return layout;
}

env::Layout target_layout(const ConvertRequest& request, const env::Layout& from) {
  if (fs::is_directory(request.to)) {
    const auto manifest = read_manifest(fs::canonical(request.to));
    if (!manifest || !manifest->contains("layout")) {
      throw Error(Fault::usage, str("--to is the directory ", request.to, ", which has no manifest with a layout"),
                  "name a feature set: " + join(env::feature_set_names(), ", "));
    }
    if (request.lookback || request.assets) {
      throw Error(Fault::usage,
                  str("--to ", request.to, " gives the whole layout, but --lookback or --assets as well"));
    }
    return layout_of(manifest->at("layout"), request.to);
  }
  if (const auto size = parse_number<std::int64_t>(request.to)) {
    std::vector<std::string> fits;
    for (const LayoutFit& fit : layouts_of(*size, from.assets_count())) {
      if (!fit.features.empty()) fits.push_back(str("--to ", fit.features, " --lookback ", fit.lookback));
    }
    throw Error(Fault::usage, str("--to is ", request.to, ": a number of values tells no layout, name its features"),
                fits.empty() ? "known: " + join(env::feature_set_names(), ", ") : join(fits, ", or "));
  }
  env::Layout to = from;
  to.features = env::feature_set(request.to);
  if (request.lookback) to.lookback = *request.lookback;
  if (request.assets) to.assets = *request.assets;
  return to;
}

env::Rules rules_for(const env::Rules& before, const Mapping& mapping) {
  env::Rules rules = before;
  rules.assets = static_cast<int>(mapping.to.assets.size());
  rules.lookback = mapping.to.lookback;
  for (std::size_t i = 0; i < mapping.actions.size(); ++i) {
    const std::int64_t old = mapping.actions[i];
    rules.min_qty[i] = old >= 0 ? before.min_qty[old] : env::minimum_quantity(mapping.to.assets[i]);
  }
  return rules;
}

// What the bars say about the columns that go: the constants for the bias, and which of them matter.
struct Removed {
  std::vector<double> constants;
  std::vector<std::string> frozen, dropped;
};

Removed look_at_removed(const Mapping& mapping, const Model& model, const env::Market& market) {
  Removed out;
  const std::vector<std::string> names = mapping.from.names();
  const std::vector<double> scales = mapping.from.column_scales();
  const std::int64_t account = 1 + mapping.from.assets_count(), columns = mapping.from.market_columns();
  const bool mlp = model.architecture.network == agents::Network::mlp;
  const env::Market seen = market.with_columns(mapping.from.assets, mapping.from.features);
  for (const std::int64_t j : mapping.removed) {
    double constant = 0, range = INFINITY;  // of an account's column nothing is known; all cash holds nothing
    if (j >= account) {
      const at::Tensor values = seen.tech.select(1, (j - account) % columns).to(at::kDouble);
      const double low = values.min().item<double>(), high = values.max().item<double>();
      constant = (low == high ? low : values.mean().item<double>()) * scales[static_cast<std::size_t>(j)];
      range = (high - low) * scales[static_cast<std::size_t>(j)];
    }
    double weight = INFINITY;  // a token cannot be frozen
    if (mlp) weight = model.actor.at("net.0.weight").select(1, j).abs().max().item<double>();
    out.constants.push_back(constant);
    const bool nothing = weight == 0 || range == 0 || weight * range <= kNegligible;
    (mlp && nothing ? out.frozen : out.dropped).push_back(names[static_cast<std::size_t>(j)]);
  }
  return out;
}

Conversion::Kind kind_of(const Mapping& mapping, const agents::Architecture& architecture, const Removed& removed) {
  if (architecture.network == agents::Network::ft_transformer) {
    return mapping.removed.empty() && mapping.removed_assets.empty() ? Conversion::Kind::exact
                                                                     : Conversion::Kind::warm_start;
  }
  return removed.dropped.empty() && mapping.removed_assets.empty() ? Conversion::Kind::exact
                                                                   : Conversion::Kind::inexact;
}

std::string some_of(const std::vector<std::string>& names) {
  constexpr std::size_t kShown = 4;
  const std::vector<std::string> first(names.begin(), names.begin() + std::min(names.size(), kShown));
  return str(join(first, ", "), names.size() > kShown ? str(" and ", names.size() - kShown, " more") : std::string());
}

void require_allowed(const ConvertRequest& request, const Conversion& conversion) {
  if (request.allow_inexact || (conversion.kind == Conversion::Kind::exact && conversion.proof.identical())) return;
  std::string why;
  if (conversion.kind == Conversion::Kind::warm_start) {
    why = "tokens of an FT-Transformer go, which its attention saw: a warm start, to be retrained";
  } else if (!conversion.mapping.removed_assets.empty()) {
    why = str("it trades ", some_of(conversion.mapping.removed_assets), ", which the new layout lacks");
  } else if (!conversion.dropped.empty()) {
    why = str("it reads ", some_of(conversion.dropped), ", which the new layout lacks and which are not constant");
  } else {
    why = "it does not trade the same";
  }
  throw Error(Fault::refused, str(request.source.string(), " is not converted: ", why, "; ", text_of(conversion.proof)),
              "--allow-inexact writes it all the same");
}

Json data_record(const ConvertRequest& request, const std::vector<std::string>& assets) {
  Json files;
  for (const std::string& asset : assets) {
    const fs::path file = env::bars_file(request.bars, asset);
    files[file.filename().string()] = {{"sha256", sha256_of_file(file)}, {"bytes", fs::file_size(file)}};
  }
  return {{"directory", request.bars.string()}, {"files", files}};
}

Json record(const ConvertRequest& request, const Model& model, const Conversion& conversion,
            const std::string& known_by, const std::vector<std::string>& assets) {
  const Mapping& mapping = conversion.mapping;
  const fs::path weights = fs::is_directory(model.path) ? model.path / "actor.pth" : model.path;
  return {{"kind", name_of(conversion.kind)},
          {"exact", conversion.kind == Conversion::Kind::exact && conversion.proof.identical()},
          {"from",
           {{"path", model.path.string()},
            {"version", model.manifest ? Json(text_field(*model.manifest, "version")) : Json()},
            {"sha256", sha256_of_file(weights)},
            {"layout", section_of(mapping.from)},
            {"layout_known_by", known_by}}},
          {"to", hash_of(mapping.to)},
          {"mapping", {{"hash", hash_of(mapping)}, {"columns", mapping.columns}, {"actions", mapping.actions}}},
          {"added", mapping.added_names()},
          {"removed_constant", conversion.frozen},
          {"removed", conversion.dropped},
          {"removed_assets", mapping.removed_assets},
          {"proof", json_of(conversion.proof)},
          {"bars", data_record(request, assets)},
          {"notes", conversion.notes},
          {"command", request.command}};
}

// Staged beside its place and moved there whole.
void write(const ConvertRequest& request, const Content& content, const Start& start) {
  const fs::path parent = fs::absolute(request.out).parent_path();
  fs::create_directories(parent);
  const fs::path staged = parent / str(".tmp-", fs::path(request.out).filename().string(), "-", getpid());
  remove_tree(staged);
  try {
    write_start(staged, start);
    stage(content, staged);
    sync_tree(staged);
    rename_new(staged, fs::absolute(request.out));
  } catch (...) {
    remove_tree(staged);
    throw;
  }
}

}  // namespace

const char* name_of(Conversion::Kind kind) {
  switch (kind) {
    case Conversion::Kind::exact:
      return "exact";
    case Conversion::Kind::inexact:
      return "inexact";
    case Conversion::Kind::warm_start:
      return "warm start";
  }
  return "";
}

Conversion convert(const ConvertRequest& request) {
  if (fs::exists(fs::symlink_status(request.out))) {
    throw Error(Fault::usage, str("--out ", request.out.string(), " exists already"), "name a new directory");
  }
  const Model model = load(request.source);
  Start source = start_of(model);
  Conversion out;
  std::string known_by;
  source.layout = source_layout(request, model, known_by);
  const env::Layout& from = source.layout;
  out.mapping = mapping_of(from, target_layout(request, from));
  const Mapping& mapping = out.mapping;
  if (mapping.to.names() == from.names() && mapping.to == from) {
    throw Error(Fault::usage, str(model.path.string(), " has the layout that --to asks for already"),
                "nothing is to be done");
  }
  if (mapping.from.features != mapping.to.features || mapping.from.assets != mapping.to.assets ||
      mapping.from.lookback != mapping.to.lookback) {
    log::info("convert", str(from.size(), " values to ", mapping.to.size(), ", ", mapping.added_names().size(),
                             " new, ", mapping.removed.size(), " gone"));
  }

  const std::vector<std::string> assets = united(from.assets, mapping.to.assets);
  const env::Market market =
      env::Market::of(env::read_bars(request.bars, assets), united(from.features, mapping.to.features));
  const Removed removed = look_at_removed(mapping, model, market);
  out.frozen = removed.frozen;
  out.dropped = removed.dropped;
  out.kind = kind_of(mapping, model.architecture, removed);

  const Start start = carried(source, mapping, removed.constants);
  if (start.critic.size() == 0) out.notes.push_back("no critic is kept: retrain --from begins with a new one");
  if (!start.actor_moments) out.notes.push_back("no optimizer state is kept: retrain --from begins with a new one");
  Content content;
  content.architecture = start.architecture;
  content.actor = start.actor;
  if (!start.critic_normalized) content.critic = start.critic;
  const env::Rules before = served_rules(model, from);
  content.layout = mapping.to;
  content.rules = rules_for(before, mapping);
  log::info("convert", str("running the old model and the new one over ", with_thousands(market.rows()), " bars"));
  out.proof = prove(mapping, {model.architecture, model.actor, before},
                    {content.architecture, content.actor, content.rules}, market);
  out.document = record(request, model, out, known_by, assets);
  require_allowed(request, out);

  content.probe_states = out.proof.states;
  content.parameters = model.trial ? model.trial->parameters : Json::object();
  content.user_attributes = model.trial ? model.trial->user_attributes : Json::object();
  content.trial_number = model.trial ? model.trial->number : 0;
  content.trial_value = model.trial ? model.trial->value.value_or(0) : 0;
  for (const char* section : {"study", "hyperparameters", "serving"}) {
    if (model.manifest && model.manifest->contains(section)) {
      content.manifest_sections[section] = model.manifest->at(section);
    }
  }
  // What the source had not seen its copy has not either: a retrain from it may be judged on those bars.
  if (source.unseen_from) content.manifest_sections["data"] = {{"holdout_from", iso_utc(*source.unseen_from)}};
  content.manifest_sections["conversion"] = out.document;
  if (!request.dry_run) write(request, content, start);
  return out;
}

}  // namespace ristretto::release
