#include "release/sha256.h"

#include <openssl/evp.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::release {
namespace {

constexpr std::size_t kPieceBytes = std::size_t{1} << 20;

class Digest {
 public:
  Digest() : context_(EVP_MD_CTX_new(), &EVP_MD_CTX_free) {
    require(context_ != nullptr && EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) == 1);
  }
  void update(std::string_view bytes) { require(EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) == 1); }
  std::string hex() {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int size = 0;
    require(EVP_DigestFinal_ex(context_.get(), digest, &size) == 1);
    static constexpr char kDigits[] = "0123456789abcdef";
    std::string out;
    for (unsigned int i = 0; i < size; ++i) {
      out += kDigits[digest[i] >> 4];
      out += kDigits[digest[i] & 15];
    }
    return out;
  }

 private:
  static void require(bool good) {
    if (!good) throw Error(Fault::failed, "OpenSSL's libcrypto cannot compute SHA-256");
  }
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context_;
};

}  // namespace

std::string sha256(std::string_view bytes) {
  Digest digest;
  digest.update(bytes);
  return digest.hex();
}

std::string sha256_of_file(const std::filesystem::path& path) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rbe"), &std::fclose);
  const auto fail = [&] { throw Error(Fault::failed, str(path.string(), ": cannot be read: ", std::strerror(errno))); };
  if (file == nullptr) fail();
  Digest digest;
  std::vector<char> piece(kPieceBytes);
  while (const std::size_t got = std::fread(piece.data(), 1, piece.size(), file.get())) {
    digest.update({piece.data(), got});
  }
  if (std::ferror(file.get()) != 0) fail();
  return digest.hex();
}

}  // namespace ristretto::release
