#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/options.h"
#include "cli/output.h"
#include "evaluation/costs.h"
#include "evaluation/distribution.h"
#include "evaluation/findings.h"
#include "evaluation/ladder.h"
#include "evaluation/metrics_table.h"
#include "evaluation/report.h"
#include "platform/atomic_file.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/log.h"
#include "platform/text.h"
#include "release/old_layouts.h"
#include "release/served_actor.h"
#include "train/look.h"
#include "train/settings.h"

namespace ristretto::cli {
namespace {

std::optional<std::int64_t> date(const Options& options, const char* name) {
  const auto text = options.find(name);
  if (!text) return std::nullopt;
  const auto seconds = parse_utc(*text);
  if (!seconds) throw Error(Fault::usage, str("--", name, " is '", *text, "', expected a date such as 2023-03-01"));
  return seconds;
}

// The order of its assets is the model's; a manifest says it, for others the user does.
void reorder(env::Layout& layout, const std::string& list, const release::Model& model) {
  const std::vector<std::string> assets = split(list, ',');
  if (model.architecture.network == agents::Network::market_context) {
    layout.assets = assets;  // it serves any
    return;
  }
  if (!std::is_permutation(assets.begin(), assets.end(), layout.assets.begin(), layout.assets.end()) ||
      (model.layout && assets != layout.assets)) {
    throw Error(Fault::usage, str("--assets is ", list, ", the model was trained on ", join(layout.assets, ",")),
                model.layout ? "its manifest gives the order" : "the same ones in another order are accepted");
  }
  layout.assets = assets;
}

// What its manifest says that the gates decided when it was judged.
void add_gates(evaluation::Report& report, const release::Model& model) {
  if (!model.manifest || !model.manifest->contains("gates") || !(*model.manifest)["gates"].is_array()) return;
  const release::Json& manifest = *model.manifest;
  // Evidence first, as a retrain's report has it.
  for (const bool evidence : {true, false}) {
    for (const release::Json& gate : manifest["gates"]) {
      if (!gate.is_object() || (release::text_field(gate, "kind") == "evidence") != evidence) continue;
      std::string verdict = release::text_field(gate, "verdict");
      std::replace(verdict.begin(), verdict.end(), '_', ' ');
      report.gates.push_back({release::text_field(gate, "name"), verdict, release::text_field(gate, "value"),
                              release::text_field(gate, "threshold"), release::text_field(gate, "reason")});
    }
  }
  std::string bars;
  const auto first = release::text_at(manifest, "/data/splits/holdout/first_bar"),
             last = release::text_at(manifest, "/data/splits/holdout/last_bar");
  if (first && last) {
    bars = str(", on the bars from ", first->substr(0, 10), " to ", last->substr(0, 10));
  }
  report.gates_note = str("As its manifest has them, from when it was judged", bars, ".");
}

}  // namespace

int evaluate(const Arguments& arguments) {
  Options options("evaluate PATH", "Backtest of a model as it is served, against references, with a report.");
  options.positional("PATH", true);
  options.value("from", "DATE", "first bar");
  options.value("to", "DATE", "the bars before it");
  options.value("timerange", "FROM-TO", "both, such as 20230101-20230401");
  options.value("out", "FILE", "the report [report.html]");
  options.settings({"bars", "assets", "initial_capital", "fee_fraction", "slippage_fraction", "spread_fraction"});
  if (!options.parse(arguments)) return 0;
  train::Settings settings;
  for (const train::Given& given : options.given()) settings.apply(given);
  std::optional<std::int64_t> from = date(options, "from"), to = date(options, "to");
  if (const auto range = options.find("timerange")) {
    if (from || to) {
      throw Error(Fault::usage, "--timerange and --from or --to both say which bars are meant", "give one of them");
    }
    const std::vector<std::string> ends = split(*range, '-');
    if (ends.size() == 2) {
      if (!ends[0].empty()) from = parse_utc(ends[0]);
      if (!ends[1].empty()) to = parse_utc(ends[1]);
    }
    if (ends.size() != 2 || (!ends[0].empty() && !from) || (!ends[1].empty() && !to)) {
      throw Error(Fault::usage, str("--timerange is '", *range, "', expected such as 20230101-20230401"));
    }
  }

  const release::Model model = release::load(existing_model(options.get("PATH")));
  std::optional<env::Layout> layout = release::served_layout(model);
  if (!layout) {
    layout = release::own_layout(model);  // that of its training, which nothing serves any more
    if (layout && !model.trial)
      log::warning("evaluate", "there is no best_trial: the default scales of the observation are assumed");
  }
  if (layout && settings.sources.count("assets") > 0) reorder(*layout, settings.run.assets, model);
  if (!layout) {
    throw Error(Fault::incompatible,
                str(model.path.string(), " takes ", model.architecture.observation, " values and ",
                    model.architecture.actions, " actions: no layout of today's environment"),
                "README, 'A model does not load'; retrain makes a new one");
  }
  env::Rules rules = release::served_rules(model, *layout);
  if (settings.sources.count("initial_capital") > 0) rules.initial_capital = settings.run.initial_capital;
  if (settings.sources.count("fee_fraction") > 0) rules.fee_fraction = settings.run.fee_fraction;
  if (settings.sources.count("slippage_fraction") > 0) rules.slippage_fraction = settings.run.slippage_fraction;
  if (settings.sources.count("spread_fraction") > 0) rules.spread_fraction = settings.run.spread_fraction;
  train::check_costs(rules);
  const std::filesystem::path report = options.get("out", "report.html");
  require_writable(report);
  const env::Market all = env::Market::of(env::read_bars(settings.run.bars, layout->assets), layout->features);
  const env::Market market = all.between(from, to);
  if (market.segments.empty()) {
    throw Error(Fault::usage,
                str("no bar lies in the range that was asked for: those of ", settings.run.bars, " are from ",
                    iso_utc(all.time.front()), " to ", iso_utc(all.time.back())),
                "other dates for --from and --to");
  }
  const std::vector<evaluation::Reference> references = evaluation::ladder(market, *layout, rules);
  std::optional<train::Look> look = train::open_look(model, market, rules, settings.run.bars);
  const evaluation::Backtest backtest =
      evaluation::backtest(market, *layout, rules, release::actor_of(model, *layout, market), true);
  if (look) train::conclude(*look, backtest);
  const evaluation::Findings findings{
      release::unseen_from(model),
      backtest.time.front(),
      backtest.time.back(),
      rules,
      evaluation::attribution_of(backtest, market),
      evaluation::regimes_of(backtest, market),
      evaluation::cost_stress(market, *layout, rules, release::actor_of(model, *layout, market)),
      evaluation::track_record_of(backtest),
      layout->assets};
  evaluation::Report page = evaluation::report_of(model.path.filename().string(), backtest, references, layout->assets);
  page.trades = evaluation::trades_of(backtest, market, rules);
  evaluation::add(page, findings);
  add_gates(page, model);
  evaluation::write_report(report, page);
  if (options.json()) {
    nlohmann::ordered_json document = {{"model", model.path.string()},
                                       {"first_bar", iso_utc(backtest.time.front())},
                                       {"last_bar", iso_utc(backtest.time.back())},
                                       {"metrics", evaluation::json_of(evaluation::metrics_of(backtest))},
                                       {"look", look ? nlohmann::ordered_json(look->number) : nullptr},
                                       {"report", report.string()}};
    for (const auto& reference : references)
      document["references"][reference.name] = evaluation::json_of(reference.metrics);
    document.update(json_of(findings));
    document["trades"] = evaluation::json_of(page.trades.value());
    document["returns"]["bar"] = evaluation::json_of(evaluation::distribution_of(evaluation::returns_by_bar(backtest)));
    document["returns"]["day"] = evaluation::json_of(evaluation::distribution_of(evaluation::returns_by_day(backtest)));
    document["gates"] =
        model.manifest ? model.manifest->value("gates", release::Json::array()) : release::Json::array();
    print(document);
    return 0;
  }
  std::printf("%s, %s to %s; a trade costs %s\n%s", model.path.c_str(), iso_utc(backtest.time.front()).c_str(),
              iso_utc(backtest.time.back()).c_str(), evaluation::costs_in_words(rules).c_str(),
              evaluation::table_header().c_str());
  std::printf("%s", evaluation::table_line("this model", evaluation::metrics_of(backtest)).c_str());
  for (const auto& reference : references) {
    std::printf("%s", evaluation::table_line(reference.name, reference.metrics).c_str());
  }
  std::printf("%s", text_of(findings).c_str());
  if (look) {
    std::printf("look %lld at bars that judge this name's candidates: it is in the ledger, and counts\n",
                static_cast<long long>(look->number));
  }
  std::printf("report: %s\n", report.c_str());
  return 0;
}

}  // namespace ristretto::cli
