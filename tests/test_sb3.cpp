#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>

#include "formats/archive.h"
#include "formats/sb3.h"
#include "formats/torch_file.h"
#include "platform/atomic_file.h"
#include "platform/error.h"
#include "platform/text.h"

using namespace ristretto;
using namespace ristretto::formats;

namespace {

using Members = std::vector<std::pair<std::string, std::string>>;

NamedArrays some_weights() {
  return {{"log_std", Array::of_floats({2}, {-0.5F, 0.25F})},
          {"mlp_extractor.policy_net.0.weight", Array::of_floats({1, 3}, {1, 2, 3})},
          {"action_net.weight", Array::of_floats({2, 1}, {4, 5})}};
}

// What PPO.save writes, in its order.
Members members_of_policy() {
  return {{"data", R"({"policy_class": {":type:": "<class 'abc.ABCMeta'>", ":serialized:": "gAWVCg=="},
                       "gamma": 0.98, "n_steps": 32})"},
          {"pytorch_variables.pth", write_torch_bytes({}, "pytorch_variables")},
          {"policy.pth", write_torch_bytes(some_weights(), "policy")},
          {"policy.optimizer.pth", write_torch_bytes({}, "policy.optimizer")},
          {"_stable_baselines3_version", "2.3.2\n"}};
}

std::string message_of(const std::string& bytes) {
  try {
    read_sb3_bytes(bytes, "file");
  } catch (const Error& error) {
    CHECK(error.fault() == Fault::incompatible);
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("sb3: a policy's weights, settings and version") {
  const std::string bytes = write_archive(members_of_policy());
  CHECK(is_sb3(bytes));
  const Sb3Policy policy = read_sb3_bytes(bytes, "file");
  REQUIRE(policy.weights.size() == 3);
  CHECK(find(policy.weights, "log_std")->as_doubles() == std::vector<double>{-0.5, 0.25});
  CHECK(find(policy.weights, "mlp_extractor.policy_net.0.weight")->shape == std::vector<std::int64_t>{1, 3});
  CHECK(policy.settings.find("gamma")->real == 0.98);
  CHECK(policy.settings.find("policy_class")->find(":serialized:")->text == "gAWVCg==");
  CHECK(policy.version == "2.3.2");
}

TEST_CASE("sb3: what is no such archive, or lacks a part, is refused by name") {
  const std::filesystem::path checkpoints = std::filesystem::path(RISTRETTO_GOLDEN) / "algorithms/ckpt";
  const std::string actor = read_file(checkpoints / "actor_zip.pth");
  CHECK_FALSE(is_sb3(actor));
  CHECK_FALSE(is_sb3(""));
  CHECK_FALSE(is_sb3("PK"));
  CHECK(message_of(actor).find("has no policy.pth") != std::string::npos);
  Members members = members_of_policy();
  members.erase(members.begin());
  CHECK(message_of(write_archive(members)).find("has no data") != std::string::npos);
  members = members_of_policy();
  members[0].second = "[]";
  CHECK(message_of(write_archive(members)).find("no JSON object") != std::string::npos);
  members[0].second = "{";
  CHECK(message_of(write_archive(members)).find("member data") != std::string::npos);
  members = members_of_policy();
  members[2].second = read_file(checkpoints / "bad_exec.pth");
  CHECK(message_of(write_archive(members)).find("posix system") != std::string::npos);
  CHECK(message_of("not a zip").find("not a complete zip archive") != std::string::npos);
}

TEST_CASE("sb3: a file cut or changed anywhere never does more than throw") {
  const std::string bytes = write_archive(members_of_policy());
  for (std::size_t i = 0; i < bytes.size(); i += 7) {
    CHECK_FALSE(message_of(bytes.substr(0, i)).empty());
    std::string changed = bytes;
    changed[i] = static_cast<char>(changed[i] ^ (1 << (i % 8)));
    message_of(changed);  // other weights, or an Error
  }
}

TEST_SUITE("interop") {
  TEST_CASE("sb3: torch.save's own files in an archive of Python's zipfile") {
    const std::string python = RISTRETTO_SOURCE "/.venv-interop/bin/python";
    if (!std::filesystem::exists(python)) {
      MESSAGE("skipped: ", python, " is missing (scripts/setup --interop)");
      return;
    }
    const std::filesystem::path file = std::filesystem::temp_directory_path() / "ristretto_sb3_interop.zip";
    const std::string script =
        str("import io, json, torch, zipfile\n"
            "def saved(x):\n  b = io.BytesIO(); torch.save(x, b); return b.getvalue()\n"
            "m = torch.nn.Linear(3, 2); m.weight.data.copy_(torch.arange(6.).reshape(2, 3))\n"
            "with zipfile.ZipFile('",
            file.string(),
            "', 'w') as z:\n"
            "  z.writestr('data', json.dumps({'gamma': 0.9}))\n"
            "  z.writestr('policy.pth', saved(m.state_dict()))\n");
    REQUIRE(std::system(str(python, " -c \"", script, "\"").c_str()) == 0);
    const Sb3Policy policy = read_sb3_bytes(read_file(file), file.string());
    std::filesystem::remove(file);
    CHECK(find(policy.weights, "weight")->as_doubles() == std::vector<double>{0, 1, 2, 3, 4, 5});
    CHECK(policy.version.empty());
  }
}
