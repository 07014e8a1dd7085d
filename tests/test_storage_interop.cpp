// Files that we write read by real Optunas, and theirs by us (study.md, "Conformance tests", A, B, D, G).
#include "optuna_peers.h"
#include "storage_scenarios.h"
#include "studies/distribution.h"
#include "studies/samplers/search_space.h"
#include "studies/storage.h"

using namespace ristretto;
using namespace ristretto::studies;
using agents::Choices;
using agents::FloatRange;
using agents::IntRange;
using agents::Value;

namespace {

// Optuna's `best` of each study by its command line, from the first study on.
struct Ranking {
  const char* name;
  Direction direction;
  std::vector<std::pair<State, double>> trials;
};
const Ranking kRankings[] = {
    {"min", Direction::minimize, {{State::complete, 2}, {State::complete, -1}, {State::complete, 5}}},
    {"max", Direction::maximize, {{State::complete, 2}, {State::complete, -1}, {State::complete, 5}}},
    {"inf", Direction::minimize, {{State::complete, kInfinity}, {State::complete, 1}, {State::complete, kInfinity}}},
    {"minus_inf", Direction::minimize, {{State::complete, 2}, {State::complete, -kInfinity}, {State::complete, 1}}},
    {"ties", Direction::maximize, {{State::complete, 1}, {State::complete, 3}, {State::complete, 3}}},
    {"pruned", Direction::minimize, {{State::pruned, -9}, {State::complete, 3}, {State::fail, 0}}},
};

int run(const std::string& version, const std::vector<std::string>& arguments, const std::string& out,
        bool with_errors = false) {
  std::vector<std::string> command = {optuna_bin(version) + "optuna"};
  command.insert(command.end(), arguments.begin(), arguments.end());
  return Process(command, {"TZ=UTC", "PYTHONWARNINGS=ignore"}, out, with_errors).wait();
}

}  // namespace

TEST_SUITE("interop") {
  TEST_CASE("storage: Optuna opens the files that we make, needs no upgrade, and reads all that we write") {
    for (const std::string& version : installed({"3.1.0", "4.9.0", "5.0.0"})) {
      for (const char* zone : {"UTC", "Asia/Tokyo"}) {
        INFO(version << " " << zone);
        use_time_zone(zone);
        const Scratch scratch;
        const std::string path = (scratch.path / "ours.db").string(), out = (scratch.path / "out").string();
        NewStorage wanted;
        wanted.revision = revision_of(version);
        wanted.library_version = version;
        scenario::write_everything(*create_storage(path, wanted));
        CHECK(disagreement(version, path, path + ".json", zone) == "");
        CHECK(run(version, {"storage", "upgrade", "--storage", "sqlite:///" + path}, out, true) == 0);
        CHECK(contains(bytes_of(out), "This storage is up-to-date."));
        CHECK(open_storage(path)->info().revision == wanted.revision);
        use_time_zone("UTC");
      }
    }
  }

  TEST_CASE("storage: what each Optuna writes reads as it reads it, best trials included") {
    for (const std::string& version : installed({"3.1.0", "4.9.0", "5.0.0"})) {
      for (const char* zone : {"UTC", "Asia/Tokyo"}) {
        INFO(version << " " << zone);
        use_time_zone(zone);
        const Scratch scratch;
        const std::string path = (scratch.path / "theirs.db").string();
        REQUIRE(optuna_peer(version, {"corpus", path}, "/dev/null", zone).wait() == 0);
        const std::string before = bytes_of(path);
        CHECK(disagreement(version, path, path + ".json", zone) == "");
        CHECK(bytes_of(path) == before);
        use_time_zone("UTC");
      }
    }
  }

  TEST_CASE("storage: Optuna's command line ranks our trials as we do") {
    for (const std::string& version : installed({"3.1.0", "4.9.0", "5.0.0"})) {
      const Scratch scratch;
      const std::string path = (scratch.path / "ours.db").string(), out = (scratch.path / "out").string();
      NewStorage wanted;
      wanted.revision = revision_of(version);
      const auto storage = create_storage(path, wanted);
      const auto answer = [&](std::vector<std::string> arguments) {
        arguments.insert(arguments.end(), {"--storage", "sqlite:///" + path, "-f", "json"});
        CHECK(run(version, arguments, out) == 0);
        return formats::read_json(bytes_of(out), arguments[0]);
      };
      for (const Ranking& ranking : kRankings) {
        INFO(version << " " << ranking.name);
        const std::int64_t study = storage->create_study(ranking.name, {ranking.direction});
        for (const auto& [state, value] : ranking.trials) {
          const Trial trial = storage->create_trial(study);
          if (state == State::pruned) storage->report(trial.id, 0, value);
          storage->finish(trial.id, state, state == State::complete ? std::vector{value} : std::vector<double>{});
        }
        const Json best = answer({"best-trial", "--study-name", ranking.name});
        const Study read = storage->read_study(ranking.name);
        REQUIRE(best.find("number") != nullptr);
        // 3.1 sorts an infinity, a NULL in the table, as the smallest number (study.md, "Value forms").
        if (version == "3.1.0" && ranking.name == std::string("inf")) continue;
        CHECK(best.find("number")->integer == best_trial(read)->number);
      }
      CHECK(answer({"studies"}).items.size() == std::size(kRankings));
      CHECK(answer({"trials", "--study-name", "pruned"}).items.size() == 3);
      CHECK(answer({"best-trials", "--study-name", "max"}).items.size() == 1);
    }
  }

  TEST_CASE("storage: Optuna goes on with a study of ours, and we read it back") {
    for (const std::string& version : installed({"3.1.0", "4.9.0", "5.0.0"})) {
      INFO(version);
      const Scratch scratch;
      const std::string path = (scratch.path / "ours.db").string(), out = (scratch.path / "out").string();
      NewStorage wanted;
      wanted.revision = revision_of(version);
      wanted.library_version = version;
      const auto storage = create_storage(path, wanted);
      const std::int64_t study = storage->create_study("s", {Direction::minimize});
      scenario::six_trials(*storage, study);
      CHECK(optuna_peer(version, {"go_on", path, "s", "20"}).wait() == 0);
      const Study read = storage->read_study("s");
      CHECK(read.trials.size() == 26);
      CHECK(std::any_of(read.trials.begin() + 6, read.trials.end(), [](const Trial& trial) {
        return find(trial.system_attributes, "completed_rung_0") != nullptr;
      }));
      CHECK(disagreement(version, path, path + ".json") == "");

      CHECK(optuna_peer(version, {"intersection", path, "s"}, out).wait() == 0);
      std::string space;
      for (const auto& [name, range] : intersection_space(read, true))
        space += str(name, " ", write_distribution(range), "\n");
      CHECK(!space.empty());
      CHECK(bytes_of(out) == space);

      // Both refuse a distribution that conflicts, in the same words.
      CHECK(optuna_peer(version, {"conflicts", path, "s"}, out).wait() == 0);
      const std::vector<std::string> theirs = split(bytes_of(out), '\n');
      REQUIRE(theirs.size() == 4);
      const Trial trial = storage->create_trial(study);
      const std::pair<const char*, agents::Range> conflicts[] = {
          {"x", IntRange{0, 5}}, {"x", FloatRange{0.5, 5, 0, true}}, {"kind", Choices{{Value("other")}}}};
      for (std::size_t i = 0; i < 3; ++i) {
        const Value value = i == 2 ? Value("other") : Value(std::int64_t{1});
        const Caught ours =
            caught([&] { storage->set_param(trial.id, conflicts[i].first, value, conflicts[i].second); });
        CHECK(contains(ours.text, theirs[i]));
        CHECK(contains(theirs[i], i == 2 ? "dynamic value space" : "to the same parameter name"));
      }
    }
  }

  TEST_CASE("storage: a live study in Python sees each of our trials once, with its final values") {
    for (const std::string& version : installed({"3.1.0", "4.9.0", "5.0.0"})) {
      INFO(version);
      const Scratch scratch;
      const std::string path = (scratch.path / "ours.db").string(), out = (scratch.path / "out").string();
      NewStorage wanted;
      wanted.revision = revision_of(version);
      const auto storage = create_storage(path, wanted);
      const std::int64_t study = storage->create_study("s", {Direction::minimize});
      constexpr int kTrials = 150;
      Process peer = optuna_peer(version, {"poll", path, "s", str(kTrials), out});
      std::vector<Trial> under_way;  // two at a time, so that they do not end in their order
      const auto end = [&](const Trial& trial) {
        storage->set_param(trial.id, "x", 0.5, FloatRange{0, 1});
        storage->report(trial.id, 0, static_cast<double>(trial.number));
        storage->finish(trial.id, trial.number % 5 == 0 ? State::pruned : State::complete,
                        trial.number % 5 == 0 ? std::vector<double>{} : std::vector{static_cast<double>(trial.number)});
        sleep_ms(10);
      };
      for (int i = 0; i < kTrials / 2; ++i) {
        const Trial first = storage->create_trial(study), second = storage->create_trial(study);
        end(second);
        end(first);
      }
      REQUIRE(peer.wait() == 0);
      const Json seen = formats::read_json(bytes_of(out), out);
      REQUIRE(seen.items.size() == kTrials);
      for (const Trial& trial : storage->read_study("s").trials) {
        const Json& row = seen.items[static_cast<std::size_t>(trial.number)];
        CHECK(row.items[0].integer == trial.number);
        CHECK(row.items[1].text == name_of(trial.state));
        CHECK(row.items[2].items.at(0).real == trial.values.at(0));
        CHECK(row.items[3].integer == 1);
        CHECK(row.items[4].integer == 1);
      }
    }
  }

  TEST_CASE("storage: JSON is written byte for byte as json.dumps does") {
    for (const std::string& version : installed({"4.9.0"})) {
      const Scratch scratch;
      const std::string out = (scratch.path / "lines").string();
      REQUIRE(optuna_peer(version, {"json_fuzz", "-", out, "5000"}).wait() == 0);
      std::size_t lines = 0, different = 0;
      for (const std::string& line : split(bytes_of(out), '\n')) {
        if (line.empty()) continue;
        ++lines;
        const std::string ours = formats::write_json(formats::read_json(line, out));
        if (ours != line && ++different < 4) CHECK(ours == line);
      }
      CHECK(different == 0);
      CHECK(lines == 5000);
    }
  }

  TEST_CASE("storage: optuna-dashboard shows our studies and trials") {
    for (const std::string& version : installed({"4.9.0"})) {
      const Scratch scratch;
      const std::string path = (scratch.path / "ours.db").string(), out = (scratch.path / "out").string();
      const auto storage = create_storage(path);
      scenario::write_everything(*storage);
      REQUIRE(optuna_peer(version, {"dashboard", path, out}).wait() == 0);
      const Json shown_there = formats::read_json(bytes_of(out), out);
      REQUIRE(shown_there.members.size() == storage->study_names().size());
      for (const std::string& name : storage->study_names()) {
        REQUIRE(shown_there.find(name) != nullptr);
        CHECK(shown_there.find(name)->items.size() == storage->read_study(name).trials.size());
      }
    }
  }
}
