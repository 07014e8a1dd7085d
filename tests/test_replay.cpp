#include <doctest/doctest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "evaluation/replay.h"
#include "formats/npz.h"
#include "platform/atomic_file.h"
#include "temporary_directory.h"

using namespace ristretto;
namespace fs = std::filesystem;

namespace {

const fs::path kRecordings = RISTRETTO_GOLDEN "/environment";

}  // namespace

TEST_CASE("replay: every recorded episode of the existing environment, in double and in float") {
  int files = 0;
  for (const auto& entry : fs::directory_iterator(kRecordings)) {
    ++files;
    CAPTURE(entry.path().string());
    for (const at::ScalarType real : {at::kDouble, at::kFloat}) {
      const evaluation::ReplayReport report = evaluation::replay(entry.path(), real);
      CHECK(report.first_difference == "");
      CHECK(report.passed());
      CHECK(report.steps > 100);
      for (const auto& quantity : report.quantities) {
        CAPTURE(quantity.name);
        CHECK(quantity.step >= 0);  // each was compared
        CHECK(quantity.largest <= quantity.tolerance);
      }
    }
  }
  CHECK(files == 11);
}

TEST_CASE("replay: one altered number fails") {
  const formats::NamedArrays recording = formats::read_npz(kRecordings / "plain_lookback1.npz");
  const TemporaryDirectory directory;
  const fs::path copy = directory.path / "copy.npz";
  const auto passes = [&](const formats::NamedArrays& arrays) {
    write_file_atomically(copy, formats::write_npz(arrays));
    return evaluation::replay(copy, at::kDouble).passed();
  };
  CHECK(passes(recording));
  for (const char* name :
       {"price", "tech", "state", "reward", "done", "cash", "stocks", "total_asset", "equal_weight", "fees"}) {
    CAPTURE(name);
    formats::NamedArrays altered = recording;
    for (auto& [found, array] : altered) {
      if (found != name) continue;
      std::vector<double> values = array.as_doubles();
      values[values.size() / 2] += 1;
      array = formats::Array::of_doubles(array.shape, values);
    }
    CHECK_FALSE(passes(altered));
  }
}
