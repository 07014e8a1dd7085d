// Where a run's time goes, by part.
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>
#include <ATen/record_function.h>
#include <doctest/doctest.h>

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "platform/atomic_file.h"
#include "train/trace.h"

namespace ristretto::train {

TEST_CASE("trace: an operator belongs to the innermost part, one of the backward pass to its forward one's") {
  const auto file = std::filesystem::temp_directory_path() / "ristretto_trace.json";
  std::map<std::string, double> seconds;
  double total = 0;
  {
    const Trace trace;
    const at::Tensor a = at::ones({600, 600}).set_requires_grad(true);
    at::Tensor y;
    {
      RECORD_USER_SCOPE("trunk");
      at::Tensor z;
      {
        RECORD_USER_SCOPE("encoder");
        z = at::mm(a, a);
        for (int i = 0; i < 9; ++i) z = at::mm(z, a);
      }
      y = at::mm(z, a).sum();
    }
    y.backward();
    for (const auto& [part, spent] : trace.seconds()) {
      seconds[part] = spent;
      total += spent;
    }
    trace.write(file);
    CHECK(trace.table().find("encoder") != std::string::npos);
  }
  CHECK(seconds["encoder"] > 3 * seconds["trunk"]);  // 10 products to 1, forward and backward
  CHECK(seconds["encoder"] > 0.5 * total);
  const nlohmann::json json = nlohmann::json::parse(read_file(file));
  int backward = 0;
  for (const auto& event : json["traceEvents"]) {
    if (event["name"] == "MmBackward0" && event["cat"] == "encoder") ++backward;
  }
  CHECK(backward == 10);
  std::filesystem::remove(file);
}

TEST_CASE("trace: nothing is recorded after its end, and another can begin") {
  { const Trace first; }
  at::ones({2, 2});
  const Trace second;
  CHECK(second.seconds().size() == 1);  // "other"
}

}  // namespace ristretto::train
