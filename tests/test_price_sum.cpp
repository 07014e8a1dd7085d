#include <ATen/ops/tensor.h>
#include <doctest/doctest.h>

#include "train/price_sum.h"

namespace ristretto::train {

TEST_CASE("price_sum: keeps what double precision would lose in another order") {
  env::Market market;
  market.price = at::tensor({9007199254740992.0, 1.0, 1.0, 8.0}, at::kDouble).reshape({2, 2});
  CHECK(price_sum(market, 1) == "sum of prices 9007199254740992");  // 2^53 + 1 is no double
  CHECK(price_sum(market, 2) == "sum of prices 9007199254741002");
}

TEST_CASE("price_sum: texts of the same prices in another order are the same, all others differ") {
  const std::string text = "7 bars, sum of prices 626979354.5781; fee 0";
  CHECK(same_but_for_the_order(text, text));
  CHECK(same_but_for_the_order("7 bars, sum of prices 626979354.5781001; fee 0", text));
  CHECK(same_but_for_the_order("no such", "no such"));
  for (const char* other :
       {"7 bars, sum of prices 626979354.5782; fee 0", "8 bars, sum of prices 626979354.5781; fee 0",
        "7 bars, sum of prices ; fee 0", "7 bars, sum of prices 626979354.5781; fee 1",
        "7 bars, sum of prices 626979354.5781", "no such", ""}) {
    CAPTURE(other);
    CHECK_FALSE(same_but_for_the_order(text, other));
    CHECK_FALSE(same_but_for_the_order(other, text));
  }
}

}  // namespace ristretto::train
