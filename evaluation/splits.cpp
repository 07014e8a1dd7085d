#include "evaluation/splits.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <numeric>

#include "env/indicators.h"
#include "env/step_batch.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::evaluation {
namespace {

// The rows of `segment` whose number over all segments lies in [begin, end); `before` bars come before the segment.
env::Segment overlap(const env::Segment& segment, std::int64_t before, std::int64_t begin, std::int64_t end) {
  return {segment.begin + std::clamp<std::int64_t>(begin - before, 0, segment.size()),
          segment.begin + std::clamp<std::int64_t>(end - before, 0, segment.size())};
}

// Bars numbered [begin, end), without the first `purge` of a segment that the boundary at `begin` cuts.
Split part(const std::string& name, const env::Market& market, std::int64_t begin, std::int64_t end, std::int64_t purge,
           int lookback, std::int64_t& purged_bars) {
  std::vector<env::Segment> chosen;
  std::int64_t before = 0, bars = 0, longest = 0;
  for (const env::Segment& segment : market.segments) {
    env::Segment rows = overlap(segment, before, begin, end);
    if (rows.size() > 0 && rows.begin > segment.begin) {
      const std::int64_t dropped = std::min(purge, rows.size());
      purged_bars += dropped;
      rows.begin += dropped;
    }
    if (rows.size() > 0) chosen.push_back(rows);
    bars += rows.size();
    longest = std::max(longest, rows.size());
    before += segment.size();
  }
  const std::int64_t smallest = env::smallest_window(lookback);
  if (longest < smallest) {
    throw Error(Fault::usage,
                str("the ", name, " part has ", bars, " bars, at most ", longest,
                    " of them without a gap, expected at least ", smallest, " for one step with lookback ", lookback),
                "give more bars, or other fractions or another date for the hold-out");
  }
  const std::int64_t first = market.time[chosen.front().begin], last = market.time[chosen.back().end - 1];
  return {name, market.with_segments(std::move(chosen)), first, last};
}

}  // namespace

Splits split_by_time(const env::Market& market, int lookback, const SplitSettings& settings) {
  const double train = settings.train_fraction, validation = settings.validation_fraction;
  if (!(train > 0 && validation > 0 && train + validation < 1)) {
    throw Error(Fault::usage, str("train takes ", train, " and validation ", validation,
                                  " of the bars, expected two positive fractions whose sum is below 1"));
  }
  const std::int64_t bars = market.bars_in_segments();
  std::int64_t train_end, validation_end;
  if (settings.holdout_from) {
    validation_end = market.between({}, settings.holdout_from).bars_in_segments();
    if (validation_end == 0 || validation_end == bars) {
      throw Error(Fault::usage,
                  str("the hold-out begins at ", iso_utc(*settings.holdout_from), ", which leaves ", validation_end,
                      " of ", bars, " bars before it"),
                  "give a date inside the bars");
    }
    train_end = std::llround(static_cast<double>(validation_end) * train / (train + validation));
  } else {
    train_end = std::llround(static_cast<double>(bars) * train);
    validation_end = std::llround(static_cast<double>(bars) * (train + validation));
  }
  const std::int64_t purge = lookback - 1 + env::warm_up_rows(market.features);
  Splits out;
  out.train = part("train", market, 0, train_end, purge, lookback, out.purged_bars);
  out.validation = part("validation", market, train_end, validation_end, purge, lookback, out.purged_bars);
  std::int64_t before = 0;
  for (const env::Segment& segment : market.segments) {
    if (validation_end >= before && validation_end < before + segment.size()) {
      out.holdout_from = market.time[static_cast<std::size_t>(segment.begin + validation_end - before)];
    }
    before += segment.size();
  }
  out.holdout = part("holdout", market, validation_end, bars, purge + kEmbargoBars, lookback, out.purged_bars);
  return out;
}

std::vector<PurgedSplit> combinatorial_purged_splits(std::int64_t bars, int folds, int test_folds, std::int64_t purge,
                                                     std::int64_t embargo) {
  if (!(1 <= test_folds && test_folds < folds && folds <= bars && purge >= 0 && embargo >= 0)) {
    throw Error(Fault::usage,
                str(bars, " bars in ", folds, " groups with ", test_folds, " test groups, purge ", purge,
                    " and embargo ", embargo, ", expected 1 <= test groups < groups <= bars and no negative number"));
  }
  // The last group takes what the division leaves.
  const auto group_begin = [&](int group) { return group == folds ? bars : group * (bars / folds); };
  std::vector<std::int64_t> tested(static_cast<std::size_t>(folds));  // by how many splits so far
  std::vector<bool> chosen(static_cast<std::size_t>(folds));
  std::fill_n(chosen.begin(), test_folds, true);
  std::vector<PurgedSplit> splits;
  do {
    PurgedSplit split;
    std::vector<bool> kept(static_cast<std::size_t>(bars), true);
    for (int group = 0; group < folds; ++group) {
      if (!chosen[group]) continue;
      const std::int64_t begin = group_begin(group), end = group_begin(group + 1);
      std::vector<std::int64_t>& test = split.tests.emplace_back();
      for (std::int64_t bar = begin; bar < end; ++bar) test.push_back(bar);
      split.paths.push_back(tested[group]++);
      const std::int64_t first = std::max<std::int64_t>(0, begin - purge);
      const std::int64_t last = std::min(bars, end + purge + embargo);
      std::fill(kept.begin() + first, kept.begin() + last, false);
    }
    for (std::int64_t bar = 0; bar < bars; ++bar) {
      if (kept[bar]) split.train.push_back(bar);
    }
    splits.push_back(std::move(split));
  } while (std::prev_permutation(chosen.begin(), chosen.end()));
  return splits;
}

std::vector<PurgedSplit> walk_forward_splits(std::int64_t bars, int tests, std::int64_t purge, std::int64_t embargo) {
  const std::int64_t gap = purge + embargo, size = tests >= 1 ? bars / (tests + 1) : 0;
  if (tests < 1 || purge < 0 || embargo < 0 || size < 1 || bars - tests * size <= gap) {
    throw Error(Fault::usage, str(bars, " bars in ", tests, " tests after a training, purge ", purge, " and embargo ",
                                  embargo, ", expected more bars before the first test and no negative number"));
  }
  std::vector<PurgedSplit> splits;
  for (std::int64_t begin = bars - tests * size; begin < bars; begin += size) {
    PurgedSplit split;
    split.train.resize(static_cast<std::size_t>(begin - gap));
    std::iota(split.train.begin(), split.train.end(), std::int64_t{0});
    split.tests.emplace_back(static_cast<std::size_t>(size));
    std::iota(split.tests[0].begin(), split.tests[0].end(), begin);
    split.paths = {0};
    splits.push_back(std::move(split));
  }
  return splits;
}

env::Market with_bars(const env::Market& market, const std::vector<std::int64_t>& bars) {
  assert(std::is_sorted(bars.begin(), bars.end()));
  std::vector<env::Segment> chosen;
  std::int64_t before = 0;
  auto bar = bars.begin();
  for (const env::Segment& segment : market.segments) {
    bool adjacent = false;
    for (; bar != bars.end() && *bar < before + segment.size(); ++bar) {
      const std::int64_t row = segment.begin + *bar - before;
      if (adjacent && chosen.back().end == row) {
        ++chosen.back().end;
      } else {
        chosen.push_back({row, row + 1});
      }
      adjacent = true;
    }
    before += segment.size();
  }
  assert(bar == bars.end());
  return market.with_segments(std::move(chosen));
}

}  // namespace ristretto::evaluation
