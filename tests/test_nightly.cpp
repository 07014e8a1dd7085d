// The nightly job, as the program that users run.
#include <doctest/doctest.h>
#include <httplib.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "agents/checkpoint.h"
#include "beatable_fixture.h"
#include "platform/atomic_file.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/lock.h"
#include "platform/text.h"
#include "release/ledger.h"
#include "release/versions.h"
#include "studies/storage.h"
#include "train/night_work.h"
#include "train/sweep.h"
#include "train/webhook.h"

namespace ristretto::train {
namespace {

// The job's options, with small trainings; deployments' own best trials give the rest.
std::vector<std::string> small_night(const std::string& bars, const std::vector<std::string>& more = {}) {
  std::vector<std::string> arguments = {
      "nightly", "--bars",       bars,   "--portfolios", "64",     "--base-target-step",
      "32",      "--batch-size", "1024", "--steps",      "8192",   "--learning-rate",
      "1e-3",    "--device",     "cpu",  "--json",       "--quiet"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

// All bars but the last `without`, under directory/bars.
void write_bars(const std::filesystem::path& directory, std::size_t without) {
  std::filesystem::create_directories(directory / "bars");
  for (const auto& entry : std::filesystem::directory_iterator(kSource + "/data/crypto_1h")) {
    if (entry.path().extension() != ".csv") continue;
    std::vector<std::string> lines = split(read_file(entry.path()), '\n');
    while (!lines.empty() && lines.back().empty()) lines.pop_back();
    lines.resize(lines.size() - without);
    write_file_atomically(directory / "bars" / entry.path().filename(), join(lines, "\n") + "\n");
  }
}

struct Place {
  TemporaryDirectory directory;
  nlohmann::json document;

  int run(const std::vector<std::string>& arguments) {
    const int code = finish(start(arguments, directory.path));
    const std::string out = read_file(directory.path / "out");
    document = nlohmann::json::parse(out, nullptr, false);
    return code;
  }
  std::string errors() const { return read_file(directory.path / "err"); }
  void deploy(const std::string& name, const std::string& bars) {
    auto arguments = small_retrain(name);
    arguments.insert(arguments.end(), {"--bars", bars});
    arguments.erase(std::find(arguments.begin(), arguments.end(), "--bars"),
                    std::find(arguments.begin(), arguments.end(), "--bars") + 2);
    REQUIRE(run(arguments) == 0);
  }
  release::VersionStore store() const { return release::VersionStore(directory.path / "deployments"); }
};

// A journal of a night that was cut an hour ago, as versions before the counts of attempts wrote it.
nlohmann::json cut_model(const std::string& name, const std::string& state) {
  return {{"name", name}, {"state", state}, {"run", "runs/a"}, {"holdout_from", nullptr}, {"version", ""},
          {"status", ""}, {"reason", ""},   {"report", ""},    {"new_bars", 0},           {"retrain", nullptr}};
}

nlohmann::json cut_night(const std::vector<nlohmann::json>& models) {
  return {{"format", 1},         {"id", "x"},       {"started", iso_utc(now_seconds() - 3600)},
          {"finished", nullptr}, {"seconds", 5},    {"study", ""},
          {"sweep", ""},         {"models", models}};
}

// How a model's night ended: in a few lines, so that it is whole in what a failed test prints.
std::string told_of(const nlohmann::json& model) {
  return str(model.value("name", ""), " is ", model.value("state", ""), ": ", model.value("reason", ""));
}

}  // namespace

TEST_CASE("nightly: what has new bars is retrained and judged on the old hold-out and the new bars together") {
  Place place;
  write_bars(place.directory.path, 48);
  place.deploy("model_0", "bars");
  place.deploy("model_1", "bars");
  REQUIRE(place.run(small_night("bars")) == 0);
  CHECK(place.document["models"][0]["state"] == "not due");
  CHECK(place.document["finished"].is_string());
  CHECK(place.store().list("model_0").size() == 1);

  write_bars(place.directory.path, 0);
  REQUIRE(place.run(small_night("bars", {"--dry-run"})) == 0);
  CHECK(place.document["models"][0]["state"] == "due");
  CHECK(place.document["models"][0]["new_bars"] == 48);
  CHECK(place.store().list("model_0").size() == 1);

  const int code = place.run(small_night("bars", {"--seed", "7"}));
  bool any = false;
  for (const auto& model : place.document["models"]) {
    INFO(told_of(model));
    CHECK((model["state"] == "served" || model["state"] == "kept"));
    any = any || model["state"] == "served";
    CHECK(std::filesystem::exists(model["report"].get<std::string>()));
  }
  CHECK(code == (any ? 0 : 3));
  const auto openings = release::Ledger(place.directory.path / "deployments", "model_0").read().openings;
  REQUIRE(openings.size() == 2);
  CHECK(openings[0].first_bar == openings[1].first_bar);
  CHECK(openings[0].last_bar + 48 * 3600 == openings[1].last_bar);
  // The second was chosen by the same study's trials, by way of the deployment: they count once.
  REQUIRE(openings[0].studies.size() == 1);
  CHECK(openings[0].studies[0].count == openings[0].trials - 1);
  CHECK(openings[0].studies[0].id.find(" begun 20") != std::string::npos);
  CHECK(openings[1].studies == openings[0].studies);
  const std::string id = place.document["id"];
  for (const char* file : {"report.html", "report.json"}) {
    CHECK(std::filesystem::exists(place.directory.path / "runs/nightly" / id / file));
  }
  const std::string page = read_file(place.directory.path / "runs/nightly" / id / "report.html");
  CHECK(page.find("name=\"viewport\"") != std::string::npos);
  CHECK(page.find("href=\"../../model_0") != std::string::npos);
  CHECK(page.find("file://") == std::string::npos);
  CHECK(place.store().check("model_0").empty());

  // The night after makes room: what was published needs no checkpoint any more.
  const auto checkpoints = [&](const nlohmann::json& model) {
    std::size_t count = 0;
    const auto run = place.directory.path / model["run"].get<std::string>();
    for (const auto& entry : std::filesystem::recursive_directory_iterator(run)) {
      count += entry.path().filename() == agents::kCheckpointFile ? 1 : 0;
    }
    return count;
  };
  const auto models = place.document["models"];
  for (const auto& model : models) CHECK(checkpoints(model) > 0);
  REQUIRE(place.run(small_night("bars")) == 0);
  CHECK(place.document["models"][0]["state"] == "not due");
  for (const auto& model : models) {
    CHECK(checkpoints(model) == 0);
    CHECK(std::filesystem::exists(model["report"].get<std::string>()));
  }
}

TEST_CASE("nightly: trials that a night adds to a study are measured on splits as its own are") {
  Place place;
  write_bars(place.directory.path, 48);
  place.deploy("model_0", "bars");
  std::vector<std::string> sweep = small_night("bars", {"--storage", "sweep.db", "--net-dimension", "16"});
  const std::vector<std::string> night = [&] {
    std::vector<std::string> arguments = sweep;
    arguments.insert(arguments.end(), {"--study-name", "ristretto-robust", "--sweep-trials", "1"});
    return arguments;
  }();
  sweep[0] = "sweep";
  sweep.insert(sweep.end(), {"--trials", "1", "--splits", "walk-forward"});
  REQUIRE(place.run(sweep) == 0);
  CHECK(place.document["splits"] == "walk-forward");
  write_bars(place.directory.path, 0);
  const int code = place.run(night);
  CAPTURE(place.errors());
  CHECK((code == 0 || code == 3));
  const std::string file = (place.directory.path / "sweep.db").string();
  std::size_t trials = 0;
  for (const std::string& name : studies::open_storage(file)->study_names()) {
    CHECK(splits_of(file, name) == SplitKind::walk_forward);
    trials += studies::open_storage(file)->read_study(name).trials.size();
  }
  CHECK(trials == 2);
}

TEST_CASE("nightly: a hold-out that has grown by a quarter begins anew, and each night has a seed of its own") {
  Place place;
  write_bars(place.directory.path, 4800);
  place.deploy("model_0", "bars");
  std::set<std::string> trainings;  // each directory is named after its seed
  for (const std::size_t without : {24, 0}) {
    write_bars(place.directory.path, without);
    const int code = place.run(small_night("bars"));
    const auto& model = place.document["models"][0];
    INFO(told_of(model));
    REQUIRE((code == 0 || code == 3));
    CHECK(model["new_bars"] > 0);
    // Not from the version: one seed in some forty hardly trades after so few steps, and is none.
    for (const auto& entry :
         std::filesystem::directory_iterator(place.directory.path / model["run"].get<std::string>())) {
      const std::string name = entry.path().filename().string();
      if (name.starts_with("trial-1-seed-")) CHECK(trainings.insert(name).second);
    }
  }
  CHECK(trainings.size() == 2);
  const auto openings = release::Ledger(place.directory.path / "deployments", "model_0").read().openings;
  REQUIRE(openings.size() == 3);
  CHECK(openings[1].first_bar > openings[0].first_bar);
  CHECK(openings[2].first_bar == openings[1].first_bar);  // a day is no quarter
}

TEST_CASE("nightly: how a night ended is sent to the webhook, and that it could not be is said") {
  Place place;
  const std::string bars = kSource + "/data/crypto_1h";
  place.deploy("model_0", bars);
  httplib::Server server;
  std::vector<nlohmann::json> messages;
  int answer = 200;
  server.Post("/hooks/secret", [&](const httplib::Request& request, httplib::Response& response) {
    messages.push_back(nlohmann::json::parse(request.body));
    response.status = answer;
  });
  const int port = server.bind_to_any_port("127.0.0.1");
  std::thread thread([&] { server.listen_after_bind(); });
  const auto hook = [&](const std::string& address) { write_file_atomically(place.directory.path / "hook", address); };
  hook(str("http://127.0.0.1:", port, "/hooks/secret\n"));

  CHECK(place.run(small_night(bars, {"--webhook", "hook"})) == 0);
  REQUIRE(messages.size() == 1);
  CHECK(messages[0]["text"].get<std::string>().find("model_0") != std::string::npos);
  CHECK(messages[0]["content"] == messages[0]["text"]);
  CHECK(messages[0]["night"]["models"][0]["state"] == "not due");
  CHECK(messages[0]["night"]["finished"].is_string());
  CHECK(place.run(small_night(bars, {"--webhook", "hook", "--disk-budget", "1000"})) == 1);
  REQUIRE(messages.size() == 2);
  CHECK(messages[1]["text"].get<std::string>().find("--disk-budget") != std::string::npos);
  answer = 410;
  CHECK(place.run(small_night(bars, {"--webhook", "hook"})) == 0);
  CHECK(messages.size() == 3);
  CHECK(place.errors().find("the webhook was not told: it answered 410") != std::string::npos);
  CHECK(place.errors().find("secret") == std::string::npos);
  server.stop();
  thread.join();

  CHECK(place.run(small_night(bars, {"--webhook", "nowhere"})) == 1);
  for (const char* address : {"", "https://", "ftp://host/x", "hooks.example.com/x", "https://user@host/x",
                              "https://host:99999999999/x", "http://host:/x"}) {
    CAPTURE(address);
    hook(address);
    CHECK_THROWS_AS(read_webhook(place.directory.path / "hook"), Error);
  }
  hook("https://host:8443?token=1");
  CHECK(read_webhook(place.directory.path / "hook").origin == "https://host:8443");
  CHECK(read_webhook(place.directory.path / "hook").path == "/?token=1");
}

TEST_CASE("nightly: each fault has its own message, and nothing is changed by it") {
  Place place;
  const std::string bars = kSource + "/data/crypto_1h";
  place.deploy("model_0", bars);
  const std::filesystem::path nightly = place.directory.path / "runs/nightly";
  const auto says = [&](const char* text) {
    const std::string errors = place.errors();
    CAPTURE(errors);
    CHECK(errors.find(text) != std::string::npos);
    CHECK(place.store().list("model_0").size() == 1);
  };
  {
    std::filesystem::create_directories(nightly);
    const FileLock lock(nightly / "lock", "test");
    CHECK(place.run(small_night(bars)) == 5);
    says("lock");
  }
  {
    const FileLock lock(place.directory.path / "deployments/.versions" / release::kNightlyLock, "nightly");
    CHECK(place.run(small_night(bars, {"--runs", "other"})) == 5);
    says("deployments/.versions/nightly.lock is locked by process");
    CHECK_FALSE(std::filesystem::exists(place.directory.path / "other/nightly/journal.json"));
  }
  CHECK(place.run(small_night(bars, {"--new-bars", "-5"})) == 2);
  says("--new-bars is -5, expected at least 0");
  CHECK(place.run(small_night(bars, {"other"})) == 2);
  says("there is no deployment 'other'");
  write_file_atomically(place.directory.path / "night.ini", "gamma = 0.98\nseeds = 5\n");
  CHECK(place.run(small_night(bars, {"--config", "night.ini"})) == 2);
  says("there is no setting 'seeds' (night.ini:2)");
  CHECK_FALSE(std::filesystem::exists(nightly / "journal.json"));
  CHECK(place.run(small_night(bars, {"--disk-budget", "1000"})) == 1);
  says("--disk-budget");
  write_file_atomically(nightly / "journal.json", R"({"format": 1, "id": "x", "st)");
  CHECK(place.run(small_night(bars)) == 4);
  says("is damaged");
  write_file_atomically(nightly / "journal.json", R"({"format": 1, "id": "x", "started": "2099-01-01T00:00:00Z",
      "finished": "2099-01-01T01:00:00Z", "seconds": 3600, "study": "", "sweep": "", "models": []})");
  CHECK(place.run(small_night(bars)) == 1);
  says("the clock reads");
  std::filesystem::remove(nightly / "journal.json");

  // Faults of one model are its own.
  for (const std::vector<std::string>& more : {std::vector<std::string>{}, {"--dry-run"}}) {
    CHECK(place.run(small_night("nowhere", more)) == 1);
    CHECK(place.document["models"][0]["state"] == "failed");
    CHECK(place.document["models"][0]["reason"].get<std::string>().find("nowhere") != std::string::npos);
  }
  CHECK(place.store().list("model_0").size() == 1);
  release::remove_tree(place.store().path_of("model_0", place.store().served("model_0").value()));
  for (const std::vector<std::string>& more : {std::vector<std::string>{}, {"--time-budget", "1h"}, {"--dry-run"}}) {
    CHECK(place.run(small_night(bars, more)) == 1);
    CHECK(place.document["models"][0]["state"] == "failed");
    CHECK(place.document["models"][0]["reason"].get<std::string>().find("which does not exist") != std::string::npos);
  }
}

TEST_CASE("nightly: a model that is not due takes no share of the night's time, and fails of none") {
  Place place;
  write_bars(place.directory.path, 48);
  place.deploy("model_0", "bars");
  write_bars(place.directory.path, 0);
  place.deploy("model_1", "bars");
  REQUIRE(place.run(small_night("bars", {"--time-budget", "39s"})) % 3 == 0);  // half of it is too little
  INFO(told_of(place.document["models"][0]));
  CHECK((place.document["models"][0]["state"] == "served" || place.document["models"][0]["state"] == "kept"));
  CHECK(place.document["models"][1]["state"] == "not due");
}

TEST_CASE(
    "nightly: a hold-out of which no version tells begins night for night where it was cut, not behind its purge") {
  const TemporaryDirectory directory;
  release::Opening opening;
  opening.candidate = "refused";
  opening.holdout_from = parse_utc("2023-03-05").value();
  opening.first_bar = *opening.holdout_from + 80 * 3600;
  opening.last_bar = opening.first_bar + 1000 * 3600;
  opening.bars = 1000;
  opening.data_sha256 = std::string(64, 'a');
  NightlyRequest request;
  request.deployments = directory.path / "deployments";
  release::Ledger(request.deployments, "model_0").open(opening);
  const StudySource study{kSource + "/data/studies/example.db", "cappuccino_maxgpu", {}};
  CHECK(holdout_from(request, study, {{"bars", kSource + "/data/crypto_1h", "a test"}}, "model_0") ==
        "2023-03-05T00:00:00Z");
}

TEST_CASE("nightly: exit code 0 where something is served, 3 where nothing is good enough") {
  const Copy copy(beatable());
  const release::VersionStore store = copy.store();
  const std::string bad = store.served("model_0").value();
  const auto night = [&](const std::string& learning_rate) {
    auto arguments = small_night("bars", {"--new-bars", "0", "--seed", "0"});
    *(std::find(arguments.begin(), arguments.end(), "--learning-rate") + 1) = learning_rate;
    const int code = finish(start(arguments, copy.directory.path));
    return std::pair(code, nlohmann::json::parse(read_file(copy / "out"))["models"][0]);
  };
  // Steps so small that the weights stay those that training began with: a gate of integrity refuses.
  const auto [refused, kept] = night("1e-12");
  INFO(told_of(kept));
  CHECK(refused == 3);
  CHECK(kept["state"] == "kept");
  CHECK(kept["reason"].get<std::string>().find("weights_changed") != std::string::npos);
  CHECK(store.served("model_0") == bad);
  CHECK(store.history("model_0").back()["event"] == "refusal");

  // As of another night that began in the same second.
  for (int k = 0; k < 60; ++k) {
    std::filesystem::create_directory(copy / ("runs/model_0-nightly-" + stamp_utc(now_seconds() + k)));
  }
  const auto [done, served] = night("1e-3");
  INFO(told_of(served));
  CHECK(done == 0);
  CHECK(served["run"].get<std::string>().ends_with("Z-2"));
  CHECK(served["state"] == "served");
  CHECK(store.served("model_0") == served["version"]);
  CHECK(store.served("model_0") != bad);
  CHECK(store.history("model_0").back()["event"] == "promotion");
}

TEST_CASE("nightly: a clean retrain and one of what is served are both tried") {
  const Copy copy(beatable());
  copy.store().rollback("model_0", "1", "it says what it has seen");
  const int code = finish(start(small_night("bars", {"--new-bars", "0", "--seed", "3"}), copy.directory.path));
  const auto model = nlohmann::json::parse(read_file(copy / "out"))["models"][0];
  INFO(told_of(model));
  CHECK(code == (model["state"] == "served" ? 0 : 3));
  CHECK(model["retrain"]["contenders"] == 2);
  const std::filesystem::path run = copy / model["run"].get<std::string>();
  for (const char* contender : {"trial-1-seed-3", "trial-2-seed-3"}) {
    CHECK(std::filesystem::exists(run / contender / "checkpoint/checkpoint.safetensors"));
  }
  CHECK(read_file(run / "trial-2-seed-3/config.ini").find("weights of") != std::string::npos);
}

TEST_CASE("nightly: what a night has used of its time is counted over restarts") {
  const Copy copy(beatable());
  const std::filesystem::path journal = copy / "runs/nightly/journal.json";
  std::filesystem::create_directories(journal.parent_path());
  auto night = cut_night({cut_model("model_0", "waiting")});
  night["seconds"] = 3590;
  write_file_atomically(journal, night.dump());
  CHECK(finish(start(small_night("bars", {"--new-bars", "0", "--time-budget", "1h"}), copy.directory.path)) == 1);
  const auto document = nlohmann::json::parse(read_file(copy / "out"));
  CHECK(document["models"][0]["state"] == "failed");
  CHECK(document["models"][0]["reason"].get<std::string>().find(" s, expected at least 20 s") != std::string::npos);
  CHECK(document["seconds"] >= 3590);
  CHECK(copy.store().list("model_0").size() == 2);
}

TEST_CASE("nightly: the settings that `ristretto config` writes leave each deployment its own hyperparameters") {
  const Copy copy(beatable());
  REQUIRE(finish(start({"config"}, copy.directory.path, "nightly.ini")) == 0);
  const std::filesystem::path deployment = copy / "deployments/model_0";
  const auto hyperparameters = [&](const std::vector<Given>& given) {
    return resolve(std::nullopt, deployment, given).settings.hyperparameters;
  };
  CHECK(hyperparameters({}).net_dimension == 16);
  CHECK(hyperparameters(read_config((copy / "nightly.ini").string())) == hyperparameters({}));
  const auto warned = [&] {
    CHECK(finish(start(small_night("bars", {"--config", "nightly.ini", "--dry-run"}), copy.directory.path)) == 0);
    return copy.errors();
  };
  CHECK(warned().find("the same for every model") == std::string::npos);
  write_file_atomically(copy / "nightly.ini", "gamma = 0.98\ndevice = cpu\nseed = 3\n");
  const std::string warning = warned();
  CHECK(warning.find("gamma, seed (nightly.ini) will be the same for every model and every night, in place of each "
                     "deployment's own hyperparameters") != std::string::npos);
  CHECK(warning.find("the same for every model") == warning.rfind("the same for every model"));
}

TEST_CASE("nightly: what was retrained without a study is judged like that every night") {
  Place place;
  write_last_bars(place.directory.path / "bars", 3400);
  auto first = small_retrain("model_0");
  *(std::find(first.begin(), first.end(), "--bars") + 1) = "bars";
  const auto study = std::find(first.begin(), first.end(), "--storage");
  first.erase(study, study + 4);
  first.insert(first.end(), {"--gamma", "0.97", "--json"});
  const auto verdict = [](const nlohmann::json& gates) {
    const auto gate = std::find_if(gates.begin(), gates.end(), [](const auto& of) { return of["name"] == "holdout"; });
    REQUIRE(gate != gates.end());
    return (*gate)["verdict"].get<std::string>();
  };
  REQUIRE(place.run(first) == 0);
  CHECK(verdict(place.document["gates"]) == "passed");
  for (int k = 0; k < 2; ++k) {
    const int code = place.run(small_night("bars", {"--new-bars", "0"}));
    CHECK((code == 0 || code == 3));
    const auto model = place.document["models"][0];
    INFO(told_of(model));
    REQUIRE(model["retrain"].is_object());
    // The newest bars have been looked at before, but nobody chose hyperparameters by them.
    for (const auto& gate : model["retrain"]["gates"]) {
      if (gate["name"] == "holdout") CHECK(gate.dump().find("--holdout-from") == std::string::npos);
    }
    const std::string version = model["version"];
    const std::filesystem::path written = version.empty()
                                              ? place.directory.path / model["run"].get<std::string>() / "deployment"
                                              : place.store().path_of("model_0", version);
    const auto manifest = nlohmann::json::parse(read_file(written / "manifest.json"));
    CHECK(manifest["study"].is_null());
    CHECK(manifest["hyperparameters"]["gamma"]["value"] == 0.97);
    CHECK(manifest["hyperparameters"]["gamma"]["source"] == "best_trial of deployments/model_0");
  }
}

TEST_CASE(
    "nightly: a night that goes on after 12 hours, or without a model that is there, is followed by the new one") {
  const Copy copy(beatable());
  const std::filesystem::path nightly = copy / "runs/nightly";
  std::filesystem::create_directories(nightly);
  const auto go_on = [&](const nlohmann::json& night, const std::vector<std::string>& more = {}) {
    write_file_atomically(nightly / "journal.json", night.dump());
    auto arguments = small_night("bars", {"--new-bars", "1000000"});
    arguments.insert(arguments.begin() + 1, more.begin(), more.end());
    const int code = finish(start(arguments, copy.directory.path));
    return std::pair(code, nlohmann::json::parse(read_file(copy / "out"), nullptr, false));
  };
  const auto same = go_on(cut_night({cut_model("model_0", "kept")})).second;
  CHECK(same["id"] == "x");
  CHECK_FALSE(same.contains("went_on_with"));

  nlohmann::json old = cut_night({cut_model("model_0", "failed")});
  old["started"] = iso_utc(now_seconds() - 13 * 3600);
  for (const auto& night : {old, cut_night({})}) {
    const auto [code, document] = go_on(night);
    CHECK(code == (night["models"].empty() ? 0 : 1));  // what failed is not hidden by the night that followed
    CHECK(document["id"] != "x");
    CHECK(document["models"][0]["state"] == "not due");
    CHECK(document["went_on_with"]["id"] == "x");
    CHECK(document["went_on_with"]["finished"].is_string());
    CHECK(nlohmann::json::parse(read_file(nightly / "journal.json"))["id"] == document["id"]);
    CHECK(std::filesystem::exists(nightly / "x/report.json"));
  }

  CHECK(go_on(cut_night({cut_model("model_0", "kept")}), {"model_0"}).first == 3);
  CHECK(go_on(cut_night({cut_model("model_1", "kept"), cut_model("model_2", "waiting")}), {"model_0"}).first == 2);
  CHECK(copy.errors().find("is not finished, and it is of model_1,model_2") != std::string::npos);
}

TEST_CASE("nightly: a model at which the process dies is given up, and its seconds are not lost") {
  const Copy copy(beatable());
  release::copy_tree(copy / "deployments/model_0/.", copy / "deployments/model_1");  // to be adopted
  const std::filesystem::path nightly = copy / "runs/nightly";
  auto night = small_night("bars", {"--new-bars", "0", "--seed", "3", "--time-budget", "1h"});
  const auto steps = std::find(night.begin(), night.end(), "--steps") + 1;
  double used = 0;
  for (int death = 1; death <= 2; ++death) {
    *steps = "1000000000";
    const pid_t child = start(night, copy.directory.path);
    const auto running = [&] {
      if (!std::filesystem::exists(nightly / "journal.json")) return false;
      const auto model = nlohmann::json::parse(read_file(nightly / "journal.json"))["models"][0];
      return model["state"] == "running" && model["attempts"] == death;
    };
    const auto said = [&] {
      double seconds = 0;
      std::string id;
      std::ifstream(nightly / "seconds") >> id >> seconds;
      return seconds;
    };
    const Stopwatch watch;
    while (!(running() && said() > used + 4) && watch.seconds() < 120) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    kill(child, SIGKILL);
    REQUIRE(finish(child) == 1000 + SIGKILL);
    REQUIRE(said() > used + 4);
    used = said();
  }
  *steps = "8192";
  const int code = finish(start(night, copy.directory.path));
  CHECK(code == 1);
  const auto document = nlohmann::json::parse(read_file(copy / "out"));
  CHECK(document["seconds"] >= used);
  CHECK(document["models"][0]["state"] == "failed");
  CHECK(document["models"][0]["reason"] == "the process died 2 times while training it");
  INFO(told_of(document["models"][1]));
  CHECK((document["models"][1]["state"] == "served" || document["models"][1]["state"] == "kept"));
}

TEST_CASE("nightly: what a cut night of a model without a known hold-out began, it goes on with beside new bars") {
  const Copy copy(beatable());
  release::copy_tree(copy / "deployments/model_0/.", copy / "plain");
  release::remove_tree(copy / "deployments");
  std::filesystem::create_directory(copy / "deployments");
  std::filesystem::rename(copy / "plain", copy / "deployments/model_0");
  std::map<std::filesystem::path, std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(copy / "bars")) {
    files[entry.path()] = read_file(entry.path());
    const std::string& all = files[entry.path()];
    write_file_atomically(entry.path(), all.substr(0, all.rfind('\n', all.size() - 2) + 1));
  }
  auto night = small_night("bars", {"--new-bars", "0"});
  const auto steps = std::find(night.begin(), night.end(), "--steps") + 1;
  *steps = "1000000000";
  const std::filesystem::path journal = copy / "runs/nightly/journal.json";
  const pid_t child = start(night, copy.directory.path);
  const auto run = [&]() -> std::string {
    if (!std::filesystem::exists(journal)) return "";
    const auto model = nlohmann::json::parse(read_file(journal))["models"][0];
    return model["state"] == "running" ? model["run"].get<std::string>() : "";
  };
  const Stopwatch watch;
  while ((run().empty() || !std::filesystem::exists(copy / run() / "config.ini")) && watch.seconds() < 60) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  std::this_thread::sleep_for(std::chrono::seconds(2));
  kill(child, SIGTERM);
  REQUIRE(finish(child) == 143);
  REQUIRE(std::filesystem::exists(copy / run() / "checkpoint/checkpoint.safetensors"));
  const auto cut = nlohmann::json::parse(read_file(journal))["models"][0];
  CHECK(parse_utc(cut["holdout_from"].get<std::string>()));
  CHECK(cut["attempts"] == 0);  // it was interrupted, and did not die
  for (const auto& [file, bytes] : files) write_file_atomically(file, bytes);
  *steps = "8192";
  const int code = finish(start(night, copy.directory.path));
  const auto model = nlohmann::json::parse(read_file(copy / "out"))["models"][0];
  INFO(told_of(model));
  CHECK((code == 0 || code == 3));
  CHECK((model["state"] == "served" || model["state"] == "kept"));
  CHECK(model["retrain"]["steps"].get<std::int64_t>() > 8192);
  CHECK(model["holdout_from"] == cut["holdout_from"]);
}

TEST_CASE("nightly: what failed behind the switch hides no version that is in service") {
  const Copy copy(beatable());
  const std::string first = copy.store().list("model_0")[0].id;
  copy.store().rollback("model_0", "1", "of the retrain");
  const auto manifest = nlohmann::json::parse(read_file(copy.store().path_of("model_0", first) / "manifest.json"));
  auto model = cut_model("model_0", "running");
  model["run"] = "runs/" + manifest["training"]["candidate"].get<std::string>();
  std::filesystem::create_directories(copy / "runs/nightly");
  write_file_atomically(copy / "runs/nightly/journal.json", cut_night({model}).dump());
  std::filesystem::permissions(copy.store().path_of("model_0", first), std::filesystem::perms{0755});
  CHECK(finish(start(small_night("bars"), copy.directory.path)) == 1);
  const auto told = nlohmann::json::parse(read_file(copy / "out"))["models"][0];
  INFO(told_of(told));
  CHECK(told["state"] == "served");
  CHECK(told["fault"] == true);
  CHECK(told["version"] == first);
  CHECK(told["reason"].get<std::string>().find("what is served is damaged") != std::string::npos);
}

TEST_SUITE("slow") {
  TEST_CASE("nightly: a night ends within its time budget, which its models share") {
    Place place;
    const std::string bars = kSource + "/data/crypto_1h";
    place.deploy("model_0", bars);
    place.deploy("model_1", bars);
    auto night = small_night(bars, {"--new-bars", "0", "--time-budget", "70s"});
    *(std::find(night.begin(), night.end(), "--steps") + 1) = "1000000000";
    const Stopwatch watch;
    const int code = place.run(night);
    CHECK((code == 0 || code == 3));
    // Beside other work of the machine judging takes longer than was reserved for it.
    CHECK(watch.seconds() < 140);
    for (const auto& model : place.document["models"]) {
      INFO(told_of(model));
      CHECK((model["state"] == "served" || model["state"] == "kept"));
      CHECK(model["retrain"]["steps"] > 8192);
      CHECK(model["retrain"]["steps"] < model["retrain"]["planned_steps"]);
    }
  }

  TEST_CASE("nightly: killed while it judges what its time ended, it judges the same weights again, in the same look") {
    Place place;
    write_bars(place.directory.path, 48);
    place.deploy("model_0", "bars");
    write_bars(place.directory.path, 0);
    auto night = small_night("bars", {"--time-budget", "45s"});
    *(std::find(night.begin(), night.end(), "--steps") + 1) = "1000000000";
    const release::Ledger ledger(place.directory.path / "deployments", "model_0");
    const pid_t child = start(night, place.directory.path);
    const Stopwatch watch;
    while (ledger.read().openings.size() < 2 && watch.seconds() < 120) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    kill(child, SIGKILL);
    finish(child);
    REQUIRE(ledger.read().openings.size() == 2);
    CHECK_FALSE(ledger.read().openings[1].result);
    const int code = place.run(night);
    CHECK((code == 0 || code == 3));
    CHECK(place.document["models"][0]["retrain"]["steps"] > 8192);
    CHECK(place.document["models"][0]["new_bars"] == 48);
    const auto openings = ledger.read().openings;
    CHECK(openings.size() == 2);
    CHECK(openings[1].result);
  }

  TEST_CASE("nightly: interrupted or killed, the same command goes on where it was") {
    Place place;
    const std::string bars = kSource + "/data/crypto_1h";
    place.deploy("model_0", bars);
    place.deploy("model_1", bars);
    const std::filesystem::path journal = place.directory.path / "runs/nightly/journal.json";
    for (const int signal : {SIGKILL, SIGTERM}) {
      CAPTURE(signal);
      // The same seed on the same bars would be the model of the night before, which is refused.
      const auto night = small_night(bars, {"--new-bars", "0", "--seed", signal == SIGKILL ? "3" : "4"});
      const pid_t child = start(night, place.directory.path);
      // Until the second model is under way.
      const auto under_way = [&] {
        if (!std::filesystem::exists(journal)) return false;
        const auto document = nlohmann::json::parse(read_file(journal));
        return document["finished"].is_null() && document["models"][1]["state"] == "running";
      };
      const Stopwatch watch;
      while (!under_way() && watch.seconds() < 60) std::this_thread::sleep_for(std::chrono::milliseconds(5));
      REQUIRE(under_way());
      kill(child, signal);
      const int code = finish(child);
      CHECK(code == (signal == SIGKILL ? 1000 + SIGKILL : 143));
      const auto cut = nlohmann::json::parse(read_file(journal));
      CHECK(cut["finished"].is_null());
      const int again = place.run(night);
      CHECK((again == 0 || again == 3));
      CHECK(place.document["id"] == cut["id"]);
      CHECK(place.document["models"][0]["version"] == cut["models"][0]["version"]);
      CHECK(place.document["models"][1]["run"] == cut["models"][1]["run"]);
      CHECK(place.store().check("model_1").empty());
    }
    // Two nights and the first versions: nothing was trained twice.
    CHECK(place.store().list("model_0").size() == 3);
    CHECK(place.store().list("model_1").size() == 3);
  }
}

}  // namespace ristretto::train
