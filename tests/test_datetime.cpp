#include "optuna_files.h"
#include "studies/datetime.h"

using namespace ristretto;
using namespace ristretto::studies;

TEST_CASE("datetime: texts of every writer are read, others are none") {
  const auto read = [](const char* text) {
    const auto instant = parse_datetime(text, false);
    return instant ? datetime_json(instant).text : "none";
  };
  CHECK(read("2026-11-21 07:16:24.045797") == "2026-11-21 07:16:24.045797");
  CHECK(read("2026-11-21T07:16:24") == "2026-11-21 07:16:24.000000");
  CHECK(read("2026-11-21 07:16:24.5") == "2026-11-21 07:16:24.500000");
  CHECK(read("2026-11-21 07:16:24.123456789") == "2026-11-21 07:16:24.123456");
  CHECK(read("2026-11-21") == "2026-11-21 00:00:00.000000");
  CHECK(read("2026-11-21 07:16:24Z") == "2026-11-21 07:16:24.000000");
  CHECK(read("2026-11-21 07:16:24.25+09:00") == "2026-11-20 22:16:24.250000");
  CHECK(read("2026-11-21 07:16:24-0330") == "2026-11-21 10:46:24.000000");
  for (const char* text : {"", "2026", "2026-13-01", "2026-02-30", "2026-11-21 24:00:00", "2026-11-21 07:16",
                           "2026-11-21 07:16:24.", "2026-11-21 07:16:24 x", "2026-11-21 07:16:24+9"}) {
    INFO(text);
    CHECK(std::string(read(text)) == "none");
  }
}
