// The main job, as the program that users run.
#include <ATen/TensorOperators.h>
#include <doctest/doctest.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "env/counter_random.h"
#include "env/environment.h"
#include "evaluation/backtest.h"
#include "platform/atomic_file.h"
#include "platform/clock.h"
#include "platform/text.h"
#include "program_fixture.h"
#include "release/deployment.h"
#include "release/served_actor.h"
#include "release/versions.h"
#include "train/job.h"
#include "train/resolve.h"

namespace ristretto::train {
TEST_CASE("retrain: a study's best trial becomes a served version that any consumer can check") {
  const TemporaryDirectory directory;
  auto arguments = small_retrain("model_0");
  arguments.insert(arguments.end(), {"--slippage-fraction", "0.001", "--spread-fraction", "0.0005", "--json"});
  const int code = finish(start(arguments, directory.path));
  CAPTURE(read_file(directory.path / "err"));
  REQUIRE(code == 0);
  const auto document = nlohmann::json::parse(read_file(directory.path / "out"));
  CHECK(document["served"] == true);
  CHECK(document["status"] == "unproven");
  CHECK(document["steps"] == 8192);

  const std::filesystem::path deployed = directory.path / "deployments/model_0";
  CHECK(std::filesystem::is_symlink(deployed));
  for (const char* file :
       {"actor.pth", "act_target.pth", "critic.pth", "cri_target.pth", "actor.safetensors", "policy.pt", "best_trial",
        "metadata.json", "manifest.json", "training/checkpoint.safetensors"}) {
    CAPTURE(file);
    CHECK(std::filesystem::exists(deployed / file));
  }
  release::verify(deployed);
  const auto manifest = nlohmann::json::parse(read_file(deployed / "manifest.json"));
  CHECK(manifest["training"]["environment_steps"] == 8192);
  CHECK(manifest["training"]["relative_weight_change"].get<double>() > 0);
  CHECK(manifest["study"]["trial"] == 134);
  CHECK(manifest["hyperparameters"]["gamma"]["source"] == "study trial 134");
  CHECK(manifest["hyperparameters"]["net_dimension"]["source"] == "command line");
  CHECK(manifest["data"]["files"].size() == 7);
  CHECK(manifest["environment"]["fee_fraction"] == 0.0025);
  CHECK(manifest["environment"]["slippage_fraction"] == 0.001);
  CHECK(manifest["environment"]["spread_fraction"] == 0.0005);
  CHECK(document["costs"]["cost_fraction"].get<double>() == doctest::Approx(0.00375));
  CHECK(std::filesystem::exists(directory.path / document["report"].get<std::string>()));

  SUBCASE("parity: the deployed files, asked bar by bar, give the orders of the backtest") {
    const Resolved resolved = resolve(StudySource{kSource + "/data/studies/example.db", "cappuccino_maxgpu", {}}, {},
                                      {{"bars", kSource + "/data/crypto_1h", "test"}});
    const Data data = load_data(resolved.settings);
    const release::Model model = release::load(deployed);
    const env::Market& holdout = data.splits.holdout.market;
    const auto reference = evaluation::backtest(holdout, *model.layout, *model.rules,
                                                release::actor_of(model, *model.layout, holdout), true);
    CHECK(reference.orders == document["holdout"]["orders"].get<std::int64_t>());
    env::Portfolios::Options options;
    options.windows = reference.windows;
    env::Portfolios portfolios(std::make_shared<env::Market>(holdout), *model.layout, *model.rules, options);
    for (std::int64_t bar = 0; bar < 400; ++bar) {  // of the first window
      const at::Tensor states = env::materialize(portfolios.observe(), holdout.tech, *model.layout);
      const at::Tensor actions = release::predict(model, states);
      REQUIRE(actions[0].equal(reference.actions[bar]));
      portfolios.step(actions);
      REQUIRE(portfolios.accounts().holding.t()[0].equal(reference.holdings[bar]));
    }
  }

  SUBCASE("evaluate shows what the gates decided when it was judged") {
    REQUIRE(finish(start({"evaluate", deployed.string(), "--bars", kSource + "/data/crypto_1h", "--from", "2023-04-01",
                          "--out", "evaluated.html", "--json"},
                         directory.path, "out3")) == 0);
    const auto evaluated = nlohmann::json::parse(read_file(directory.path / "out3"));
    CHECK(evaluated["gates"] == document["gates"]);
    CHECK(evaluated["costs"] == document["costs"]);
    const std::string page = read_file(directory.path / "evaluated.html");
    CHECK(page.find("<h2>Gates</h2>") != std::string::npos);
    CHECK(page.find("against_champion</td><td data-label=\"\">no evidence</td>") != std::string::npos);
    CHECK(page.find("from when it was judged, on the bars from") != std::string::npos);
  }

  SUBCASE("a second one is served only if it is better on the same bars, and both are on record") {
    auto again = small_retrain("model_0");
    again.insert(again.end(), {"--seed", "5", "--json"});
    const int second = finish(start(again, directory.path, "out2"));
    const auto other = nlohmann::json::parse(read_file(directory.path / "out2"));
    const double first_value = document["holdout"]["total_return"], second_value = other["holdout"]["total_return"];
    CHECK(second == (second_value > first_value ? 0 : 3));
    CHECK(other["served"] == (second_value > first_value));
    const release::VersionStore store(directory.path / "deployments");
    CHECK(store.list("model_0").size() == 2);
    CHECK(store.check("model_0").empty());
  }
}

TEST_CASE("retrain: of two trials and three seeds one is judged, and every gate says what it found") {
  const TemporaryDirectory directory;
  std::ofstream(directory.path / "gates.ini") << "seeds_minimum = 3\nworst_seeds_minimum = -10\n"
                                                 "data_age_days_maximum = 36500\noverfitting_maximum = 1\n";
  auto arguments = small_retrain("model_0");
  arguments.insert(arguments.end(), {"--seeds", "3", "--top-trials", "2", "--gates", "gates.ini", "--json"});
  REQUIRE(finish(start(arguments, directory.path)) == 0);
  const auto document = nlohmann::json::parse(read_file(directory.path / "out"));
  CHECK(document["contenders"] == 6);
  CHECK(document["status"] == "unproven");
  std::map<std::string, nlohmann::json> gates;
  for (const auto& gate : document["gates"]) gates[gate["name"]] = gate;
  CHECK(gates.size() == 12 + 2 + 12);
  CHECK(gates["holdout"]["verdict"] == "no_evidence");  // the study does not say which bars it has seen
  CHECK(gates["holdout"]["reason"].get<std::string>().find("--holdout-from DATE") != std::string::npos);
  for (const char* passed : {"seeds", "freshness", "overfitting"}) {
    CAPTURE(passed);
    CHECK(gates[passed]["verdict"] == "passed");
  }
  CHECK(gates["seeds"]["threshold"] == "at least 3; the worst quarter at least -10");
  CHECK(gates["against_champion"]["verdict"] == "no_evidence");
  CHECK(gates["deflated_sharpe"]["verdict"] == "refused");
  const auto manifest = nlohmann::json::parse(read_file(directory.path / "deployments/model_0/manifest.json"));
  CHECK(manifest["gates"] == document["gates"]);
  CHECK(manifest["training"]["contenders"] == 6);
  CHECK(std::filesystem::exists(directory.path / "deployments/model_0/training/evidence.json"));
  const std::string report = read_file(directory.path / document["report"].get<std::string>());
  CHECK(report.find("deflated_sharpe</td><td data-label=\"\">refused</td>") != std::string::npos);
  for (const char* part : {"<h2>Regimes</h2>", "A Sharpe ratio above 0 would take", "<h2>Trades</h2>",
                           "<h2>Returns</h2>", "hold BTC/USD"}) {
    CAPTURE(part);
    CHECK(report.find(part) != std::string::npos);
  }
  const auto& numbers = gates["deflated_sharpe"]["numbers"];
  CHECK(numbers["trials"].get<std::int64_t>() > 6);
  CHECK(numbers["sharpe_variance"].get<double>() > 0);
  CHECK(numbers["effective_trials"]["participation_ratio"].get<double>() >= 1);
  CHECK(document["regimes"]["sideways"]["bars"].get<std::int64_t>() > 0);
  CHECK(document["track_record"]["bars"] == document["holdout"]["bars"]);
  CHECK(document["cost_stress"].size() == 3);
}

TEST_CASE("retrain: --dry-run writes nothing, and honours --json") {
  const TemporaryDirectory directory;
  auto arguments = small_retrain("model_0");
  arguments.insert(arguments.end(), {"--dry-run", "--json"});
  REQUIRE(finish(start(arguments, directory.path)) == 0);
  const auto document = nlohmann::json::parse(read_file(directory.path / "out"));
  CHECK(document["dry_run"] == true);
  CHECK(document["holdout_bars"].get<int>() > 0);
  CHECK_FALSE(std::filesystem::exists(directory.path / "deployments"));
  CHECK_FALSE(std::filesystem::exists(directory.path / "runs"));
}

TEST_CASE("retrain: what cannot work is said at once, with its exit code") {
  const TemporaryDirectory directory;
  const auto expect = [&](std::vector<std::string> more, int code, const char* text) {
    auto arguments = small_retrain("model_0");
    arguments.insert(arguments.end(), more.begin(), more.end());
    CHECK(finish(start(arguments, directory.path)) == code);
    const std::string errors = read_file(directory.path / "err");
    CAPTURE(errors);
    CHECK(errors.find(text) != std::string::npos);
    CHECK_FALSE(std::filesystem::exists(directory.path / "deployments/model_0"));
  };
  // The published best trial's norm_action: orders that no exchange takes.
  expect({"--norm-action", "19000"}, 2, "could not trade");
  expect({"--lookbak", "3"}, 2, "--lookback");
  expect({"--ft-d-token", "32"}, 2, "networks with attention");
  expect({"--trial", "9999"}, 2, "trial");
  expect({"--holdout-from", "2030-01-01"}, 2, "hold-out");
  expect({"--profile", "."}, 1, "Is a directory");
  expect({"--profile", "nowhere/trace.json", "--dry-run"}, 1, "cannot be created in its directory");
  expect({"--config", "."}, 2, "--config . cannot be read");
  std::ofstream(directory.path / "plain") << "x";
  std::filesystem::create_directories(directory.path / "deployments");
  std::filesystem::create_symlink("/nowhere", directory.path / "deployments/model_9");
  auto arguments = small_retrain("model_9");
  CHECK(finish(start(arguments, directory.path)) == 4);
}

TEST_CASE("retrain: a signal ends it cleanly, saved, and train --resume goes on") {
  const TemporaryDirectory directory;
  auto arguments = small_retrain("model_0");
  arguments.insert(arguments.end(), {"--steps", "100000000", "--json"});
  arguments.erase(std::find(arguments.begin(), arguments.end(), "8192") - 1,
                  std::find(arguments.begin(), arguments.end(), "8192") + 1);
  const pid_t child = start(arguments, directory.path);
  // The first update's line, however slow the machine is.
  const auto updated = [&] {
    std::error_code none_yet;
    for (const auto& run : std::filesystem::directory_iterator(directory.path / "runs", none_yet)) {
      const std::filesystem::path log = run.path() / "logs" / "updates_1.csv";
      if (std::filesystem::exists(log) && split(read_file(log), '\n').size() >= 3) return true;
    }
    return false;
  };
  const Stopwatch watch;
  while (!updated() && watch.seconds() < 120) std::this_thread::sleep_for(std::chrono::milliseconds(100));
  kill(child, SIGTERM);
  CHECK(finish(child) == 143);
  CHECK_FALSE(std::filesystem::exists(directory.path / "deployments/model_0"));
  const auto document = nlohmann::json::parse(read_file(directory.path / "out"));
  const std::int64_t steps = document["steps"];
  CHECK(steps > 0);
  const std::string run = document["run"];
  const std::string checkpoint = read_file(directory.path / run / "checkpoint/checkpoint.safetensors");
  CHECK(document["validated"] == (checkpoint.find("best_actor/") != std::string::npos));
  CHECK(finish(start({"train", "--resume", "--run", run, "--steps", std::to_string(steps + 4096), "--json", "--quiet"},
                     directory.path, "out2")) == 0);
  const auto resumed = nlohmann::json::parse(read_file(directory.path / "out2"));
  CHECK(resumed["steps"] == steps + 4096);
  // What was trained so can be judged like any other.
  CHECK(finish(start({"promote", "model_0", "--run", run, "--json", "--quiet"}, directory.path, "out4")) == 0);
  CHECK(nlohmann::json::parse(read_file(directory.path / "out4"))["steps"] == steps + 4096);
  release::verify(directory.path / "deployments/model_0");
  CHECK(finish(start({"train", "--resume", "--run", run, "--seed", "77", "--quiet"}, directory.path, "out3")) == 4);
}

TEST_SUITE("slow") {
  TEST_CASE("retrain: killed at twenty random instants, what is served is a complete, loadable version every time") {
    const TemporaryDirectory directory;
    // The first version, so that each kill meets one in service; then kills over the whole length of a retrain.
    REQUIRE(finish(start(small_retrain("model_0"), directory.path)) == 0);
    const Stopwatch watch;
    finish(start(small_retrain("model_0"), directory.path));
    double whole = watch.seconds();
    int killed = 0;
    for (std::uint32_t k = 0; k < 20; ++k) {
      auto arguments = small_retrain("model_0");
      arguments.insert(arguments.end(), {"--seed", std::to_string(k + 10)});
      const pid_t child = start(arguments, directory.path);
      const double share = env::random4(1, env::Stream::uniform, k, 0, 0).word[0] / 4294967296.0;
      // Half of them in the last fifth, where judging, writing and switching happen.
      const double when = whole * (k % 2 == 0 ? share : 0.8 + 0.25 * share);
      std::this_thread::sleep_for(std::chrono::duration<double>(when));
      kill(child, SIGKILL);
      if (finish(child) == 1000 + SIGKILL) {
        ++killed;
      } else {
        whole *= 0.85;  // the machine has become faster, or what ran beside it has ended
      }
      CHECK_NOTHROW(release::verify(directory.path / "deployments/model_0"));
      const release::Model model = release::load(directory.path / "deployments/model_0");
      CHECK(release::run_probe(model) <= release::kProbeTolerance);
    }
    MESSAGE(killed, " of 20 were killed before they had ended, of ", whole, " s");
    CHECK(killed >= 10);
    // Nobody trains a run on while a retrain has it.
    const auto begun_runs = [&] {
      std::set<std::filesystem::path> runs;
      for (const auto& entry : std::filesystem::directory_iterator(directory.path / "runs")) {
        if (std::filesystem::exists(entry.path() / "config.ini")) runs.insert(entry.path());
      }
      return runs;
    };
    const auto before = begun_runs();
    const pid_t busy = start(small_retrain("model_0"), directory.path);
    std::filesystem::path run;
    while (run.empty() && watch.seconds() < 600) {
      for (const auto& now : begun_runs()) run = before.contains(now) ? run : now;
    }
    kill(busy, SIGSTOP);
    CHECK(finish(start({"train", "--resume", "--run", run, "--quiet"}, directory.path, "out2")) == 5);
    kill(busy, SIGCONT);
    finish(busy);
    // And the next one cleans up and works.
    auto last = small_retrain("model_0");
    last.insert(last.end(), {"--seed", "99"});
    const int code = finish(start(last, directory.path));
    CHECK((code == 0 || code == 3));
    CHECK(release::VersionStore(directory.path / "deployments").check("model_0").empty());
  }
}

}  // namespace ristretto::train
