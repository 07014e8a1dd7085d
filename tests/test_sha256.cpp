#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>

#include "platform/error.h"
#include "release/sha256.h"

using namespace ristretto;

TEST_CASE("sha256: the examples of FIPS 180-4") {
  CHECK(release::sha256("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(release::sha256("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(release::sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  CHECK(release::sha256(std::string(1000000, 'a')) ==
        "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST_CASE("sha256: a file of several pieces hashes like its bytes, and one that is absent is named") {
  const std::filesystem::path path = std::filesystem::temp_directory_path() / "ristretto_test_sha256";
  std::string bytes(3000001, '\0');
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * i % 251);
  std::ofstream(path, std::ios::binary) << bytes;
  CHECK(release::sha256_of_file(path) == release::sha256(bytes));
  std::filesystem::remove(path);
  CHECK_THROWS_WITH_AS(release::sha256_of_file(path), doctest::Contains("ristretto_test_sha256: cannot be read"),
                       Error);
}
