#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/options.h"
#include "cli/output.h"
#include "env/bars.h"
#include "env/market.h"
#include "formats/npz.h"
#include "ft_transformer/weights.h"
#include "platform/atomic_file.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::cli {
namespace {

std::vector<std::string> assets_of(const train::Settings& settings) {
  return settings.run.assets.empty() ? env::default_assets() : split(settings.run.assets, ',');
}

int check_data(const train::Settings& settings, bool json) {
  const std::vector<std::string> assets = assets_of(settings);
  const std::vector<env::BarDefect> defects = env::check_bars(settings.run.bars, assets);
  nlohmann::ordered_json out = {{"bars", settings.run.bars}, {"defects", nlohmann::ordered_json::array()}};
  for (const env::BarDefect& defect : defects) {
    const std::string where = defect.line > 0 ? str(defect.file.string(), ":", defect.line) : defect.file.string();
    if (json) {
      out["defects"].push_back({{"file", defect.file.string()}, {"line", defect.line}, {"defect", defect.text}});
    } else {
      std::printf("%s: %s\n", where.c_str(), defect.text.c_str());
    }
  }
  if (defects.empty()) {
    const env::Bars bars = env::read_bars(settings.run.bars, assets);
    if (json) {
      out["common_bars"] = bars.time.size();
      for (const env::Segment& segment : bars.segments) {
        out["segments"].push_back({{"first", iso_utc(bars.time[segment.begin])},
                                   {"last", iso_utc(bars.time[segment.end - 1])},
                                   {"bars", segment.size()}});
      }
    } else {
      std::printf("%s: %zu assets, %s common bars from %s to %s in %zu segments\n", settings.run.bars.c_str(),
                  assets.size(), with_thousands(static_cast<long long>(bars.time.size())).c_str(),
                  iso_utc(bars.time.front()).c_str(), iso_utc(bars.time.back()).c_str(), bars.segments.size());
      for (std::size_t i = 0; i + 1 < bars.segments.size(); ++i) {
        const std::int64_t before = bars.time[bars.segments[i].end - 1], after = bars.time[bars.segments[i + 1].begin];
        std::printf("  gap of %lld bars after %s\n", static_cast<long long>((after - before) / bars.bar_seconds - 1),
                    iso_utc(before).c_str());
      }
      std::printf("no defects\n");
    }
  }
  if (json) print(out);
  return defects.empty() ? 0 : static_cast<int>(Fault::incompatible);
}

int write_features(const train::Settings& settings, const std::string& out, bool json) {
  const std::string set = settings.run.features.empty() ? "alpaca-14b" : settings.run.features;
  const std::vector<std::string> features = env::feature_set(set);
  const env::Market market = env::Market::of(env::read_bars(settings.run.bars, assets_of(settings)), features);
  std::vector<std::string> names;
  for (const std::string& asset : market.assets) {
    for (const std::string& feature : features) names.push_back(str(asset, ":", feature));
  }
  std::vector<std::int64_t> segments;
  for (const env::Segment& segment : market.segments) segments.insert(segments.end(), {segment.begin, segment.end});
  formats::NamedArrays arrays;
  arrays.emplace_back("price", ft_transformer::array_of(market.price));
  arrays.emplace_back("tech", ft_transformer::array_of(market.tech));
  arrays.emplace_back("time", formats::Array::of_int64s({market.rows()}, market.time));
  arrays.emplace_back("names", formats::Array::of_texts({static_cast<std::int64_t>(names.size())}, names));
  arrays.emplace_back("segments",
                      formats::Array::of_int64s({static_cast<std::int64_t>(market.segments.size()), 2}, segments));
  write_file_atomically(out, formats::write_npz(arrays));
  if (json) {
    const nlohmann::ordered_json document = {{"file", out},
                                             {"features", set},
                                             {"rows", market.rows()},
                                             {"columns", names.size()},
                                             {"segments", market.segments.size()}};
    print(document);
  } else {
    std::printf("%s: %s, %s rows x %zu columns in %zu segments\n", out.c_str(), set.c_str(),
                with_thousands(market.rows()).c_str(), names.size(), market.segments.size());
  }
  return 0;
}

}  // namespace

int data(const Arguments& arguments) {
  Options options("data check|features",
                  "check lists every defect of the bars; features writes the feature table as npz (price, tech, time, "
                  "names, segments).");
  options.positional("check|features", true);
  options.value("out", "FILE.npz", "where features writes [features.npz]");
  options.settings({"bars", "assets", "features"});
  if (!options.parse(arguments)) return 0;
  train::Settings settings;
  for (const train::Given& given : options.given()) settings.apply(given);
  const std::string what = options.get("check|features");
  if (what == "check") return check_data(settings, options.json());
  if (what == "features") return write_features(settings, options.get("out", "features.npz"), options.json());
  throw Error(Fault::usage, str("ristretto data has no '", what, "'"), "usage: ristretto data check|features");
}

}  // namespace ristretto::cli
