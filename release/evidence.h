// Evidence gates: what a version must pass to replace one that passed them itself (algorithms.md 4; deployments.md,
// "Served, proven, unproven"). They judge returns and nothing else, wherever these are from.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "evaluation/statistics.h"
#include "release/gates.h"

namespace ristretto::release {

// All that the gates compare with; the rows of threshold_table() say what each is.
struct Thresholds {
  double overfitting_maximum = 0.10;
  double overfitting_blocks = 16;
  double deflated_sharpe_minimum = 0.95;
  double confidence = 0.95;
  double replicates = 10'000;
  double drawdown_ratio_maximum = 1.1;
  double costs_1x_minimum = 0;
  double costs_2x_minimum = 0;
  double costs_3x_minimum = 0;
  double seeds_minimum = 5;
  double worst_seeds_minimum = 0;
  double data_age_days_maximum = 7;
  double bars_minimum = 250;
};

struct ThresholdRow {
  const char* name;  // in gates.ini
  double Thresholds::*member;
  double least, most;  // that it may be, both included
  bool whole;          // a whole number
  const char* help;
};
const std::vector<ThresholdRow>& threshold_table();

// The defaults, and in their place what the INI file has: lines `name = value`; `;` or `#` begins a comment, [sections]
// are not needed. Throws Error(usage) naming the line for a name that the table has not (with the nearest one), one
// given twice, and a value out of its range; Error(failed) where the file cannot be read.
Thresholds read_thresholds(const std::filesystem::path& gates_ini);

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
