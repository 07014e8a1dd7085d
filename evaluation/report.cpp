#include "evaluation/report.h"

#include <algorithm>
#include <cmath>
#include <string_view>

#include "evaluation/chart.h"
#include "platform/atomic_file.h"
#include "platform/clock.h"
#include "platform/text.h"

namespace ristretto::evaluation {
namespace {

constexpr std::string_view kNoFees = ", no fees";

// Colours are those of Paul Tol's "bright" and "muted" schemes, which stay apart for the colour-blind, lighter on dark.
constexpr const char* kStyle = R"(
:root { color-scheme: light dark; --paper: #fcfcfb; --ink: #1c1c1a; --quiet: #6b6a65; --rule: #dddcd6; --mark: #f0efe9;
  --agent: #b4451f; --hold: #2f6690; --cash: #8a8983;
  --a0: #4477aa; --a1: #66ccee; --a2: #228833; --a3: #ccbb44; --a4: #ee6677; --a5: #aa3377; --a6: #999933; --a7: #882255; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #161615; --ink: #e9e8e3; --quiet: #9c9b94; --rule: #353431; --mark: #23221f;
    --agent: #f08a5d; --hold: #7fb2dc; --cash: #8f8e87;
    --a0: #6699cc; --a1: #7fd8f5; --a2: #4caf6a; --a3: #d8cb62; --a4: #f58a97; --a5: #cc66a0; --a6: #b8b85a; --a7: #b0577f; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.2rem 1.2rem 4rem; max-width: 70rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { margin: 0; font-size: 1.65rem; line-height: 1.25; overflow-wrap: anywhere; }
h2 { margin: 2.4rem 0 .5rem; font-size: 1.05rem; }
p { margin: .3rem 0; color: var(--quiet); max-width: 48rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .32rem .5rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--rule); }
th { font-weight: 600; color: var(--quiet); }
th:first-child, td:first-child { text-align: left; padding-left: .4rem; }
tr.agent td { font-weight: 650; background: var(--mark); }
tr.agent td:first-child { box-shadow: inset 3px 0 var(--agent); }
tr.free td { color: var(--quiet); }
tr.free.first td { border-top: 2px solid var(--rule); }
table.facts { width: auto; }
table.facts td:first-child { color: var(--quiet); }
table.gates th, table.gates td { text-align: left; white-space: normal; }
tr.refused td:nth-child(2) { font-weight: 650; color: var(--agent); }
svg { display: block; width: 100%; min-width: 40rem; height: auto; }
svg text { font-size: 11.5px; fill: var(--quiet); }
.left { text-anchor: end; } .middle { text-anchor: middle; }
svg .name { font-size: 12.5px; font-weight: 600; }
.grid { stroke: var(--rule); stroke-width: 1; fill: none; }
.gap { fill: var(--quiet); opacity: .3; }
.line { fill: none; stroke-width: 1.4; stroke-linejoin: round; } .line.agent { stroke-width: 1.9; }
.area { stroke: none; opacity: .16; }
.line.agent { stroke: var(--agent); } .line.hold { stroke: var(--hold); } .line.cash { stroke: var(--cash); }
.area.agent, svg .name.agent { fill: var(--agent); } svg .name.hold { fill: var(--hold); } svg .name.cash { fill: var(--cash); }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; font-size: .85rem; color: var(--quiet); }
.legend i { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin-right: .4em; }
@media print { body { max-width: none; } h2 { break-after: avoid; } svg { break-inside: avoid; } }
)";
constexpr std::size_t kPalette = 8;

bool without_fees(const Reference& reference) { return reference.name.ends_with(kNoFees); }

std::string percent(double value, int decimals) {
  return std::isfinite(value) ? str(fixed(100 * value, decimals), " %") : "–";
}

std::string signed_percent(double value) {
  // Perfect foresight returns thousands of times its capital: no digits behind the point there.
  if (std::abs(value) >= 100) return str("+", with_thousands(std::llround(100 * value)), " %");
  return str(value > 0 ? "+" : value < 0 ? "−" : "", percent(std::abs(value), 2));
}

std::string ratio(double value) {
  if (std::isinf(value)) return value > 0 ? "∞" : "−∞";
  return str(value < 0 ? "−" : "", fixed(std::abs(value), 2));
}

std::string row(const Reference& reference, const std::string& css) {
  const Metrics& m = reference.metrics;
  std::string out = str("<tr class=\"", css, "\"><td>", escaped(reference.name), "</td>");
  for (const std::string& cell :
       {signed_percent(m.total_return), ratio(m.sharpe_annual), ratio(m.sortino_annual), percent(m.max_drawdown, 1),
        percent(m.volatility_annual, 1), percent(m.mean_position, 0), str(fixed(m.turnover, 1), " ×"), fixed(m.fees, 2),
        with_thousands(m.orders)}) {
    out += str("<td>", cell, "</td>");
  }
  return out + "</tr>\n";
}

std::string metrics_table(const Report& report) {
  std::string out = "<div class=\"wide\"><table><thead><tr><th></th>";
  for (const char* name :
       {"return", "Sharpe", "Sortino", "drawdown", "volatility", "invested", "turnover", "fees", "orders"}) {
    out += str("<th>", name, "</th>");
  }
  out += str("</tr></thead><tbody>\n", row(report.agent, "agent"));
  for (const Reference& reference : report.references) {
    if (!without_fees(reference)) out += row(reference, "");
  }
  const char* css = "free first";
  for (const Reference& reference : report.references) {
    if (!without_fees(reference)) continue;
    out += row(reference, css);
    css = "free";
  }
  return out + "</tbody></table></div>\n";
}

const Reference* named(const Report& report, const char* name) {
  const auto found = std::find_if(report.references.begin(), report.references.end(),
                                  [&](const Reference& reference) { return reference.name == name; });
  return found == report.references.end() ? nullptr : &*found;
}

std::string value_chart(const Report& report) {
  const Backtest& run = report.agent.backtest;
  const auto line = [&](const Reference& reference, const char* colour) {
    return Line{str(reference.name, " ", signed_percent(reference.metrics.total_return)), colour,
                reference.backtest.value, run.initial_capital, false};
  };
  std::vector<Line> lines = {line(report.agent, "agent")};
  if (const Reference* hold = named(report, "equal weight")) lines.push_back(line(*hold, "hold"));
  if (const Reference* cash = named(report, "cash")) lines.push_back(line(*cash, "cash"));
  LineChart chart;
  chart.label = "The account's value over time, beside equal weight and cash";
  chart.unit = str("value of the account, which starts with ", fixed(run.initial_capital, 0));
  chart.height = 360;
  chart.scale = Scale::automatic;
  return line_chart(run, lines, chart);
}

std::string drawdown_chart(const Report& report) {
  const auto line = [](const Reference& reference, const char* colour, bool filled) {
    std::vector<double> below = drawdowns(reference.backtest);
    for (double& fall : below) fall = -fall;
    return Line{str(reference.name, " ", signed_percent(-reference.metrics.max_drawdown)), colour, std::move(below), 0,
                filled};
  };
  std::vector<Line> lines = {line(report.agent, "agent", true)};
  if (const Reference* hold = named(report, "equal weight")) lines.push_back(line(*hold, "hold", false));
  LineChart chart;
  chart.label = "How far the account's value is below its highest so far";
  chart.height = 220;
  chart.unit = "below the highest value so far; named: the deepest";
  chart.percent = true;
  return line_chart(report.agent.backtest, lines, chart);
}

std::string positions(const Report& report) {
  std::string legend = "<div class=\"legend\">", style;
  std::vector<std::string> colours;
  for (std::size_t i = 0; i < report.assets.size(); ++i) {
    const std::string colour = i < kPalette ? str("var(--a", i, ")") : str("hsl(", i * 137 % 360, " 45% 55%)");
    colours.push_back(str("s", i));
    style += str(".s", i, "{fill:", colour, "}");
    legend += str("<span><i style=\"background:", colour, "\"></i>", escaped(report.assets[i]), "</span>");
  }
  return str("<style>", style, "</style>", legend, "<span>the rest is cash</span></div>\n<div class=\"wide\">",
             share_chart(report.agent.backtest, colours, "Share of the account in each asset over time"), "</div>\n");
}

}  // namespace

Report report_of(std::string title, Backtest agent, std::vector<Reference> references,
                 std::vector<std::string> assets) {
  const Metrics metrics = metrics_of(agent);
  return {
      std::move(title), std::move(assets), {"this model", metrics, std::move(agent)}, std::move(references), {}, {}};
}

std::string html_of(const Report& report) {
  const Backtest& run = report.agent.backtest;
  const std::size_t windows = run.windows.size();
  std::string out =
      str("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n",
          "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>", escaped(report.title),
          "</title>\n<style>", kStyle, "</style></head><body>\n<h1>", escaped(report.title), "</h1>\n<p>Backtest from ",
          iso_utc(run.start_time.front()).substr(0, 10), " to ", iso_utc(run.time.back()).substr(0, 10), ": ",
          with_thousands(static_cast<long long>(run.time.size())), " decisions in ", windows,
          windows == 1 ? " window" : " windows", " without a gap");
  if (run.skipped_segments > 0) out += str(", ", run.skipped_segments, " too short for one left out");
  out += ".</p>\n<h2>Against the references</h2>\n";
  out += metrics_table(report);
  out +=
      "<p>Sharpe and Sortino ratio and volatility are annual, from simple returns a bar. Invested is the mean share of "
      "the account that is not cash; turnover the traded value over the account's mean value; fees are in money, of "
      "windows that each start with the initial capital. Perfect foresight knows every price to come: what the rules "
      "and the fees leave of it is about the most that a model could earn.</p>\n";
  if (!report.facts.empty()) {
    out += "<h2>Further findings</h2>\n<table class=\"facts\"><tbody>\n";
    for (const auto& [name, value] : report.facts) {
      out += str("<tr><td>", escaped(name), "</td><td>", escaped(value), "</td></tr>\n");
    }
    out += "</tbody></table>\n";
  }
  if (!report.gates.empty()) {
    out +=
        "<h2>Gates</h2>\n<div class=\"wide\"><table class=\"gates\"><thead><tr><th></th><th>verdict</th><th>value</th>"
        "<th>passes when</th><th>why not</th></tr></thead><tbody>\n";
    for (const ReportGate& gate : report.gates) {
      out += str("<tr", gate.verdict == "passed" ? "" : " class=\"refused\"", ">");
      for (const std::string* cell : {&gate.name, &gate.verdict, &gate.value, &gate.threshold, &gate.reason}) {
        out += str("<td>", escaped(*cell), "</td>");
      }
      out += "</tr>\n";
    }
    out += "</tbody></table></div>\n<p>What has no evidence counts as refused.</p>\n";
  }
  out += str("<h2>Value</h2>\n<div class=\"wide\">", value_chart(report), "</div>\n");
  if (windows > 1) {
    out +=
        "<p>Shaded: bars are missing. Each window starts in cash with what the one before left; no return spans a "
        "gap.</p>\n";
  }
  out += str("<h2>Drawdown</h2>\n<div class=\"wide\">", drawdown_chart(report), "</div>\n");
  out += str("<h2>Positions</h2>\n", positions(report));
  return out + "</body></html>\n";
}

void write_report(const std::filesystem::path& path, const Report& report) {
  write_file_atomically(path, html_of(report));
}

}  // namespace ristretto::evaluation
