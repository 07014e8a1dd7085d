#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>  // before doctest: it brings a CHECK of its own
#include <ATen/ops/zeros.h>
#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "env/indicators.h"
#include "evaluation/chart.h"
#include "evaluation/costs.h"
#include "evaluation/distribution.h"
#include "evaluation/findings.h"
#include "evaluation/report.h"
#include "evaluation/statistics.h"
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

Findings findings_of(const Backtest& run, const env::Market& market) {
  const env::Rules rules = rules_of(market);
  return {std::nullopt,
          run.time.front(),
          run.time.back(),
          rules,
          attribution_of(run, market),
          regimes_of(run, market),
          cost_stress(market, layout_of(market), rules, contrarian(market)),
          track_record_of(run),
          market.assets};
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
  CHECK(html.find("name=\"viewport\"") != std::string::npos);
  std::size_t at = html.find("<td>this model</td>");
  REQUIRE(at != std::string::npos);
  for (const Reference& reference : report.references) {
    CAPTURE(reference.name);
    CHECK(html.find(str("<td>", reference.name, "</td>")) > at);
    CHECK(html.find(str("<td>", reference.name, "</td>")) != std::string::npos);
  }
  CHECK(count(html, "<svg") == 2 * 4);  // value, drawdown, returns, positions: for a screen and for a phone
  CHECK(count(html, "<svg") == count(html, "</svg>"));
  CHECK(count(html, "class=\"gap\"") == 2 * 3);  // one gap, in three charts
  CHECK(html.find("398 decisions") == std::string::npos);
  CHECK(html.find("396 decisions in 2 windows") != std::string::npos);  // each loses 2 rows
}

TEST_CASE("report: what was served until now is a curve, whatever bars its lookback leaves it") {
  const env::Market market = random_market({90, 60});
  const Backtest mine = backtest(market, layout_of(market), rules_of(market), contrarian(market));
  // It begins two bars later and ends two bars earlier in each window.
  const Backtest other = backtest(market, layout_of(market, 3), rules_of(market, 3), contrarian(market));
  REQUIRE(other.time.size() < mine.time.size());
  std::vector<Reference> references = {{kServedUntilNow, metrics_of(other), other}};
  const std::string alone = html_of(report_of("alone", mine, {}, market.assets));
  CHECK(alone.find("line served") == std::string::npos);
  const std::string html = html_of(report_of("both", mine, references, market.assets));
  CHECK(count(html, "class=\"line served\"") == 2 * 2);  // value and drawdown
  CHECK(html.find("nan") == std::string::npos);
  CHECK(html.find("<td>served until now, a day</td>") != std::string::npos);
}

TEST_CASE("report: gates stand there with verdict, value, threshold and reason") {
  Report report = report_on(random_market({60}), "gates");
  report.gates = {{"seeds", "no evidence", "", "at least 5", "1 seeds <were> trained"},
                  {"loads", "passed", "mlp", "", ""}};
  report.gates_note = "As it was judged.";
  const std::string html = html_of(report);
  CHECK(html.find("<tr class=\"refused\"><td data-label=\"\">seeds</td><td data-label=\"\">no evidence</td>"
                  "<td data-label=\"value\"></td><td data-label=\"passes when\">at least 5</td>"
                  "<td data-label=\"why not\">1 seeds &lt;were&gt; trained</td></tr>") != std::string::npos);
  CHECK(html.find("What has no evidence counts as refused. As it was judged.") != std::string::npos);
}

TEST_CASE("report: findings are facts and tables of it") {
  const env::Market market = random_market({400});
  const Backtest run = backtest(market, layout_of(market), rules_of(market), contrarian(market), true);
  const Findings findings = findings_of(run, market);
  Report report = report_of("findings", run, {}, market.assets);
  report.trades = trades_of(run, market, rules_of(market));
  add(report, findings);
  const std::string html = html_of(report);
  for (const char* part :
       {"<h2>Regimes</h2>", "<h2>Where the returns came from</h2>", "<h2>At higher costs</h2>", "<td>sideways</td>",
        "A Sharpe ratio above 0 would take", "0.25 % of its value (the fee)", "<h2>Trades</h2>", "Bars with a trade"}) {
    CAPTURE(part);
    CHECK(html.find(part) != std::string::npos);
  }
  const auto document = json_of(findings);
  CHECK(document["costs"]["cost_fraction"] == 0.0025);
  CHECK(document["track_record"]["bars"] == run.time.size());
}

TEST_CASE("track record: as long as the returns ask, none for a loss, and nothing is known of what never moves") {
  Backtest run;
  for (int k = 0; k < 400; ++k) run.simple_returns.push_back(k % 2 == 0 ? 0.012 : -0.01);
  const TrackRecord gaining = track_record_of(run);
  const SharpeSample sample = sharpe_sample(run.simple_returns);
  CHECK(gaining.bars == 400);
  CHECK(gaining.needed == minimum_track_record(sample, 0));
  CHECK(gaining.probability.value() == probabilistic_sharpe(sample, 0));
  for (double& r : run.simple_returns) r = -r;
  CHECK_FALSE(track_record_of(run).needed);
  CHECK(track_record_of(run).probability.value() < 0.5);
  run.simple_returns.assign(400, 0);
  CHECK_FALSE(track_record_of(run).needed);
  CHECK_FALSE(track_record_of(run).probability);
}

TEST_CASE("distribution: days are compounded bars, and the numbers are those of the returns") {
  Backtest run;
  const std::int64_t day = 1640995200;
  run.time = {day, day + 3600, day + 86400, day + 3 * 86400};
  run.simple_returns = {0.1, 0.1, -0.2, 0.05};
  const Returns days = returns_by_day(run);
  CHECK(days.time == std::vector<std::int64_t>{day, day + 86400, day + 3 * 86400});
  CHECK(days.simple[0] == doctest::Approx(0.21));
  CHECK(days.simple[1] == doctest::Approx(-0.2));
  const Distribution d = distribution_of(returns_by_bar(run));
  CHECK(d.count == 4);
  CHECK(d.mean == doctest::Approx(0.0125));
  CHECK(d.deviation == doctest::Approx(std::sqrt((2 * 0.0875 * 0.0875 + 0.2125 * 0.2125 + 0.0375 * 0.0375) / 3)));
  CHECK(d.worst == -0.2);
  CHECK(d.worst_time == day + 86400);
  CHECK(d.best == 0.1);
  CHECK(d.fifth_percentile == -0.2);
  CHECK(d.above_zero == 0.75);
  CHECK(d.below_zero == 0.25);
  CHECK(d.skewness == doctest::Approx(sharpe_sample(run.simple_returns).skewness));
}

TEST_CASE("trades: purchases, sales, closed positions and what they earned") {
  env::Market market = random_market({8}, 1);
  const double prices[] = {10, 10, 10, 20, 20, 20, 40, 30};
  for (int k = 0; k < 8; ++k) market.price.mutable_data_ptr<double>()[k] = prices[k];
  env::Rules rules = rules_of(market);
  rules.fee_fraction = 0.01;
  Backtest run;
  run.initial_capital = 1000;
  run.windows = {{0, 8}};
  run.first_bar = {0};
  run.orders = 5;
  run.time.assign(market.time.begin() + 1, market.time.end());
  run.value.assign(7, 1000);
  CHECK_FALSE(trades_of(run, market, rules));
  run.holdings = at::empty({7, 1}, at::kDouble);
  // Rows 1 to 7: buys 10 at 10, sells 5 at 20 with a profit and the rest too, buys 10 at 20, 10 at 40, sells 5 at 30.
  const double held[] = {10, 10, 5, 0, 10, 20, 15};
  for (int k = 0; k < 7; ++k) run.holdings.mutable_data_ptr<double>()[k] = held[k];
  const Trades trades = trades_of(run, market, rules).value();
  CHECK(trades.orders == 5);
  CHECK(trades.bars == 7);
  CHECK(trades.bars_with_trade == 6);
  CHECK(trades.bought == doctest::Approx(100 + 200 + 400));
  CHECK(trades.sold == doctest::Approx(100 + 100 + 150));
  CHECK(trades.largest_order == doctest::Approx(400));
  CHECK(trades.largest_order_share == doctest::Approx(0.4));
  CHECK(trades.sales == 3);
  CHECK(trades.sales_won == 2);  // 30 a unit, less costs, is less than the mean 30 paid, with costs
  CHECK(trades.round_trips == 1);
  CHECK(trades.round_trips_won == 1);
  CHECK(trades.median_round_trip_bars == 3);
  CHECK(trades.open_positions == 1);
}

TEST_CASE("trades: of a backtest they are what the account traded") {
  const env::Market market = random_market({300, 100});
  const env::Rules rules = rules_of(market);
  const Backtest run = backtest(market, layout_of(market), rules, contrarian(market), true);
  const Trades trades = trades_of(run, market, rules).value();
  CHECK(trades.bought + trades.sold <= run.traded_value * (1 + 1e-9));
  CHECK(trades.bought + trades.sold > 0.9 * run.traded_value);  // a forced sale beside a purchase counts as their sum
  CHECK(trades.bars_with_trade <= trades.bars);
  CHECK(trades.largest_order_share > 0);
  CHECK(trades.largest_order_share < 1);
}

TEST_CASE("chart: a histogram has an edge at 0, holds all, and is narrow where asked") {
  std::vector<double> values(100, 0.001);
  values.insert(values.end(), 100, -0.001);
  values.push_back(5);  // far beyond the axis, in the outermost bar
  for (const Width width : {Width::wide, Width::narrow}) {
    const std::string svg = histogram_chart(values, {}, {"label", "unit", "agent", "hold", width});
    CHECK(svg.find(width == Width::wide ? "0 0 960.0 240" : "0 0 400.0 240") != std::string::npos);
    CHECK(svg.find("class=\"zero\"") != std::string::npos);
    CHECK(svg.find("nan") == std::string::npos);
    CHECK(svg.find("line hold") == std::string::npos);
  }
  CHECK(histogram_chart({0, 0}, {0, 0.1}, {"label", "unit", "agent", "hold"}).find("line hold") != std::string::npos);
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
  const LineChart chart{"label", "value", 300, Scale::automatic, false, Width::wide};
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
  const LineChart chart{"label", "value", 228, Scale::linear, false, Width::wide};
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
    const env::Rules rules = rules_of(market);
    Report report = report_on(market, "contrarian, example bars");
    report.agent.backtest = backtest(market, layout_of(market), rules, contrarian(market), true);
    report.trades = trades_of(report.agent.backtest, market, rules);
    add(report, findings_of(report.agent.backtest, market));
    const Backtest other = backtest(market, layout_of(market, 3), rules_of(market, 3), contrarian(market));
    report.references.insert(report.references.begin(), {kServedUntilNow, metrics_of(other), other});
    report.gates = {{"overfitting", "passed", "0.0312 over 6 trials, slope 0.8, P(loss) 0.1", "at most 0.1", ""},
                    {"against_champion", "refused", "-0.0123 in [-0.2, 0.1], blocks of 3",
                     "all of the 95 % interval above 0", "it may gain no more than the champion"},
                    {"seeds", "no evidence", "", "at least 5; the worst quarter at least 0",
                     "1 seeds were trained, expected at least 5"}};
    const std::string html = html_of(report);
    CHECK(html.size() < 2'000'000);
    if (const char* file = std::getenv("RISTRETTO_REPORT")) write_report(file, report);
  }
}
