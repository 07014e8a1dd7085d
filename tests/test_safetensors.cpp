#include <doctest/doctest.h>

#include <filesystem>
#include <map>

#include "formats/safetensors.h"
#include "platform/atomic_file.h"
#include "platform/error.h"
#include "platform/text.h"

using namespace ristretto;
using namespace ristretto::formats;

namespace {

const std::filesystem::path kCheckpoints = std::filesystem::path(RISTRETTO_GOLDEN) / "algorithms/ckpt";

Safetensors golden(const std::string& name) {
  return read_safetensors(read_file(kCheckpoints / (name + ".safetensors")), name);
}

std::string message_of(const std::string& bytes) {
  try {
    read_safetensors(bytes, "file");
  } catch (const Error& error) {
    CHECK(error.fault() == Fault::incompatible);
    return error.what();
  }
  return "";
}

// A file of this header, padded, and so many bytes of data.
std::string file_of(std::string header, std::size_t data) {
  header.append((8 - header.size() % 8) % 8, ' ');
  std::string length(8, '\0');
  length[0] = static_cast<char>(header.size() & 0xFF);
  length[1] = static_cast<char>(header.size() >> 8);
  return length + header + std::string(data, '\0');
}

std::vector<double> counted(int count, double first) {
  std::vector<double> out;
  for (int i = 0; i < count; ++i) out.push_back(first + i);
  return out;
}

}  // namespace

TEST_CASE("safetensors: golden files give their tensors and metadata") {
  const Safetensors ok = golden("ok");
  REQUIRE(ok.arrays.size() == 1);
  CHECK(ok.arrays[0].first == "a");
  CHECK(ok.arrays[0].second.dtype == DType::float32);
  CHECK(ok.arrays[0].second.shape == std::vector<std::int64_t>{2, 3});
  CHECK(ok.arrays[0].second.as_doubles() == counted(6, 0));
  CHECK(ok.metadata == std::map<std::string, std::string>{{"format", "pt"}, {"k", "v"}});

  const Safetensors empty = golden("ok_empty");
  REQUIRE(empty.arrays.size() == 2);
  CHECK(find(empty.arrays, "e")->shape == std::vector<std::int64_t>{0, 3});
  CHECK(find(empty.arrays, "e")->bytes.empty());
  CHECK(find(empty.arrays, "a")->as_doubles() == counted(6, 0));

  CHECK(golden("ok_leadspace").arrays[0].second.as_doubles() == counted(6, 0));
  CHECK(golden("ok_notensors").arrays.empty());
  CHECK(golden("ok_scalar").arrays[0].second.shape.empty());
  CHECK(golden("ok_scalar").arrays[0].second.as_doubles() == std::vector<double>{0});

  const Safetensors unordered = golden("ok_unordered_keys");
  CHECK(unordered.arrays[0].first == "a");  // by offset
  CHECK(unordered.arrays[0].second.as_doubles() == counted(4, 0));
  CHECK(unordered.arrays[1].second.as_doubles() == counted(2, 4));
}

TEST_CASE("safetensors: every hostile file is refused by its typed name") {
  const std::map<std::string, std::string> expected{{"bad_dtype", "InvalidHeaderDeserialization"},
                                                    {"bad_dupkey", "InvalidHeaderDeserialization"},
                                                    {"bad_hdrcap", "HeaderTooLarge"},
                                                    {"bad_hdrlen", "HeaderTooLarge"},
                                                    {"bad_hole", "InvalidOffset"},
                                                    {"bad_metadata_nonstring", "InvalidHeaderDeserialization"},
                                                    {"bad_neg", "InvalidHeaderDeserialization"},
                                                    {"bad_notjson", "InvalidHeaderDeserialization"},
                                                    {"bad_overflow", "ValidationOverflow"},
                                                    {"bad_overlap", "InvalidOffset"},
                                                    {"bad_reversed", "InvalidOffset"},
                                                    {"bad_shape", "TensorInvalidInfo"},
                                                    {"bad_short", "MetadataIncompleteBuffer"},
                                                    {"bad_tiny", "HeaderTooSmall"},
                                                    {"bad_trailing", "MetadataIncompleteBuffer"},
                                                    {"bad_utf8", "InvalidHeader"}};
  std::size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kCheckpoints)) {
    const std::string name = entry.path().stem();
    if (entry.path().extension() != ".safetensors" || name.substr(0, 4) != "bad_") continue;
    ++files;
    CAPTURE(name);
    REQUIRE(expected.count(name) == 1);
    const std::string message = message_of(read_file(entry.path()));
    CHECK(message.substr(0, message.find(':')) == expected.at(name));
  }
  CHECK(files == expected.size());
  CHECK(message_of(file_of("{}", 0).substr(0, 12)).find("InvalidHeaderLength:") == 0);
  CHECK(message_of(file_of("[]", 0)).find("InvalidHeaderDeserialization:") == 0);
  CHECK(message_of(file_of(R"({"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,0]}})", 0))
            .find("InvalidHeaderDeserialization:") == 0);
  CHECK(message_of(file_of(R"({"a":{"dtype":"F32","data_offsets":[0,0]}})", 0)).find("InvalidHeaderDeserialization:") ==
        0);
  // An empty tensor whose other sizes overflow.
  CHECK(message_of(file_of(R"({"a":{"dtype":"F32","shape":[4611686018427387904,4,0],"data_offsets":[0,0]}})", 0))
            .find("ValidationOverflow:") == 0);
}

TEST_CASE("safetensors: the golden file is written byte by byte") {
  const std::string bytes = read_file(kCheckpoints / "ok.safetensors");
  const Safetensors ok = read_safetensors(bytes, "ok");
  CHECK(write_safetensors(ok.arrays, ok.metadata) == bytes);
  CHECK(write_safetensors({}) == read_file(kCheckpoints / "ok_notensors.safetensors"));
}

TEST_CASE("safetensors: tensors are written by alignment, then name, and read back equal") {
  NamedArrays arrays;
  arrays.emplace_back("z", Array::of_doubles({2}, {1.5, -2}));
  arrays.emplace_back("flag", Array{DType::boolean, {3}, std::vector<std::byte>(3, std::byte{1}), 0});
  arrays.emplace_back("caf\xC3\xA9 \"x\"", Array::of_floats({1, 2}, {0.25F, 3}));
  arrays.emplace_back("half", Array{DType::bfloat16, {}, {std::byte{0x80}, std::byte{0x3F}}, 0});
  arrays.emplace_back("a", Array::of_int64s({}, {-5}));
  arrays.emplace_back("none", Array::of_floats({0, 4}, {}));
  const std::map<std::string, std::string> metadata{{"a", "1"}, {"model", "{\"x\": \xE2\x82\xAC}"}};
  const std::string bytes = write_safetensors(arrays, metadata);
  const Safetensors again = read_safetensors(bytes, "ours");
  CHECK(again.metadata == metadata);
  std::vector<std::string> names;
  for (const auto& [name, array] : again.arrays) {
    names.push_back(name);
    const Array& original = *find(arrays, name);
    CHECK(array.dtype == original.dtype);
    CHECK(array.shape == original.shape);
    CHECK(array.bytes == original.bytes);
  }
  CHECK(names == std::vector<std::string>{"a", "z", "caf\xC3\xA9 \"x\"", "none", "half", "flag"});
  CHECK(find(again.arrays, "half")->as_doubles() == std::vector<double>{1});
  CHECK(bytes.find('{') == 8);
  CHECK(static_cast<unsigned char>(bytes[0]) % 8 == 0);
}

TEST_CASE("safetensors: text, a reserved name and a name that comes twice cannot be written") {
  CHECK_THROWS_AS(write_safetensors({{"t", Array::of_texts({1}, {"x"})}}), Error);
  CHECK_THROWS_AS(write_safetensors({{"__metadata__", Array::of_floats({0}, {})}}), Error);
  CHECK_THROWS_AS(write_safetensors({{"a", Array::of_floats({0}, {})}, {"a", Array::of_floats({0}, {})}}), Error);
}

TEST_CASE("safetensors: a file cut or changed anywhere never does more than throw") {
  const std::string bytes = read_file(kCheckpoints / "ok_unordered_keys.safetensors");
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    CHECK_FALSE(message_of(bytes.substr(0, i)).empty());
    for (int bit = 0; bit < 8; ++bit) {
      std::string changed = bytes;
      changed[i] = static_cast<char>(changed[i] ^ (1 << bit));
      message_of(changed);
    }
  }
}
