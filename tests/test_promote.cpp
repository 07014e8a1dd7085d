// promote and prune, as the program that users run.
#include <doctest/doctest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "platform/atomic_file.h"
#include "platform/lock.h"
#include "prepared_fixture.h"
#include "release/ledger.h"
#include "release/versions.h"

namespace ristretto::train {

TEST_CASE("promote: a version is judged against what is served now, once for the same bars; refusals exit 3") {
  const Copy copy;
  const TemporaryDirectory& directory = copy.directory;
  const auto run = [&](const std::vector<std::string>& arguments) { return finish(start(arguments, directory.path)); };
  const auto document = [&] { return nlohmann::json::parse(read_file(directory.path / "out")); };
  const auto promote = [&](const std::string& what, const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments = {"promote", "model_0",     what, "--bars", kSource + "/data/crypto_1h",
                                          "--json",  "--log-level", "off"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run(arguments);
  };
  const release::VersionStore store(directory.path / "deployments");
  const release::Ledger ledger(directory.path / "deployments", "model_0");
  const std::string first_id = store.served("model_0").value();
  REQUIRE(store.list("model_0").size() == 2);
  REQUIRE(ledger.read().openings.size() == 2);
  const bool better = store.list("model_0")[1].status == "better, unproven";

  SUBCASE("--dry-run looks at nothing and changes nothing") {
    CHECK(promote("2", {"--dry-run"}) == 0);
    CHECK(document()["would_be_judged"] == true);
    CHECK(document()["against"] == first_id);
    CHECK(ledger.read().openings.size() == 2);
    CHECK(store.served("model_0") == first_id);
  }
  SUBCASE("its recorded verdict stands while nothing has changed") {
    CHECK(promote("2") == (better ? 0 : 3));
    CHECK(document()["served"] == better);
    CHECK(ledger.read().openings.size() == 2);
    CHECK(store.history("model_0").back()["event"] == (better ? "promotion" : "refusal"));
  }
  SUBCASE("with other thresholds it is judged again, and the second look is held against it") {
    std::ofstream(directory.path / "gates.ini") << "seeds_minimum = 1\n";
    CHECK(promote("2", {"--gates", "gates.ini"}) == (better ? 0 : 3));
    CHECK(ledger.read().openings.size() == 3);
    const auto told = document();
    REQUIRE(told["gates"].size() == 12 + 2 + 12);
    for (const auto& gate : told["gates"]) {
      if (gate["name"] == "holdout") CHECK(gate["verdict"] == "refused");
      if (gate["name"] == "seeds") CHECK(gate["threshold"] == "at least 1; the worst quarter at least 0");
      if (gate["kind"] == "integrity") CHECK(gate["verdict"] == "passed");
    }
  }
  SUBCASE("a staged directory becomes a version; a damaged one changes nothing") {
    CHECK(promote("candidate") == 3);  // it is no better than itself
    CHECK(document()["status"] == "refused");
    CHECK(store.list("model_0").size() == 3);
    CHECK(store.served("model_0") == first_id);
    std::ofstream(directory.path / "candidate/actor.pth", std::ios::app) << "x";
    CHECK(promote("candidate") == 4);
    CHECK(read_file(directory.path / "err").find("actor.pth") != std::string::npos);
    CHECK(store.list("model_0").size() == 3);
  }
  SUBCASE("whoever evaluates a version that is not served on bars that judged nothing of it yet has looked") {
    const auto evaluate = [&](const std::string& version, const std::vector<std::string>& more) {
      std::vector<std::string> arguments = {"evaluate", version, "--bars", kSource + "/data/crypto_1h", "--json"};
      arguments.insert(arguments.end(), more.begin(), more.end());
      REQUIRE(run(arguments) == 0);
      return document()["look"];
    };
    const std::string second = "deployments/.versions/model_0/" + store.list("model_0")[1].id;
    CHECK(evaluate(second, {}).is_null());  // its own hold-out: judged, and counted then
    CHECK(evaluate("deployments/model_0", {}).is_null());
    // As if it had been judged on earlier bars only.
    const std::filesystem::path manifest = directory.path / second / "manifest.json";
    std::filesystem::permissions(manifest, std::filesystem::perms{0644});
    auto judged = nlohmann::json::parse(read_file(manifest));
    judged["data"]["splits"]["holdout"]["last_bar"] = "2023-05-31T23:00:00Z";
    std::filesystem::permissions(directory.path / second, std::filesystem::perms{0755});
    write_file_atomically(manifest, judged.dump());
    CHECK(evaluate(second, {"--to", "2023-06-01"}).is_null());
    CHECK(evaluate(second, {"--from", "2023-06-01"}) == 3);
    const release::LedgerRecord record = ledger.read();
    REQUIRE(record.openings.size() == 3);
    CHECK(record.openings[2].purpose == release::kEvaluation);
    CHECK(record.openings[2].bars > 700);
    CHECK(record.openings[2].result.has_value());
    CHECK(record.looks(judged["training"]["candidate"]) == 2);
  }
  SUBCASE("what is wrong is said before anything is looked at") {
    CHECK(promote("1") == 2);  // served already
    CHECK(promote("9") == 2);
    CHECK(promote("2", {"--holdout-from", "2022-01-01"}) == 2);
    CHECK(read_file(directory.path / "err").find("trained") != std::string::npos);
    CHECK(promote("2", {"--fee-fraction", "0.001"}) == 2);
    CHECK(read_file(directory.path / "err").find("at lower costs") != std::string::npos);
    const FileLock lock(directory.path / "runs/.model_0.lock", "test");
    CHECK(promote("2") == 5);
    CHECK(ledger.read().openings.size() == 2);
  }
  SUBCASE("rollback and prune say what they would do, as text and as JSON") {
    CHECK(run({"rollback", "model_0", "--to", "2", "--dry-run", "--json"}) == 0);
    CHECK(document()["would_serve"] == store.list("model_0")[1].id);
    CHECK(run({"prune", "model_0", "--keep", "1", "--json"}) == 0);
    CHECK(document()["removed"]["model_0"].empty());
    CHECK(run({"rollback", "model_0", "--to", "2", "--json"}) == 0);
    CHECK(run({"prune", "--keep", "1", "--dry-run"}) == 0);
    CHECK(run({"prune", "--keep", "0"}) == 2);
    CHECK(run({"prune", "other", "--keep", "1"}) == 2);
  }
}

}  // namespace ristretto::train
