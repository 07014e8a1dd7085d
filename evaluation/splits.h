// Which bars may be seen by whom (algorithms.md 3.0), purged cross-validation and walk-forward (3.1).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "env/market.h"

namespace ristretto::evaluation {

// Bars that are dropped beside the purge before what is tested: returns near each other are related though they share
// no row, and what was bought in training may be sold off two days later (algorithms.md 3.1).
inline constexpr std::int64_t kEmbargoBars = 48;

// Shares of all bars, in order of time; what is left is the hold-out.
struct SplitSettings {
  double train_fraction = 0.70;
  double validation_fraction = 0.15;
  // Seconds since 1970, UTC: the hold-out is the bars from here on, and the two fractions share the bars before in
  // their proportion.
  std::optional<std::int64_t> holdout_from;
};

struct Split {
  std::string name;             // "train", "validation", "holdout"
  env::Market market;           // the same tables, with this part's segments only
  std::int64_t first_time = 0;  // of its first and last bar, seconds since 1970, UTC
  std::int64_t last_time = 0;
};

struct Splits {
  Split train, validation, holdout;
  // The bar that the hold-out was cut at, before purging: given as SplitSettings::holdout_from it cuts there again.
  std::int64_t holdout_from = 0;
  std::int64_t purged_bars = 0;  // in no part: the rows after the two boundaries, the embargo included
};

// Splits once, by time over all segments. A boundary ends a segment, and lookback - 1 + the features' warm-up rows
// after it are purged, before the hold-out with an embargo of kEmbargoBars; where it falls on a gap nothing reaches
// across and nothing is purged. Throws Error(usage) for impossible settings and for a part in which not one step can be
// made.
Splits split_by_time(const env::Market& market, int lookback, const SplitSettings& settings);

// One split. Bars are numbers 0..n-1, ascending.
struct PurgedSplit {
  std::vector<std::int64_t> train;               // purged and embargoed
  std::vector<std::vector<std::int64_t>> tests;  // the bars of each test group, groups ascending
  std::vector<std::int64_t> paths;               // the backtest path that each test group belongs to
};

// The C(folds, test_folds) splits in lexicographic order of their test groups; they make C(folds-1, test_folds-1)
// paths; one test group is purged k-fold. A training bar is dropped within `purge` bars before a test group and within
// purge + embargo bars after one. Throws Error(usage) unless 1 <= test_folds < folds <= bars.
std::vector<PurgedSplit> combinatorial_purged_splits(std::int64_t bars, int folds, int test_folds, std::int64_t purge,
                                                     std::int64_t embargo);

// `tests` splits: each of the last `tests` of tests + 1 equal groups (the first takes what the division leaves) is
// tested after a training on all bars before it but the last purge + embargo. One path. scikit-learn's TimeSeriesSplit
// with that gap. Throws Error(usage) unless tests >= 1 and every training has a bar.
std::vector<PurgedSplit> walk_forward_splits(std::int64_t bars, int tests, std::int64_t purge, std::int64_t embargo);

// The market with only these bars, which are numbered over its segments in order (0..bars_in_segments()-1) and
// ascending. What is not adjacent, in number or in time, becomes segments of its own: no episode joins across a removed
// block.
env::Market with_bars(const env::Market& market, const std::vector<std::int64_t>& bars);

}  // namespace ristretto::evaluation
