#include <doctest/doctest.h>

#include <cstring>
#include <filesystem>
#include <map>

#include "formats/archive.h"
#include "formats/npz.h"
#include "formats/torch_file.h"
#include "platform/atomic_file.h"
#include "platform/error.h"
#include "platform/text.h"

using namespace ristretto;
using namespace ristretto::formats;

namespace {

const std::filesystem::path kGolden = RISTRETTO_GOLDEN;
const std::filesystem::path kCheckpoints = kGolden / "algorithms/ckpt";

bool same(const Array& a, const Array& b) { return a.dtype == b.dtype && a.shape == b.shape && a.bytes == b.bytes; }

std::string message_of(const std::string& bytes) {
  try {
    read_torch_bytes(bytes, "file");
  } catch (const Error& error) {
    CHECK(error.fault() == Fault::incompatible);
    return error.what();
  }
  return "";
}

std::string u32(std::uint32_t value) { return {reinterpret_cast<const char*>(&value), sizeof value}; }

// A .pth of one record of 4 floats, with this pickle (without protocol and stop).
std::string file_of(const std::string& pickle) {
  return write_archive({{"p/data.pkl", "\x80\x02" + pickle + "."}, {"p/data/0", std::string(16, '\0')}});
}

std::string text(const std::string& value) { return str("X", u32(static_cast<std::uint32_t>(value.size())), value); }

// rebuild(storage of 4 floats, offset, sizes, strides, False, OrderedDict())
std::string tensor(const std::string& offset, const std::string& sizes, const std::string& strides) {
  return "ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage") + "ctorch\nFloatStorage\n" + text("0") +
         text("cpu") + "K\x04tQ" + offset + sizes + strides + "\x89" + "ccollections\nOrderedDict\n)RtR";
}

}  // namespace

TEST_CASE("torch_file: zip, legacy and whole-module files give the same weights, bit for bit") {
  const NamedArrays expected = read_npz(kCheckpoints / "actor_expected.npz");
  const std::vector<std::string> keys{"a_std_log",  "net.0.weight", "net.0.bias", "net.2.weight",
                                      "net.2.bias", "net.4.weight", "net.4.bias"};
  for (const char* name : {"actor_zip", "actor_legacy", "actor_fullmodule", "actor_fullmodule_legacy"}) {
    CAPTURE(name);
    const NamedArrays arrays = read_torch_file(kCheckpoints / str(name, ".pth"));
    REQUIRE(arrays.size() == keys.size());
    for (std::size_t i = 0; i < keys.size(); ++i) {
      CHECK(arrays[i].first == keys[i]);
      CHECK(same(arrays[i].second, *find(expected, keys[i])));
    }
  }
}

TEST_CASE("torch_file: every type, transposed and shifted views, shared, empty and scalar tensors, a parameter") {
  const NamedArrays arrays = read_torch_file(kCheckpoints / "mixed.pth");
  CHECK(arrays.size() == 11);
  std::vector<double> count(24);
  for (int i = 0; i < 24; ++i) count[static_cast<std::size_t>(i)] = i;
  const std::map<std::string, DType> types{
      {"shared", DType::float32}, {"f64", DType::float64}, {"f16", DType::float16}, {"bf16", DType::bfloat16}};
  for (const auto& [name, dtype] : types) {
    const Array* array = find(arrays, name);
    REQUIRE(array != nullptr);
    CHECK(array->dtype == dtype);
    CHECK(array->shape == std::vector<std::int64_t>{4, 6});
    CHECK(array->as_doubles() == count);
  }
  const Array& transposed = *find(arrays, "tr");
  CHECK(transposed.shape == std::vector<std::int64_t>{6, 4});
  for (std::size_t i = 0; i < 24; ++i) CHECK(transposed.as_doubles()[i] == count[(i % 4) * 6 + i / 4]);
  CHECK(find(arrays, "view")->shape == std::vector<std::int64_t>{2, 3});
  CHECK(find(arrays, "view")->as_doubles() == std::vector<double>{8, 9, 10, 14, 15, 16});
  CHECK(find(arrays, "i64")->dtype == DType::int64);
  CHECK(find(arrays, "i64")->as_doubles() == std::vector<double>{0, 1, 2});
  CHECK(find(arrays, "b")->dtype == DType::boolean);
  CHECK(find(arrays, "b")->as_doubles() == std::vector<double>{1, 0});
  CHECK(find(arrays, "scalar")->shape.empty());
  CHECK(find(arrays, "scalar")->as_doubles() == std::vector<double>{3.5});
  CHECK(find(arrays, "empty")->shape == std::vector<std::int64_t>{0, 4});
  CHECK(find(arrays, "par")->as_doubles() == std::vector<double>{1, 1});
}

TEST_CASE("torch_file: an optimizer's state has dotted names, and its numbers are left out") {
  const NamedArrays arrays = read_torch_file(kCheckpoints / "optim_zip.pth");
  CHECK(arrays.size() == 18);
  const Array* moment = find(arrays, "state.1.exp_avg_sq");
  REQUIRE(moment != nullptr);
  CHECK(moment->shape == std::vector<std::int64_t>{16, 85});
  CHECK(find(arrays, "state.1.step")->shape.empty());
  for (const char* name : {"mlp_85", "mlp_106"}) {
    for (const char* file : {"act_optim.pth", "cri_optim.pth"}) {
      CHECK_NOTHROW(read_torch_file(kGolden / "deployments" / name / file));
    }
  }
}

TEST_CASE("torch_file: the golden deployments open, and the cut ones say so") {
  for (const char* name : {"mlp_85", "mlp_239", "mlp_106", "ft_85", "ft_239", "ft_trial_mlp_file"}) {
    CAPTURE(name);
    const NamedArrays arrays = read_torch_file(kGolden / "deployments" / name / "actor.pth");
    CHECK(arrays.front().first == "a_std_log");
    CHECK(arrays.front().second.dtype == DType::float32);
  }
  for (const char* name : {"truncated_actor", "ft_truncated_actor"}) {
    const std::string bytes = read_file(kGolden / "deployments/broken" / name / "actor.pth");
    CHECK(message_of(bytes).find("not a complete zip archive") != std::string::npos);
  }
}

TEST_CASE("torch_file: every hostile file is refused by a sentence that says why, and runs nothing") {
  const std::filesystem::path trace = std::filesystem::temp_directory_path() / "PWNED_BY_PICKLE";
  REQUIRE_FALSE(std::filesystem::exists(trace));
  const std::map<std::string, std::string> expected{{"bad_deepmark", "marks"},
                                                    {"bad_exec", "posix system"},
                                                    {"bad_exec_nested", "posix system"},
                                                    {"bad_hugestr", "4294967295 bytes are expected"},
                                                    {"bad_memo", "no entry 254"},
                                                    {"bad_missing_storage", "has no"},
                                                    {"bad_notzip", "not a complete zip archive"},
                                                    {"bad_oob_size", "beyond its storage"},
                                                    {"bad_opcode", "opcode 247"},
                                                    {"bad_stack_underflow", "stack is empty"},
                                                    {"bad_stride", "beyond its storage"},
                                                    {"bad_truncated", "pickle cannot be read"},
                                                    {"bad_trunczip", "not a complete zip archive"}};
  std::size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kCheckpoints)) {
    const std::string name = entry.path().stem();
    if (entry.path().extension() != ".pth" || name.substr(0, 4) != "bad_") continue;
    ++files;
    CAPTURE(name);
    const std::string message = message_of(read_file(entry.path()));
    CAPTURE(message);
    REQUIRE(expected.count(name) == 1);
    CHECK(message.find(expected.at(name)) != std::string::npos);
  }
  CHECK(files == expected.size());
  CHECK_FALSE(std::filesystem::exists(trace));
}

TEST_CASE("torch_file: offsets, sizes and strides are checked without overflow, and repeats cannot fill the memory") {
  const std::string open = "}(" + text("a");
  const std::string huge = "\x8A\x08" + std::string("\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x3F");  // 2^62 - 1
  const std::string zero("K\0", 2);
  CHECK(message_of(file_of(open + tensor(zero, "K\x04\x85", "K\x01\x85") + "u")).empty());
  CHECK(message_of(file_of(open + tensor("K\x01", "K\x04\x85", "K\x01\x85") + "u")).find("beyond") !=
        std::string::npos);
  CHECK(message_of(file_of(open + tensor(zero, huge + "\x85", huge + "\x85") + "u")).find("beyond") !=
        std::string::npos);
  CHECK(message_of(file_of(open + tensor(zero, huge + huge + "\x86", zero + zero + "\x86") + "u")).find("beyond") !=
        std::string::npos);
  const std::string wide = "\x8A\x06" + std::string("\0\0\0\0\0\x01", 6);  // 2^40 numbers, all the same one
  CHECK(message_of(file_of(open + tensor(zero, wide + "\x85", zero + "\x85") + "u")).find("larger than the file") !=
        std::string::npos);
  CHECK(message_of(file_of(open + tensor(zero, "J\xFF\xFF\xFF\xFF\x85", "K\x01\x85") + "u")).find("whole numbers") !=
        std::string::npos);
  CHECK(message_of(file_of(open + tensor(zero, "K\x04\x85", ")") + "u")).find("strides") != std::string::npos);
  CHECK(message_of(file_of(open + tensor(zero, "N", "N") + "u")).find("whole numbers") != std::string::npos);
}

TEST_CASE("torch_file: dictionaries that name each other many times end early") {
  std::string pickle = "}q" + std::string(1, '\0') + "0";
  for (char level = 1; level < 40; ++level) {  // each names the one before ten times: 10^39 paths
    pickle += "}(";
    for (char copy = 0; copy < 10; ++copy) {
      pickle += str('K', copy, 'h', static_cast<char>(level - 1));
    }
    pickle += str("uq", level, '0');
  }
  CHECK(message_of(file_of(pickle + str('h', static_cast<char>(39)))).find("more than 1000000 values") !=
        std::string::npos);
}

TEST_CASE("torch_file: what we write has the pickle of torch.save, records aligned to 64 bytes, and reads back") {
  const NamedArrays arrays = read_torch_file(kCheckpoints / "actor_zip.pth");
  const std::string bytes = write_torch_bytes(arrays, "actor_zip");
  CHECK(bytes == write_torch_bytes(arrays, "actor_zip"));
  const Archive ours(bytes, "ours");
  const std::string golden_bytes = read_file(kCheckpoints / "actor_zip.pth");
  const Archive golden(golden_bytes, "golden");
  std::size_t header = 0;
  for (const ArchiveMember& member : ours.members()) {
    CHECK(member.stored);
    const std::string content = ours.read(member.name, bytes.size());
    const auto u16 = [&](std::size_t i) {
      return static_cast<unsigned char>(bytes[i]) + 256U * static_cast<unsigned char>(bytes[i + 1]);
    };
    REQUIRE(bytes.substr(header, 4) == "PK\3\4");
    const std::size_t data = header + 30 + u16(header + 26) + u16(header + 28);  // behind name and extra field
    CHECK(data % 64 == 0);
    CHECK(bytes.substr(data, content.size()) == content);
    header = data + content.size();
    if (member.name == "actor_zip/data.pkl") {
      // Equal up to the state_dict's `_metadata`, which no reader needs.
      const std::string theirs = golden.read(member.name, 1 << 20);
      CHECK(content.substr(0, content.size() - 1) == theirs.substr(0, content.size() - 1));
    } else if (member.name.find("/data/") != std::string::npos) {
      CHECK(content == golden.read(member.name, 1 << 20));
    }
  }
  CHECK(ours.read("actor_zip/version", 8) == "3\n");
  CHECK(ours.read("actor_zip/byteorder", 8) == "little");
  const NamedArrays again = read_torch_bytes(bytes, "ours");
  REQUIRE(again.size() == arrays.size());
  for (std::size_t i = 0; i < arrays.size(); ++i) {
    CHECK(again[i].first == arrays[i].first);
    CHECK(same(again[i].second, arrays[i].second));
  }
}

TEST_CASE(
    "torch_file: all types, more than 256 memo entries and an empty dictionary are written so that they read back") {
  NamedArrays arrays = read_torch_file(kCheckpoints / "mixed.pth");
  for (int i = 0; i < 100; ++i) arrays.emplace_back(str("layer.", i), Array::of_floats({1, 2, 1, 1}, {0.5F, 1.5F}));
  const NamedArrays again = read_torch_bytes(write_torch_bytes(arrays, "x"), "ours");
  REQUIRE(again.size() == arrays.size());
  for (std::size_t i = 0; i < arrays.size(); ++i) CHECK(same(again[i].second, arrays[i].second));
  CHECK(read_torch_bytes(write_torch_bytes({}, "x"), "ours").empty());
  CHECK_THROWS_AS(write_torch_bytes({{"t", Array::of_texts({1}, {"a"})}}, "x"), Error);
}

TEST_CASE("torch_file: a file cut or changed anywhere never does more than throw") {
  for (const char* name : {"actor_zip", "actor_legacy", "actor_fullmodule"}) {
    const std::string bytes = read_file(kCheckpoints / str(name, ".pth"));
    for (std::size_t i = 0; i < bytes.size(); i += 37) {
      CHECK_FALSE(message_of(bytes.substr(0, i)).empty());
      std::string changed = bytes;
      changed[i] = static_cast<char>(changed[i] ^ (1 << (i % 8)));
      message_of(changed);  // another weight, or an Error
    }
  }
}
