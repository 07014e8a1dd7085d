// What a candidate was chosen among, on the disk; and series of several backtests on the bars they share.
#include <algorithm>

#include "platform/atomic_file.h"
#include "platform/error.h"
#include "platform/text.h"
#include "train/judge.h"

namespace ristretto::train {
namespace {

using release::Json;

constexpr int kEvidenceFormat = 1;

Json json_of(const std::vector<TimedReturns>& series) {
  Json out = Json::array();
  for (const TimedReturns& one : series) out.push_back({{"time", one.time}, {"returns", one.returns}});
  return out;
}

std::vector<TimedReturns> series_of(const Json& json) {
  std::vector<TimedReturns> out;
  for (const Json& one : json) {
    out.push_back({one.at("time").get<std::vector<std::int64_t>>(), one.at("returns").get<evaluation::Series>()});
    const std::vector<std::int64_t>& time = out.back().time;
    if (time.size() != out.back().returns.size() || !std::is_sorted(time.begin(), time.end())) {
      throw std::out_of_range("a series whose bars are not in order, or not as many as its returns");
    }
  }
  return out;
}

}  // namespace

TimedReturns returns_of(const evaluation::Backtest& backtest) { return {backtest.time, backtest.simple_returns}; }

std::vector<std::int64_t> common_bars(const std::vector<const TimedReturns*>& series) {
  if (series.empty()) return {};
  std::vector<std::int64_t> bars = series[0]->time;
  for (const TimedReturns* other : series) {
    std::vector<std::int64_t> both;
    std::set_intersection(bars.begin(), bars.end(), other->time.begin(), other->time.end(), std::back_inserter(both));
    bars = std::move(both);
  }
  return bars;
}

evaluation::Series returns_at(const TimedReturns& series, const std::vector<std::int64_t>& bars) {
  evaluation::Series out;
  out.reserve(bars.size());
  for (const std::int64_t bar : bars) {
    const auto found = std::lower_bound(series.time.begin(), series.time.end(), bar);
    out.push_back(series.returns[static_cast<std::size_t>(found - series.time.begin())]);
  }
  return out;
}

void write_background(const std::filesystem::path& path, const Background& background) {
  const Json document = {{"format", kEvidenceFormat},
                         {"seeds", json_of(background.seeds)},
                         {"trials", json_of(background.trials)},
                         {"trial_count", background.trial_count},
                         {"studies", release::json_of(background.studies)},
                         {"trial_sharpes", background.trial_sharpes}};
  write_file_atomically(path, release::line_of(document) + "\n");
}

std::optional<Background> read_background(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) return std::nullopt;
  try {
    const Json document = Json::parse(read_file(path));
    if (document.at("format") != kEvidenceFormat) {
      throw Error(Fault::incompatible, str(path.string(), " is of format ", release::line_of(document.at("format")),
                                           ", expected ", kEvidenceFormat));
    }
    return Background{series_of(document.at("seeds")), series_of(document.at("trials")),
                      document.at("trial_count").get<std::int64_t>(),
                      release::studies_of(document.value("studies", Json::array())),
                      document.at("trial_sharpes").get<std::vector<double>>()};
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    throw Error(Fault::incompatible, str(path.string(), " is damaged: ", error.what()), "remove it: it is optional");
  }
}

}  // namespace ristretto::train
