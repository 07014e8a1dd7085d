// Does a converted network do what the old one did? Both run over the same bars, each with its own observation and its
// own account (algorithms.md 6, "Gate").
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

#include "env/market.h"
#include "env/step.h"
#include "release/manifest.h"
#include "release/surgery.h"

namespace ristretto::release {

inline constexpr double kConvertedTolerance = 1e-5;    // of actions in [-1, 1], float32 (algorithms.md 6)
inline constexpr std::int64_t kProofBars = 10'000;     // at least
inline constexpr std::int64_t kProofProbeStates = 16;  // kept for the manifest's probe

struct ConversionProof {
  std::int64_t bars = 0, windows = 0;
  std::int64_t first_time = 0, last_time = 0;  // of the bars decided, seconds since 1970, UTC
  // Largest difference of an action: of the two networks at the old one's states, and of the two runs.
  double state_difference = 0, action_difference = 0;
  std::int64_t orders_before = 0, orders_after = 0;
  // Pairs of bar and asset at which only one of the two traded, in another direction or, beyond kConvertedTolerance of
  // the largest order, another quantity.
  std::int64_t differing_trades = 0;
  double value_difference = 0;  // largest of the account's value, as a fraction of it
  at::Tensor states;            // [kProofProbeStates, S'] of the new network's run, float32

  bool identical() const {
    return state_difference <= kConvertedTolerance && action_difference <= kConvertedTolerance &&
           orders_before == orders_after && differing_trades == 0;
  }
};

// One side: a network, folded, that reads observations of `layout`.
struct Side {
  agents::Architecture architecture;
  ft_transformer::Weights actor;
  env::Rules rules;
};

// whole: the bars of both layouts' assets with the features of both. The windows are those of the longer lookback, so
// that both begin and end at the same bars, with the same reference prices; an FT-Transformer's are pieces of 512
// bars or more, side by side, each with its own account. Throws Error(usage) where they hold fewer than kProofBars
// bars.
ConversionProof prove(const Mapping& mapping, const Side& before, const Side& after, const env::Market& whole);

Json json_of(const ConversionProof& proof);
// "19,567 bars: actions differ by at most 2.1e-07, 812 trades, all the same".
std::string text_of(const ConversionProof& proof);

}  // namespace ristretto::release
