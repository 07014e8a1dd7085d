#include "studies/report.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "platform/atomic_file.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/text.h"
#include "studies/importance.h"
#include "studies/report_charts.h"

namespace ristretto::studies {
namespace {

constexpr std::size_t kTableRows = 20, kSlices = 9, kBars = 15;
constexpr std::size_t kFewestLines = 5, kMostLines = 30, kParallelAxes = 7;
constexpr std::size_t kCurves = 200, kBestCurves = 5;

// The look of a backtest's report.
constexpr const char* kStyle = R"(
:root { color-scheme: light dark; --paper: #fcfcfb; --ink: #1c1c1a; --quiet: #6b6a65; --rule: #dddcd6; --mark: #f0efe9;
  --best: #b4451f; --done: #2f6690; --cut: #8a8983; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #161615; --ink: #e9e8e3; --quiet: #9c9b94; --rule: #353431; --mark: #23221f;
    --best: #f08a5d; --done: #7fb2dc; --cut: #8f8e87; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.2rem 1.2rem 4rem; max-width: 70rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { margin: 0; font-size: 1.65rem; line-height: 1.25; overflow-wrap: anywhere; }
h2 { margin: 2.4rem 0 .5rem; font-size: 1.05rem; }
h3 { margin: 0 0 .2rem; font-size: .85rem; overflow-wrap: anywhere; }
p { margin: .3rem 0; color: var(--quiet); max-width: 48rem; overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .6rem; margin: 1.2rem 0 0; }
.facts + p { margin-top: .9rem; }
.facts div { background: var(--mark); border-radius: 6px; padding: .5rem .8rem .6rem; }
.facts dt { font-size: .8rem; color: var(--quiet); }
.facts dd { margin: 0; font-size: 1.3rem; font-weight: 650; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.facts .best dd { color: var(--best); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .32rem .5rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--rule); }
th { font-weight: 600; color: var(--quiet); }
th:first-child, td:first-child { text-align: left; padding-left: .4rem; }
tr.best td { font-weight: 650; background: var(--mark); }
tr.best td:first-child { box-shadow: inset 3px 0 var(--best); }
.params { columns: 20rem; column-gap: 2.5rem; font-size: .9rem; font-variant-numeric: tabular-nums; }
.params div { display: flex; justify-content: space-between; gap: 1rem; border-bottom: 1px solid var(--rule);
  padding: .2rem .1rem; break-inside: avoid; }
.params span { overflow-wrap: anywhere; } .params span:first-child { color: var(--quiet); }
.params span:last-child { text-align: right; }
.bars { display: grid; grid-template-columns: minmax(6rem, max-content) 1fr 3.6rem; gap: .3rem .8rem; align-items: center;
  max-width: 48rem; font-size: .9rem; font-variant-numeric: tabular-nums; }
.bars span { overflow-wrap: anywhere; } .bars b { font-weight: 400; text-align: right; }
.bars i { display: block; height: .8rem; min-width: 1px; background: var(--done); border-radius: 2px; }
.slices { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: 1.2rem 1.4rem; }
svg { display: block; width: 100%; height: auto; }
.wide svg { min-width: 48rem; }
svg text { font-size: 11.5px; fill: var(--quiet); }
.left { text-anchor: end; } .middle { text-anchor: middle; }
svg .name { font-size: 11.5px; font-weight: 600; fill: var(--ink); }
svg .halo { paint-order: stroke; stroke: var(--paper); stroke-width: 3px; }
.grid, .axis { stroke: var(--rule); stroke-width: 1; fill: none; } .axis { stroke: var(--quiet); }
.line { fill: none; stroke-width: 1.4; stroke-linejoin: round; stroke-linecap: round; }
.line.done { stroke: var(--done); opacity: .45; } .line.cut { stroke: var(--cut); opacity: .4; }
.line.best { stroke: var(--best); stroke-width: 2; }
.dots { fill: none; stroke-linecap: round; stroke-width: 5; }
.dots.done { stroke: var(--done); opacity: .6; } .dots.cut { stroke: var(--cut); opacity: .7; }
.dots.best { stroke: var(--best); stroke-width: 10; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; font-size: .85rem; color: var(--quiet); }
.legend i { display: inline-block; width: .8em; height: .8em; border-radius: 50%; margin-right: .4em; }
@media print { body { max-width: none; } h2 { break-after: avoid; } svg { break-inside: avoid; } }
)";

std::string legend(const std::vector<std::pair<const char*, std::string>>& entries) {
  std::string out = "<div class=\"legend\">";
  for (const auto& [colour, name] : entries) {
    out += str("<span><i style=\"background:var(--", colour, ")\"></i>", escaped(name), "</span>");
  }
  return out + "</div>\n";
}

std::string fact(const std::string& name, const std::string& value, const char* css = "") {
  return str("<div class=\"", css, "\"><dt>", escaped(name), "</dt><dd>", escaped(value), "</dd></div>");
}

std::string value_text(const agents::Value& value) {
  const auto* real = std::get_if<double>(&value);
  return real != nullptr ? short_number(*real) : agents::text_of(value);
}

std::string counted(std::size_t count, const char* one, const char* many) {
  return str(with_thousands(static_cast<long long>(count)), " ", count == 1 ? one : many);
}

std::vector<const Trial*> of_state(const Study& study, State state) {
  std::vector<const Trial*> trials;
  for (const Trial& trial : study.trials) {
    if (trial.state == state) trials.push_back(&trial);
  }
  return trials;
}

std::string date_of(const std::optional<Instant>& instant) {
  const auto seconds = std::chrono::floor<std::chrono::seconds>(*instant).time_since_epoch().count();
  const std::string text = iso_utc(seconds);  // 2026-07-13T02:00:00Z
  return str(text.substr(0, 10), " ", text.substr(11, 5), " UTC");
}

std::string opening(const Study& study) {
  std::vector<std::string> directions;
  for (const Direction direction : study.directions) directions.emplace_back(name_of(direction));
  std::string out =
      str("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n",
          "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>", escaped(study.name),
          "</title>\n<style>", kStyle, "</style></head><body>\n<h1>", escaped(study.name), "</h1>\n<p>",
          join(directions, ", "), ": ", counted(study.trials.size(), "trial", "trials"));
  std::optional<Instant> first, last;
  for (const Trial& trial : study.trials) {
    if (trial.started) first = first ? std::min(*first, *trial.started) : *trial.started;
    last = std::max({last, trial.started, trial.completed});
  }
  if (first) out += str(", ", date_of(first), " to ", date_of(last));
  return out + ".</p>\n";
}

std::string counts(const Study& study) {
  std::string out;
  for (const State state : {State::complete, State::pruned, State::fail, State::running, State::waiting}) {
    const std::size_t count = of_state(study, state).size();
    if (count > 0 || state == State::complete) {
      out += fact(name_of(state), with_thousands(static_cast<long long>(count)));
    }
  }
  return out;
}

// Why there is no best trial; nothing where there is one.
std::optional<std::string> obstacle(const Study& study) {
  if (study.directions.size() != 1) {
    return str("This study has ", study.directions.size(),
               " objectives, so no trial is the best one: below are those that no other is better than in all "
               "objectives. The charts of this page are for studies of one objective.");
  }
  if (study.directions[0] == Direction::not_set) {
    return "This study has no direction, so no trial of it is better than another.";
  }
  if (of_state(study, State::complete).empty()) return "No trial is COMPLETE yet, so there is no best one.";
  if (best_trial(study) == nullptr) return "Every COMPLETE trial violates a constraint, so there is no best one.";
  return std::nullopt;
}

std::string parameter_list(const Trial& trial) {
  if (trial.params.empty()) return {};
  std::string out = str("<h2>Parameters of trial ", trial.number, "</h2>\n<div class=\"params\">");
  for (const Parameter& parameter : trial.params) {
    out += str("<div><span>", escaped(parameter.name), "</span><span>", escaped(value_text(parameter.value)),
               "</span></div>\n");
  }
  return out + "</div>\n";
}

std::string best_trials(const Study& study, const std::vector<const Trial*>& trials, bool mark_first) {
  std::vector<std::string> names;
  for (const Trial* trial : trials) {
    for (const Parameter& parameter : trial->params) {
      if (std::find(names.begin(), names.end(), parameter.name) == names.end()) names.push_back(parameter.name);
    }
  }
  std::string out = "<div class=\"wide\"><table><thead><tr><th>trial</th>";
  for (std::size_t k = 0; k < study.directions.size(); ++k) {
    out += study.directions.size() == 1 ? std::string("<th>value</th>") : str("<th>value ", k, "</th>");
  }
  for (const std::string& name : names) out += str("<th>", escaped(name), "</th>");
  out += "</tr></thead><tbody>\n";
  for (const Trial* trial : trials) {
    out += str(mark_first && trial == trials[0] ? "<tr class=\"best\">" : "<tr>", "<td>", trial->number, "</td>");
    for (const double value : trial->values) out += str("<td>", short_number(value), "</td>");
    for (const std::string& name : names) {
      const Parameter* parameter = trial->find_param(name);
      out += str("<td>", parameter != nullptr ? escaped(value_text(parameter->value)) : "–", "</td>");
    }
    out += "</tr>\n";
  }
  return out + "</tbody></table></div>\n";
}

// Sentences on what an axis or a chart leaves out.
std::string left_out(const std::vector<double>& values, const Axis& axis) {
  std::size_t infinite = 0, outside = 0;
  for (const double value : values) {
    if (!std::isfinite(value)) {
      ++infinite;
    } else if (value < axis.low || value > axis.high) {
      ++outside;
    }
  }
  std::string out;
  if (outside > 0) {
    out += str("<p>", counted(outside, "value lies", "values lie"), " beyond the axis, drawn at its end.</p>\n");
  }
  if (infinite > 0)
    out += str("<p>", counted(infinite, "infinite value is", "infinite values are"), " not drawn.</p>\n");
  return out;
}

std::string history(const Study& study, const Axis& axis) {
  History all;
  std::vector<double> values;
  const bool maximize = study.directions[0] == Direction::maximize;
  double best = std::numeric_limits<double>::quiet_NaN();
  for (const Trial& trial : study.trials) {
    if (trial.state == State::pruned) all.pruned.push_back(static_cast<double>(trial.number));
    if (trial.state != State::complete) continue;
    values.push_back(trial.values[0]);
    if (!std::isfinite(trial.values[0])) continue;
    if (feasible(trial)) {
      best = maximize ? std::fmax(best, trial.values[0]) : std::fmin(best, trial.values[0]);
    }
    all.number.push_back(static_cast<double>(trial.number));
    all.value.push_back(trial.values[0]);
    all.best.push_back(best);
  }
  std::vector<std::pair<const char*, std::string>> entries = {{"done", "COMPLETE"}, {"best", "best so far"}};
  if (!all.pruned.empty()) entries.emplace_back("cut", "PRUNED");
  return str("<h2>Values</h2>\n", legend(entries), "<div class=\"wide\">", history_chart(all, axis), "</div>\n",
             left_out(values, axis));
}

std::string importance(const std::vector<Importance>& all) {
  std::string out = "<h2>Importance of the parameters</h2>\n<div class=\"bars\">";
  const double largest = all[0].share;
  for (std::size_t i = 0; i < all.size() && i < kBars; ++i) {
    const double width = largest > 0 ? 100 * all[i].share / largest : 0;
    out += str("<span>", escaped(all[i].name), "</span><i style=\"width:", fixed(width, 1), "%\"></i><b>",
               fixed(100 * all[i].share, 1), " %</b>\n");
  }
  out += "</div>\n";
  if (all.size() > kBars)
    out += str("<p>", counted(all.size() - kBars, "further parameter explains", "further parameters explain"),
               " less.</p>\n");
  return out +
         "<p>Share of the variance of the values that each parameter explains alone, over its whole range, by a random "
         "forest (fANOVA). With few trials it is a rough guess.</p>\n";
}

std::string slices(const std::vector<Importance>& important, const std::vector<const Trial*>& trials, const Trial* best,
                   const Axis& values) {
  std::string out;
  for (std::size_t i = 0; i < important.size() && i < kSlices; ++i) {
    const Axis axis = parameter_axis(important[i].name, trials);
    Slice slice;
    for (const Trial* trial : trials) {
      const std::optional<double> place = place_of(axis, *trial);
      if (!place) continue;
      if (trial == best) slice.best = slice.x.size();
      slice.x.push_back(*place);
      slice.y.push_back(trial->values[0]);
    }
    if (slice.x.empty()) continue;
    out += str("<div><h3>", escaped(axis.name), axis.log ? " (log scale)" : "", "</h3>",
               slice_chart(slice, axis, values), "</div>\n");
  }
  if (out.empty()) return {};
  return str("<h2>Value by parameter</h2>\n<div class=\"slices\">", out, "</div>\n");
}

std::string parallel(const Study& study, const std::vector<Importance>& important) {
  const std::size_t quarter = of_state(study, State::complete).size() / 4;
  const std::vector<const Trial*> trials = top(study, std::clamp(quarter, kFewestLines, kMostLines));
  std::vector<Axis> axes;
  std::vector<double> values;
  for (const Trial* trial : trials) values.push_back(trial->values[0]);
  if (std::none_of(values.begin(), values.end(), [](double value) { return std::isfinite(value); })) return {};
  for (std::size_t i = 0; i < important.size() && i < kParallelAxes; ++i) {
    axes.push_back(parameter_axis(important[i].name, of_state(study, State::complete)));
  }
  axes.push_back(value_axis("value", values));
  std::vector<std::vector<double>> lines;
  for (const Trial* trial : trials) {
    std::vector<double> line;
    for (std::size_t a = 0; a + 1 < axes.size(); ++a) {
      if (const std::optional<double> place = place_of(axes[a], *trial)) line.push_back(*place);
    }
    line.push_back(trial->values[0]);
    if (line.size() == axes.size() && std::isfinite(line.back())) lines.push_back(std::move(line));
  }
  if (lines.size() < 2 || axes.size() < 2) return {};
  return str("<h2>The best ", lines.size(), " trials</h2>\n<div class=\"wide\">", parallel_chart(lines, axes),
             "</div>\n<p>One line a trial; the best one is marked.</p>\n");
}

std::string curves(const Study& study, const std::vector<const Trial*>& best) {
  std::vector<const Trial*> reporting;
  for (const Trial& trial : study.trials) {
    if (!trial.reports.empty()) reporting.push_back(&trial);
  }
  if (reporting.empty()) return {};
  const std::size_t all = reporting.size();
  const auto rank = [&](const Trial* trial) { return std::find(best.begin(), best.end(), trial) - best.begin(); };
  if (all > kCurves) reporting.erase(reporting.begin(), reporting.end() - static_cast<std::ptrdiff_t>(kCurves));
  for (const Trial* trial : best) {
    if (!trial->reports.empty() && std::find(reporting.begin(), reporting.end(), trial) == reporting.end()) {
      reporting.push_back(trial);
    }
  }
  // The best on top, below them what is COMPLETE, then the rest.
  const auto layer = [&](const Trial* trial) {
    return static_cast<std::size_t>(rank(trial)) < best.size() ? 2 : trial->state == State::complete ? 1 : 0;
  };
  std::stable_sort(reporting.begin(), reporting.end(),
                   [&](const Trial* a, const Trial* b) { return layer(a) < layer(b); });
  std::vector<Curve> lines;
  std::vector<double> values;
  std::int64_t last = 1;
  static const char* const kClasses[] = {"cut", "done", "best"};
  for (const Trial* trial : reporting) {
    lines.push_back({trial->reports, kClasses[layer(trial)]});
    for (const Report& report : trial->reports) {
      values.push_back(report.value);
      last = std::max(last, report.step);
    }
  }
  if (std::none_of(values.begin(), values.end(), [](double value) { return std::isfinite(value); })) return {};
  const Axis axis = value_axis("intermediate value", values);
  std::vector<std::pair<const char*, std::string>> entries = {{"done", "COMPLETE"}, {"cut", "PRUNED and others"}};
  if (!best.empty()) entries.insert(entries.begin(), {"best", str("the best ", best.size())});
  std::string out = str("<h2>Intermediate values</h2>\n", legend(entries), "<div class=\"wide\">",
                        curves_chart(lines, {"step", 0, static_cast<double>(last), false, {}}, axis), "</div>\n");
  if (all > kCurves) out += str("<p>The last ", kCurves, " of ", all, " trials with reports and the best.</p>\n");
  if (std::any_of(values.begin(), values.end(), [&](double value) { return value < axis.low || value > axis.high; })) {
    out += "<p>A few values lie beyond the axis, drawn at its end, or are infinite and left out.</p>\n";
  }
  return out;
}

// What needs values on one axis.
std::string charts(const Study& study) {
  std::vector<const Trial*> trials;
  std::vector<double> values;
  for (const Trial* trial : of_state(study, State::complete)) {
    if (!std::isfinite(trial->values[0])) continue;
    trials.push_back(trial);
    values.push_back(trial->values[0]);
  }
  if (trials.empty()) return "<p>No trial has a finite value to draw.</p>\n";
  const Axis axis = value_axis("value", values);
  std::string out = history(study, axis);
  std::vector<Importance> important;
  try {
    important = importances(study);
  } catch (const Error& error) {
    if (error.fault() != Fault::failed) throw;
    out += str("<h2>Importance of the parameters</h2>\n<p>Not known: ", escaped(error.what()), ".</p>\n");
  }
  if (important.empty()) return out;
  out += importance(important);
  std::erase_if(important, [&](const Importance& one) {
    const Axis of = parameter_axis(one.name, trials);
    return of.choices.size() == 1 || (of.choices.empty() && of.low == of.high);
  });
  return out + slices(important, trials, best_trial(study), axis) + parallel(study, important);
}

}  // namespace

std::string html_of(const Study& study) {
  std::string out = opening(study) + "<dl class=\"facts\">";
  const std::optional<std::string> problem = obstacle(study);
  if (!problem) {
    const Trial& best = *best_trial(study);
    out += fact(str("best value, trial ", best.number), short_number(best.values[0]), "best");
  }
  out += counts(study) + "</dl>\n";
  if (problem) out += str("<p>", escaped(*problem), "</p>\n");
  if (study.directions.size() != 1) {
    const bool directed =
        std::find(study.directions.begin(), study.directions.end(), Direction::not_set) == study.directions.end();
    const std::vector<const Trial*> front = directed ? pareto_front(study) : std::vector<const Trial*>{};
    if (!front.empty()) out += "<h2>Trials that none is better than</h2>\n" + best_trials(study, front, false);
    return out + "</body></html>\n";
  }
  if (problem) return out + curves(study, {}) + "</body></html>\n";
  out += parameter_list(*best_trial(study)) + charts(study) + curves(study, top(study, kBestCurves));
  const std::vector<const Trial*> best = top(study, kTableRows);
  out +=
      str("<h2>", best.size() == 1 ? "The best trial" : str("The best ", best.size(), " trials in figures"), "</h2>\n");
  return out + best_trials(study, best, true) + "</body></html>\n";
}

void write_report(const std::filesystem::path& path, const Study& study) {
  write_file_atomically(path, html_of(study));
}

}  // namespace ristretto::studies
