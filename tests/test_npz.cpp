#include <doctest/doctest.h>

#include <filesystem>

#include "formats/archive.h"
#include "formats/npz.h"
#include "platform/atomic_file.h"
#include "platform/error.h"
#include "platform/text.h"

using namespace ristretto;
using namespace ristretto::formats;

namespace {

const std::filesystem::path kCheckpoints = std::filesystem::path(RISTRETTO_GOLDEN) / "algorithms/ckpt";

std::string npy(const std::string& header, std::size_t data) {
  std::string out = "\x93NUMPY";
  out += {'\1', '\0', static_cast<char>(header.size()), '\0'};
  return out + header + std::string(data, '\0');
}

std::string message_of(const std::string& bytes) {
  try {
    read_npy(bytes, "file");
  } catch (const Error& error) {
    CHECK(error.fault() == Fault::incompatible);
    return error.what();
  }
  return "";
}

bool says(const std::string& bytes, const std::string& what) {
  return message_of(bytes).find(what) != std::string::npos;
}

}  // namespace

TEST_CASE("npz: stored and deflated golden files, Fortran order and a scalar") {
  const NamedArrays arrays = read_npz(kCheckpoints / "ok.npz");
  REQUIRE(arrays.size() == 4);
  const std::vector<double> six{0, 1, 2, 3, 4, 5};
  CHECK(find(arrays, "a")->dtype == DType::float32);
  CHECK(find(arrays, "a")->shape == std::vector<std::int64_t>{2, 3});
  CHECK(find(arrays, "a")->as_doubles() == six);
  CHECK(find(arrays, "b")->dtype == DType::int64);
  CHECK(find(arrays, "b")->as_doubles() == six);
  CHECK(find(arrays, "f")->dtype == DType::float64);
  CHECK(find(arrays, "f")->shape == std::vector<std::int64_t>{2, 3});
  CHECK(find(arrays, "f")->as_doubles() == six);
  CHECK(find(arrays, "s")->shape.empty());
  CHECK(find(arrays, "s")->as_doubles() == std::vector<double>{2.5});
  CHECK(find(arrays, "none") == nullptr);

  const NamedArrays deflated = read_npz(kCheckpoints / "ok_compressed.npz");
  REQUIRE(deflated.size() == 1);
  const std::vector<double> values = deflated[0].second.as_doubles();
  REQUIRE(values.size() == 1000);
  for (std::size_t i = 0; i < values.size(); ++i) CHECK(values[i] == static_cast<double>(i));
}

TEST_CASE("npz: every golden archive of the repository can be read") {
  std::size_t files = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(RISTRETTO_GOLDEN)) {
    if (entry.path().extension() != ".npz" || entry.path().stem().string().substr(0, 4) == "bad_") continue;
    CAPTURE(entry.path().string());
    CHECK_FALSE(read_npz(entry.path()).empty());
    ++files;
  }
  CHECK(files > 10);
}

TEST_CASE("npz: objects and big-endian numbers are refused by name") {
  CHECK_THROWS_WITH_AS(read_npz(kCheckpoints / "bad_object.npz"), doctest::Contains("Python objects"), Error);
  CHECK(says(read_file(kCheckpoints / "ok_be.npy"), "big-endian (>f4)"));
}

TEST_CASE("npz: what we write is what NumPy writes, and reads back") {
  const NamedArrays arrays = read_npz(kCheckpoints / "ok.npz");
  const std::string golden = read_file(kCheckpoints / "ok.npz");
  const Archive members(golden, "ok");
  CHECK(write_npy(*find(arrays, "a")) == members.read("a.npy", 1 << 20));
  CHECK(write_npy(*find(arrays, "b")) == members.read("b.npy", 1 << 20));
  CHECK(write_npy(*find(arrays, "s")) == members.read("s.npy", 1 << 20));

  NamedArrays mine = arrays;
  mine.emplace_back("names", Array::of_texts({2, 2}, {"", "caf\xC3\xA9", "\xF0\x9F\x98\x80", "abcdef"}));
  mine.emplace_back("empty", Array::of_doubles({3, 0}, {}));
  mine.emplace_back("flags", Array{DType::boolean, {2}, {std::byte{1}, std::byte{0}}, 0});
  const std::string bytes = write_npz(mine);
  CHECK(bytes == write_npz(mine));
  const NamedArrays again = read_npz_bytes(bytes, "ours");
  REQUIRE(again.size() == mine.size());
  for (std::size_t i = 0; i < mine.size(); ++i) {
    CHECK(again[i].first == mine[i].first);
    CHECK(again[i].second.dtype == mine[i].second.dtype);
    CHECK(again[i].second.shape == mine[i].second.shape);
    CHECK(again[i].second.bytes == mine[i].second.bytes);
  }
  CHECK(find(again, "names")->as_texts() == std::vector<std::string>{"", "caf\xC3\xA9", "\xF0\x9F\x98\x80", "abcdef"});
  CHECK_THROWS_AS(find(again, "names")->as_doubles(), Error);
  CHECK_THROWS_AS(find(again, "flags")->as_texts(), Error);
}

TEST_CASE("npz: Fortran order of three dimensions is turned") {
  std::string bytes = npy("{'descr': '|u1', 'fortran_order': True, 'shape': (2, 3, 2), }\n", 12);
  for (int i = 0; i < 12; ++i) bytes[bytes.size() - 12 + static_cast<std::size_t>(i)] = static_cast<char>(i);
  // Element (i, j, k) lies at i + 2 j + 6 k.
  CHECK(read_npy(bytes, "file").as_doubles() == std::vector<double>{0, 6, 2, 8, 4, 10, 1, 7, 3, 9, 5, 11});
}

TEST_CASE("npz: wrong headers and sizes are refused") {
  const std::string head = "{'descr': '<f4', 'fortran_order': False, 'shape': ";
  CHECK(message_of(npy(head + "(2,), }\n", 8)).empty());
  CHECK(message_of(npy("{\"shape\":(2L,),\"fortran_order\":False,\"descr\":\"<f4\"}", 8)).empty());
  CHECK(says(npy(head + "(2,), }\n", 7), "its header claims 8"));
  CHECK(says(npy(head + "(2,), }\n", 9), "its header claims 8"));
  CHECK(says(npy(head + "(4294967296, 4294967296), }\n", 0), "claims more than"));
  CHECK(says(npy(head + "(4294967296, 4294967296, 0), }\n", 0), "claims more than"));
  CHECK(says(npy(head + "(-1,), }\n", 0), "expected a whole number"));
  CHECK(says(npy(head + "(99999999999999999999,), }\n", 0), "expected a whole number"));
  CHECK(says(npy(head + "(2,), 'shape': (2,)}\n", 8), "comes twice"));
  CHECK(says(npy(head + "(2,), 'x': 1}\n", 8), "unknown"));
  CHECK(says(npy(head + "(2,)", 8), "expected ','"));
  CHECK(says(npy("{'descr': '<f4', 'shape': (2,)}", 8), "are expected"));
  CHECK(says(npy("{'descr': '<c8', 'fortran_order': False, 'shape': (1,)}", 8), "not supported"));
  CHECK(says(npy("{'descr': '<U0', 'fortran_order': False, 'shape': (1,)}", 0), "not supported"));
  CHECK(says(npy("{'descr': '', 'fortran_order': False, 'shape': (1,)}", 0), "not supported"));
  CHECK(says(npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", 4), "records"));
  CHECK(says("\x93NUMPY", "not an npy"));
  CHECK(says(npy(head + "(2,), }\n", 8).substr(0, 30), "npy header of"));
}

TEST_CASE("npz: a member inflates to what its npy header declares, not to what the archive claims") {
  const std::string bytes = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }\n", 1 << 20);
  CHECK_THROWS_WITH_AS(read_npz_bytes(write_archive({{"a.npy", bytes}}), "file"), doctest::Contains("expected at most"),
                       Error);
  CHECK_THROWS_WITH_AS(read_npz_bytes(write_archive({{"a.txt", "x"}}), "file"), doctest::Contains("no .npy"), Error);
}

TEST_CASE("npz: an archive cut or changed anywhere never does more than throw") {
  for (const char* name : {"ok.npz", "ok_compressed.npz"}) {
    const std::string bytes = read_file(kCheckpoints / name);
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      std::string changed = bytes;
      changed[i] = static_cast<char>(changed[i] ^ (1 << (i % 8)));
      try {
        read_npz_bytes(changed, "changed");
      } catch (const Error& error) {
        CHECK(error.fault() == Fault::incompatible);
      }
      CHECK_THROWS_AS(read_npz_bytes(bytes.substr(0, i), "cut"), Error);
    }
  }
}
