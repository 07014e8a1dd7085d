#include "train/start.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "platform/error.h"
#include "platform/log.h"
#include "platform/text.h"
#include "release/old_layouts.h"
#include "train/weights_behind.h"

namespace ristretto::train {
namespace {

namespace fs = std::filesystem;
using ft_transformer::Weights;

constexpr double kLearnableKeyBias = -8;

void copy_into(const Weights& weights, const Weights& from) {
  for (const auto& [name, tensor] : weights) tensor.detach().copy_(from.at(name));
}

// How a network differs from another: "width 256, expected 128; ...".
std::string difference(const agents::Architecture& found, const agents::Architecture& expected) {
  const release::Json is = release::section_of(found), should = release::section_of(expected);
  std::vector<std::string> parts;
  const auto compare = [&](const std::string& name) {
    const release::Json one = is.value(name, release::Json()), other = should.value(name, release::Json());
    if (one != other) parts.push_back(str(name, " ", release::line_of(one), ", expected ", release::line_of(other)));
  };
  for (const auto& [name, value] : is.items()) compare(name);
  for (const auto& [name, value] : should.items()) {
    if (!is.contains(name)) compare(name);
  }
  return join(parts, "; ");
}

bool is_context(const release::Start& start) { return start.architecture.network == agents::Network::market_context; }

// The start's own, as far as its network depends on it: market_context takes any assets, and raw values.
env::Layout layout_needed(const release::Start& start, const env::Layout& wanted) {
  env::Layout layout = start.layout;
  if (!is_context(start)) return layout;
  layout.assets = wanted.assets;
  layout.scales = wanted.scales;
  return layout;
}

agents::Architecture architecture_needed(const release::Start& start, const agents::Architecture& wanted) {
  agents::Architecture architecture = start.architecture;
  if (!is_context(start)) return architecture;
  architecture.observation = wanted.observation;
  architecture.actions = wanted.actions;
  return architecture;
}

}  // namespace

std::vector<Given> given_of(const release::Start& start) {
  const std::string source = "weights of " + start.source.string();
  std::vector<Given> out;
  const auto give = [&](const char* name, const std::string& text) { out.push_back({name, text, source}); };
  const std::vector<std::string>& sets = env::feature_set_names();
  const auto set = std::find_if(sets.begin(), sets.end(), [&](const std::string& name) {
    return env::feature_set(name) == start.layout.features;
  });
  if (set == sets.end()) {
    throw Error(Fault::incompatible,
                str(start.source.string(), " reads the features ", join(start.layout.features, ", "),
                    ", which are no set that can be trained on"),
                "known: " + join(sets, ", "));
  }
  give("features", *set);
  const bool context = is_context(start);
  if (context || *set != "alpaca-14") give("serving", "ristretto");  // today's trader observes alpaca-14
  give("assets", join(start.layout.assets, ","));
  give("lookback", str(start.layout.lookback));
  give("norm_cash_exp", str(start.layout.scales.cash_exp));
  give("norm_stocks_exp", str(start.layout.scales.stocks_exp));
  give("norm_tech_exp", str(start.layout.scales.tech_exp));
  give("net_dimension", str(start.architecture.width));
  const bool transformer = start.architecture.network == agents::Network::ft_transformer;
  give("encoder", agents::name_of(start.architecture.network));
  give("use_ft_encoder", transformer ? "true" : "false");
  const auto give_attention = [&](const auto& shape) {
    give("ft_d_token", str(shape.d_token));
    give("ft_n_blocks", str(shape.blocks));
    give("ft_n_heads", str(shape.heads));
  };
  if (context) {
    give_attention(start.architecture.context);
    const bool by_asset = start.architecture.context.tokens == ft_transformer::MarketTokens::asset;
    give("market_tokens", by_asset ? "asset" : "feature");
  }
  if (transformer) {
    give_attention(start.architecture.encoder);
    give("ft_key_bias", start.architecture.encoder.key_bias ? "true" : "false");
  }
  return out;
}

void begin_from(const release::Start& start, const env::Layout& layout, agents::Policy& policy,
                agents::Normalizer& normalizer, agents::Optimizer& optimizer) {
  const at::NoGradGuard no_gradients;
  if (const std::string other = env::difference(layout_needed(start, layout), layout); !other.empty()) {
    throw Error(Fault::incompatible,
                str(start.source.string(), " (layout ", release::hash_of(start.layout),
                    ") does not fit what is to be trained (layout ", release::hash_of(layout), "): ", other),
                str(is_context(start) ? "" : "ristretto convert carries it over; ",
                    "without --features, --lookback and the like its own are taken"));
  }
  if (const std::string other = difference(architecture_needed(start, policy.architecture), policy.architecture);
      !other.empty()) {
    throw Error(Fault::incompatible,
                str(start.source.string(), " does not fit the network that is to be trained: ", other),
                "without --net-dimension and the like its own are taken");
  }
  const bool context = is_context(start);
  if (context) normalizer.see_as(start.actor);
  const agents::ColumnStatistics columns = normalizer.columns();
  const agents::Architecture& architecture = start.architecture;
  const auto seen = [&](const Weights& weights, bool normalized) {
    return context || normalized ? weights : agents::unfolded(weights, architecture, layout, columns);
  };
  copy_into(policy.actor, seen(start.actor, false));
  if (start.critic.size() > 0) copy_into(policy.critic, seen(start.critic, start.critic_normalized));
  // Tokens that convert hid: from e^-8 on attention's gradient moves their bias, at e^-25 it is less than rounding.
  for (Weights* weights : {&policy.actor, &policy.critic}) {
    if (weights->contains("encoder.key_bias")) weights->at("encoder.key_bias").detach().clamp_min_(kLearnableKeyBias);
  }
  // The optimizer's, which knows nothing of weights that are held fast.
  std::vector<at::Tensor> parameters;
  for (const Weights* network : {&policy.actor, &policy.critic}) {
    for (const auto& [name, tensor] : *network) {
      if (tensor.requires_grad()) parameters.push_back(tensor);
    }
  }
  const agents::NamedTensors state = optimizer.state();
  const auto pieces = [&](const char* name) {
    const auto found = std::find_if(state.begin(), state.end(), [&](const auto& entry) { return entry.first == name; });
    return agents::Optimizer::pieces(found->second, parameters);
  };
  const std::vector<at::Tensor> first = pieces("first_moment"), second = pieces("second_moment");
  std::size_t k = 0;
  for (const auto& [network, moments] :
       {std::pair{&policy.actor, &start.actor_moments}, std::pair{&policy.critic, &start.critic_moments}}) {
    std::optional<agents::MomentPair> pair = *moments;
    if (pair && !context && !start.moments_normalized) {
      pair = agents::unfolded_moments(*pair, architecture, layout, columns);
    }
    for (const auto& [name, tensor] : *network) {
      if (!tensor.requires_grad()) continue;
      if (pair) {
        first[k].copy_(pair->first.at(name));
        second[k].copy_(pair->second.at(name));
      }
      ++k;
    }
  }
  log::info("train",
            str("begins with the weights of ", start.source.string(), start.critic.size() > 0 ? "" : ", a new critic",
                start.actor_moments ? " and its optimizer's moments" : ""));
}

std::optional<Resolved> fine_tuning_of(const fs::path& directory, const Resolved& clean) {
  try {
    const release::Model model = release::load(directory);
    const release::Start old = release::start_of(model);
    Resolved out = clean;
    // Weights of hyperparameters that may have been chosen on any bars.
    const release::Json study = model.manifest ? model.manifest->value("study", release::Json()) : release::Json();
    if (study.is_object() && !release::text_at(study, "/seen_until")) out.seen_until.reset();
    const Settings& wanted = clean.settings;
    if (!old.unseen_from && !names_holdout(wanted)) {
      throw Error(Fault::incompatible,
                  "it does not say which bars it was trained on, and no --holdout-from names later ones");
    }
    const std::string network = agents::network_of(wanted.hyperparameters);
    const bool chosen = wanted.source_of("encoder") != "default" || wanted.source_of("use_ft_encoder") != "default";
    if (chosen && network != agents::name_of(old.architecture.network)) {
      throw Error(Fault::incompatible,
                  str("it is ", agents::name_of(old.architecture.network), ", and the network is to be ", network));
    }
    for (const Given& given : given_of(old)) {
      if (given.name == "features" || given.name == "assets" || given.name == "serving") continue;  // as served now
      if (given.name == "lookback" && old.layout.lookback < out.settings.hyperparameters.lookback) continue;
      if (given.name == "encoder" && given.text != "mlp" && out.settings.run.serving == "cappuccino") {
        throw Error(Fault::incompatible, str("it is ", given.text, ", which --serving cappuccino does not build"));
      }
      out.settings.apply(given);
    }
    const env::Layout layout = layout_of(out.settings);
    if (is_context(old)) {
      if (const std::string other = env::difference(layout_needed(old, layout), layout); !other.empty()) {
        throw Error(Fault::incompatible, other);
      }
      out.start = std::make_shared<const release::Start>(old);
    } else {
      const release::Mapping mapping = release::mapping_of(old.layout, layout);
      // A column that is gone is taken for 0: validation judges what it was worth.
      out.start = std::make_shared<const release::Start>(
          release::carried(old, mapping, std::vector<double>(mapping.removed.size(), 0.0)));
    }
    for (const Given& given : given_of(*out.start)) {
      if (given.name == "ft_key_bias") out.settings.apply(given);  // new tokens bring it
    }
    check(out.settings);
    out.start_chosen_among = weights_chosen_among(directory, directory.parent_path(), directory.filename().string());
    out.origin = str(clean.origin, ", trained on from the weights of ", directory.string());
    return out;
  } catch (const Error& error) {
    if (error.fault() != Fault::incompatible && error.fault() != Fault::usage) throw;
    log::info("retrain", str(directory.string(), " is not trained on from, only replaced: ", error.what()));
    return std::nullopt;
  }
}

}  // namespace ristretto::train
