#include "formats/sb3.h"

#include <algorithm>

#include "formats/archive.h"
#include "formats/torch_file.h"
#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::formats {
namespace {

constexpr const char* kPolicy = "policy.pth";
constexpr const char* kSettings = "data";
constexpr const char* kVersion = "_stable_baselines3_version";
constexpr std::uint64_t kMaxSettingsBytes = std::uint64_t{16} << 20;
constexpr std::uint64_t kMaxVersionBytes = 64;
constexpr std::uint64_t kMaxInflation = 64;  // a member deflated by more than this is no policy

bool has(const Archive& archive, const char* name) {
  const auto& members = archive.members();
  return std::any_of(members.begin(), members.end(), [&](const ArchiveMember& member) { return member.name == name; });
}

}  // namespace

bool is_sb3(std::string_view bytes) {
  if (bytes.substr(0, 2) != "PK") return false;
  try {
    return has(Archive(bytes, ""), kPolicy);
  } catch (const Error&) {
    return false;
  }
}

Sb3Policy read_sb3_bytes(std::string_view bytes, const std::string& origin) {
  const Archive archive(bytes, origin);
  for (const char* name : {kPolicy, kSettings}) {
    if (!has(archive, name)) {
      throw Error(Fault::incompatible, str(origin, ": the archive has no ", name, ": no policy of Stable-Baselines3"));
    }
  }
  Sb3Policy policy;
  policy.settings =
      read_json(archive.read(kSettings, kMaxSettingsBytes), str(origin, ", member ", kSettings), {.allow_nan = true});
  if (policy.settings.kind != Json::Kind::object) {
    throw Error(Fault::incompatible, str(origin, ", member ", kSettings, ": is no JSON object"));
  }
  policy.weights =
      read_torch_bytes(archive.read(kPolicy, kMaxInflation * bytes.size()), str(origin, ", member ", kPolicy));
  if (has(archive, kVersion)) {
    policy.version = archive.read(kVersion, kMaxVersionBytes);
    while (!policy.version.empty() && policy.version.back() <= ' ') policy.version.pop_back();
  }
  return policy;
}

}  // namespace ristretto::formats
