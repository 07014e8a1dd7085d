// The layout that a model was trained on, and where today's trader differs from it.
#include <algorithm>

#include "platform/text.h"
#include "release/inspector.h"
#include "release/lost_trial.h"

namespace ristretto::release {
namespace {

// Values that today's environment observes at the layout's lookback.
std::int64_t today_size(const env::Layout& layout) {
  env::Layout today = layout;
  today.features = env::feature_set("alpaca-14");
  return today.size();
}

}  // namespace

void Inspector::explain_layout() {
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

void Inspector::explain_lookback(std::int64_t lookback) {
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

void Inspector::correct_assets() {
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

void Inspector::explain_order() {
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

void Inspector::compare_with_today() {
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

void Inspector::explain_difference() {
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
    unserved(str("today's environment observes ", today_size(*found_.layout),
                 " values at this lookback, the model takes ", found_.layout->size()),
             is_mlp() ? "predict and evaluate run it in its own layout; convert --to alpaca-14 carries it over"
                      : "predict and evaluate run it in its own layout; retrain makes one for today's");
  }
}

}  // namespace ristretto::release
