#include "release/served_actor.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/tanh.h>

#include "agents/forward.h"
#include "env/environment.h"
#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::release {
namespace {

int exponent_of(const Trial& trial, const char* name, int otherwise) {
  const auto found = trial.parameters.find(name);
  return found != trial.parameters.end() && found->is_number() ? static_cast<int>(found->get<double>()) : otherwise;
}

}  // namespace

std::optional<env::Layout> served_layout(const Model& model) {
  if (model.layout) return model.layout;
  if (model.architecture.network != agents::Network::mlp || !model.trial) return std::nullopt;
  env::Layout layout;
  layout.assets = env::default_assets();
  layout.features = env::feature_set("alpaca-14");
  const std::int64_t n = layout.assets_count(), columns = layout.market_columns();
  const std::int64_t market = model.architecture.observation - 1 - n;
  if (model.architecture.actions != n || market <= 0 || market % columns != 0) return std::nullopt;
  layout.lookback = static_cast<int>(market / columns);
  const env::ObservationScales defaults;
  layout.scales = {exponent_of(*model.trial, "norm_cash_exp", defaults.cash_exp),
                   exponent_of(*model.trial, "norm_stocks_exp", defaults.stocks_exp),
                   exponent_of(*model.trial, "norm_tech_exp", defaults.tech_exp)};
  return layout;
}

env::Rules served_rules(const Model& model, const env::Layout& layout) {
  env::Rules rules = model.rules.value_or(env::Rules{});
  const bool own_assets = model.rules && layout.assets.size() == static_cast<std::size_t>(rules.assets) &&
                          (!model.layout || layout.assets == model.layout->assets);
  if (!own_assets) {
    if (layout.assets.size() > static_cast<std::size_t>(env::kMaxAssets)) {
      throw Error(Fault::usage,
                  str("--assets names ", layout.assets.size(), " assets, expected at most ", env::kMaxAssets));
    }
    rules.assets = static_cast<int>(layout.assets.size());
    for (int i = 0; i < rules.assets; ++i) rules.min_qty[i] = env::minimum_quantity(layout.assets[i]);
  }
  rules.lookback = layout.lookback;
  return rules;
}

evaluation::Actor actor_of(const Model& model, const env::Layout& layout, const env::Market& market) {
  const bool any_assets = model.architecture.network == agents::Network::market_context;
  const bool fits = any_assets
                        ? static_cast<std::int64_t>(layout.features.size()) == model.architecture.context.features &&
                              layout.lookback == model.architecture.context.lookback
                        : layout.size() == model.architecture.observation;
  if (!fits) {
    throw Error(Fault::incompatible, str(model.path.string(), " takes ", model.architecture.observation,
                                         " values, the layout has ", layout.size()));
  }
  return actor_of(model.actor, model.architecture, layout, market);
}

evaluation::Actor actor_of(const ft_transformer::Weights& actor, const agents::Architecture& architecture,
                           const env::Layout& layout, const env::Market& market) {
  return [network = agents::FrozenNetwork(actor, architecture, agents::Part::actor, false), layout, tech = market.tech](
             const env::Observation& seen) { return at::tanh(network(env::materialize(seen, tech, layout))); };
}

}  // namespace ristretto::release
