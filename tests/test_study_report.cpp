#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>
#include <limits>
#include <set>

#include "platform/atomic_file.h"
#include "platform/text.h"
#include "studies/report.h"
#include "studies/report_charts.h"
#include "studies/storage.h"

using namespace ristretto;
using namespace ristretto::studies;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }
std::size_t count_of(const std::string& text, const std::string& part) {
  std::size_t count = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

// Every element is closed, in order; attributes are quoted; no markup in texts; no NaN or infinity among coordinates.
void check_well_formed(const std::string& html) {
  static const std::set<std::string> kVoid = {"meta", "!doctype"};
  std::vector<std::string> open;
  for (std::size_t at = 0; at < html.size();) {
    const std::size_t begin = html.find('<', at);
    const std::string text = html.substr(at, begin - at);
    const bool style = !open.empty() && open.back() == "style";
    if (!style) {
      REQUIRE_MESSAGE(text.find('>') == std::string::npos, text);
      for (std::size_t k = text.find('&'); k != std::string::npos; k = text.find('&', k + 1)) {
        REQUIRE_MESSAGE(text.find(';', k) != std::string::npos, text);
      }
    }
    if (begin == std::string::npos) break;
    const std::size_t end = html.find('>', begin);
    REQUIRE(end != std::string::npos);
    std::string tag = html.substr(begin + 1, end - begin - 1);
    at = end + 1;
    REQUIRE_MESSAGE(count_of(tag, "\"") % 2 == 0, tag);
    CHECK_MESSAGE((!contains(tag, "nan") && !contains(tag, "inf,") && !contains(tag, " inf")), tag);
    if (tag[0] == '/') {
      REQUIRE_MESSAGE((!open.empty() && open.back() == tag.substr(1)), tag);
      open.pop_back();
      continue;
    }
    const std::string name = tag.substr(0, tag.find_first_of(" /"));
    if (!kVoid.contains(name) && !tag.ends_with("/")) open.push_back(name);
  }
  CHECK(open.empty());
  CHECK(!contains(html, "<script"));
  CHECK(!contains(html, "http"));  // nothing is loaded
}

Trial trial_of(std::int64_t number, State state, std::vector<double> values, std::vector<Parameter> params) {
  Trial trial;
  trial.id = trial.number = number;
  trial.state = state;
  trial.values = std::move(values);
  trial.params = std::move(params);
  trial.started = Instant(std::chrono::seconds(1700000000 + 60 * number));
  return trial;
}

const std::string kHostile = "<b>&\"rate\" '\x01</svg>";

// Thirty COMPLETE trials, ten PRUNED, reports, names that want to be markup.
Study study_of(Direction direction) {
  Study study;
  study.name = "<script>alert(1)</script> & co";
  study.directions = {direction};
  const agents::Choices kinds{
      {std::string("<i>"), std::monostate{}, std::string("a \"long\" choice that needs cutting")}};
  for (int i = 0; i < 40; ++i) {
    const double rate = std::pow(10, -6 + (i * 7 % 40) / 10.0);
    const bool pruned = i % 4 == 3;
    study.trials.push_back(trial_of(i, pruned ? State::pruned : State::complete, {std::log10(rate) + i % 3},
                                    {{kHostile, rate, agents::FloatRange{1e-6, 1e-2, 0, true}},
                                     {"layers", std::int64_t{i % 5}, agents::IntRange{0, 4}},
                                     {"kind", kinds.choices[static_cast<std::size_t>(i % 3)], kinds},
                                     {"one", 1.0, agents::FloatRange{1, 1}}}));
    for (int step = 0; step < (pruned ? 2 : 6); ++step) {
      study.trials.back().reports.push_back({10 * step, i == 5 && step == 2 ? std::nan("") : step * 0.1 * i});
    }
  }
  return study;
}

}  // namespace

TEST_CASE("study report: all parts, escaped, in one well-formed file") {
  for (const Direction direction : {Direction::minimize, Direction::maximize}) {
    const Study study = study_of(direction);
    const std::string html = html_of(study);
    check_well_formed(html);
    for (const char* part :
         {"<title>&lt;script&gt;alert(1)&lt;/script&gt; &amp; co</title>", "best value, trial ",
          "<dt>COMPLETE</dt><dd>30</dd>", "<dt>PRUNED</dt><dd>10</dd>", "Importance of the parameters",
          "Value by parameter", "Intermediate values", "The best 7 trials", "The best 20 trials in figures",
          "(log scale)", "&lt;b&gt;&amp;&quot;rate&quot; '?&lt;/svg&gt;", "prefers-color-scheme: dark",
          "width=device-width", "2023-11-14 22:13 UTC"}) {
      CHECK_MESSAGE(contains(html, part), part);
    }
    CHECK(!contains(html, "<i>\""));
    CHECK(count_of(html, "class=\"slice\"") == 3);  // not of the parameter of one value
    CHECK(count_of(html, "<tr class=\"best\">") == 1);
    CHECK(contains(html, str("<tr class=\"best\"><td>", best_trial(study)->number, "</td>")));
    CHECK(html == html_of(study));
  }
}

TEST_CASE("study report: what there is nothing for is left out, with a sentence") {
  Study study;
  study.name = "new";
  study.directions = {Direction::minimize};
  std::string html = html_of(study);
  check_well_formed(html);
  CHECK(contains(html, "No trial is COMPLETE yet"));
  CHECK(contains(html, "MINIMIZE: 0 trials."));
  CHECK(!contains(html, "<svg"));

  study.trials.push_back(trial_of(0, State::running, {}, {{"a", 0.5, agents::FloatRange{0, 1}}}));
  study.trials[0].reports = {{0, 1.0}, {1, 2.0}};
  html = html_of(study);
  check_well_formed(html);
  CHECK(contains(html, "No trial is COMPLETE yet"));
  CHECK(contains(html, "Intermediate values"));

  study.trials.push_back(trial_of(1, State::complete, {3}, {{"a", 0.5, agents::FloatRange{0, 1}}}));
  html = html_of(study);
  check_well_formed(html);
  CHECK(contains(html, "Not known: study 'new' has 1 COMPLETE trials"));
  CHECK(contains(html, "The best trial"));

  study.directions = {Direction::not_set};
  html = html_of(study);
  check_well_formed(html);
  CHECK(contains(html, "has no direction"));

  Study violating = study_of(Direction::minimize);
  for (Trial& trial : violating.trials) {
    Attribute constraints{"constraints", {}};
    constraints.value.kind = formats::Json::Kind::array;
    constraints.value.items.resize(1);
    constraints.value.items[0].kind = formats::Json::Kind::real;
    constraints.value.items[0].real = 1;
    trial.system_attributes.push_back(constraints);
  }
  html = html_of(violating);
  check_well_formed(html);
  CHECK(contains(html, "violates a constraint"));
}

TEST_CASE("study report: several objectives have no best trial, but those that none is better than") {
  Study study = study_of(Direction::minimize);
  study.directions.push_back(Direction::maximize);
  for (Trial& trial : study.trials) trial.values.push_back(static_cast<double>(trial.number % 7));
  const std::string html = html_of(study);
  check_well_formed(html);
  CHECK(contains(html, "This study has 2 objectives, so no trial is the best one"));
  CHECK(contains(html, "Trials that none is better than"));
  CHECK(contains(html, "<th>value 1</th>"));
}

TEST_CASE("study report: infinities and values far off leave the axes readable") {
  Study study = study_of(Direction::minimize);
  study.trials[0].values = {kInfinity};
  study.trials[1].values = {-kInfinity};
  study.trials[2].values = {1e300};
  study.trials[4].reports[1].value = -kInfinity;
  std::string html = html_of(study);
  check_well_formed(html);
  CHECK(contains(html, "2 infinite values are not drawn."));
  CHECK(contains(html, "1 value lies beyond the axis"));
  CHECK(contains(html, "<dd>−∞</dd>"));
  for (Trial& trial : study.trials) {
    if (trial.state == State::complete) trial.values = {-kInfinity};
  }
  html = html_of(study);
  check_well_formed(html);
  CHECK(contains(html, "No trial has a finite value to draw."));
  constexpr double kLargest = std::numeric_limits<double>::max();
  for (Trial& trial : study.trials) trial.values = {trial.number % 2 == 0 ? kLargest : -kLargest};
  check_well_formed(html_of(study));
}

TEST_CASE("study report: ticks stand at round numbers") {
  const auto labels = [](const Axis& axis, std::size_t count) {
    std::vector<std::string> all;
    for (const Axis::Tick& tick : axis.ticks(count)) all.push_back(tick.label);
    return join(all, " ");
  };
  CHECK(labels({"a", 0, 1, false, {}}, 6) == "0 0.2 0.4 0.6 0.8 1");
  CHECK(labels({"a", -13000, 12000, false, {}}, 4) == "−10,000 0 10,000");
  CHECK(labels({"a", 1e-6, 1e-2, true, {}}, 4) == "1e-06 1e-05 0.0001 0.001 0.01");
  CHECK(labels({"a", 64, 700, true, {}}, 4) == "100 200 500");
  CHECK(labels({"a", 3, 3, false, {}}, 4) == "3");
  CHECK(labels({"a", 0, 1, false, {"x", "y"}}, 4) == "x y");
  CHECK(Axis{"a", 1, 100, true, {}}.share(10) == doctest::Approx(0.5));
  CHECK(Axis{"a", 1, 100, true, {}}.share(1000) == 1);
  CHECK(short_number(-0.000123456) == "−0.0001235");
  CHECK(short_number(1234567) == "1,234,567");
}

TEST_CASE("study report: of the example study, in a file") {
  const auto storage = open_storage(RISTRETTO_SOURCE "/data/studies/example.db");
  for (const std::string& name : storage->study_names()) {
    const Study study = storage->read_study(name);
    const std::filesystem::path file =
        std::filesystem::temp_directory_path() / str("ristretto-study-report-", name, ".html");
    write_report(file, study);
    const std::string html = read_file(file);
    std::filesystem::remove(file);
    check_well_formed(html);
    CHECK(contains(html, str("best value, trial ", best_trial(study)->number)));
    CHECK(html.size() < 200000);
  }
}
