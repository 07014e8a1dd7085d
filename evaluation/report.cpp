#include "evaluation/report.h"

#include <algorithm>
#include <cmath>
#include <string_view>

#include "evaluation/chart.h"
#include "evaluation/distribution.h"
#include "evaluation/page.h"
#include "platform/atomic_file.h"
#include "platform/clock.h"
#include "platform/text.h"

namespace ristretto::evaluation {
namespace {

constexpr std::string_view kNoFees = ", no fees";

constexpr std::size_t kPalette = 8;
constexpr std::size_t kDaysOfHistogram = 60;

bool without_fees(const Reference& reference) { return reference.name.ends_with(kNoFees); }

std::string percent(double value, int decimals) {
  return std::isfinite(value) ? str(fixed(100 * value, decimals), " %") : "–";
}

std::string signed_percent(double value, int decimals = 2) {
  // Perfect foresight returns thousands of times its capital: no digits behind the point there.
  if (std::abs(value) >= 100) return str("+", with_thousands(std::llround(100 * value)), " %");
  return str(value > 0 ? "+" : value < 0 ? "−" : "", percent(std::abs(value), decimals));
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
  std::string out = "<div class=\"scroll\"><table><thead><tr><th></th>";
  for (const char* name :
       {"return", "Sharpe", "Sortino", "drawdown", "volatility", "invested", "turnover", "costs", "orders"}) {
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

// Both forms of a chart: for a screen's and for a phone's width, the latter with its names above it.
template <class Draw>
std::string for_every_width(const Draw& draw, const std::string& legend) {
  return str("<div class=\"wide\">", draw(Width::wide), "</div>\n<div class=\"narrow\">", legend, draw(Width::narrow),
             "</div>\n");
}

std::string legend_of(const std::vector<Line>& lines) {
  std::string out = "<div class=\"legend\">";
  for (const Line& line : lines) {
    out += str("<span><i style=\"background:var(--", line.colour, ")\"></i>", escaped(line.name), "</span>");
  }
  return out + "</div>\n";
}

std::string chart_of(const Backtest& axis, const std::vector<Line>& lines, LineChart chart) {
  return for_every_width(
      [&](Width width) {
        chart.width = width;
        return line_chart(axis, lines, chart);
      },
      legend_of(lines));
}

// y, one a bar of `run`, at the bars of `axis`: with another lookback a window begins and ends elsewhere. What was last
// known goes on.
std::vector<double> at_bars_of(const Backtest& axis, const Backtest& run, const std::vector<double>& y, double start) {
  std::vector<double> out;
  for (const std::int64_t time : axis.time) {
    const auto after = std::upper_bound(run.time.begin(), run.time.end(), time) - run.time.begin();
    out.push_back(after == 0 ? start : y[static_cast<std::size_t>(after - 1)]);
  }
  return out;
}

// The agent, and of the references those that it is to be seen beside, each with its colour.
std::vector<std::pair<const Reference*, const char*>> curves_of(const Report& report) {
  std::vector<std::pair<const Reference*, const char*>> out = {{&report.agent, "agent"}};
  for (const auto& [name, colour] :
       {std::pair{kServedUntilNow, "served"}, {"equal weight", "hold"}, {"hold BTC/USD", "btc"}, {"cash", "cash"}}) {
    if (const Reference* reference = named(report, name)) out.emplace_back(reference, colour);
  }
  return out;
}

std::string value_chart(const Report& report) {
  const Backtest& run = report.agent.backtest;
  std::vector<Line> lines;
  for (const auto& [reference, colour] : curves_of(report)) {
    lines.push_back({str(reference->name, " ", signed_percent(reference->metrics.total_return)), colour,
                     at_bars_of(run, reference->backtest, reference->backtest.value, run.initial_capital),
                     run.initial_capital, false});
  }
  LineChart chart;
  chart.label = "The account's value over time, beside what is served, those who buy and hold, and cash";
  chart.unit = str("value of the account, which starts with ", fixed(run.initial_capital, 0));
  chart.height = 360;
  chart.scale = Scale::automatic;
  return chart_of(run, lines, chart);
}

std::string drawdown_chart(const Report& report) {
  const Backtest& run = report.agent.backtest;
  std::vector<Line> lines;
  for (const auto& [reference, colour] : curves_of(report)) {
    if (reference->name == "cash") continue;
    std::vector<double> below = at_bars_of(run, reference->backtest, drawdowns(reference->backtest), 0);
    for (double& fall : below) fall = -fall;
    lines.push_back({str(reference->name, " ", signed_percent(-reference->metrics.max_drawdown)), colour,
                     std::move(below), 0, reference == &report.agent});
  }
  LineChart chart;
  chart.label = "How far the account's value is below its highest so far";
  chart.height = 240;
  chart.unit = "below the highest value so far; named: the deepest";
  chart.percent = true;
  return chart_of(run, lines, chart);
}

std::string distribution_row(const std::string& name, const Returns& returns, const char* css) {
  const Distribution d = distribution_of(returns);
  std::string out = str("<tr class=\"", css, "\"><td>", escaped(name), "</td>");
  for (const std::string& cell :
       {with_thousands(d.count), signed_percent(d.mean, 3), percent(d.deviation, 2), ratio(d.skewness),
        ratio(d.kurtosis), str(signed_percent(d.worst), " on ", iso_utc(d.worst_time).substr(0, 10)),
        signed_percent(d.fifth_percentile), signed_percent(d.best), percent(d.above_zero, 1)}) {
    out += str("<td>", cell, "</td>");
  }
  return out + "</tr>\n";
}

// Days where there are enough of them for a picture, else bars.
std::string returns_section(const Report& report) {
  const Backtest& run = report.agent.backtest;
  const Reference* hold = named(report, "equal weight");
  const bool days = returns_by_day(run).simple.size() >= kDaysOfHistogram;
  const auto returns_of = [&](const Backtest& of) { return days ? returns_by_day(of) : returns_by_bar(of); };
  const char* const unit = days ? "day" : "bar";
  const Returns shown = returns_of(run), other = hold ? returns_of(hold->backtest) : Returns{};
  Histogram chart;
  chart.label = str("How often the return of a ", unit, " was how large");
  chart.unit = str("share of the ", unit, "s, by their return");
  chart.colour = "agent";
  chart.other_colour = "hold";
  std::vector<Line> names = {{report.agent.name, "agent", {}, 0, false}};
  if (hold) names.push_back({hold->name, "hold", {}, 0, false});
  std::string out = str("<h2>Returns</h2>\n", legend_of(names),
                        for_every_width(
                            [&](Width width) {
                              chart.width = width;
                              return histogram_chart(shown.simple, other.simple, chart);
                            },
                            ""));
  out += "<div class=\"scroll\"><table><thead><tr><th></th>";
  for (const char* name : {"number", "mean", "std", "skew", "kurtosis", "worst", "5 % quantile", "best", "above 0"}) {
    out += str("<th>", name, "</th>");
  }
  out += str("</tr></thead><tbody>\n", distribution_row("this model, a day", returns_by_day(run), "agent"),
             distribution_row("this model, a bar", returns_by_bar(run), "agent"));
  for (const char* name : {kServedUntilNow, "equal weight"}) {
    if (const Reference* reference = named(report, name)) {
      out += distribution_row(str(name, ", a day"), returns_by_day(reference->backtest), "");
    }
  }
  return out +
         "</tbody></table></div>\n<p>The outermost bars hold all beyond. Days are of UTC. A Gaussian's skew is 0, its "
         "kurtosis 3.</p>\n";
}

std::string facts_table(const std::vector<std::pair<std::string, std::string>>& facts) {
  std::string out = "<table class=\"facts\"><tbody>\n";
  for (const auto& [name, value] : facts) {
    out += str("<tr><td>", escaped(name), "</td><td>", escaped(value), "</td></tr>\n");
  }
  return out + "</tbody></table>\n";
}

std::string trades_section(const Trades& trades) {
  return str("<h2>Trades</h2>\n", facts_table(facts_of(trades)),
             "<p>Values are money of windows that each start with the initial capital. A sale has a profit where it "
             "earns, after costs, more than the average price paid for what is held.</p>\n");
}

std::string gates_section(const Report& report) {
  std::string out =
      "<h2>Gates</h2>\n<table class=\"stack\"><thead><tr><th></th><th>verdict</th><th>value</th><th>passes when</th>"
      "<th>why not</th></tr></thead><tbody>\n";
  for (const ReportGate& gate : report.gates) {
    out += str("<tr", gate.verdict == "passed" ? "" : " class=\"refused\"", ">", labelled_cell("", gate.name),
               labelled_cell("", gate.verdict), labelled_cell("value", gate.value),
               labelled_cell("passes when", gate.threshold), labelled_cell("why not", gate.reason), "</tr>\n");
  }
  out += "</tbody></table>\n<p>What has no evidence counts as refused.";
  if (!report.gates_note.empty()) out += str(" ", escaped(report.gates_note));
  return out + "</p>\n";
}

std::string table_section(const ReportTable& table) {
  std::string out =
      str("<h2>", escaped(table.title), "</h2>\n<div class=\"scroll\"><table class=\"small\"><thead><tr>");
  for (const std::string& name : table.columns) out += str("<th>", escaped(name), "</th>");
  out += "</tr></thead><tbody>\n";
  for (const std::vector<std::string>& row : table.rows) {
    out += "<tr>";
    for (const std::string& cell : row) out += str("<td>", escaped(cell), "</td>");
    out += "</tr>\n";
  }
  out += "</tbody></table></div>\n";
  if (!table.note.empty()) out += str("<p>", escaped(table.note), "</p>\n");
  return out;
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
  const auto draw = [&](Width width) {
    return share_chart(report.agent.backtest, colours, "Share of the account in each asset over time", width);
  };
  return str("<style>", style, "</style>", legend, "<span>the rest is cash</span></div>\n", for_every_width(draw, ""));
}

}  // namespace

Report report_of(std::string title, Backtest agent, std::vector<Reference> references,
                 std::vector<std::string> assets) {
  const Metrics metrics = metrics_of(agent);
  return {std::move(title), std::move(assets), {"this model", metrics, std::move(agent)}, std::move(references), {}};
}

std::string html_of(const Report& report) {
  const Backtest& run = report.agent.backtest;
  const std::size_t windows = run.windows.size();
  std::string out =
      str("<p>Backtest from ", iso_utc(run.start_time.front()).substr(0, 10), " to ",
          iso_utc(run.time.back()).substr(0, 10), ": ", with_thousands(static_cast<long long>(run.time.size())),
          " decisions in ", windows, windows == 1 ? " window" : " windows", " without a gap");
  if (run.skipped_segments > 0) out += str(", ", run.skipped_segments, " too short for one left out");
  out += ".</p>\n<h2>Against the references</h2>\n";
  out += metrics_table(report);
  out +=
      "<p>Sharpe and Sortino ratio and volatility are annual, from simple returns a bar. Invested is the mean share of "
      "the account that is not cash; turnover the traded value over the account's mean value; costs are fees, slippage "
      "and half of the spread, in money, of windows that each start with the initial capital. Perfect foresight knows "
      "every price to come: what the rules and the costs leave of it is about the most that a model could earn.</p>\n";
  if (!report.facts.empty()) out += str("<h2>Further findings</h2>\n", facts_table(report.facts));
  if (!report.gates.empty()) out += gates_section(report);
  out += str("<h2>Value</h2>\n", value_chart(report));
  if (windows > 1) {
    out +=
        "<p>Shaded: bars are missing. Each window starts in cash with what the one before left; no return spans a "
        "gap.</p>\n";
  }
  out += str("<h2>Drawdown</h2>\n", drawdown_chart(report), returns_section(report));
  if (report.trades) out += trades_section(*report.trades);
  out += str("<h2>Positions</h2>\n", positions(report));
  for (const ReportTable& table : report.tables) out += table_section(table);
  return page(report.title, out);
}

void write_report(const std::filesystem::path& path, const Report& report) {
  write_file_atomically(path, html_of(report));
}

}  // namespace ristretto::evaluation
