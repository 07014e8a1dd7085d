#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>  // before doctest: it brings a CHECK of its own
#include <ATen/ops/zeros.h>
#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "env/indicators.h"
#include "evaluation/chart.h"
#include "evaluation/report.h"
#include "platform/atomic_file.h"
#include "platform/error.h"
#include "platform/text.h"
#include "random_market.h"

using namespace ristretto;
using namespace ristretto::evaluation;
using tests::layout_of;
using tests::random_market;
using tests::rules_of;

namespace {

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t found = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) ++found;
  return found;
}

// Buys what fell and sells what rose since the bar before: an agent that does something of everything.
Actor contrarian(const env::Market& market) {
  const at::Tensor price = market.price.clone();
  return [price](const env::Observation& seen) {
    const at::Tensor before = price.index_select(0, (seen.bar - 1).clamp_min(0));
    return ((before / price.index_select(0, seen.bar) - 1) * 80).tanh().to(at::kFloat);
  };
}

Report report_on(const env::Market& market, const std::string& title) {
  const env::Rules rules = rules_of(market);
  return report_of(title, backtest(market, layout_of(market), rules, contrarian(market)),
                   ladder(market, layout_of(market), rules), market.assets);
}

}  // namespace

TEST_CASE("report: stands alone, with the agent first and every reference") {
  Report report = report_on(random_market({300, 100}), "A <model> & \"its\" test");
  report.facts = {{"Deflated Sharpe ratio", "0.97 <of 1>"}};
  const std::string html = html_of(report);
  for (const char* foreign : {"<script", "http:", "https:", "src=", "@import", "url(", "<link", "nan", "inf\""}) {
    CAPTURE(foreign);
    CHECK(html.find(foreign) == std::string::npos);
  }
  CHECK(html.find("<h1>A &lt;model&gt; &amp; &quot;its&quot; test</h1>") != std::string::npos);
  CHECK(html.find("0.97 &lt;of 1&gt;") != std::string::npos);
  CHECK(html.find("prefers-color-scheme: dark") != std::string::npos);
  CHECK(count(html, "<tr class=") == 1 + report.references.size());
  std::size_t at = html.find("<td>this model</td>");
  REQUIRE(at != std::string::npos);
  for (const Reference& reference : report.references) {
    CAPTURE(reference.name);
    CHECK(html.find(str("<td>", reference.name, "</td>")) > at);
    CHECK(html.find(str("<td>", reference.name, "</td>")) != std::string::npos);
  }
  CHECK(count(html, "<svg") == 3);
  CHECK(count(html, "<svg") == count(html, "</svg>"));
  CHECK(count(html, "class=\"gap\"") == 3);  // one gap, in three charts
  CHECK(html.find("398 decisions") == std::string::npos);
  CHECK(html.find("396 decisions in 2 windows") != std::string::npos);  // each loses 2 rows
}

TEST_CASE("report: is written whole, and a directory that is not there is an error") {
  const Report report = report_on(random_market({40}), "small");
  const auto directory = std::filesystem::temp_directory_path() / "ristretto_test_report";
  std::filesystem::create_directories(directory);
  write_report(directory / "report.html", report);
  CHECK(read_file(directory / "report.html") == html_of(report));
  CHECK_THROWS_AS(write_report(directory / "absent" / "report.html", report), Error);
  std::filesystem::remove_all(directory);
}

TEST_CASE("chart: the axis is logarithmic where values span several times, and says so") {
  const env::Market market = random_market({50});
  const Backtest run = hold(market, layout_of(market), rules_of(market), {1, 0, 0});
  std::vector<double> steep(run.value.size());
  for (std::size_t k = 0; k < steep.size(); ++k) steep[k] = 500 * std::exp(0.1 * static_cast<double>(k + 1));
  const LineChart chart{"label", "value", 300, Scale::automatic, false};
  const std::string log = line_chart(run, {{"steep", "agent", steep, 500, false}}, chart);
  CHECK(log.find("value (log scale)") != std::string::npos);
  CHECK(log.find(">50,000<") != std::string::npos);
  CHECK(line_chart(run, {{"flat", "agent", run.value, 500, false}}, chart).find("log scale") == std::string::npos);
}

TEST_CASE("chart: a line of many bars keeps its extremes and breaks at gaps") {
  const env::Market market = random_market({3000, 3000});
  const Backtest run = hold(market, layout_of(market), rules_of(market), {1, 0, 0});
  std::vector<double> spikes(run.value.size(), 1.0);
  spikes[1234] = 3;
  spikes[4321] = 0;
  const LineChart chart{"label", "value", 228, Scale::linear, false};
  const std::string svg = line_chart(run, {{"spikes", "agent", spikes, 1, false}}, chart);
  // Plot from y = 24 to 200 for -0.09 .. 3.09.
  const auto y = [](double value) { return fixed(200 - (value + 0.09) / 3.18 * 176, 1); };
  CHECK(svg.find(str(" ", y(3))) != std::string::npos);
  CHECK(svg.find(str(" ", y(0))) != std::string::npos);
  const std::size_t line = svg.find("class=\"line agent\"");
  REQUIRE(line != std::string::npos);
  CHECK(count(svg.substr(line, svg.find("/>", line) - line), "M") == 2);
  CHECK(svg.size() < 60000);
}

TEST_CASE("chart: an account that never moves has a chart all the same") {
  const env::Market market = random_market({50});
  const Backtest run = backtest(market, layout_of(market), rules_of(market), [](const env::Observation& seen) {
    return at::zeros({seen.account.size(0), 3});
  });
  const Report report = report_of("still", run, {}, market.assets);
  const std::string html = html_of(report);
  CHECK(html.find("nan") == std::string::npos);
  CHECK(html.find("inf\"") == std::string::npos);
}

TEST_SUITE("slow") {
  // Written to be looked at, with RISTRETTO_REPORT=FILE in the environment.
  TEST_CASE("report: on the example bars it is under two megabytes") {
    const auto bars = env::read_bars(std::string(RISTRETTO_SOURCE) + "/data/crypto_1h", env::default_assets());
    const env::Market market = env::Market::of(bars, env::feature_set("alpaca-11"));
    const Report report = report_on(market, "contrarian, example bars");
    const std::string html = html_of(report);
    CHECK(html.size() < 2'000'000);
    if (const char* file = std::getenv("RISTRETTO_REPORT")) write_report(file, report);
  }
}
