#include <ATen/ops/empty.h>  // before doctest: it brings a CHECK of its own
#include <doctest/doctest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "env/indicators.h"
#include "evaluation/splits.h"
#include "platform/error.h"
#include "random_market.h"

using namespace ristretto;
using namespace ristretto::evaluation;
using tests::random_market;

namespace {

using Segments = std::vector<env::Segment>;

// Features with a warm-up of 33 rows, as served models have; the splits read their names only.
env::Market with_warm_up(env::Market market) {
  market.features = {"close", "macd"};
  return market;
}

}  // namespace

TEST_CASE("splits: the combinatorial purged splits and path ids are skfolio's") {
  std::ifstream file(std::string(RISTRETTO_GOLDEN) + "/algorithms/cpcv_skfolio.json");
  const auto cases = nlohmann::json::parse(file);
  REQUIRE(cases.size() == 6);
  for (const auto& golden : cases) {
    CAPTURE(golden["n"].get<int>());
    const auto splits =
        combinatorial_purged_splits(golden["n"], golden["folds"], golden["test"], golden["purge"], golden["embargo"]);
    REQUIRE(splits.size() == golden["n_splits"].get<std::size_t>());
    std::set<std::int64_t> paths;
    for (std::size_t s = 0; s < splits.size(); ++s) {
      const auto& expected = golden["splits"][s];
      CHECK(splits[s].paths == golden["path_ids"][s].get<std::vector<std::int64_t>>());
      paths.insert(splits[s].paths.begin(), splits[s].paths.end());
      if (expected.contains("train")) {
        CHECK(splits[s].train == expected["train"].get<std::vector<std::int64_t>>());
        CHECK(splits[s].tests == expected["tests"].get<std::vector<std::vector<std::int64_t>>>());
      } else {
        CHECK(splits[s].train.size() == expected["train_len"].get<std::size_t>());
        CHECK(std::accumulate(splits[s].train.begin(), splits[s].train.end(), std::int64_t{0}) ==
              expected["train_sum"].get<std::int64_t>());
      }
    }
    CHECK(paths.size() == golden["n_paths"].get<std::size_t>());
  }
}

TEST_CASE("splits: every combinatorial path tests every bar once") {
  constexpr std::int64_t kBars = 43;
  const auto splits = combinatorial_purged_splits(kBars, 5, 3, 2, 1);
  std::vector<std::vector<int>> tested(6, std::vector<int>(kBars));
  for (const PurgedSplit& split : splits) {
    for (std::size_t j = 0; j < split.tests.size(); ++j) {
      for (const std::int64_t bar : split.tests[j]) ++tested.at(split.paths[j])[bar];
    }
  }
  for (const auto& path : tested) CHECK(path == std::vector<int>(kBars, 1));
}

TEST_CASE("splits: walk-forward trains on what came before, as scikit-learn's TimeSeriesSplit") {
  std::ifstream file(std::string(RISTRETTO_GOLDEN) + "/algorithms/walk_forward_sklearn.json");
  const auto cases = nlohmann::json::parse(file)["cases"];
  REQUIRE(cases.size() == 4);
  for (const auto& golden : cases) {
    const std::int64_t gap = golden["gap"];
    CAPTURE(golden["n"].get<int>());
    const auto splits = walk_forward_splits(golden["n"], golden["tests"], gap / 2, gap - gap / 2);
    REQUIRE(splits.size() == golden["splits"].size());
    for (std::size_t s = 0; s < splits.size(); ++s) {
      CHECK(splits[s].train == golden["splits"][s]["train"].get<std::vector<std::int64_t>>());
      REQUIRE(splits[s].tests.size() == 1);
      CHECK(splits[s].tests[0] == golden["splits"][s]["test"].get<std::vector<std::int64_t>>());
      CHECK(splits[s].paths == std::vector<std::int64_t>{0});
    }
  }
  CHECK_THROWS_AS(walk_forward_splits(10, 0, 0, 0), Error);
  CHECK_THROWS_AS(walk_forward_splits(3, 3, 0, 0), Error);
  CHECK_THROWS_AS(walk_forward_splits(20, 3, 3, 2), Error);  // the first training would be empty
  CHECK_THROWS_AS(walk_forward_splits(20, 3, 3, -1), Error);
}

TEST_CASE(
    "splits: one test group is purged k-fold: every bar is tested once, by a training on all others that are apart") {
  const auto splits = combinatorial_purged_splits(23, 4, 1, 1, 2);
  REQUIRE(splits.size() == 4);
  CHECK(splits[1].tests == std::vector<std::vector<std::int64_t>>{{5, 6, 7, 8, 9}});
  CHECK(splits[1].train == std::vector<std::int64_t>{0, 1, 2, 3, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22});
  std::vector<std::int64_t> tested;
  for (const auto& split : splits) tested.insert(tested.end(), split.tests[0].begin(), split.tests[0].end());
  std::vector<std::int64_t> all(23);
  std::iota(all.begin(), all.end(), 0);
  CHECK(tested == all);
}

TEST_CASE("splits: impossible combinatorial settings are refused") {
  CHECK_THROWS_AS(combinatorial_purged_splits(10, 4, 4, 0, 0), Error);
  CHECK_THROWS_AS(combinatorial_purged_splits(3, 4, 2, 0, 0), Error);
  CHECK_THROWS_AS(combinatorial_purged_splits(10, 4, 0, 0, 0), Error);
  CHECK_THROWS_AS(combinatorial_purged_splits(10, 4, 2, -1, 0), Error);
}

TEST_CASE(
    "splits: by time, a boundary purges the lookback and the warm-up of the features behind it, and an embargo before "
    "the hold-out") {
  const env::Market market = with_warm_up(random_market({400, 600}));
  const int lookback = 3;
  REQUIRE(env::warm_up_rows(market.features) == 33);
  const Splits splits = split_by_time(market, lookback, {});
  CHECK((splits.train.market.segments == Segments{{0, 400}, {400, 700}}));
  CHECK((splits.validation.market.segments == Segments{{700 + 35, 850}}));
  CHECK((splits.holdout.market.segments == Segments{{850 + 35 + kEmbargoBars, 1000}}));
  CHECK(splits.purged_bars == 70 + kEmbargoBars);
  CHECK(splits.train.first_time == market.time.front());
  CHECK(splits.train.last_time == market.time[699]);
  CHECK(splits.validation.first_time == market.time[735]);
  CHECK(splits.holdout.last_time == market.time.back());
  CHECK(splits.train.market.price.data_ptr() == market.price.data_ptr());
}

TEST_CASE("splits: a boundary on a gap purges nothing, since no indicator reaches across") {
  const Splits splits = split_by_time(with_warm_up(random_market({700, 150, 150})), 1, {});
  CHECK((splits.train.market.segments == Segments{{0, 700}}));
  CHECK((splits.validation.market.segments == Segments{{700, 850}}));
  CHECK((splits.holdout.market.segments == Segments{{850, 1000}}));
  CHECK(splits.purged_bars == 0);
}

TEST_CASE("splits: a date pins the hold-out, and the fractions share the rest in their proportion") {
  const env::Market market = with_warm_up(random_market({500, 500}));
  SplitSettings settings;
  settings.train_fraction = 0.6;
  settings.validation_fraction = 0.2;
  settings.holdout_from = market.time[800];
  const Splits splits = split_by_time(market, 1, settings);
  CHECK((splits.train.market.segments == Segments{{0, 500}, {500, 600}}));
  CHECK((splits.validation.market.segments == Segments{{633, 800}}));
  CHECK((splits.holdout.market.segments == Segments{{833 + kEmbargoBars, 1000}}));
  settings.holdout_from = market.time[800] - 1;  // between two bars
  CHECK(split_by_time(market, 1, settings).holdout.first_time == market.time[833 + kEmbargoBars]);
}

TEST_CASE("splits: a part without one step, and impossible settings, are errors of usage that say so") {
  const env::Market market = with_warm_up(random_market({1000}));
  const auto message = [&](int lookback, const SplitSettings& settings, const env::Market& on) {
    try {
      split_by_time(on, lookback, settings);
    } catch (const Error& error) {
      CHECK(error.fault() == Fault::usage);
      return std::string(error.what());
    }
    return std::string("no error");
  };
  SplitSettings late;
  late.holdout_from = market.time[990];
  CHECK(message(1, late, market).find("the holdout part has 0 bars") == 0);
  late.holdout_from = market.time.back() + 3600;
  CHECK(message(1, late, market).find("leaves 1000 of 1000 bars") != std::string::npos);
  CHECK(message(1, {}, with_warm_up(random_market({60}))).find("the validation part has 0 bars") == 0);
  CHECK(message(1, {0.9, 0.1, {}}, market).find("below 1") != std::string::npos);
  CHECK(message(1, {0.9, -0.1, {}}, market).find("below 1") != std::string::npos);
}

TEST_CASE("splits: bars by number make segments that join across neither a gap nor a removed block") {
  const env::Market market = random_market({10, 10});
  CHECK((with_bars(market, {0, 1, 2, 5, 6, 8, 9, 10, 11, 19}).segments ==
         Segments{{0, 3}, {5, 7}, {8, 10}, {10, 12}, {19, 20}}));
  // Numbers count the bars of the segments, which need not begin at row 0.
  const env::Market later = market.with_segments({{4, 8}, {12, 20}});
  CHECK((with_bars(later, {0, 3, 4, 5, 11}).segments == Segments{{4, 5}, {7, 8}, {12, 14}, {19, 20}}));
}
