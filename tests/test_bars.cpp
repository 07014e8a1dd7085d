#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "env/bars.h"
#include "env/layout.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/text.h"
#include "temporary_directory.h"

using namespace ristretto;
using namespace ristretto::env;

namespace {

const std::filesystem::path kExampleBars = RISTRETTO_SOURCE "/data/crypto_1h";
const std::string kHeader = "timestamp,open,high,low,close,volume\n";
constexpr std::int64_t kHour = 3600;
constexpr std::int64_t kStart = 1617566400;  // 2021-04-04T20:00:00Z

struct Directory : TemporaryDirectory {
  void write(const std::string& asset, const std::string& text) const {
    std::ofstream(bars_file(path, asset), std::ios::binary) << text;
  }
};

// A sound line of the bar `hour` hours after kStart.
std::string line_at(std::int64_t hour) { return str(iso_utc(kStart + hour * kHour), ",10,12,9,11,", hour, "\n"); }

std::string lines_at(const std::vector<std::int64_t>& hours) {
  std::string text = kHeader;
  for (const std::int64_t hour : hours) text += line_at(hour);
  return text;
}

std::vector<BarDefect> defects_of(const std::string& text) {
  const Directory directory;
  directory.write("BTC/USD", text);
  return check_bars(directory.path, {"BTC/USD"});
}

Bars bars_of(const std::string& text) {
  const Directory directory;
  directory.write("BTC/USD", text);
  return read_bars(directory.path, {"BTC/USD"});
}

// Exactly one defect, at that line, whose text contains `part`.
void check_one_defect(const std::string& text, std::int64_t line, const std::string& part) {
  CAPTURE(text);
  CAPTURE(part);
  const std::vector<BarDefect> defects = defects_of(text);
  REQUIRE(defects.size() == 1);
  CHECK(defects[0].line == line);
  CHECK(defects[0].file.filename() == "BTC_USD.csv");
  CAPTURE(defects[0].text);
  CHECK(defects[0].text.find(part) != std::string::npos);
  CHECK_THROWS_AS(bars_of(text), Error);
}

}  // namespace

TEST_CASE("bars: a file's columns are read as they stand") {
  const Bars bars = bars_of(kHeader + "2021-04-04T20:00:00Z,57953.86,58051.25,57826.16,58025.11,1240.209016\n" +
                            "2021-04-04T21:00:00Z,58025.11,58184,57976.73,58116.69,987.374632\n");
  CHECK(bars.assets == std::vector<std::string>{"BTC/USD"});
  CHECK(bars.time == std::vector<std::int64_t>{kStart, kStart + kHour});
  REQUIRE(bars.columns.size() == 1);
  const AssetBars& asset = bars.columns[0];
  CHECK(asset.asset == "BTC/USD");
  CHECK(asset.open == std::vector<double>{57953.86, 58025.11});
  CHECK(asset.high == std::vector<double>{58051.25, 58184});
  CHECK(asset.low == std::vector<double>{57826.16, 57976.73});
  CHECK(asset.close == std::vector<double>{58025.11, 58116.69});
  CHECK(asset.volume == std::vector<double>{1240.209016, 987.374632});
  CHECK(bars.segments == std::vector<Segment>{{0, 2}});
}

TEST_CASE("bars: columns go by name, in any order, and further ones are passed over") {
  const Bars bars = bars_of("vwap,close,volume,timestamp,low,high,open,trades\nx,11,7,2021-04-04T20:00:00Z,9,12,10,\n");
  const AssetBars& asset = bars.columns[0];
  CHECK(asset.open[0] == 10);
  CHECK(asset.high[0] == 12);
  CHECK(asset.low[0] == 9);
  CHECK(asset.close[0] == 11);
  CHECK(asset.volume[0] == 7);
}

TEST_CASE("bars: line endings, a byte order mark and the last line's end make no difference") {
  const std::string plain = lines_at({0, 1, 2});
  std::string windows;
  for (const char c : plain) windows += c == '\n' ? std::string("\r\n") : std::string(1, c);
  for (const std::string& text : {plain, windows, "\xEF\xBB\xBF" + plain, "\xEF\xBB\xBF" + windows,
                                  plain.substr(0, plain.size() - 1), plain + "\n\n", windows + "\r\n"}) {
    CAPTURE(text);
    const Bars bars = bars_of(text);
    CHECK(bars.time == std::vector<std::int64_t>{kStart, kStart + kHour, kStart + 2 * kHour});
    CHECK(bars.columns[0].volume == std::vector<double>{0, 1, 2});
  }
}

TEST_CASE("bars: times are ISO 8601 or seconds since 1970") {
  for (const char* time : {"2021-04-04T20:00:00Z", "2021-04-04T20:00:00+00:00", "2021-04-04 20:00:00+00:00",
                           "2021-04-04 20:00:00", "2021-04-04T22:00:00+02:00", "2021-04-04T15:30:00-04:30",
                           "2021-04-04T20:00Z", "2021-04-04T20:00:00.000Z", "1617566400"}) {
    CAPTURE(time);
    CHECK(bars_of(str(kHeader, time, ",10,12,9,11,1\n")).time == std::vector<std::int64_t>{kStart});
  }
  for (const char* time : {"", "yesterday", "2021-04-31T20:00:00Z", "2021-04-04T25:00:00Z", "1617566400000", "-3600",
                           "1617566400.5", "2150-01-01T00:00:00Z", "04/04/2021 20:00", "2021-04-04T20:00:00ZZ"}) {
    check_one_defect(str(kHeader, time, ",10,12,9,11,1\n"), 2, "timestamp is");
  }
}

TEST_CASE("bars: a bar of the future is a defect") {
  check_one_defect(str(kHeader, "2099-01-01T00:00:00Z,10,12,9,11,1\n"), 2, "is in the future");
}

TEST_CASE("bars: Z and +00:00 are one zone; anything else that is mixed in one file is a defect") {
  CHECK(bars_of(kHeader + "2021-04-04T20:00:00Z,10,12,9,11,1\n2021-04-04T21:00:00+00:00,10,12,9,11,1\n").time.size() ==
        2);
  const std::string first = kHeader + "2021-04-04T20:00:00Z,10,12,9,11,1\n";
  check_one_defect(first + "2021-04-04 21:00:00,10,12,9,11,1\n", 3, "another time zone");
  check_one_defect(first + "2021-04-04T23:00:00+02:00,10,12,9,11,1\n", 3, "another time zone");
  check_one_defect(first + "1617570000,10,12,9,11,1\n", 3, "another time zone");
  check_one_defect(kHeader + "2021-04-04T15:00:00-05:00,10,12,9,11,1\n2021-04-04T17:00:00-04:00,10,12,9,11,1\n", 3,
                   "another time zone");
}

TEST_CASE("bars: each kind of bad line is found") {
  const std::string sound = lines_at({0, 1});
  const std::string time = iso_utc(kStart + 2 * kHour);
  const auto with = [&](const std::string& rest) { return sound + time + rest + "\n" + line_at(3); };
  REQUIRE(defects_of(with(",10,12,9,11,1")).empty());
  check_one_defect(sound + line_at(1) + line_at(3), 4, "duplicate");
  check_one_defect(sound + line_at(3) + line_at(2), 5, "earlier");
  CHECK(defects_of(lines_at({0, 5, 1, 2, 6})).size() == 2);  // each line is compared with the latest above it
  check_one_defect(sound + "2021-04-04T22:30:00Z,10,12,9,11,1\n", 4, "not the start of a bar");
  check_one_defect(with(",0,12,9,11,1"), 4, "open is 0, expected a price above 0");
  check_one_defect(with(",10,12,-9,11,1"), 4, "low is -9");
  check_one_defect(with(",10,nan,9,11,1"), 4, "high is \"nan\"");
  check_one_defect(with(",10,12,9,inf,1"), 4, "close is \"inf\"");
  check_one_defect(with(",10,12,9,1e999,1"), 4, "close is \"1e999\"");
  check_one_defect(with(",10,12,9,,1"), 4, "close is \"\"");
  check_one_defect(with(",10,12,9,11 USD,1"), 4, "close is \"11 USD\"");
  check_one_defect(with(",10,12,9,11,-1"), 4, "volume is -1");
  check_one_defect(with(",10,12,9,11,NaN"), 4, "volume is \"NaN\"");
  check_one_defect(with(",10,8,9,8.5,1"), 4, "high 8 is below low 9");
  check_one_defect(with(",13,12,9,11,1"), 4, "open 13 is outside");
  check_one_defect(with(",10,12,9,8,1"), 4, "close 8 is outside");
  check_one_defect(with(",10,12,9,11"), 4, "5 fields, expected 6");
  check_one_defect(with(",10,12,9,11,1,2"), 4, "7 fields, expected 6");
  check_one_defect(sound + "\n" + line_at(3), 4, "1 fields");
  check_one_defect(with(",10,12,9,\x1b[31m,1"), 4, "close is \"?[31m\"");
  CHECK(defects_of(with(",10,12,9,11,0")).empty());  // an hour without trades
}

TEST_CASE("bars: each kind of bad file is found") {
  check_one_defect("", 0, "empty");
  check_one_defect("\n\n", 0, "empty");
  check_one_defect("\xEF\xBB\xBF", 0, "empty");
  check_one_defect(kHeader, 0, "no bars");
  check_one_defect("timestamp,open,high,low,close\n", 1, "column volume is missing");
  check_one_defect("timestamp,open,high,low,close,volume,close\n", 1, "column close stands twice");
  CHECK(defects_of("a\rb").size() == 6);
  const Directory directory;
  const std::vector<BarDefect> nowhere = check_bars(directory.path / "nowhere", {"BTC/USD", "ETH/USD"});
  REQUIRE(nowhere.size() == 1);
  CHECK(nowhere[0].text.find("there is no such directory") == 0);
  std::filesystem::create_directory(directory.path / "empty");
  const std::vector<BarDefect> missing = check_bars(directory.path / "empty", {"BTC/USD", "ETH/USD"});
  REQUIRE(missing.size() == 2);
  CHECK(missing[1].file.filename() == "ETH_USD.csv");
  CHECK(missing[1].line == 0);
}

TEST_CASE(
    "bars: check_bars lists every defect of every file at once, read_bars names the first and counts the others") {
  const Directory directory;
  directory.write("BTC/USD", lines_at({0, 1}) + "bad,0,12,9,x,1\n");
  directory.write("LTC/USD", lines_at({0, 0}));
  const std::vector<std::string> assets = {"BTC/USD", "ETH/USD", "LTC/USD"};
  const std::vector<BarDefect> defects = check_bars(directory.path, assets);
  REQUIRE(defects.size() == 5);
  CHECK(defects[2].line == 4);
  CHECK(defects[3].file == bars_file(directory.path, "ETH/USD"));
  CHECK(defects[4].file == bars_file(directory.path, "LTC/USD"));
  try {
    read_bars(directory.path, assets);
    FAIL("bad files were read");
  } catch (const Error& error) {
    CHECK(error.fault() == Fault::incompatible);
    const std::string message = error.what();
    CAPTURE(message);
    CHECK(message.find("BTC_USD.csv:4: timestamp is \"bad\"") != std::string::npos);
    CHECK(message.find("(and 4 defects more)") != std::string::npos);
    CHECK_FALSE(error.hint().empty());
  }
}

TEST_CASE("bars: of a file that is bad throughout, 1000 defects are listed and the others counted") {
  std::string text = kHeader;
  for (int i = 0; i < 1200; ++i) text += "bad,10,12,9,11,1\n";
  const std::vector<BarDefect> defects = defects_of(text);
  REQUIRE(defects.size() == 1001);
  CHECK(defects[999].line == 1001);
  CHECK(defects[1000].line == 0);
  CHECK(defects[1000].text == "and 200 more defects");
  CHECK_THROWS_WITH_AS(bars_of(text), doctest::Contains("(and 1199 defects more)"), Error);
}

TEST_CASE("bars: assets keep the bars that all of them have, and a missing one is a gap of all") {
  const Directory directory;
  directory.write("BTC/USD", lines_at({0, 1, 2, 3, 4, 5, 6, 9, 10}));
  directory.write("ETH/USD", lines_at({1, 2, 3, 5, 6, 7, 8, 9, 10, 11}));
  const Bars bars = read_bars(directory.path, {"ETH/USD", "BTC/USD"});
  std::vector<double> hours = {1, 2, 3, 5, 6, 9, 10};
  REQUIRE(bars.columns.size() == 2);
  CHECK(bars.columns[0].asset == "ETH/USD");
  for (const AssetBars& asset : bars.columns) {
    CHECK(asset.volume == hours);
    CHECK(asset.time == bars.time);
    for (const auto* column : {&asset.open, &asset.high, &asset.low, &asset.close})
      CHECK(column->size() == hours.size());
  }
  CHECK(bars.segments == std::vector<Segment>{{0, 3}, {3, 5}, {5, 7}});
}

TEST_CASE("bars: assets that share no bar are an error that names the asset") {
  const Directory directory;
  directory.write("BTC/USD", lines_at({0, 1, 2}));
  directory.write("ETH/USD", lines_at({2, 3}));
  directory.write("LTC/USD", lines_at({3, 4}));
  CHECK(check_bars(directory.path, {"BTC/USD", "ETH/USD"}).empty());
  const std::vector<BarDefect> defects = check_bars(directory.path, {"BTC/USD", "ETH/USD", "LTC/USD"});
  REQUIRE(defects.size() == 1);
  CHECK(defects[0].file.filename() == "LTC_USD.csv");
  CHECK_THROWS_WITH_AS(read_bars(directory.path, {"BTC/USD", "ETH/USD", "LTC/USD"}), doctest::Contains("LTC/USD"),
                       Error);
}

TEST_CASE("bars: no assets, an asset twice and a bar without length are errors of use") {
  const Directory directory;
  directory.write("BTC/USD", lines_at({0}));
  CHECK_THROWS_AS(read_bars(directory.path, {}), Error);
  CHECK_THROWS_AS(read_bars(directory.path, {"BTC/USD", "BTC/USD"}), Error);
  CHECK_THROWS_AS(read_bars(directory.path, {"BTC/USD"}, 0), Error);
}

TEST_CASE("bars: a bar may have another length than an hour") {
  const Directory directory;
  directory.write("BTC/USD", kHeader + "2021-04-04,10,12,9,11,1\n2021-04-05,10,12,9,11,1\n2021-04-07,10,12,9,11,1\n");
  const Bars bars = read_bars(directory.path, {"BTC/USD"}, 86400);
  CHECK(bars.bar_seconds == 86400);
  CHECK(bars.segments == std::vector<Segment>{{0, 2}, {2, 3}});
}

TEST_CASE("bars: segments are the maximal runs without a gap") {
  CHECK(segments_of({}, 10).empty());
  CHECK(segments_of({40}, 10) == std::vector<Segment>{{0, 1}});
  CHECK(segments_of({10, 20, 30}, 10) == std::vector<Segment>{{0, 3}});
  CHECK(segments_of({10, 30, 50, 60}, 10) == std::vector<Segment>{{0, 1}, {1, 2}, {2, 4}});
}

TEST_CASE("bars: an asset's file is its name with _ for /") {
  CHECK(bars_file("data", "BTC/USD") == std::filesystem::path("data/BTC_USD.csv"));
  CHECK(bars_file("data", "SPY") == std::filesystem::path("data/SPY.csv"));
}

TEST_CASE("bars: the example files are sound and align") {
  CHECK(check_bars(kExampleBars, default_assets()).empty());
  const Bars bars = read_bars(kExampleBars, default_assets());
  REQUIRE(bars.time.size() == 19599);
  CHECK(iso_utc(bars.time.front()) == "2021-04-04T21:00:00Z");  // BTC and ETH have one bar before
  CHECK(std::is_sorted(bars.time.begin(), bars.time.end()));
  std::vector<std::int64_t> starts;
  for (const Segment& segment : bars.segments) starts.push_back(segment.begin);
  CHECK(starts == std::vector<std::int64_t>{0, 365, 486, 3120, 4249, 17237});
  CHECK(bars.segments.back().end == 19599);
  CHECK(bars.columns[2].asset == "BTC/USD");
  CHECK(bars.columns[2].close.front() == 58116.69);
  CHECK(bars.columns[0].close.front() == 407.726);
}
