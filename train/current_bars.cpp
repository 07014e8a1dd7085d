#include "train/current_bars.h"

#include <cstdint>
#include <optional>

#include "env/bars.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::train {
namespace {

constexpr std::int64_t kLateSeconds = 24 * 3600;  // files are fetched one after another, and rarely traded assets lag

}  // namespace

void require_current_bars(const std::string& directory, const std::vector<std::string>& assets) {
  struct End {
    std::string file;
    std::int64_t time = 0;
  };
  std::optional<End> first, last;
  for (const std::string& asset : assets) {
    const env::Bars bars = env::read_bars(directory, {asset});
    if (bars.time.empty()) continue;
    const End end{env::bars_file(directory, asset).string(), bars.time.back()};
    if (!first || end.time < first->time) first = end;
    if (!last || end.time > last->time) last = end;
  }
  if (!first || last->time - first->time <= kLateSeconds) return;
  throw Error(Fault::incompatible,
              str(first->file, " ends at ", iso_utc(first->time), ", expected about ", iso_utc(last->time), " as in ",
                  last->file),
              "fetch the bars that are missing; only bars that all assets have are used");
}

}  // namespace ristretto::train
