#include "release/manifest.h"

#include <algorithm>
#include <map>
#include <vector>

#include "platform/atomic_file.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/text.h"
#include "release/sha256.h"

namespace ristretto::release {
namespace {

constexpr std::size_t kManifestLimitBytes = std::size_t{256} << 20;

// Runs `read` on a section; what nlohmann throws about its fields becomes an Error that names the file.
template <class Read>
auto reading(const std::string& origin, const char* section, Read read) {
  try {
    return read();
  } catch (const nlohmann::json::exception& error) {
    throw Error(Fault::incompatible, str(origin, ": the section '", section, "' cannot be read: ", error.what()));
  }
}

struct RuleField {
  const char* name;
  double env::Rules::*member;
  bool later = false;  // manifests from before it was written mean the default
};
constexpr RuleField kRuleFields[] = {
    {"initial_capital", &env::Rules::initial_capital},
    {"fee_fraction", &env::Rules::fee_fraction},
    {"slippage_fraction", &env::Rules::slippage_fraction, true},
    {"spread_fraction", &env::Rules::spread_fraction, true},
    {"norm_action", &env::Rules::norm_action},
    {"max_position_fraction", &env::Rules::max_position_fraction},
    {"min_cash_reserve", &env::Rules::min_cash_reserve},
    {"trailing_stop_pct", &env::Rules::trailing_stop_pct},
    {"time_decay_floor", &env::Rules::time_decay_floor},
    {"norm_reward", &env::Rules::norm_reward},
    {"concentration_penalty", &env::Rules::concentration_penalty},
    {"max_drawdown_penalty", &env::Rules::max_drawdown_penalty},
    {"volatility_penalty", &env::Rules::volatility_penalty},
    {"gamma", &env::Rules::gamma},
};

}  // namespace

Json json_of(const agents::Value& value) {
  return std::visit(
      [](const auto& held) -> Json {
        if constexpr (std::is_same_v<std::decay_t<decltype(held)>, std::monostate>) {
          return nullptr;
        } else {
          return held;
        }
      },
      value);
}

Json section_of(const agents::Architecture& architecture) {
  Json section{{"network", agents::name_of(architecture.network)},
               {"observation", architecture.observation},
               {"width", architecture.width},
               {"actions", architecture.actions},
               {"activation", architecture.activation == agents::Activation::relu ? "relu" : "tanh"},
               {"distribution", "tanh_gaussian"}};
  if (architecture.network == agents::Network::ft_transformer) {
    section["d_token"] = architecture.encoder.d_token;
    section["blocks"] = architecture.encoder.blocks;
    section["heads"] = architecture.encoder.heads;
    if (architecture.encoder.key_bias) section["key_bias"] = true;
  }
  if (architecture.network == agents::Network::market_context) {
    const ft_transformer::MarketContextShape& context = architecture.context;
    section["features"] = context.features;
    section["lookback"] = context.lookback;
    section["tokens"] = context.tokens == ft_transformer::MarketTokens::asset ? "asset" : "feature";
    section["d_token"] = context.d_token;
    section["blocks"] = context.blocks;
    section["heads"] = context.heads;
  }
  return section;
}

agents::Architecture architecture_of(const Json& section, const std::string& origin) {
  return reading(origin, "architecture", [&] {
    agents::Architecture architecture;
    const std::string network = section.at("network");
    if (network != "mlp" && network != "ft_transformer" && network != "market_context") {
      throw Error(Fault::incompatible,
                  str(origin, ": the network is '", network, "', expected 'mlp', 'ft_transformer' or 'market_context'"),
                  "a newer version of this program may have written it");
    }
    section.at("observation").get_to(architecture.observation);
    section.at("width").get_to(architecture.width);
    section.at("actions").get_to(architecture.actions);
    if (network == "ft_transformer") {
      architecture.network = agents::Network::ft_transformer;
      architecture.encoder.features = architecture.observation;
      architecture.encoder.output = architecture.width;
      section.at("d_token").get_to(architecture.encoder.d_token);
      section.at("blocks").get_to(architecture.encoder.blocks);
      section.at("heads").get_to(architecture.encoder.heads);
      architecture.encoder.key_bias = section.value("key_bias", false);
    }
    if (network == "market_context") {
      architecture.network = agents::Network::market_context;
      ft_transformer::MarketContextShape& context = architecture.context;
      context.assets = architecture.actions;
      context.width = architecture.width;
      section.at("features").get_to(context.features);
      section.at("lookback").get_to(context.lookback);
      context.tokens =
          section.at("tokens") == "asset" ? ft_transformer::MarketTokens::asset : ft_transformer::MarketTokens::feature;
      section.at("d_token").get_to(context.d_token);
      section.at("blocks").get_to(context.blocks);
      section.at("heads").get_to(context.heads);
    }
    return architecture;
  });
}

Json section_of(const env::Layout& layout) {
  return {{"names", layout.names()},
          {"scales", layout.column_scales()},
          {"assets", layout.assets},
          {"features", layout.features},
          {"lookback", layout.lookback},
          {"exponents",
           {{"cash", layout.scales.cash_exp}, {"stocks", layout.scales.stocks_exp}, {"tech", layout.scales.tech_exp}}},
          {"hash", hash_of(layout)}};
}

env::Layout layout_of(const Json& section, const std::string& origin) {
  return reading(origin, "layout", [&] {
    env::Layout layout;
    section.at("assets").get_to(layout.assets);
    section.at("features").get_to(layout.features);
    section.at("lookback").get_to(layout.lookback);
    const Json& exponents = section.at("exponents");
    exponents.at("cash").get_to(layout.scales.cash_exp);
    exponents.at("stocks").get_to(layout.scales.stocks_exp);
    exponents.at("tech").get_to(layout.scales.tech_exp);
    const auto names = section.at("names").get<std::vector<std::string>>();
    // The count first: small files may ask for names without end.
    if (layout.lookback < 1 || layout.size() != static_cast<std::int64_t>(names.size()) || names != layout.names()) {
      throw Error(Fault::incompatible, str(origin, ": the layout's ", names.size(),
                                           " names are not those that its assets, features and lookback give (",
                                           layout.size(), " columns)"));
    }
    const std::string hash = hash_of(layout), listed = section.at("hash");
    if (hash != listed) {
      throw Error(Fault::incompatible,
                  str(origin, ": the layout's names and scales have the hash ", hash, ", the manifest says ", listed),
                  "something changed the layout of the model: serve another version (rollback)");
    }
    return layout;
  });
}

std::string hash_of(const env::Layout& layout) {
  std::string text;
  const std::vector<double> scales = layout.column_scales();
  const std::vector<std::string> names = layout.names();
  for (std::size_t i = 0; i < names.size(); ++i) text += str(names[i], ' ', scales[i], '\n');
  return sha256(text).substr(0, 16);
}

Json section_of(const env::Rules& rules) {
  Json section;
  for (const RuleField& field : kRuleFields) section[field.name] = rules.*field.member;
  section["lookback"] = rules.lookback;
  section["min_qty"] = std::vector<double>(rules.min_qty, rules.min_qty + rules.assets);
  return section;
}

env::Rules rules_of(const Json& section, const std::string& origin) {
  return reading(origin, "environment", [&] {
    env::Rules rules;
    for (const RuleField& field : kRuleFields) {
      if (!field.later || section.contains(field.name)) section.at(field.name).get_to(rules.*field.member);
    }
    section.at("lookback").get_to(rules.lookback);
    const auto quantities = section.at("min_qty").get<std::vector<double>>();
    if (quantities.size() > env::kMaxAssets) {
      throw Error(Fault::incompatible, str(origin, ": the environment has ", quantities.size(),
                                           " assets, expected at most ", env::kMaxAssets));
    }
    rules.assets = static_cast<int>(quantities.size());
    std::copy(quantities.begin(), quantities.end(), rules.min_qty);
    return rules;
  });
}

Json action_section(const env::Layout& layout) { return {{"low", -1}, {"high", 1}, {"names", layout.assets}}; }

Json files_of(const std::filesystem::path& directory) {
  std::map<std::string, std::filesystem::path> found;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory)) {
    const auto status = entry.symlink_status();
    if (std::filesystem::is_directory(status)) continue;
    if (!std::filesystem::is_regular_file(status)) {
      throw Error(Fault::incompatible, str(entry.path().string(), " is neither a file nor a directory"),
                  "a version is complete in itself: put the file there instead of a link to it");
    }
    found.emplace(entry.path().lexically_relative(directory).generic_string(), entry.path());
  }
  found.erase(kManifest);
  Json files = Json::object();
  for (const auto& [name, path] : found) {
    files[name] = {{"sha256", sha256_of_file(path)}, {"bytes", std::filesystem::file_size(path)}};
  }
  return files;
}

std::string content_hash(const Json& files) {
  std::map<std::string, std::string> hashes;
  for (const auto& [name, entry] : files.items()) hashes[name] = entry.at("sha256").get<std::string>();
  std::string text;
  for (const auto& [name, hash] : hashes) text += str(hash, ' ', name, '\n');
  return sha256(text).substr(0, 12);
}

std::optional<std::filesystem::path> manifest_path(const std::filesystem::path& directory) {
  const std::filesystem::path inside = directory / kManifest;
  if (std::filesystem::exists(inside)) return inside;
  std::filesystem::path beside = directory;
  beside += ".manifest.json";
  if (std::filesystem::exists(beside)) return beside;
  return std::nullopt;
}

std::optional<Json> read_manifest(const std::filesystem::path& directory) {
  const auto path = manifest_path(directory);
  if (!path) return std::nullopt;
  Json manifest = Json::parse(read_file(*path, kManifestLimitBytes), nullptr, /*allow_exceptions=*/false);
  if (!manifest.is_object()) throw Error(Fault::incompatible, str(path->string(), " is not a JSON object"));
  const auto version = manifest.find("schema_version");
  if (version == manifest.end() || *version != kSchemaVersion) {
    throw Error(Fault::incompatible,
                str(path->string(), " has schema_version ",
                    version == manifest.end() ? std::string("none") : line_of(*version), ", expected ", kSchemaVersion),
                "a newer version of this program may have written it");
  }
  return manifest;
}

void write_manifest(const std::filesystem::path& path, const Json& manifest) {
  write_file_atomically(path, manifest.dump(1, ' ', false, Json::error_handler_t::replace) + "\n");
}

std::string line_of(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

std::string text_field(const Json& manifest, const char* name) {
  const auto field = manifest.find(name);
  return field != manifest.end() && field->is_string() ? field->get<std::string>() : std::string{};
}

std::optional<std::string> text_at(const Json& manifest, const std::string& pointer) {
  const Json::json_pointer where(pointer);
  if (!manifest.contains(where) || !manifest[where].is_string()) return std::nullopt;
  return manifest[where].get<std::string>();
}

std::optional<std::int64_t> time_at(const Json& manifest, const std::string& pointer) {
  const auto text = text_at(manifest, pointer);
  return text ? parse_utc(*text) : std::nullopt;
}

void require_files(const std::filesystem::path& directory, const Json& manifest) {
  const std::string origin = directory.string();
  const Json found = files_of(directory);
  reading(origin, "files", [&] {
    const Json& expected = manifest.at("files");
    for (const auto& [name, entry] : expected.items()) {
      const auto file = found.find(name);
      if (file == found.end()) {
        if (name.starts_with(str(kTrainingDirectory, "/"))) continue;
        throw Error(Fault::incompatible, str(origin, ": ", name, " is missing, though the manifest lists it"));
      }
      const std::string hash = entry.at("sha256"), found_hash = file->at("sha256");
      if (hash != found_hash) {
        throw Error(Fault::incompatible,
                    str(origin, ": ", name, " has sha256 ", found_hash.substr(0, 12), "..., the manifest says ",
                        hash.substr(0, 12), "..."),
                    "something wrote into a version: serve another one (rollback) and find what did");
      }
    }
    for (const auto& [name, entry] : found.items()) {
      if (!expected.contains(name)) {
        throw Error(Fault::incompatible, str(origin, ": ", name, " is not in the manifest"),
                    "something wrote into a version: remove the file");
      }
    }
  });
}

}  // namespace ristretto::release
