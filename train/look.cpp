#include "train/look.h"

#include <algorithm>
#include <numeric>

#include "env/bars.h"
#include "evaluation/metrics.h"
#include "platform/clock.h"
#include "platform/text.h"
#include "release/sha256.h"
#include "release/versions.h"
#include "train/judge.h"

namespace ristretto::train {

namespace fs = std::filesystem;

std::optional<Look> open_look(const release::Model& model, const env::Market& market, const env::Rules& rules,
                              const std::string& bars) {
  const fs::path version = fs::is_directory(model.path) ? model.path : model.path.parent_path();
  const fs::path versions = version.parent_path(), all = versions.parent_path();
  if (!model.manifest || all.filename() != release::kVersions) return std::nullopt;
  const std::string name = versions.filename().string();
  const fs::path deployments = all.parent_path();
  if (release::VersionStore(deployments).served(name) == version.filename().string()) return std::nullopt;
  const auto unseen = release::unseen_from(model);
  if (!unseen) return std::nullopt;
  const std::int64_t from =
      std::max(*unseen, release::time_at(*model.manifest, "/data/splits/holdout/last_bar").value_or(*unseen - 1) + 1);
  release::Opening opening;
  const env::Market seen = market.between(from, {});
  if (seen.segments.empty()) return std::nullopt;
  opening.bars = seen.bars_in_segments();
  opening.first_bar = seen.time[static_cast<std::size_t>(seen.segments.front().begin)];
  opening.last_bar = seen.time[static_cast<std::size_t>(seen.segments.back().end - 1)];
  opening.candidate = release::text_at(*model.manifest, "/training/candidate").value_or(version.filename().string());
  opening.question_sha256 = release::sha256(str(release::actor_hash(model.actor), release::section_of(rules).dump()));
  opening.data_sha256 = release::sha256(files_section(bars, market.assets).dump());
  opening.purpose = release::kEvaluation;
  Look look{release::Ledger(deployments, name)};
  look.number = look.ledger.open(opening);
  return look;
}

void conclude(Look& look, const evaluation::Backtest& backtest) {
  const std::vector<double>& returns = backtest.log_returns;
  look.ledger.conclude(look.number, {evaluation::metrics_of(backtest).sharpe,
                                     std::accumulate(returns.begin(), returns.end(), 0.0), "evaluated"});
}

}  // namespace ristretto::train
