#include "cli/findings.h"

#include <utility>

#include "evaluation/metrics_table.h"
#include "platform/clock.h"
#include "platform/text.h"

namespace ristretto::cli {
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

std::vector<std::pair<std::string, std::string>> sources_of(const Findings& findings) {
  std::vector<std::pair<std::string, std::string>> facts;
  for (std::size_t i = 0; i < findings.assets.size(); ++i) {
    facts.emplace_back("from " + findings.assets[i], percent(findings.attribution.assets[i]));
  }
  facts.emplace_back("from costs", percent(findings.attribution.costs));
  for (const evaluation::Regime& regime : findings.regimes) {
    facts.emplace_back(
        "while the market went " + regime.name,
        str("log gain ", fixed(regime.log_gain, 4), " against the market's ", fixed(regime.market_log_gain, 4),
            ", Sharpe ", fixed(regime.sharpe, 4), " a bar, ", regime.bars, " bars"));
  }
  for (const evaluation::CostStress& stress : findings.stress) {
    facts.emplace_back(str(stress.costs, " x costs"), str(percent(stress.agent.total_return), ", equal weight ",
                                                          percent(stress.equal_weight.total_return)));
  }
  return facts;
}

}  // namespace

std::vector<std::pair<std::string, std::string>> facts_of(const Findings& findings) {
  std::vector<std::pair<std::string, std::string>> facts{{"seen in training", seen_in_training(findings)}};
  for (auto& fact : sources_of(findings)) facts.push_back(std::move(fact));
  return facts;
}

std::string text_of(const Findings& findings) {
  std::string text = str("\nseen in training: ", seen_in_training(findings),
                         "\n\nsum of simple returns a bar, by where it came from; regimes by the week before\n");
  for (const auto& [name, value] : sources_of(findings)) {
    std::string padded = name;
    padded.resize(36, ' ');
    text += str("  ", padded, value, "\n");
  }
  return text;
}

nlohmann::ordered_json json_of(const Findings& findings) {
  nlohmann::ordered_json out;
  out["unseen_from"] = findings.unseen_from ? nlohmann::ordered_json(iso_utc(*findings.unseen_from)) : nullptr;
  for (std::size_t i = 0; i < findings.assets.size(); ++i) {
    out["attribution"]["assets"][findings.assets[i]] = findings.attribution.assets[i];
  }
  out["attribution"]["costs"] = findings.attribution.costs;
  for (const evaluation::Regime& regime : findings.regimes) {
    out["regimes"][regime.name] = {{"bars", regime.bars},
                                   {"log_gain", regime.log_gain},
                                   {"market_log_gain", regime.market_log_gain},
                                   {"sharpe_per_bar", regime.sharpe}};
  }
  for (const evaluation::CostStress& stress : findings.stress) {
    out["cost_stress"].push_back({{"costs", stress.costs},
                                  {"metrics", evaluation::json_of(stress.agent)},
                                  {"equal_weight", evaluation::json_of(stress.equal_weight)}});
  }
  return out;
}

}  // namespace ristretto::cli
