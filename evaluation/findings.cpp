#include "evaluation/findings.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "evaluation/costs.h"
#include "evaluation/metrics_table.h"
#include "evaluation/statistics.h"
#include "platform/clock.h"
#include "platform/text.h"

namespace ristretto::evaluation {
namespace {

std::string percent(double value) { return str(value < 0 ? "" : "+", fixed(100 * value, 2), " %"); }

// A gain on bars that a model was trained on says nothing of the next ones.
std::string seen_in_training(const Findings& findings) {
  if (!findings.unseen_from)
    return "not known, nothing says which bars trained it: gains may be of bars that it has seen";
  const std::string from = iso_utc(*findings.unseen_from);
  if (findings.first_bar >= *findings.unseen_from) return str("none of these bars (it had those before ", from, ")");
  if (findings.last_bar < *findings.unseen_from) {
    return str("all of these bars (it had those before ", from, "): gains are no forecast");
  }
  return str("the bars before ", from, ": gains there are no forecast (--from ", from, " leaves them out)");
}

std::string needed_in_words(const TrackRecord& record) {
  if (!record.needed) return "more bars than there can be: it is not above 0";
  return str(with_thousands(std::llround(std::ceil(*record.needed))), " bars at 95 % confidence; there are ",
             with_thousands(record.bars));
}

std::string probability_in_words(const TrackRecord& record) {
  return record.probability ? str(fixed(100 * *record.probability, 1), " %") : "none: the returns do not vary";
}

// With the sign that is as wide as a digit.
std::string typeset(const std::string& number) { return number[0] == '-' ? "−" + number.substr(1) : number; }

std::vector<std::pair<std::string, std::string>> lines_of(const Findings& findings) {
  std::vector<std::pair<std::string, std::string>> lines;
  for (std::size_t i = 0; i < findings.assets.size(); ++i) {
    lines.emplace_back("from " + findings.assets[i], percent(findings.attribution.assets[i]));
  }
  lines.emplace_back("from costs", percent(findings.attribution.costs));
  for (const Regime& regime : findings.regimes) {
    lines.emplace_back(
        "while the market went " + regime.name,
        str("log gain ", fixed(regime.log_gain, 4), " against the market's ", fixed(regime.market_log_gain, 4),
            ", Sharpe ", fixed(regime.sharpe, 4), " a bar, ", regime.bars, " bars"));
  }
  for (const CostStress& stress : findings.stress) {
    lines.emplace_back(str(stress.costs, " x costs"), str(percent(stress.agent.total_return), ", equal weight ",
                                                          percent(stress.equal_weight.total_return)));
  }
  lines.emplace_back("a Sharpe ratio above 0 would take", needed_in_words(findings.track_record));
  lines.emplace_back("probability that it is above 0", probability_in_words(findings.track_record));
  return lines;
}

}  // namespace

TrackRecord track_record_of(const Backtest& backtest) {
  TrackRecord record;
  record.bars = static_cast<std::int64_t>(backtest.simple_returns.size());
  const auto [least, most] = std::minmax_element(backtest.simple_returns.begin(), backtest.simple_returns.end());
  if (record.bars < 2 || !(*most > *least)) return record;
  const SharpeSample sample = sharpe_sample(backtest.simple_returns);
  record.needed = minimum_track_record(sample, 0);
  record.probability = probabilistic_sharpe(sample, 0);
  return record;
}

void add(Report& report, const Findings& findings) {
  report.facts.emplace_back("Seen in training", seen_in_training(findings));
  report.facts.emplace_back("A trade costs", costs_in_words(findings.rules));
  report.facts.emplace_back("A Sharpe ratio above 0 would take", needed_in_words(findings.track_record));
  report.facts.emplace_back("Probability that it is above 0", probability_in_words(findings.track_record));

  ReportTable regimes{"Regimes",
                      {"", "bars", "log gain", "the market's", "Sharpe a bar"},
                      {},
                      "A bar's regime is what the mean log price did in the week before it: up or down by more than " +
                          fixed(100 * kRegimeMove, 0) + " %, or sideways."};
  for (const Regime& regime : findings.regimes) {
    regimes.rows.push_back({regime.name, with_thousands(regime.bars), typeset(fixed(regime.log_gain, 4)),
                            typeset(fixed(regime.market_log_gain, 4)), typeset(fixed(regime.sharpe, 4))});
  }
  report.tables.push_back(std::move(regimes));

  ReportTable sources{"Where the returns came from",
                      {"", "sum of simple returns"},
                      {},
                      "What each asset's price did to the share held of it, and what trading cost."};
  for (std::size_t i = 0; i < findings.assets.size(); ++i) {
    sources.rows.push_back({findings.assets[i], typeset(percent(findings.attribution.assets[i]))});
  }
  sources.rows.push_back({"costs", typeset(percent(findings.attribution.costs))});
  report.tables.push_back(std::move(sources));

  ReportTable costs{"At higher costs",
                    {"", "return", "equal weight's"},
                    {},
                    str("A trade costs ", costs_in_words(findings.rules), "; all of it is multiplied.")};
  for (const CostStress& stress : findings.stress) {
    costs.rows.push_back({str(stress.costs, " ×"), typeset(percent(stress.agent.total_return)),
                          typeset(percent(stress.equal_weight.total_return))});
  }
  report.tables.push_back(std::move(costs));
}

std::string text_of(const Findings& findings) {
  std::string text = str("\nseen in training: ", seen_in_training(findings),
                         "\n\nsum of simple returns a bar, by where it came from; regimes by the week before\n");
  for (const auto& [name, value] : lines_of(findings)) {
    std::string padded = name;
    padded.resize(36, ' ');
    text += str("  ", padded, value, "\n");
  }
  return text;
}

nlohmann::ordered_json json_of(const Findings& findings) {
  using Json = nlohmann::ordered_json;
  const auto number = [](const std::optional<double>& value) { return value ? Json(*value) : Json(nullptr); };
  Json out;
  out["unseen_from"] = findings.unseen_from ? Json(iso_utc(*findings.unseen_from)) : nullptr;
  out["costs"] = costs_json(findings.rules);
  for (std::size_t i = 0; i < findings.assets.size(); ++i) {
    out["attribution"]["assets"][findings.assets[i]] = findings.attribution.assets[i];
  }
  out["attribution"]["costs"] = findings.attribution.costs;
  for (const Regime& regime : findings.regimes) {
    out["regimes"][regime.name] = {{"bars", regime.bars},
                                   {"log_gain", regime.log_gain},
                                   {"market_log_gain", regime.market_log_gain},
                                   {"sharpe_per_bar", regime.sharpe}};
  }
  for (const CostStress& stress : findings.stress) {
    out["cost_stress"].push_back(
        {{"costs", stress.costs}, {"metrics", json_of(stress.agent)}, {"equal_weight", json_of(stress.equal_weight)}});
  }
  const TrackRecord& record = findings.track_record;
  out["track_record"] = {{"bars", record.bars},
                         {"minimum_bars", number(record.needed)},
                         {"probability_above_zero", number(record.probability)}};
  return out;
}

}  // namespace ristretto::evaluation
