#include "env/bars.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>
#include <string_view>

#include "platform/atomic_file.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::env {
namespace {

constexpr std::size_t kListedDefects = 1000;      // of one file; a file of another kind has one on every line
constexpr std::int64_t kLatestTime = 4102444800;  // 2100-01-01: later ones are milliseconds
constexpr std::int64_t kDay = 86400;              // that clocks may differ by

constexpr std::array<std::string_view, 6> kColumns = {"timestamp", "open", "high", "low", "close", "volume"};
constexpr std::string_view kExpected = "expected the columns timestamp,open,high,low,close,volume";

// Where in a line each of kColumns stands.
struct Header {
  std::array<std::size_t, kColumns.size()> position{};
  std::size_t fields = 0;
};

// A file as far as it could be read; its bars are complete only where there are no defects.
struct FileReading {
  AssetBars bars;
  std::vector<BarDefect> defects;
  std::int64_t unlisted = 0;

  void add(std::int64_t line, std::string text) {
    if (defects.size() < kListedDefects) {
      defects.push_back({bars.file, line, std::move(text)});
    } else {
      ++unlisted;
    }
  }
};

// A piece of a file in a message: short, and nothing that a terminal would act on.
std::string shown(std::string_view text) {
  constexpr std::size_t kLongest = 60;
  std::string out = "\"";
  for (const char c : text.substr(0, kLongest)) out += c >= ' ' && c <= '~' ? c : '?';
  return out + (text.size() > kLongest ? "...\"" : "\"");
}

void split_fields(std::string_view line, std::vector<std::string_view>& fields) {
  fields.clear();
  for (std::size_t begin = 0;;) {
    const std::size_t end = line.find(',', begin);
    fields.push_back(line.substr(begin, end - begin));
    if (end == std::string_view::npos) return;
    begin = end + 1;
  }
}

// Takes the first line off `text`, without its ending.
std::string_view take_line(std::string_view& text) {
  const std::size_t end = text.find('\n');
  std::string_view line = text.substr(0, end);
  text = end == std::string_view::npos ? std::string_view{} : text.substr(end + 1);
  if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
  return line;
}

std::optional<Header> read_header(std::string_view line, FileReading& reading) {
  Header header;
  std::vector<std::string_view> fields;
  split_fields(line, fields);
  header.fields = fields.size();
  bool complete = true;
  for (std::size_t i = 0; i < kColumns.size(); ++i) {
    const auto found = std::find(fields.begin(), fields.end(), kColumns[i]);
    if (found == fields.end()) {
      reading.add(1, str("column ", kColumns[i], " is missing: the header is ", shown(line), ", ", kExpected));
      complete = false;
      continue;
    }
    if (std::find(found + 1, fields.end(), kColumns[i]) != fields.end()) {
      reading.add(1, str("column ", kColumns[i], " stands twice in the header ", shown(line)));
      complete = false;
    }
    header.position[i] = static_cast<std::size_t>(found - fields.begin());
  }
  return complete ? std::optional(header) : std::nullopt;
}

// How a timestamp tells its zone. All of a file must do so in one way, or some of its bars are hours off.
std::string_view zone_of(std::string_view timestamp) {
  constexpr std::size_t kDateLength = 10;
  if (timestamp.find_first_not_of("0123456789") == std::string_view::npos) return "seconds since 1970";
  const std::size_t at = timestamp.find_first_of("Z+-", std::min(kDateLength, timestamp.size()));
  if (at == std::string_view::npos) return "no zone";
  const std::string_view zone = timestamp.substr(at);
  return zone.find_first_of("123456789") == std::string_view::npos ? "UTC" : zone;
}

std::optional<std::int64_t> read_time(std::string_view timestamp) {
  const std::optional<std::int64_t> epoch = parse_number<std::int64_t>(timestamp);
  const std::optional<std::int64_t> time = epoch ? epoch : parse_utc(std::string(timestamp));
  return time && *time >= 0 && *time < kLatestTime ? time : std::nullopt;
}

// Reads line after line, remembering of the last one what the next must agree with.
class LineReader {
 public:
  LineReader(FileReading& reading, const Header& header, std::int64_t bar_seconds)
      : reading_(reading), header_(header), bar_seconds_(bar_seconds) {}

  void read(std::string_view line, std::int64_t number) {
    number_ = number;
    split_fields(line, fields_);
    if (fields_.size() != header_.fields) {
      defect(str("the line has ", fields_.size(), " fields, expected ", header_.fields, " as in the header"));
      return;
    }
    read_timestamp(fields_[header_.position[0]]);
    AssetBars& bars = reading_.bars;
    const double open = read_price(1), high = read_price(2), low = read_price(3), close = read_price(4);
    const double volume = read_number(5);
    if (volume < 0) defect(str("volume is ", volume, ", expected 0 or more"));
    // False where one of them could not be read: that is reported already.
    if (high < low) {
      defect(str("high ", high, " is below low ", low));
    } else {
      if (open < low || open > high) defect(str("open ", open, " is outside low ", low, " to high ", high));
      if (close < low || close > high) defect(str("close ", close, " is outside low ", low, " to high ", high));
    }
    bars.time.push_back(time_);
    bars.open.push_back(open);
    bars.high.push_back(high);
    bars.low.push_back(low);
    bars.close.push_back(close);
    bars.volume.push_back(volume);
  }

 private:
  void defect(std::string text) { reading_.add(number_, std::move(text)); }

  void read_timestamp(std::string_view text) {
    const std::optional<std::int64_t> time = read_time(text);
    if (!time) {
      defect(str("timestamp is ", shown(text),
                 ", expected a time such as 2021-04-04T21:00:00Z or whole seconds since 1970, before 2100"));
      return;
    }
    const std::string_view zone = zone_of(text);
    if (zone_.empty()) zone_ = zone;
    if (zone != zone_) {
      defect(str("timestamp ", shown(text), " is in another time zone (", zone, ") than the first (", zone_, ')'));
    }
    if (*time % bar_seconds_ != 0) {
      defect(str("time ", iso_utc(*time), " is not the start of a bar of ", bar_seconds_, " seconds"));
    }
    if (*time > now_ + kDay) {
      defect(str("time ", iso_utc(*time), " is in the future: this machine's clock reads ", iso_utc(now_)));
    }
    if (*time == time_) defect(str("time ", iso_utc(*time), " is a duplicate of the line before"));
    if (*time < time_) defect(str("time ", iso_utc(*time), " is earlier than ", iso_utc(time_), " above it"));
    time_ = std::max(time_, *time);
  }

  // NaN where it is reported as a defect.
  double read_number(std::size_t column) {
    const std::string_view text = fields_[header_.position[column]];
    const std::optional<double> number = parse_number<double>(text);
    if (number && std::isfinite(*number)) return *number;
    defect(str(kColumns[column], " is ", shown(text), ", expected a finite number"));
    return std::numeric_limits<double>::quiet_NaN();
  }
  double read_price(std::size_t column) {
    const double price = read_number(column);
    if (!(price <= 0)) return price;
    defect(str(kColumns[column], " is ", price, ", expected a price above 0"));
    return std::numeric_limits<double>::quiet_NaN();
  }

  FileReading& reading_;
  const Header& header_;
  std::int64_t bar_seconds_;
  std::vector<std::string_view> fields_;
  std::string_view zone_;   // of the first readable timestamp
  std::int64_t time_ = -1;  // the latest so far
  std::int64_t now_ = now_seconds();
  std::int64_t number_ = 0;  // of the line
};

FileReading read_file_of(const std::filesystem::path& directory, const std::string& asset, std::int64_t bar_seconds) {
  FileReading reading;
  reading.bars.asset = asset;
  reading.bars.file = bars_file(directory, asset);
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(reading.bars.file, ignored)) {
    reading.add(0, str("there is no such file, expected the bars of ", asset));
    return reading;
  }
  const std::string bytes = read_file(reading.bars.file);
  std::string_view text = bytes;
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  if (text.substr(0, kByteOrderMark.size()) == kByteOrderMark) text.remove_prefix(kByteOrderMark.size());
  text = text.substr(0, text.find_last_not_of("\r\n") + 1);
  if (text.empty()) {
    reading.add(0, str("the file is empty, ", kExpected));
    return reading;
  }
  const std::optional<Header> header = read_header(take_line(text), reading);
  if (!header) return reading;
  if (text.empty()) reading.add(0, "the file has a header and no bars");
  LineReader lines(reading, *header, bar_seconds);
  for (std::int64_t number = 2; !text.empty(); ++number) lines.read(take_line(text), number);
  return reading;
}

std::string range_of(const AssetBars& bars) {
  return str(iso_utc(bars.time.front()), " to ", iso_utc(bars.time.back()));
}

// The times that every asset has. Where there are none, a defect of the first file that shares none with those before.
std::vector<std::int64_t> shared_times(std::vector<FileReading>& readings) {
  std::vector<std::int64_t> shared = readings.front().bars.time;
  for (FileReading& reading : readings) {
    std::vector<std::int64_t> both;
    std::set_intersection(shared.begin(), shared.end(), reading.bars.time.begin(), reading.bars.time.end(),
                          std::back_inserter(both));
    if (both.empty()) {
      reading.add(0, str("no bar of ", reading.bars.asset, " (", range_of(reading.bars),
                         ") is one that the assets before it share (", iso_utc(shared.front()), " to ",
                         iso_utc(shared.back()), ')'));
      return {};
    }
    shared = std::move(both);
  }
  return shared;
}

// The rows of `bars` at these times, of which it has all.
AssetBars rows_at(const AssetBars& bars, const std::vector<std::int64_t>& times) {
  AssetBars out;
  out.asset = bars.asset;
  out.file = bars.file;
  out.time = times;
  std::size_t row = 0;
  for (const std::int64_t time : times) {
    while (bars.time[row] != time) ++row;
    out.open.push_back(bars.open[row]);
    out.high.push_back(bars.high[row]);
    out.low.push_back(bars.low[row]);
    out.close.push_back(bars.close[row]);
    out.volume.push_back(bars.volume[row]);
  }
  return out;
}

struct Loaded {
  Bars bars;                       // empty where there are defects
  std::vector<BarDefect> defects;  // at most kListedDefects a file, and a line that counts the others
  std::int64_t defect_count = 0;
};

Loaded load(const std::filesystem::path& directory, const std::vector<std::string>& assets, std::int64_t bar_seconds) {
  if (assets.empty()) throw Error(Fault::usage, "no assets were given, expected at least one such as BTC/USD");
  for (auto asset = assets.begin(); asset != assets.end(); ++asset) {
    if (std::find(asset + 1, assets.end(), *asset) != assets.end()) {
      throw Error(Fault::usage, str("asset ", *asset, " is named twice"));
    }
  }
  if (bar_seconds <= 0) throw Error(Fault::usage, str("a bar has ", bar_seconds, " seconds, expected 1 or more"));

  Loaded loaded;
  if (!std::filesystem::is_directory(directory)) {
    loaded.defects.push_back({directory, 0, "there is no such directory, expected one with a CSV file an asset"});
    loaded.defect_count = 1;
    return loaded;
  }
  std::vector<FileReading> readings;
  for (const std::string& asset : assets) readings.push_back(read_file_of(directory, asset, bar_seconds));
  const bool readable =
      std::all_of(readings.begin(), readings.end(), [](const FileReading& reading) { return reading.defects.empty(); });
  if (readable) loaded.bars.time = shared_times(readings);
  for (FileReading& reading : readings) {
    loaded.defect_count += static_cast<std::int64_t>(reading.defects.size()) + reading.unlisted;
    std::move(reading.defects.begin(), reading.defects.end(), std::back_inserter(loaded.defects));
    if (reading.unlisted > 0) {
      loaded.defects.push_back({reading.bars.file, 0, str("and ", reading.unlisted, " more defects")});
    }
  }
  if (loaded.defect_count > 0) return loaded;
  loaded.bars.assets = assets;
  loaded.bars.bar_seconds = bar_seconds;
  loaded.bars.segments = segments_of(loaded.bars.time, bar_seconds);
  for (const FileReading& reading : readings) {
    loaded.bars.columns.push_back(rows_at(reading.bars, loaded.bars.time));
  }
  return loaded;
}

}  // namespace

std::filesystem::path bars_file(const std::filesystem::path& directory, const std::string& asset) {
  std::string name = asset;
  std::replace(name.begin(), name.end(), '/', '_');
  return directory / (name + ".csv");
}

std::vector<BarDefect> check_bars(const std::filesystem::path& directory, const std::vector<std::string>& assets,
                                  std::int64_t bar_seconds) {
  return load(directory, assets, bar_seconds).defects;
}

Bars read_bars(const std::filesystem::path& directory, const std::vector<std::string>& assets,
               std::int64_t bar_seconds) {
  Loaded loaded = load(directory, assets, bar_seconds);
  if (loaded.defect_count == 0) return std::move(loaded.bars);
  const BarDefect& first = loaded.defects.front();
  const std::string line = first.line > 0 ? str(':', first.line) : std::string{};
  const std::int64_t others = loaded.defect_count - 1;
  const std::string more =
      others == 0 ? std::string{} : str(" (and ", others, others == 1 ? " defect" : " defects", " more)");
  throw Error(Fault::incompatible, str(first.file.string(), line, ": ", first.text, more),
              "ristretto data check lists every defect of these files");
}

std::vector<Segment> segments_of(const std::vector<std::int64_t>& time, std::int64_t bar_seconds) {
  std::vector<Segment> segments;
  for (std::int64_t row = 0; row < static_cast<std::int64_t>(time.size()); ++row) {
    if (row == 0 || time[row] - time[row - 1] != bar_seconds) segments.push_back({row, row});
    segments.back().end = row + 1;
  }
  return segments;
}

}  // namespace ristretto::env
