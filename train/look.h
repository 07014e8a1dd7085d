// Looks at bars that judge candidates, outside of judging (algorithms.md 3.0): evaluate's. Whoever looks at many
// versions and promotes the best has chosen by those bars, so each look stands in the ledger.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "evaluation/backtest.h"
#include "release/deployment.h"
#include "release/ledger.h"

namespace ristretto::train {

struct Look {
  release::Ledger ledger;
  std::int64_t number = 0;  // in the ledger
};

// Opens one, before the backtest, where `market` has bars that a version neither had in its training nor was judged on
// before. Nothing for what is no version, for the version that is served (watching it chooses nothing), and where
// nothing says which bars trained it. `rules`: money and costs. `bars`: the directory of the market's files. Throws as
// Ledger does.
std::optional<Look> open_look(const release::Model& model, const env::Market& market, const env::Rules& rules,
                              const std::string& bars);
// After it.
void conclude(Look& look, const evaluation::Backtest& backtest);

}  // namespace ristretto::train
