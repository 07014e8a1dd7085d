// promote and prune, as the program that users run.
#include <doctest/doctest.h>

#include <algorithm>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "agents/checkpoint.h"
#include "platform/atomic_file.h"
#include "platform/lock.h"
#include "platform/text.h"
#include "prepared_fixture.h"
#include "release/deployment.h"
#include "release/ledger.h"
#include "release/versions.h"
#include "train/service.h"

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
  SUBCASE("a staged directory of what is served is that; a damaged one changes nothing") {
    CHECK(promote("candidate") == 0);  // it is what is served
    CHECK(document()["reason"] == "model_0 serves " + first_id + " already");
    CHECK(ledger.read().openings.size() == 2);
    CHECK(store.list("model_0").size() == 2);
    CHECK(store.served("model_0") == first_id);
    std::ofstream(directory.path / "candidate/actor.pth", std::ios::app) << "x";
    CHECK(promote("candidate") == 4);
    CHECK(read_file(directory.path / "err").find("actor.pth") != std::string::npos);
    CHECK(store.list("model_0").size() == 2);
  }
  SUBCASE("what is served is not compared on bars that trained it") {
    auto earlier = small_retrain("model_0");
    earlier.insert(earlier.end(), {"--holdout-from", "2022-12-01", "--seed", "9"});
    CHECK(run(earlier) == 3);
    CHECK(store.served("model_0") == first_id);
    CHECK(store.history("model_0").back()["reason"].get<std::string>().find("cannot be compared") != std::string::npos);
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
    // The same again is the same look, by the name of a file in it too; at other costs it is another.
    CHECK(evaluate(second + "/actor.safetensors", {"--from", "2023-06-01"}) == 3);
    CHECK(evaluate(second, {"--from", "2023-06-01", "--fee-fraction", "0.003"}) == 4);
  }
  SUBCASE("what is wrong is said before anything is looked at") {
    CHECK(promote("1") == 0);  // served already
    CHECK(document()["served"] == true);
    CHECK(promote("9") == 2);
    CHECK(promote("2", {"--holdout-from", "2022-01-01"}) == 2);
    CHECK(read_file(directory.path / "err").find("had a part in the training of") != std::string::npos);
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
    CHECK(run({"rollback", "model_0", "--dry-run", "--json"}) == 0);
    const std::string would = document()["would_serve"];
    CHECK(run({"rollback", "model_0", "--json"}) == 0);
    CHECK(document()["served"] == would);
    CHECK(run({"prune", "--keep", "1", "--dry-run"}) == 0);
    CHECK(run({"prune", "--keep", "0"}) == 2);
    for (const std::vector<std::string>& more :
         std::vector<std::vector<std::string>>{{"prune", "other", "--keep", "1"},
                                               {"rollback", "other"},
                                               {"rollback", "other", "--dry-run"},
                                               {"history", "other"}}) {
      CAPTURE(more[0]);
      CHECK(run(more) == 2);
      CHECK(read_file(directory.path / "err").find("hint: there are: model_0") != std::string::npos);
      CHECK(store.names() == std::vector<std::string>{"model_0"});  // a typo makes no deployment
    }
  }
}

// A run that is trained, on bars that end 500 hours before those of the example.
struct RunFixture {
  TemporaryDirectory directory;
  nlohmann::json trained;

  static const std::filesystem::path& made() {
    static const TemporaryDirectory directory;
    static const bool once = [] {
      std::filesystem::create_directories(directory.path / "earlier");
      for (const auto& file : std::filesystem::directory_iterator(kSource + "/data/crypto_1h")) {
        std::vector<std::string> lines = split(read_file(file.path()), '\n');
        lines.resize(lines.size() - 501);
        write_file_atomically(directory.path / "earlier" / file.path().filename(), join(lines, "\n") + "\n");
      }
      std::vector<std::string> arguments = small_train("a run");
      std::find(arguments.begin(), arguments.end(), "--bars")[1] = "earlier";
      arguments.insert(arguments.end(), {"--threads", "1", "--json"});
      REQUIRE(finish(start(arguments, directory.path)) == 0);
      return true;
    }();
    (void)once;
    return directory.path;
  }
  RunFixture() {
    const std::string command = "cp -a '" + made().string() + "/.' '" + directory.path.string() + "'";
    REQUIRE(std::system(command.c_str()) == 0);
    trained = nlohmann::json::parse(read_file(directory.path / "out"));
  }
  int run(const std::vector<std::string>& arguments) const { return finish(start(arguments, directory.path)); }
  int promote(const std::vector<std::string>& more) const {
    std::vector<std::string> arguments = {"promote", "model_0", "--json", "--log-level", "off"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run(arguments);
  }
  nlohmann::json document() const { return nlohmann::json::parse(read_file(directory.path / "out")); }
  std::string errors() const { return read_file(directory.path / "err"); }
  void edit_origin(const std::function<void(nlohmann::json&)>& edit) const {
    const std::filesystem::path file = directory.path / "a run/origin.json";
    auto origin = nlohmann::json::parse(read_file(file));
    edit(origin);
    write_file_atomically(file, origin.dump());
  }
};

TEST_CASE("promote: a run becomes a version like a retrain's, judged on the bars that had no part in it and since") {
  const RunFixture fixture;
  const std::string bars = kSource + "/data/crypto_1h";
  const auto origin = nlohmann::json::parse(read_file(fixture.directory.path / "a run/origin.json"));

  REQUIRE(fixture.promote({"--run", "a run", "--bars", bars, "--dry-run"}) == 0);
  CHECK(fixture.document()["would_be_judged"] == true);
  CHECK(fixture.document()["against"].is_null());
  const std::int64_t holdout_bars = fixture.document()["holdout_bars"];
  CHECK_FALSE(std::filesystem::exists(fixture.directory.path / "deployments"));
  CHECK_FALSE(std::filesystem::exists(fixture.directory.path / "a run/deployment"));

  REQUIRE(fixture.promote({"--run", "a run", "--bars", bars}) == 0);
  const auto told = fixture.document();
  CHECK(told["served"] == true);
  CHECK(told["status"] == "unproven");
  CHECK(told["steps"] == fixture.trained["steps"]);
  CHECK(told["gates"].size() == 12 + 2 + 12);
  const std::filesystem::path deployed = fixture.directory.path / "deployments/model_0";
  release::verify(deployed);
  const auto manifest = nlohmann::json::parse(read_file(deployed / "manifest.json"));
  CHECK(manifest["study"]["trial"] == 134);
  CHECK(manifest["hyperparameters"]["gamma"]["source"] == "study trial 134");
  CHECK(manifest["hyperparameters"]["net_dimension"]["source"] == "command line");
  CHECK(manifest["hyperparameters"]["adam_epsilon"]["source"] == "default");
  CHECK(manifest["training"]["optimizer_steps"] == fixture.trained["optimizer_steps"]);
  CHECK(manifest["training"]["relative_weight_change"] == fixture.trained["relative_weight_change"]);
  CHECK(manifest["training"]["ended"] == "steps");
  const auto& data = manifest["data"];
  CHECK(data["splits"]["train"]["last_bar"] == origin["train"]["last_bar"]);
  CHECK(data["splits"]["validation"]["first_bar"] == origin["validation"]["first_bar"]);
  CHECK(data["splits"]["validation"]["last_bar"] == origin["validation"]["last_bar"]);
  CHECK(data["holdout_from"] == origin["holdout_from"]);
  CHECK(data["splits"]["holdout"]["first_bar"] > data["splits"]["validation"]["last_bar"]);
  CHECK(data["splits"]["holdout"]["last_bar"] == "2023-06-30T23:00:00Z");
  CHECK(data["splits"]["holdout"]["bars"] == holdout_bars);
  for (const auto& gate : told["gates"]) {
    // The study does not say what it has seen, and the hold-out is where the run's was: nobody says it.
    if (gate["name"] == "holdout") CHECK(gate["verdict"] == "no_evidence");
  }
  const release::Ledger ledger(fixture.directory.path / "deployments", "model_0");
  REQUIRE(ledger.read().openings.size() == 1);
  CHECK(ledger.read().openings[0].trials == 202);
  CHECK(ledger.read().openings[0].bars == holdout_bars);

  SUBCASE("the same again is that version, however it is named; trained on it is another, and has looked before") {
    CHECK(fixture.promote({"a run", "--bars", bars}) == 0);
    CHECK(fixture.document()["reason"].get<std::string>().find("serves 0001-") != std::string::npos);
    CHECK(ledger.read().openings.size() == 1);
    // Whatever is validated next is better.
    agents::Checkpoint checkpoint = agents::read_checkpoint(fixture.directory.path / "a run/checkpoint");
    checkpoint.fields.at("best_score") = "-1000";
    agents::write_checkpoint(fixture.directory.path / "a run/checkpoint", checkpoint);
    REQUIRE(fixture.run({"train", "--resume", "--run", "a run", "--bars", bars, "--steps", "12288", "--quiet"}) == 0);
    const int code = fixture.promote({"a run", "--bars", bars, "--holdout-from", "2023-03-01"});
    CHECK((code == 0 || code == 3));
    const release::LedgerRecord record = ledger.read();
    REQUIRE(record.openings.size() == 2);
    CHECK(record.openings[1].candidate == record.openings[0].candidate);
    CHECK(release::VersionStore(fixture.directory.path / "deployments").list("model_0").size() == 2);
    for (const auto& gate : fixture.document()["gates"]) {
      if (gate["name"] == "holdout") CHECK(gate["verdict"] == "refused");
    }
  }
}

TEST_CASE("promote: a run that cannot be judged is refused in a sentence, and nothing has looked") {
  const RunFixture fixture;
  const auto refused = [&](const std::vector<std::string>& arguments, int code, const char* text) {
    CHECK(fixture.promote(arguments) == code);
    const std::string errors = fixture.errors();
    CAPTURE(errors);
    CHECK(errors.find(text) != std::string::npos);
    CHECK_FALSE(std::filesystem::exists(fixture.directory.path / "deployments/.versions"));
  };
  refused({"--run", "nowhere"}, 2, "holds no run");
  refused({"--run", "earlier"}, 2, "holds no run");
  refused({"--run", "a run", "--holdout-from", "2022-01-01"}, 2, "had a part in the training of a run");
  refused({"--run", "a run", "--fee-fraction", "0.004"}, 2, "was trained with 0.0025");
  {
    const FileLock lock(fixture.directory.path / "a run/.lock", "train");
    refused({"--run", "a run"}, 5, "a run/.lock");
  }
  // One price of the training's is another one.
  const std::filesystem::path file = fixture.directory.path / "earlier/BTC_USD.csv";
  const std::string before = read_file(file);
  std::vector<std::string> lines = split(before, '\n'), fields = split(lines[1000], ',');
  const std::vector<std::string> names = split(lines[0], ',');
  for (std::size_t k = 0; k < names.size(); ++k) {
    if (names[k] == "close")
      fields[k] = fields[static_cast<std::size_t>(std::find(names.begin(), names.end(), "high") - names.begin())];
  }
  lines[1000] = join(fields, ",");
  REQUIRE(join(lines, "\n") != before);
  write_file_atomically(file, join(lines, "\n"));
  refused({"--run", "a run"}, 4, "was trained on the bars");
  write_file_atomically(file, before);

  const std::filesystem::path kept = fixture.directory.path / "a run/checkpoint";
  const agents::Checkpoint whole = agents::read_checkpoint(kept);
  agents::Checkpoint unvalidated = whole;
  unvalidated.fields.erase("best_score");
  agents::write_checkpoint(kept, unvalidated);
  refused({"--run", "a run"}, 2, "holds no weights that were validated");
  agents::Checkpoint untrained = whole;
  untrained.fields["optimizer_steps"] = "0";
  agents::write_checkpoint(kept, untrained);
  refused({"--run", "a run"}, 1, "nothing was learned, and nothing is judged");
  agents::write_checkpoint(kept, whole);

  fixture.edit_origin([](auto& origin) { origin["making"]["study"]["seen_until"] = "2023-06-01T00:00:00Z"; });
  refused({"--run", "a run"}, 2, "was chosen by bars up to 2023-06-01");
  fixture.edit_origin([](auto& origin) { origin["making"]["study"]["seen_until"] = 3; });
  fixture.edit_origin([](auto& origin) { origin.erase("holdout_from"); });
  refused({"--run", "a run"}, 4, "no time at /holdout_from");
  std::filesystem::remove(fixture.directory.path / "a run/origin.json");
  refused({"--run", "a run"}, 2, "does not say which bars it has seen");
  std::filesystem::remove_all(fixture.directory.path / "a run/checkpoint");
  refused({"--run", "a run"}, 2, "has no checkpoint/");
}

TEST_CASE("promote: that a version is in service is said, also where the disk is full before that is recorded") {
  const Copy copy;
  const std::string first = copy.store().served("model_0").value(), second = copy.store().list("model_0")[1].id;
  std::string full_from;
  bool full = false;
  release::StoreOptions options;
  options.before_step = [&](const std::string& step) {
    full = full || step == full_from;
    if (full && step == "history") throw Error(Fault::failed, "history.jsonl: No space left on device", "free space");
  };
  release::VersionStore store(copy / "deployments", options);
  const auto serve = [&] {
    serve_version(store, "model_0", second, first, {true, "better, unproven", "for a test"}, release::Json::array());
  };
  full_from = "history";  // the recovery's, before anything is switched
  std::filesystem::remove(copy / "deployments/.versions/model_0/history.jsonl");
  CHECK_THROWS_WITH_AS(serve(), "history.jsonl: No space left on device", Error);
  CHECK(store.served("model_0") == first);
  full_from = "serve: switch";
  full = false;
  CHECK_THROWS_WITH_AS(serve(),
                       str("model_0 serves version ", second,
                           " now, but that could not be recorded: history.jsonl: No space left on device")
                           .c_str(),
                       Error);
  CHECK(store.served("model_0") == second);
}

TEST_CASE("promote: one of a version, a run and a trial is named; a trial is trained as retrain trains it") {
  const TemporaryDirectory directory;
  const auto run = [&](const std::vector<std::string>& arguments) { return finish(start(arguments, directory.path)); };
  CHECK(run({"promote", "model_0"}) == 2);
  CHECK(run({"promote", "model_0", "2", "--version", "2"}) == 2);
  CHECK(run({"promote", "model_0", "--version", "2", "--run", "x"}) == 2);
  CHECK(read_file(directory.path / "err").find("one of VERSION, --version V, --run DIR and --trial N") !=
        std::string::npos);
  CHECK(run({"promote", "model_0", "--version", "2", "--storage", "x.db"}) == 2);
  CHECK(read_file(directory.path / "err").find("add --trial N") != std::string::npos);
  CHECK(run({"promote", "model_0", "--trial", "134"}) == 2);
  CHECK(read_file(directory.path / "err").find("need --storage") != std::string::npos);
  std::vector<std::string> arguments = small_retrain("model_0");
  arguments[0] = "promote";
  arguments.insert(arguments.end(), {"--trial=16", "--json"});
  std::vector<std::string> dry = arguments;
  dry.emplace_back("--dry-run");
  REQUIRE(run(dry) == 0);
  const auto planned = nlohmann::json::parse(read_file(directory.path / "out"));
  CHECK(planned["hyperparameters_from"][0].get<std::string>().find("trial 16 ") != std::string::npos);
  REQUIRE(run(arguments) == 0);
  const auto manifest = nlohmann::json::parse(read_file(directory.path / "deployments/model_0/manifest.json"));
  CHECK(manifest["study"]["trial"] == 16);
  CHECK(manifest["status"] == "unproven");
}

}  // namespace ristretto::train
