#include <doctest/doctest.h>

#include <fstream>

#include "agents/policy.h"
#include "env/layout.h"
#include "platform/error.h"
#include "release/manifest.h"
#include "release_fixture.h"

using namespace ristretto;
using namespace ristretto::release;

namespace {

void write_text(const std::filesystem::path& path, const std::string& text) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << text;
}

}  // namespace

TEST_CASE("manifest: architecture, layout and rules come back as they were") {
  const Content content = small_content(agents::Network::ft_transformer);
  const Json text = Json::parse(line_of(section_of(content.architecture)));
  const agents::Architecture architecture = architecture_of(text, "test");
  CHECK(architecture.network == agents::Network::ft_transformer);
  CHECK(architecture.observation == 15);
  CHECK(architecture.width == 8);
  CHECK(architecture.actions == 2);
  CHECK(architecture.encoder.d_token == 4);
  CHECK(architecture.encoder.blocks == 2);
  CHECK(architecture.encoder.heads == 2);
  CHECK(layout_of(Json::parse(line_of(section_of(content.layout))), "test") == content.layout);

  env::Rules rules = content.rules;
  rules.fee_fraction = 0.1;
  rules.slippage_fraction = 0.002;
  rules.spread_fraction = 0.003;
  rules.norm_reward = 0.001953125;
  const env::Rules back = rules_of(Json::parse(line_of(section_of(rules))), "test");
  CHECK(back.assets == 2);
  CHECK(back.lookback == 2);
  CHECK(back.fee_fraction == rules.fee_fraction);
  CHECK(back.slippage_fraction == rules.slippage_fraction);
  CHECK(back.spread_fraction == rules.spread_fraction);
  Json older = section_of(rules);
  older.erase("slippage_fraction");
  older.erase("spread_fraction");
  CHECK(env::cost_fraction(rules_of(older, "test")) == rules.fee_fraction);
  CHECK(back.norm_reward == rules.norm_reward);
  CHECK(back.min_qty[1] == rules.min_qty[1]);
}

TEST_CASE("manifest: a layout whose names contradict its parts is refused, and so is an unknown network") {
  Json layout = section_of(small_layout());
  layout["names"][1] = "holding:ETH/USD";
  CHECK_THROWS_WITH_AS(layout_of(layout, "test"), doctest::Contains("are not those"), Error);
  // As damage, so that what is served with it is replaced; and before a name is made, for these would be 250 million.
  for (const int lookback : {0, -1, 1000}) {
    layout = section_of(small_layout());
    layout["lookback"] = lookback;
    layout["assets"] = layout["features"] = std::vector<std::string>(500, "a");
    CAPTURE(lookback);
    CHECK_THROWS_WITH_AS(layout_of(layout, "test"), doctest::Contains("are not those"), Error);
  }
  layout.erase("names");
  CHECK_THROWS_WITH_AS(layout_of(layout, "file.json"), doctest::Contains("file.json: the section 'layout'"), Error);
  CHECK_THROWS_WITH_AS(architecture_of({{"network", "rnn"}}, "test"), doctest::Contains("'rnn'"), Error);
}

TEST_CASE("manifest: the layout's hash depends on names and scales") {
  const env::Layout layout = small_layout();
  env::Layout scaled = layout, exchanged = layout;
  scaled.scales.tech_exp = -13;
  std::swap(exchanged.assets[0], exchanged.assets[1]);
  CHECK(hash_of(layout).size() == 16);
  CHECK(hash_of(layout) != hash_of(scaled));
  CHECK(hash_of(layout) != hash_of(exchanged));
}

TEST_CASE("manifest: a changed, missing or added file is named; training/ may be gone") {
  const Scratch scratch;
  const std::filesystem::path directory = scratch / "v";
  write_text(directory / "actor.pth", "weights");
  write_text(directory / "best_trial", "trial");
  write_text(directory / "training/checkpoint.safetensors", "state");
  const Json manifest{{"schema_version", kSchemaVersion}, {"files", files_of(directory)}};
  CHECK(manifest["files"].size() == 3);
  CHECK(manifest["files"]["actor.pth"]["bytes"] == 7);
  write_manifest(directory / kManifest, manifest);
  CHECK(read_manifest(directory).value() == manifest);
  CHECK_NOTHROW(require_files(directory, manifest));

  std::filesystem::remove_all(directory / "training");
  CHECK_NOTHROW(require_files(directory, manifest));
  write_text(directory / "critic.pth", "more");
  CHECK_THROWS_WITH_AS(require_files(directory, manifest), doctest::Contains("critic.pth is not in the manifest"),
                       Error);
  std::filesystem::remove(directory / "critic.pth");
  write_text(directory / "actor.pth", "Weights");
  CHECK_THROWS_WITH_AS(require_files(directory, manifest), doctest::Contains("actor.pth has sha256"), Error);
  std::filesystem::remove(directory / "actor.pth");
  CHECK_THROWS_WITH_AS(require_files(directory, manifest), doctest::Contains("actor.pth is missing"), Error);
  std::filesystem::create_symlink("/etc/passwd", directory / "actor.pth");
  CHECK_THROWS_WITH_AS(files_of(directory), doctest::Contains("neither a file nor a directory"), Error);
}

TEST_CASE("manifest: the content hash depends on names and contents, not on order") {
  const Json a{{"x", {{"sha256", "11"}}}, {"y", {{"sha256", "22"}}}};
  const Json reordered{{"y", {{"sha256", "22"}}}, {"x", {{"sha256", "11"}}}};
  const Json exchanged{{"x", {{"sha256", "22"}}}, {"y", {{"sha256", "11"}}}};
  CHECK(content_hash(a).size() == 12);
  CHECK(content_hash(a) == content_hash(reordered));
  CHECK(content_hash(a) != content_hash(exchanged));
}

TEST_CASE("manifest: a text or a time at a JSON pointer is nothing where it is absent, null or of another kind") {
  const Json manifest{{"data", {{"holdout_from", "2023-03-01T00:00:00Z"}, {"bars", 3}, {"note", "none"}}},
                      {"study", nullptr}};
  CHECK(text_at(manifest, "/data/holdout_from") == "2023-03-01T00:00:00Z");
  CHECK(time_at(manifest, "/data/holdout_from") == 1677628800);
  CHECK_FALSE(time_at(manifest, "/data/note"));
  for (const char* absent : {"/data/bars", "/data/other", "/study", "/study/seen_until", "/data/note/x"}) {
    CAPTURE(absent);
    CHECK_FALSE(text_at(manifest, absent));
  }
}

TEST_CASE("manifest: one that is no JSON object or of another schema is refused") {
  const Scratch scratch;
  CHECK_FALSE(read_manifest(scratch.path()));
  write_text(scratch / kManifest, "{\"schema_version\": 1,");
  CHECK_THROWS_WITH_AS(read_manifest(scratch.path()), doctest::Contains("is not a JSON object"), Error);
  write_text(scratch / kManifest, "{\"schema_version\": 2}");
  CHECK_THROWS_WITH_AS(read_manifest(scratch.path()), doctest::Contains("schema_version 2, expected 1"), Error);
}
