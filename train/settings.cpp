#include "train/settings.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>

#include "env/step_batch.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/text.h"

extern char** environ;

namespace ristretto::train {
namespace {

constexpr std::int64_t kPortfolioMultiple = 64;

std::string dashed(std::string name) {
  std::replace(name.begin(), name.end(), '_', '-');
  return name;
}

std::string underscored(std::string name) {
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

const RunRow* find_run_row(const std::string& name) {
  for (const RunRow& row : run_table()) {
    if (name == row.name) return &row;
  }
  return nullptr;
}

// Of a trial or a deployment, which have values for every network.
bool inherited(const std::string& source) { return source.starts_with("study") || source.starts_with(kBestTrialOf); }

[[noreturn]] void bad_value(const std::string& name, const std::string& text, const char* expected) {
  throw Error(Fault::usage, str("--", dashed(name), " is '", text, "', expected ", expected));
}

void set_run(RunSettings& run, const RunRow& row, const std::string& text) {
  if (const auto* member = std::get_if<std::string RunSettings::*>(&row.member)) {
    run.*(*member) = text;
  } else if (const auto* number = std::get_if<std::int64_t RunSettings::*>(&row.member)) {
    const auto value = parse_number<std::int64_t>(text);
    if (!value || *value < 0) bad_value(row.name, text, "a whole number of at least 0");
    run.*(*number) = *value;
  } else if (const auto* real = std::get_if<double RunSettings::*>(&row.member)) {
    const auto value = parse_number<double>(text);
    if (!value || !std::isfinite(*value) || *value < 0) bad_value(row.name, text, "a number of at least 0");
    run.*(*real) = *value;
  } else {
    if (text != "true" && text != "false") bad_value(row.name, text, "true or false");
    run.*std::get<bool RunSettings::*>(row.member) = text == "true";
  }
}

}  // namespace

const std::vector<RunRow>& run_table() {
  using S = RunSettings;
  static const std::vector<RunRow> rows = {
      {"bars", &S::bars, "DIR", true, "directory of hourly bars, one BTC_USD.csv an asset"},
      {"assets", &S::assets, "LIST", false,
       "comma-separated, in the order served; default: AAVE AVAX BTC LINK ETH LTC UNI /USD"},
      {"features", &S::features, "SET", false,
       "alpaca-11, alpaca-14 or alpaca-14b; default: alpaca-14 for --serving cappuccino, alpaca-14b otherwise"},
      {"serving", &S::serving, "PROFILE", false,
       "who will serve the model: cappuccino (the Python paper trader: MLP, alpaca-14) or ristretto; default by "
       "network"},
      {"initial_capital", &S::initial_capital, "MONEY", false, "of the account at an episode's start"},
      {"fee_fraction", &S::fee_fraction, "F", false, "fee of each trade, on both sides"},
      {"slippage_fraction", &S::slippage_fraction, "F", false,
       "what the price moves against each trade, of its value, on both sides"},
      {"spread_fraction", &S::spread_fraction, "F", false,
       "between bid and ask, of the price; each trade pays half of it"},
      {"episode_bars", &S::episode_bars, "N", false, "bars of a training episode"},
      {"holdout_from", &S::holdout_from, "DATE", false,
       "where the hold-out is cut: its first bars, as many as features look back and 48, are left out; default: the "
       "last "
       "15 % of the bars"},
      {"steps", &S::steps, "N", true,
       "environment steps; default: the larger of the study's base_break_step and 200 iterations"},
      {"time_budget", &S::time_budget, "TIME", true, "wall time of the whole command, such as 3m or 8h; default: none"},
      {"portfolios", &S::portfolios, "N", false,
       "stepped together; default: batch_size * minibatches / base_target_step, rounded up to a multiple of 64"},
      {"memory_budget", &S::memory_budget, "SIZE", true, "such as 4GiB; default: 85 % of what the device reports free"},
      {"pretrained", &S::pretrained, "FILE", false,
       "start market_context's encoder from this file of `ristretto pretrain`; default: random weights"},
      {"device", &S::device, "NAME", true, "auto, cpu, cuda or hip"},
      {"precision", &S::precision, "NAME", true, "fp32 or bf16 (of the networks' forward and backward)"},
      {"threads", &S::threads, "N", true, "CPU threads; default: all"},
      {"seed", &S::seed, "N", false, "of everything random"},
      {"use_untested", &S::use_untested, "", true, "take the study's values that never reached the old agent"},
      {"activate_inert", &S::activate_inert, "", true,
       "let max_drawdown_penalty and volatility_penalty of the study act"},
      {"ignore_unknown", &S::ignore_unknown, "", true, "leave out study parameters that the table does not know"},
  };
  return rows;
}

std::string text_of(const RunSettings& run, const RunRow& row) {
  if (const auto* member = std::get_if<std::string RunSettings::*>(&row.member)) return run.*(*member);
  if (const auto* number = std::get_if<std::int64_t RunSettings::*>(&row.member)) return str(run.*(*number));
  if (const auto* real = std::get_if<double RunSettings::*>(&row.member)) return str(run.*(*real));
  return run.*std::get<bool RunSettings::*>(row.member) ? "true" : "false";
}

std::vector<std::string> all_names() {
  std::vector<std::string> names;
  for (const RunRow& row : run_table()) names.emplace_back(row.name);
  for (const agents::Row& row : agents::table()) names.emplace_back(row.name);
  return names;
}

void Settings::apply(const Given& given) {
  if (const RunRow* row = find_run_row(given.name)) {
    set_run(run, *row, given.text);
  } else if (const agents::Row* parameter = agents::find_row(given.name)) {
    agents::set(hyperparameters, *parameter, agents::parse_value(*parameter, given.text));
  } else {
    throw Error(Fault::usage, str("there is no setting '", given.name, "' (", given.source, ")"),
                str("did you mean '", nearest_name(given.name, all_names()), "'?"));
  }
  sources[given.name] = given.source;
}

const std::string& Settings::source_of(const std::string& name) const {
  static const std::string default_source = "default";
  const auto found = sources.find(name);
  return found == sources.end() ? default_source : found->second;
}

std::string Settings::as_ini(Defaults defaults) const {
  const auto unchosen = [&](const char* name) {
    return defaults == Defaults::commented && sources.find(name) == sources.end();
  };
  std::string out = "; everything in force, and where each value came from\n[run]\n";
  for (const RunRow& row : run_table()) {
    const std::string value = text_of(run, row);
    out +=
        str(value.empty() || unchosen(row.name) ? "; " : "", row.name, " = ", value, "  ; ", source_of(row.name), "\n");
  }
  out += "\n[hyperparameters]\n";
  for (const agents::Row& row : agents::table()) {
    // What the network does not read would be an error if it were read back as chosen.
    const bool unread = !agents::reads(hyperparameters, row);
    out += str(unread || unchosen(row.name) ? "; " : "", row.name, " = ",
               agents::text_of(agents::get(hyperparameters, row)), "  ; ", source_of(row.name), "\n");
  }
  return out;
}

std::vector<Given> read_config(const std::string& path) {
  std::ifstream file(path);
  // A directory opens as an empty file.
  if (!file || std::filesystem::is_directory(path)) {
    throw Error(Fault::usage, str("--config ", path, " cannot be read, expected a file of lines such as gamma = 0.97"));
  }
  std::vector<Given> given;
  std::string line;
  for (int number = 1; std::getline(file, line); ++number) {
    line = trimmed(line);
    if (line.empty() || line[0] == ';' || line[0] == '#' || line[0] == '[') continue;
    const std::size_t equals = line.find('=');
    if (equals == std::string::npos) {
      throw Error(Fault::usage, str(path, ":", number, " is '", line, "', expected name = value"));
    }
    std::string value = line.substr(equals + 1);
    if (const std::size_t comment = value.find(" ;"); comment != std::string::npos) value.resize(comment);
    given.push_back({underscored(trimmed(line.substr(0, equals))), trimmed(value), str(path, ":", number)});
  }
  return given;
}

std::vector<Given> read_environment() {
  static constexpr std::string_view kPrefix = "RISTRETTO_";
  std::vector<Given> given;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    if (text.substr(0, kPrefix.size()) != kPrefix) continue;
    const std::size_t equals = text.find('=');
    std::string name(text.substr(kPrefix.size(), equals - kPrefix.size()));
    std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
    given.push_back({name, std::string(text.substr(equals + 1)), std::string(text.substr(0, equals))});
  }
  return given;
}

std::vector<std::string> apply_serving(Settings& settings) {
  if (!settings.run.pretrained.empty() && settings.source_of("ft_use_pretrained") == "default") {
    settings.hyperparameters.ft_use_pretrained = true;
    settings.sources["ft_use_pretrained"] = "--pretrained";
  }
  RunSettings& run = settings.run;
  agents::Hyperparameters& hp = settings.hyperparameters;
  if (run.serving.empty()) run.serving = agents::has_attention(hp) ? "ristretto" : "cappuccino";
  if (run.serving != "cappuccino" && run.serving != "ristretto") {
    throw Error(Fault::usage, str("--serving is '", run.serving, "', expected cappuccino or ristretto"));
  }
  const bool cappuccino = run.serving == "cappuccino";
  if (cappuccino && agents::has_attention(hp)) {
    throw Error(Fault::usage,
                str("--serving cappuccino builds an MLP whatever the parameters say; this model is ",
                    agents::network_of(hp) == "market_context" ? "a market_context" : "an FT-Transformer"),
                "use --serving ristretto");
  }
  if (run.features.empty()) run.features = cappuccino ? "alpaca-14" : "alpaca-14b";
  if (cappuccino && run.features != "alpaca-14") {
    throw Error(Fault::usage, str("--serving cappuccino observes alpaca-14, --features is '", run.features, "'"),
                "use --serving ristretto");
  }
  if (run.assets.empty()) run.assets = join(env::default_assets(), ",");

  std::vector<std::string> overridden;
  const agents::Hyperparameters defaults;
  const auto fix = [&](const char* name) {
    const agents::Row& row = *agents::find_row(name);
    const agents::Value study = agents::get(hp, row), served = agents::get(defaults, row);
    if (!settings.source_of(name).starts_with("study") || study == served) return;
    overridden.push_back(str(name, " ", agents::text_of(study), " of the study is overridden by ",
                             agents::text_of(served), " of --serving ", run.serving));
    agents::set(hp, row, served);
    settings.sources[name] = str("--serving ", run.serving);
  };
  fix("norm_action");
  fix("max_position_fraction");
  return overridden;
}

void require_unseen_from(const std::string& holdout_from, std::optional<std::int64_t> trained,
                         const std::string& whose) {
  const auto from = parse_utc(holdout_from);
  if (!from) {
    throw Error(Fault::usage, str("--holdout-from is '", holdout_from, "', expected a date such as 2023-03-01"));
  }
  if (trained && *from < *trained) {
    throw Error(Fault::usage,
                str("--holdout-from is ", holdout_from, ", but bars before ", iso_utc(*trained),
                    " had a part in the training of ", whose, ": they cannot judge it"),
                "leave it out");
  }
}

bool names_holdout(const Settings& settings) {
  const std::string source = settings.source_of("holdout_from");
  return source != "default" && source != kLastHoldout;
}

void check(const Settings& settings) {
  agents::check(settings.hyperparameters);
  const RunSettings& run = settings.run;
  for (const agents::Row& row : agents::table()) {
    const std::string& source = settings.source_of(row.name);
    if (agents::reads(settings.hyperparameters, row) || source == "default" || inherited(source)) continue;
    const std::string network = agents::network_of(settings.hyperparameters);
    throw Error(Fault::usage,
                str("--", dashed(row.name), " (", source, ") is read by ",
                    row.context_only ? "market_context" : "networks with attention", " only, and the network is ",
                    network == "mlp" ? "an MLP" : network),
                row.context_only ? "add --encoder market_context, or leave it out"
                                 : "add --encoder ft_transformer or market_context, or leave it out");
  }
  const int lookback = static_cast<int>(settings.hyperparameters.lookback);
  if (run.episode_bars < env::smallest_window(lookback)) {
    throw Error(Fault::usage, str("--episode-bars is ", run.episode_bars, ", expected at least ",
                                  env::smallest_window(lookback), " with lookback ", lookback));
  }
  if (settings.hyperparameters.ft_use_pretrained && run.pretrained.empty()) {
    throw Error(Fault::usage, "ft_use_pretrained is true, and no file of pre-trained weights is given",
                "add --pretrained FILE, or --ft-use-pretrained false");
  }
  if (!run.pretrained.empty() && agents::network_of(settings.hyperparameters) != "market_context" &&
      !inherited(settings.source_of("encoder"))) {
    throw Error(Fault::usage,
                str("--pretrained is read by market_context only, and the network is ",
                    agents::network_of(settings.hyperparameters)),
                "add --encoder market_context, or leave it out");
  }
  if (run.precision != "fp32" && run.precision != "bf16") bad_value("precision", run.precision, "fp32 or bf16");
  if (!run.time_budget.empty() && !parse_duration(run.time_budget)) {
    bad_value("time_budget", run.time_budget, "a duration such as 90s, 3m, 8h");
  }
  if (!run.holdout_from.empty() && !parse_utc(run.holdout_from)) {
    bad_value("holdout_from", run.holdout_from, "a date such as 2023-03-01");
  }
  if (!run.memory_budget.empty()) parse_bytes("memory-budget", run.memory_budget);
  if (run.initial_capital <= 0) bad_value("initial_capital", str(run.initial_capital), "more than 0");
  layout_of(settings);              // knows the features
  check_costs(rules_of(settings));  // knows the assets
}

void check_costs(const env::Rules& rules) {
  const double cost = env::cost_fraction(rules);
  if (cost < 1) return;
  throw Error(Fault::usage, str("a trade would cost ", cost, " of its value, expected less than 1"),
              "it is --fee-fraction + --slippage-fraction + half of --spread-fraction");
}

env::Layout layout_of(const Settings& settings) {
  env::Layout layout;
  layout.assets = split(settings.run.assets, ',');
  layout.features = env::feature_set(settings.run.features);
  layout.lookback = static_cast<int>(settings.hyperparameters.lookback);
  layout.scales = {static_cast<int>(settings.hyperparameters.norm_cash_exp),
                   static_cast<int>(settings.hyperparameters.norm_stocks_exp),
                   static_cast<int>(settings.hyperparameters.norm_tech_exp)};
  return layout;
}

env::Rules rules_of(const Settings& settings) {
  const agents::Hyperparameters& hp = settings.hyperparameters;
  const std::vector<std::string> assets = split(settings.run.assets, ',');
  if (assets.size() > env::kMaxAssets) {
    throw Error(Fault::usage, str("--assets names ", assets.size(), " assets, expected at most ", env::kMaxAssets));
  }
  env::Rules rules;
  rules.assets = static_cast<int>(assets.size());
  rules.lookback = static_cast<int>(hp.lookback);
  rules.initial_capital = settings.run.initial_capital;
  rules.fee_fraction = settings.run.fee_fraction;
  rules.slippage_fraction = settings.run.slippage_fraction;
  rules.spread_fraction = settings.run.spread_fraction;
  rules.norm_action = hp.norm_action;
  rules.max_position_fraction = hp.max_position_fraction;
  rules.min_cash_reserve = hp.min_cash_reserve;
  rules.trailing_stop_pct = hp.trailing_stop_pct;
  rules.time_decay_floor = hp.time_decay_floor;
  rules.norm_reward = std::ldexp(1.0, static_cast<int>(hp.norm_reward_exp));
  rules.concentration_penalty = hp.concentration_penalty;
  rules.max_drawdown_penalty = hp.max_drawdown_penalty;
  rules.volatility_penalty = hp.volatility_penalty;
  rules.gamma = hp.gamma;
  for (std::size_t i = 0; i < assets.size(); ++i) rules.min_qty[i] = env::minimum_quantity(assets[i]);
  return rules;
}

agents::Architecture architecture_of(const Settings& settings) {
  const agents::Hyperparameters& hp = settings.hyperparameters;
  const env::Layout layout = layout_of(settings);
  agents::Architecture architecture;
  const std::string network = agents::network_of(hp);
  architecture.observation = layout.size();
  architecture.width = hp.net_dimension;
  architecture.actions = layout.assets_count();
  if (network == "market_context") {
    architecture.network = agents::Network::market_context;
    ft_transformer::MarketContextShape& context = architecture.context;
    context.assets = layout.assets_count();
    context.features = static_cast<std::int64_t>(layout.features.size());
    context.lookback = layout.lookback;
    context.tokens =
        hp.market_tokens == "asset" ? ft_transformer::MarketTokens::asset : ft_transformer::MarketTokens::feature;
    context.d_token = hp.ft_d_token;
    context.blocks = hp.ft_n_blocks;
    context.heads = hp.ft_n_heads;
    context.width = hp.net_dimension;
  } else if (network == "ft_transformer") {
    architecture.network = agents::Network::ft_transformer;
    architecture.encoder.features = layout.size();
    architecture.encoder.d_token = hp.ft_d_token;
    architecture.encoder.blocks = hp.ft_n_blocks;
    architecture.encoder.heads = hp.ft_n_heads;
    architecture.encoder.key_bias = hp.ft_key_bias;
    architecture.encoder.output = hp.net_dimension;
  }
  return architecture;
}

std::int64_t portfolios_of(const Settings& settings) {
  if (settings.run.portfolios > 0) return settings.run.portfolios;
  const agents::Hyperparameters& hp = settings.hyperparameters;
  const std::int64_t wanted = (hp.batch_size * hp.minibatches + hp.base_target_step - 1) / hp.base_target_step;
  return (wanted + kPortfolioMultiple - 1) / kPortfolioMultiple * kPortfolioMultiple;
}

std::int64_t steps_of(const Settings& settings) {
  if (settings.run.steps > 0) return settings.run.steps;
  const std::int64_t iteration = portfolios_of(settings) * settings.hyperparameters.base_target_step;
  return std::max(settings.hyperparameters.base_break_step, kUsefulIterations * iteration);
}

std::int64_t parse_bytes(const std::string& option, const std::string& text) {
  static const std::pair<const char*, std::int64_t> kUnits[] = {
      {"GiB", 1LL << 30}, {"MiB", 1LL << 20}, {"KiB", 1LL << 10}, {"GB", 1000000000}, {"MB", 1000000}, {"", 1}};
  for (const auto& [unit, factor] : kUnits) {
    const std::string suffix = unit;
    if (text.size() <= suffix.size() || text.compare(text.size() - suffix.size(), suffix.size(), suffix) != 0) continue;
    const auto number = parse_number<double>(text.substr(0, text.size() - suffix.size()));
    if (number && *number > 0 && std::isfinite(*number))
      return static_cast<std::int64_t>(*number * static_cast<double>(factor));
  }
  throw Error(Fault::usage, str("--", option, " is '", text, "', expected a size such as 4GiB, 512MiB or 1000000"));
}

}  // namespace ristretto::train
