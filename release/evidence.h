// Evidence gates: what a version must pass to replace one that passed them itself (algorithms.md 4; deployments.md,
// "Served, proven, unproven"). They judge returns and nothing else, wherever these are from.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "evaluation/statistics.h"
#include "release/gates.h"
#include "release/thresholds.h"

namespace ristretto::release {

// What is known of a candidate. All returns are simple, per bar and after costs; what is empty is not known.
struct Evidence {
  // Over the same unseen bars, [T] each. Equal weight is bought once and held, as the environment's E is; it stands for
  // buy and hold too.
  evaluation::Series candidate, champion, equal_weight;
  struct CostStress {
    evaluation::Series candidate, equal_weight;  // [T], with all costs multiplied
  };
  CostStress costs_2x, costs_3x;
  std::vector<evaluation::Series> seeds;    // [seeds][T]: the same training from other seeds; the candidate's is one
  std::vector<evaluation::Series> trials;   // [N][bars]: what the candidate was chosen among, over bars of their own
  std::optional<std::int64_t> trial_count;  // every trial there was: the study's, this retrain's, the ledger's
  std::vector<double> trial_sharpes;        // per bar, of as many of these as are known
  std::optional<std::int64_t> last_bar, judged_at;  // seconds since 1970, UTC
  std::optional<std::int64_t> looks;                // of this candidate at the hold-out, by the ledger, with this one
  std::optional<std::string> origin_unknown;        // why these bars may have chosen the hyperparameters
};

// overfitting, deflated_sharpe, against_champion, against_equal_weight, against_cash, drawdown, costs_1x, costs_2x,
// costs_3x, seeds, freshness, holdout; each decides for itself, none throws. One whose evidence is missing, too short
// or not finite has no_evidence set and counts as refused. So the first version of a deployment is never proven: there
// is no champion.
std::vector<GateResult> evidence_gates(const Evidence& evidence, const Thresholds& thresholds = {});

}  // namespace ristretto::release
