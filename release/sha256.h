// SHA-256 (FIPS 180-4), by OpenSSL's libcrypto; 64 lower-case hexadecimal digits.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace ristretto::release {

std::string sha256(std::string_view bytes);
// Of a file's contents, in pieces. Throws Error(failed) that names the file and the system's reason.
std::string sha256_of_file(const std::filesystem::path& path);

}  // namespace ristretto::release
