#include "train/record.h"

#include <algorithm>
#include <cmath>

#include "evaluation/costs.h"
#include "evaluation/metrics_table.h"
#include "evaluation/report.h"
#include "platform/clock.h"
#include "platform/text.h"
#include "train/device.h"

namespace ristretto::train {
namespace {

using release::GateResult;
using release::Json;
using release::json_of;

// Not finite (a ratio without a loss) is null: JSON has no such number.
Json number(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

Json study_section(const Resolved& resolved) {
  if (!resolved.trial) return nullptr;
  Json section = {{"storage", resolved.storage},
                  {"name", resolved.study_name},
                  {"trial", resolved.trial->number},
                  {"value", resolved.trial->values.empty() ? Json(nullptr) : number(resolved.trial->values[0])},
                  {"library_version", resolved.library_version},
                  {"generation", resolved.generation ? studies::name_of(*resolved.generation) : ""},
                  {"trials", resolved.trials},
                  {"studies", release::json_of(resolved.studies)}};
  const auto until = chosen_until(resolved);
  section["seen_until"] = until ? Json(iso_utc(*until)) : Json(nullptr);
  for (const studies::Taken& taken : resolved.parameters) {
    section["parameters"][taken.name] = {
        {"value", json_of(taken.value)}, {"status", agents::name_of(taken.status)}, {"applied", taken.applied}};
    if (!taken.note.empty()) section["parameters"][taken.name]["note"] = taken.note;
  }
  return section;
}

std::string verdict_of(const GateResult& gate) {
  return gate.passed ? "passed" : gate.no_evidence ? "no evidence" : "refused";
}

}  // namespace

Json hyperparameters_section(const Settings& settings) {
  Json section;
  for (const agents::Row& row : agents::table()) {
    section[row.name] = {{"value", json_of(agents::get(settings.hyperparameters, row))},
                         {"source", settings.source_of(row.name)}};
  }
  return section;
}

Json making_of(const Resolved& resolved, const Settings& settings) {
  return {{"study", study_section(resolved)},
          {"serving", {{"profile", settings.run.serving}, {"overrides", resolved.overridden}}},
          {"training",
           {{"seed", settings.run.seed},
            {"device", describe(device_of(settings.run.device))},
            {"precision", settings.run.precision},
            {"libtorch", RISTRETTO_LIBTORCH_VERSION},
            {"ristretto", RISTRETTO_VERSION},
            {"git_commit", RISTRETTO_COMMIT}}}};
}

Json manifest_sections(const Contender& contender, const Judgement& judgement, std::size_t contenders,
                       const std::string& label, const std::string& command) {
  const Settings& settings = contender.settings;
  const Outcome& outcome = contender.outcome;
  Json sections = contender.making;
  Json& training = sections.at("training");
  training.update(Json{{"environment_steps", outcome.environment_steps},
                       {"planned_steps", contender.plan.steps},
                       {"iterations", outcome.iterations},
                       {"kept_iteration", outcome.best.iteration},
                       {"optimizer_steps", outcome.optimizer_steps},
                       {"seconds", outcome.seconds},
                       {"ended", outcome.ended},
                       {"relative_weight_change", outcome.weight_change},
                       {"contenders", contenders},
                       {"portfolios", contender.plan.portfolios},
                       {"steps_an_iteration", contender.plan.samples},
                       {"command", command},
                       {"candidate", label},
                       {"run", contender.directory.string()}});
  for (std::size_t k = 0; k < outcome.reward_term_shares.size(); ++k) {
    training["reward_term_shares"][env::kRewardTerms[k]] = outcome.reward_term_shares[k];
  }
  sections["hyperparameters"] = hyperparameters_section(settings);
  sections["data"] = data_section(settings, *contender.data);
  sections["metrics"]["validation"] = evaluation::json_of(evaluation::metrics_of(contender.validated));
  sections["metrics"]["holdout"] = evaluation::json_of(judgement.metrics);
  for (const evaluation::Reference& reference : judgement.references) {
    sections["metrics"]["holdout_references"][reference.name] = evaluation::json_of(reference.metrics);
  }
  if (judgement.champion.backtest) {
    sections["metrics"]["holdout_champion"] = evaluation::json_of(evaluation::metrics_of(*judgement.champion.backtest));
  }
  return sections;
}

std::string text_of(const Judgement& judgement, const Data& data) {
  const evaluation::Split& holdout = data.splits.holdout;
  std::string text = str("\nhold-out, ", iso_utc(holdout.first_time), " to ", iso_utc(holdout.last_time), ", ",
                         judgement.metrics.bars, " bars; look ", judgement.look, " of this name at a hold-out, ",
                         with_thousands(judgement.trials_of_ledger), " trials behind all of them:\n");
  text += str("a trade costs ", evaluation::costs_in_words(data.rules), "\n", evaluation::table_header());
  text += evaluation::table_line("this model", judgement.metrics);
  const Champion& champion = judgement.champion;
  if (champion.backtest)
    text += evaluation::table_line(evaluation::kServedUntilNow, evaluation::metrics_of(*champion.backtest));
  for (const evaluation::Reference& reference : judgement.references)
    text += evaluation::table_line(reference.name, reference.metrics);
  if (!champion.note.empty()) text += str("\nserved until now (", *champion.version, "): ", champion.note, "\n");
  return text;
}

std::string text_of(const std::vector<GateResult>& integrity, const std::vector<GateResult>& evidence) {
  std::string text = "\n";
  const auto add = [&](const char* kind, const std::vector<GateResult>& gates) {
    const auto passed = std::count_if(gates.begin(), gates.end(), [](const GateResult& gate) { return gate.passed; });
    text += str(kind, ": ", passed, " of ", gates.size(), " gates passed\n");
    for (const GateResult& gate : gates) {
      text += str("  ", padded_right(gate.name, 21), padded_right(verdict_of(gate), 12),
                  gate.value.empty() ? "" : str(gate.value, "; "), gate.threshold,
                  gate.passed ? "" : str(": ", gate.reason), "\n");
    }
  };
  add("integrity", integrity);
  add("evidence", evidence);
  return text;
}

std::string text_of(const Ending& ending, const std::filesystem::path& place, const std::filesystem::path& staged) {
  if (ending.served) {
    return str(
        "served: ", place.string(), " -> ", ending.version, ", status ", ending.status, " (", ending.reason, ")\n",
        ending.status == "proven" ? ""
                                  : "        unproven: no statistics stand behind it yet; do not put money on it\n");
  }
  if (ending.version.empty()) {
    return str("refused, not published: ", ending.reason, "\n        the candidate lies in ", staged.string(), "\n");
  }
  return str(ending.as_asked ? "published, not served as asked: " : "refused: ", ending.reason,
             "\n        published as version ", ending.version, "\n");
}

std::string text_of(const Profile& profile) {
  const double total = profile.total();
  std::vector<std::string> parts;
  for (const auto& [phase, seconds] : profile.seconds()) {
    if (seconds >= 0.01 * total) parts.push_back(str(phase, " ", fixed(100 * seconds / total, 0), " %"));
  }
  return str("time: ", duration_text(total), " (", join(parts, ", "), ")");
}

evaluation::Findings findings_of(const Judgement& judgement, const Data& data) {
  const env::Market& market = data.splits.holdout.market;
  const evaluation::Backtest& run = judgement.holdout;
  return {data.splits.holdout_from,
          run.time.front(),
          run.time.back(),
          data.rules,
          evaluation::attribution_of(run, market),
          evaluation::regimes_of(run, market),
          judgement.stress,
          evaluation::track_record_of(run),
          data.layout.assets};
}

void write_report(const std::filesystem::path& path, const std::string& title, const Judgement& judgement,
                  const std::vector<GateResult>& integrity, const Data& data) {
  std::vector<evaluation::Reference> shown = judgement.references;
  if (const auto& champion = judgement.champion.backtest) {
    shown.insert(shown.begin(), {evaluation::kServedUntilNow, evaluation::metrics_of(*champion), *champion});
  }
  evaluation::Report report = evaluation::report_of(title, judgement.holdout, std::move(shown), data.layout.assets);
  report.trades = evaluation::trades_of(judgement.holdout, data.splits.holdout.market, data.rules);
  evaluation::add(report, findings_of(judgement, data));
  for (const auto* gates : {&judgement.evidence, &integrity}) {
    for (const GateResult& gate : *gates) {
      report.gates.push_back({gate.name, verdict_of(gate), gate.value, gate.threshold, gate.reason});
    }
  }
  evaluation::write_report(path, report);
}

}  // namespace ristretto::train
