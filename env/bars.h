// Hourly bars of n assets: CSV files to aligned columns with explicit gaps (environment.md, "Market data").
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace ristretto::env {

// Rows [begin, end) of consecutive bars: no gap inside.
struct Segment {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  std::int64_t size() const { return end - begin; }
  bool operator==(const Segment& other) const { return begin == other.begin && end == other.end; }
};

// One asset's file as it stands: columns of equal length, in the file's order.
struct AssetBars {
  std::string asset;  // "BTC/USD"
  std::filesystem::path file;
  std::vector<std::int64_t> time;  // start of the bar, seconds since 1970, UTC
  std::vector<double> open, high, low, close, volume;
};

// n assets on the same bars: those that every asset has, in order of time.
struct Bars {
  std::vector<std::string> assets;
  std::int64_t bar_seconds = 3600;
  std::vector<std::int64_t> time;  // [T]
  std::vector<AssetBars> columns;  // n, each of length T
  std::vector<Segment> segments;   // maximal runs of bars that are bar_seconds apart
};

// A defect of a file; line is 1-based, 0 where it concerns the whole file.
struct BarDefect {
  std::filesystem::path file;
  std::int64_t line = 0;
  std::string text;
};

// "<directory>/BTC_USD.csv" of "BTC/USD".
std::filesystem::path bars_file(const std::filesystem::path& directory, const std::string& asset);

// A file has the columns timestamp,open,high,low,close,volume in any order; further ones are passed over. Timestamps
// are whole seconds since 1970 or ISO 8601, where one without a zone is UTC; all of a file tell their zone in one way.

// Every defect of the directory, which may be missing, and of every asset's file: missing file or column, empty, a line
// with another number of fields, a timestamp that is none, duplicate, out of order, of another zone than the first,
// more than a day in the future or not a multiple of bar_seconds, a price or volume that is no finite number, a price
// of 0 or less, high below low, open or close outside [low, high], negative volume. Where there are none of these: an
// asset that has no bar in common with those before it. Of a file at most 1000 are listed, and a last one, of line 0,
// says how many more there are. Throws Error(usage) for no assets, one named twice, or bar_seconds below 1.
std::vector<BarDefect> check_bars(const std::filesystem::path& directory, const std::vector<std::string>& assets,
                                  std::int64_t bar_seconds = 3600);

// Reads and aligns. Throws Error(incompatible) where check_bars finds anything, naming file and line of the first
// defect and how many more there are.
Bars read_bars(const std::filesystem::path& directory, const std::vector<std::string>& assets,
               std::int64_t bar_seconds = 3600);

// The maximal runs of `time` with steps of exactly bar_seconds.
std::vector<Segment> segments_of(const std::vector<std::int64_t>& time, std::int64_t bar_seconds);

}  // namespace ristretto::env
