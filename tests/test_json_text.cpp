#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>

#include "formats/json_text.h"
#include "platform/atomic_file.h"
#include "platform/error.h"
#include "platform/text.h"

using namespace ristretto;
using namespace ristretto::formats;

namespace {

Json parse(std::string_view text) { return read_json(text, "text"); }

std::string again(std::string_view text) { return write_json(parse(text)); }

std::string repr(double value) {
  Json json;
  json.kind = Json::Kind::real;
  json.real = value;
  return write_json(json);
}

bool refused(std::string_view text, const JsonOptions& options = {}) {
  try {
    read_json(text, "text", options);
  } catch (const Error& error) {
    CHECK(error.fault() == Fault::incompatible);
    CHECK(std::string(error.what()).find("text: not JSON at byte ") == 0);
    return true;
  }
  return false;
}

}  // namespace

TEST_CASE("json_text: floats are written as Python's repr") {
  CHECK(repr(0.1) == "0.1");
  CHECK(repr(5) == "5.0");
  CHECK(repr(-0.0) == "-0.0");
  CHECK(repr(0.0001) == "0.0001");
  CHECK(repr(0.00001) == "1e-05");
  CHECK(repr(1.5e-7) == "1.5e-07");
  CHECK(repr(1e15) == "1000000000000000.0");
  CHECK(repr(9999999999999998.0) == "9999999999999998.0");
  CHECK(repr(1e16) == "1e+16");
  CHECK(repr(1.2345e17) == "1.2345e+17");
  CHECK(repr(123456.789) == "123456.789");
  CHECK(repr(-1.7976931348623157e308) == "-1.7976931348623157e+308");
  CHECK(repr(5e-324) == "5e-324");
  CHECK(repr(std::nan("")) == "NaN");
  CHECK(repr(HUGE_VAL) == "Infinity");
  CHECK(repr(-HUGE_VAL) == "-Infinity");
}

TEST_CASE("json_text: what json.dumps wrote comes back byte by byte") {
  for (const char* text :
       {"{}", "[]", "null", "true", "false", "\"\"", "-7", "9223372036854775807", "-9223372036854775808",
        "{\"name\": \"FloatDistribution\", \"attributes\": {\"step\": null, \"low\": -5.0, \"high\": 5.0, \"log\": "
        "false}}",
        "{\"choices\": [\"a\", null, true, 3, 2.5, Infinity]}", "{\"k\": [1, 2, NaN]}", "[-Infinity, [[]], {\"\": {}}]",
        "\"\\\"\\\\/\\b\\f\\n\\r\\t\\u0000\\u001f\\u00e9\\u20ac\\ud83d\\ude00\"", "{\"b\": 1, \"a\": 2}"}) {
    CHECK(again(text) == text);
  }
  CHECK(again("\"\x7F~ \"") == "\"\\u007f~ \"");
  CHECK(again(" {\n\t\"a\" :[ 1 ,2 ] } ") == "{\"a\": [1, 2]}");
  CHECK(write_json(parse("{\"a\": [1, 2]}"), true) == "{\"a\":[1,2]}");
}

TEST_CASE("json_text: every finite double reads back equal") {
  std::mt19937_64 random(7);
  for (int i = 0; i < 20000; ++i) {
    const std::uint64_t bits = random();
    double value;
    std::memcpy(&value, &bits, sizeof value);
    if (!std::isfinite(value)) continue;
    const Json json = parse(repr(value));
    CHECK(json.kind == Json::Kind::real);
    CHECK(std::memcmp(&json.real, &value, sizeof value) == 0);
  }
}

TEST_CASE("json_text: numbers are integers where Python has ints, and real where int64 ends") {
  CHECK(parse("12").kind == Json::Kind::integer);
  CHECK(parse("12").real == 12);
  CHECK(parse("-0").integer == 0);
  CHECK(parse("12.0").kind == Json::Kind::real);
  CHECK(parse("1e2").real == 100);
  CHECK(parse("9223372036854775808").kind == Json::Kind::real);
  CHECK(parse("9223372036854775808").real == 9223372036854775808.0);
  CHECK(parse("1e999").real == HUGE_VAL);
  CHECK(parse("-1e999").real == -HUGE_VAL);
  CHECK(parse("1e99999999999999999999").real == HUGE_VAL);
  CHECK(parse("1e-999").real == 0);
  CHECK(std::signbit(parse("-1e-999").real));
  CHECK(parse("0e99999999999999999999").real == 0);
  CHECK(parse(str("0.", std::string(400, '0'), "1e395")).real == doctest::Approx(1e-6));
  CHECK(parse(str("1", std::string(400, '0'))).real == HUGE_VAL);
}

TEST_CASE("json_text: text is UTF-8, escapes are joined, a lone surrogate is U+FFFD") {
  CHECK(parse("\"\\u00e9\\ud83d\\ude00/\\/\"").text == "\xC3\xA9\xF0\x9F\x98\x80//");
  CHECK(parse("\"\\ud83d\"").text == "\xEF\xBF\xBD");
  CHECK(parse("\"\\ude00x\"").text == "\xEF\xBF\xBDx");
  CHECK(parse("\"\\ud83d\\u0041\"").text == "\xEF\xBF\xBD\x41");
  CHECK(parse("\"\xF0\x9F\x98\x80\"").text == "\xF0\x9F\x98\x80");
  for (const char* bad : {"\"\xFF\"", "\"\xC0\x80\"", "\"\xED\xA0\x80\"", "\"\xF4\x90\x80\x80\"", "\"\xE2\x82\""}) {
    CHECK(refused(bad));
  }
  Json json;
  json.kind = Json::Kind::text;
  json.text = "\xFF";
  CHECK_THROWS_AS(write_json(json), Error);
}

TEST_CASE("json_text: what is not JSON is refused with its place") {
  for (const char* bad : {"",         " ",          "{",     "[1",      "[1,]",      "{\"a\"}",
                          "{\"a\":}", "{\"a\":1,}", "{a:1}", "'a'",     "tru",       "nul",
                          "01",       "-",          "+1",    "1.",      ".5",        "1e",
                          "1e+",      "--1",        "\"a",   "\"\\x\"", "\"\\u12\"", "\"\\u-123\"",
                          "\"a\nb\"", "1 2",        "[1] x", "nan",     "-NaN",      "{\"a\":1 \"b\":2}",
                          "\"\\"}) {
    CAPTURE(bad);
    CHECK(refused(bad));
  }
  CHECK(refused(std::string_view("\0", 1)));
}

TEST_CASE("json_text: nesting ends at 64, so that no text can exhaust the stack") {
  CHECK_NOTHROW(parse(std::string(64, '[') + std::string(64, ']')));
  CHECK(refused(std::string(66, '[') + std::string(66, ']')));
  CHECK(refused(std::string(1'000'000, '[')));
}

TEST_CASE("json_text: NaN and duplicate keys are taken or refused as asked; the last of a name counts") {
  for (const char* text : {"NaN", "[Infinity]", "-Infinity"}) {
    CHECK_FALSE(refused(text));
    CHECK(refused(text, {.allow_nan = false}));
  }
  CHECK(parse("{\"a\": 1, \"a\": 2}").find("a")->integer == 2);
  CHECK(parse("{\"a\": 1}").find("b") == nullptr);
  CHECK(refused("{\"a\": 1, \"a\": 2}", {.refuse_duplicates = true}));
  CHECK_FALSE(refused("{\"a\": {\"a\": 1}}", {.refuse_duplicates = true}));
}

TEST_CASE("json_text: as nlohmann's document NaN stays a number, which its text has not") {
  const Json value = read_json(R"({"k": [1, 2.5, NaN, -Infinity], "s": "x", "b": true, "n": null, "o": {}})", "test");
  using Document = nlohmann::ordered_json;
  const auto document = document_of<Document>(value, [](double real) { return Document(real); });
  CHECK(std::isnan(document["k"][2].get<double>()));
  CHECK(document["k"][3].get<double>() == -std::numeric_limits<double>::infinity());
  CHECK(document.dump() == R"({"k":[1,2.5,null,null],"s":"x","b":true,"n":null,"o":{}})");
}

TEST_CASE("json_text: the golden JSON files can be read") {
  const std::string path = std::string(RISTRETTO_GOLDEN) + "/optuna/everything_v4.9.0.json";
  CHECK_NOTHROW(read_json(read_file(path), path));
}
