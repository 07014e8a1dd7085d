// Searching hyperparameters: what is drawn, what a trial is worth, and the study that is left behind.
#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <thread>

#include "platform/error.h"
#include "platform/text.h"
#include "studies/storage.h"
#include "studies/trial_settings.h"
#include "temporary_directory.h"
#include "train/resolve.h"
#include "train/sweep.h"

namespace ristretto::train {
namespace {

constexpr double kRounding = 1e-12;  // sums of six numbers in another order

const std::string kSource = RISTRETTO_SOURCE;

// Trainings of a moment; everything else as in the real job.
std::vector<std::string> small_sweep(const std::string& storage, int trials) {
  return {"sweep",
          "--storage",
          storage,
          "--trials",
          str(trials),
          "--bars",
          kSource + "/data/crypto_1h",
          "--steps",
          "2048",
          "--portfolios",
          "64",
          "--threads",
          "1",
          "--base-target-step",
          "32",
          "--net-dimension",
          "16",
          "--batch-size",
          "1024",
          "--ppo-epochs",
          "2",
          "--lookback",
          "1"};
}

pid_t start(const std::vector<std::string>& arguments, const std::filesystem::path& log) {
  std::fflush(stdout);  // or the child writes it again
  const pid_t child = fork();
  if (child != 0) return child;
  std::vector<std::string> words = {RISTRETTO_PROGRAM};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  if (std::freopen(log.c_str(), "a", stderr) == nullptr || std::freopen("/dev/null", "w", stdout) == nullptr) _exit(99);
  execv(pointers[0], pointers.data());
  _exit(99);
}

int finish(pid_t child) {
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

std::string fault_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

// Until the newest trial has a report, so that it is under way.
void wait_for_report(const std::string& storage) {
  const auto reports = [&]() -> std::size_t {
    try {
      const studies::Study study = studies::open_storage(storage)->read_study("ristretto-robust");
      return study.trials.empty() ? 0 : study.trials.back().reports.size();
    } catch (const Error&) {
      return 0;  // not made yet
    }
  };
  for (int i = 0; i < 600 && reports() < 1; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(50));
}

}  // namespace

TEST_CASE("sweep: what somebody fixed has one value, what the network does not read is left out") {
  const Settings settings = resolve(std::nullopt, std::nullopt, {{"gamma", "0.9", "command line"}}).settings;
  const studies::SearchSpace space = search_space(settings, {"net_dimension=64:128:32", "learning-rate=1e-5:1e-3:log"});
  REQUIRE(studies::find_range(space, "gamma") != nullptr);
  CHECK(text_of(*studies::find_range(space, "gamma")) == "0.9:0.9");
  CHECK(text_of(*studies::find_range(space, "net_dimension")) == "64:128:32");
  CHECK(text_of(*studies::find_range(space, "learning_rate")) == "1e-05:0.001:log");
  CHECK(studies::find_range(space, "ft_d_token") == nullptr);   // of an FT-Transformer
  CHECK(studies::find_range(space, "worker_num") == nullptr);   // nothing reads it
  CHECK(studies::find_range(space, "norm_action") == nullptr);  // served as it is
}

TEST_CASE("sweep: a bad range is an error that names it") {
  const Settings settings = resolve(std::nullopt, std::nullopt, {{"gamma", "0.9", "command line"}}).settings;
  const auto fault = [&](const std::string& space) { return fault_of([&] { search_space(settings, {space}); }); };
  CHECK(fault("net_dimention=1:2") == "--space names the unknown parameter 'net_dimention'");
  CHECK(fault("gamma=0.9:0.95") == "--space names gamma, which is fixed by command line");
  CHECK(fault("ft_d_token=16,32") == "--space names ft_d_token, which this network does not read");
  CHECK(fault("net_dimension=128:64") == "--space 'net_dimension=128:64': expected LOW no more than HIGH");
  CHECK(fault("learning_rate=0.1:1:0") == "--space 'learning_rate=0.1:1:0': expected a step above 0");
  CHECK(fault("net_dimension") == "--space 'net_dimension': expected a name and a range");
}

TEST_CASE("sweep: the existing study's objective gives the existing study's values") {
  const auto storage = studies::open_storage(kSource + "/data/studies/example.db");
  const studies::Study study = storage->read_study("cappuccino_maxgpu");
  int compared = 0;
  for (const studies::Trial& trial : study.trials) {
    const formats::Json* agent = studies::find(trial.user_attributes, "sharpe_list_bot");
    const formats::Json* hold = studies::find(trial.user_attributes, "sharpe_list_hodl");
    if (trial.state != studies::State::complete || agent == nullptr || hold == nullptr) continue;
    std::vector<Part> parts(agent->items.size());
    for (std::size_t i = 0; i < parts.size(); ++i) {
      parts[i].agent = agent->items[i].real;
      parts[i].reference = hold->items[i].real;
    }
    CHECK(value_of(ObjectiveKind::cappuccino, parts) == doctest::Approx(trial.values[0]).epsilon(1e-9));
    ++compared;
  }
  CHECK(compared >= 100);
}

TEST_CASE("sweep: the robust objective is the mean excess less a tenth of its deviation") {
  std::vector<Part> parts(3);
  parts[0].agent = 0.03, parts[1].agent = 0.01, parts[2].agent = -0.01;
  parts[0].reference = 0.01, parts[1].reference = 0.01, parts[2].reference = 0.01;
  CHECK(value_so_far(parts) == doctest::Approx(0).epsilon(kRounding));
  CHECK(value_of(ObjectiveKind::robust, parts) == doctest::Approx(-0.1 * std::sqrt(0.0008 / 3)).epsilon(kRounding));
  // Who does not trade earns no credit for what equal weight lost.
  parts[1].agent = 0, parts[1].reference = -0.02, parts[1].idle = true;
  CHECK(value_so_far(parts) == doctest::Approx(0).epsilon(kRounding));
}

TEST_CASE("sweep: splits never see the hold-out, and training bars stay away from test bars") {
  const Settings settings =
      resolve(std::nullopt, std::nullopt, {{"bars", kSource + "/data/crypto_1h", "test"}}).settings;
  const Objective robust(ObjectiveKind::robust, settings, 5), cappuccino(ObjectiveKind::cappuccino, settings, 5);
  CHECK(robust.parts() == 12);
  CHECK(cappuccino.parts() == 6);
  const Data data = load_data(settings);
  CHECK(robust.bars() ==
        data.splits.train.market.bars_in_segments() + data.splits.validation.market.bars_in_segments());
  constexpr std::int64_t kPurgeBars = 24;
  for (std::int64_t part = 0; part < cappuccino.parts(); ++part) {
    for (const env::Segment& test : cappuccino.test_bars(settings, part).segments) {
      CHECK(test.end <= data.splits.holdout.market.segments.front().begin);
      for (const env::Segment& train : cappuccino.training_bars(part).segments) {
        CHECK((train.end + kPurgeBars <= test.begin || test.end + kPurgeBars <= train.begin));
      }
    }
  }
}

TEST_CASE("sweep: walk-forward trains on the past alone, k-fold tests each group once, and a plan says so") {
  const Settings settings =
      resolve(std::nullopt, std::nullopt, {{"bars", kSource + "/data/crypto_1h", "test"}, {"lookback", "1", "test"}})
          .settings;
  const Objective walk(ObjectiveKind::robust, settings, 1, SplitKind::walk_forward);
  const Objective folds(ObjectiveKind::robust, settings, 1, SplitKind::k_fold);
  const Objective pairs(ObjectiveKind::robust, settings, 1);
  CHECK(walk.parts() == 12);
  CHECK(folds.parts() == 12);
  constexpr std::int64_t kGapBars = 24 + 48;  // purge and embargo
  constexpr double kShortSegments = 1e-3;     // of the bars: a segment of one or two is not tested
  std::int64_t tested = 0, before = 0;
  for (std::int64_t split = 0; split < walk.splits(); ++split) {
    const env::Market test = walk.test_bars(settings, split);
    const std::vector<env::Segment>& train = walk.training_bars(split).segments;
    CHECK(train.front().begin == 0);
    CHECK(train.back().end + kGapBars <= test.segments.front().begin);
    CHECK(test.segments.front().begin >= before);
    before = test.segments.back().end;
    tested += test.bars_in_segments();
  }
  CHECK(static_cast<double>(tested) ==
        doctest::Approx(6.0 / 7 * static_cast<double>(walk.bars())).epsilon(kShortSegments));
  tested = 0;
  for (std::int64_t split = 0; split < folds.splits(); ++split) {
    tested += folds.test_bars(settings, split).bars_in_segments();
  }
  CHECK(static_cast<double>(tested) == doctest::Approx(static_cast<double>(folds.bars())).epsilon(kShortSegments));

  CHECK(walk.experiment() == pairs.experiment() + ", splits walk-forward");
  CHECK(folds.experiment() == pairs.experiment() + ", splits k-fold");
  SweepRequest request;
  request.splits = SplitKind::walk_forward;
  request.trials = 1;
  request.storage = "not there.db";
  const SweepResult plan = plan_of(request, settings);
  CHECK(plan.document["experiment"] == walk.experiment());
  CHECK(plan.document["trainings_a_trial"] == 12);
  CHECK(plan.document["splits"]["kind"] == "walk-forward");
  REQUIRE(plan.document["splits"]["bars"].size() == 6);
  const auto& last = plan.document["splits"]["bars"][5];
  CHECK(last["train"].front().front() == "2021-04-06T06:00:00Z");
  CHECK(last["train"].back().back() < last["test"].front().front());
  CHECK(last["test"].back().back() == "2023-02-28T07:00:00Z");
  CHECK(plan.text.find("robust v2, walk-forward splits: 12 trainings a trial\n") != std::string::npos);
  CHECK(plan.document["space"]["gamma"] == text_of(*studies::find_range(search_space(settings, {}), "gamma")));

  CHECK(fault_of([] { parse_splits("walk"); }) == "--splits is 'walk', expected combinatorial, k-fold or walk-forward");
  CHECK(fault_of([&] {
          Objective(ObjectiveKind::cappuccino, settings, 1, SplitKind::k_fold);
        }).starts_with("--splits is k-fold, but the cappuccino objective"));
}

TEST_CASE("sweep: a study measures one experiment") {
  const TemporaryDirectory directory;
  const std::string storage = (directory.path / "sweep.db").string();
  const auto log = directory.path / "log";
  REQUIRE(finish(start(small_sweep(storage, 1), log)) == 0);
  std::vector<std::string> other = small_sweep(storage, 1);
  other.insert(other.end(), {"--fee-fraction", "0"});
  CHECK(finish(start(other, log)) == static_cast<int>(Fault::usage));
  other = small_sweep(storage, 1);
  other.insert(other.end(), {"--splits", "walk-forward"});
  CHECK(finish(start(other, log)) == static_cast<int>(Fault::usage));
  CHECK(splits_of(storage, "ristretto-robust") == SplitKind::combinatorial);
  std::vector<std::string> fixed = small_sweep(storage, 1);  // batch_size was one number, now it would be a choice
  for (std::string& word : fixed)
    word = word == "--batch-size" ? "--space" : word == "1024" ? "batch_size=512,1024" : word;
  CHECK(finish(start(fixed, log)) == static_cast<int>(Fault::usage));
  CHECK(studies::open_storage(storage)->read_study("ristretto-robust").trials.size() == 1);
}

TEST_CASE("sweep: a grid ends when every point is tried, and a dry run refuses what the run would") {
  const TemporaryDirectory directory;
  const std::string storage = (directory.path / "sweep.db").string();
  std::vector<std::string> sweep = small_sweep(storage, 50);
  const auto given = [&](const char* name) { return std::find(sweep.begin(), sweep.end(), name); };
  sweep.insert(sweep.end(), {"--sampler", "grid", "--space", "gamma=0.95,0.98"});
  for (const agents::Row& row : agents::table()) {  // all others have one value
    const auto space = search_space(resolve(std::nullopt, std::nullopt, {}).settings, {});
    if (row.name == std::string("gamma") || studies::find_range(space, row.name) == nullptr) continue;
    std::string option = "--" + std::string(row.name);
    std::replace(option.begin(), option.end(), '_', '-');
    if (given(option.c_str()) != sweep.end()) continue;
    sweep.insert(sweep.end(), {option, agents::text_of(agents::get(agents::Hyperparameters{}, row))});
  }
  std::vector<std::string> dry = sweep;
  dry.emplace_back("--dry-run");
  CHECK(finish(start(dry, directory.path / "log")) == 0);
  CHECK_FALSE(std::filesystem::exists(storage));
  for (int again = 0; again < 2; ++again) {
    CHECK(finish(start(sweep, directory.path / "log")) == 0);
    const studies::Study study = studies::open_storage(storage)->read_study("ristretto-robust");
    CHECK(study.trials.size() == 2);
    for (const studies::Trial& trial : study.trials) CHECK(trial.state == studies::State::complete);
  }
  CHECK(finish(start(dry, directory.path / "log")) == 0);
  std::vector<std::string> none = dry;
  *std::find(none.begin(), none.end(), "50") = "0";
  CHECK(finish(start(none, directory.path / "log")) == static_cast<int>(Fault::usage));
  for (const std::vector<std::string>& more :
       {std::vector<std::string>{"--fee-fraction", "0"}, {"--start-from", "nosuch"}}) {
    std::vector<std::string> other = dry;
    other.insert(other.end(), more.begin(), more.end());
    CHECK(finish(start(other, directory.path / "log")) == static_cast<int>(Fault::usage));
  }
}

TEST_CASE("sweep: a draw that cannot trade fails by itself, and the sweep goes on") {
  const TemporaryDirectory directory;
  const std::string storage = (directory.path / "sweep.db").string();
  std::vector<std::string> sweep = small_sweep(storage, 8);
  // Two values: what is served, and orders that no exchange takes.
  sweep.insert(sweep.end(), {"--space", "norm_action=100,20000", "--sampler", "random"});
  REQUIRE(finish(start(sweep, directory.path / "log")) == 0);
  int complete = 0, failed = 0;
  for (const studies::Trial& trial : studies::open_storage(storage)->read_study("ristretto-robust").trials) {
    complete += trial.state == studies::State::complete ? 1 : 0;
    if (trial.state != studies::State::fail) continue;
    ++failed;
    const formats::Json* const reason = studies::find(trial.user_attributes, "failure");
    REQUIRE(reason != nullptr);
    CHECK(reason->text.find("could not trade") != std::string::npos);
  }
  CHECK(complete > 0);
  CHECK(failed > 0);
  CHECK(complete + failed == 8);
}

TEST_CASE("sweep: trials of a study that does not say which bars it saw are no evidence in the next study either") {
  const TemporaryDirectory directory;
  const std::string file = (directory.path / "studies.db").string();
  std::filesystem::copy_file(kSource + "/data/studies/example.db", file);
  std::filesystem::permissions(file, std::filesystem::perms{0644});
  std::vector<std::string> command = small_sweep(file, 2);
  command.insert(command.end(), {"--study-name", "own", "--start-from", "cappuccino_maxgpu"});
  REQUIRE(finish(start(command, directory.path / "log")) == 0);
  const auto origin = [&](std::int64_t trial) {
    return unknown_origin(resolve(StudySource{file, "own", trial}, std::nullopt, {}));
  };
  CHECK(origin(0));        // the other study's best
  CHECK_FALSE(origin(1));  // drawn here, on bars that the study names
  // All trials of the other are behind each of them, from where it lies and as many as it has; a copy is another study.
  const auto other = studies::open_storage(file)->read_study("cappuccino_maxgpu").trials.size();
  const Resolved resolved = resolve(StudySource{file, "own", 1}, std::nullopt, {});
  CHECK(resolved.trials == static_cast<std::int64_t>(2 + other));
  REQUIRE(resolved.studies.size() == 2);
  CHECK(resolved.studies[0].count == 2);
  CHECK(resolved.studies[1].count == static_cast<std::int64_t>(other));
  CHECK(resolved.studies[1] == resolve(StudySource{file, "cappuccino_maxgpu", {}}, std::nullopt, {}).studies[0]);
  // As it is written in the file, so that a job in another time zone takes it for the same study.
  const std::string zone = std::getenv("TZ") == nullptr ? "" : std::getenv("TZ");
  setenv("TZ", "Asia/Tokyo", 1);
  tzset();
  CHECK(resolve(StudySource{file, "cappuccino_maxgpu", {}}, std::nullopt, {}).studies[0] == resolved.studies[1]);
  setenv("TZ", zone.c_str(), 1);
  tzset();
  const std::string copy = (directory.path / "copy.db").string();
  std::filesystem::copy_file(file, copy);
  CHECK(resolve(StudySource{copy, "own", 1}, std::nullopt, {}).studies[0].id != resolved.studies[0].id);
}

TEST_CASE("sweep: what follows the hold-out goes to a study of its own, named by its last bar") {
  const TemporaryDirectory directory;
  SweepRequest request;
  request.storage = (directory.path / "sweep.db").string();
  request.study_name = "nights";
  request.trials = 1;
  const auto swept = [&](const std::string& holdout_from) {
    std::vector<Given> given;
    const std::vector<std::string> words = small_sweep("", 1);
    for (std::size_t i = 5; i + 1 < words.size(); i += 2) {
      std::string name = words[i].substr(2);
      std::replace(name.begin(), name.end(), '-', '_');
      given.push_back({name, words[i + 1], "a test"});
    }
    given.push_back({"holdout_from", holdout_from, "a test"});
    return sweep(request, resolve(std::nullopt, std::nullopt, given).settings).document["study"].get<std::string>();
  };
  CHECK(swept("2023-03-01") == "nights");
  CHECK_THROWS_WITH_AS(swept("2023-04-01"), doctest::Contains("measures another experiment"), Error);
  request.follow = true;
  CHECK(swept("2023-03-01") == "nights");
  CHECK(swept("2023-04-01") == "nights-until-2023-03-31");
  CHECK(swept("2023-04-01") == "nights-until-2023-03-31");
  CHECK(studies::open_storage(request.storage)->read_study("nights-until-2023-03-31").trials.size() == 2);
}

TEST_CASE("sweep: SIGINT ends after the part under way, and the trial is queued again") {
  const TemporaryDirectory directory;
  const std::string storage = (directory.path / "sweep.db").string();
  const pid_t child = start(small_sweep(storage, 50), directory.path / "log");
  wait_for_report(storage);
  kill(child, SIGINT);
  CHECK(finish(child) == 130);
  const studies::Study study = studies::open_storage(storage)->read_study("ristretto-robust");
  REQUIRE(study.trials.size() >= 2);
  const studies::Trial &failed = study.trials[study.trials.size() - 2], &queued = study.trials.back();
  CHECK(failed.state == studies::State::fail);
  CHECK(queued.state == studies::State::waiting);
  CHECK(queued.params.size() == failed.params.size());
  CHECK(std::none_of(study.trials.begin(), study.trials.end(),
                     [](const studies::Trial& trial) { return trial.state == studies::State::running; }));
}

TEST_CASE("sweep: the trial of a killed worker is failed, queued again and finished by the next") {
  const TemporaryDirectory directory;
  const std::string storage = (directory.path / "sweep.db").string();
  const pid_t child = start(small_sweep(storage, 50), directory.path / "log");
  wait_for_report(storage);
  kill(child, SIGKILL);
  CHECK(finish(child) == 128 + SIGKILL);
  std::this_thread::sleep_for(std::chrono::milliseconds(2200));  // heartbeats are whole seconds
  std::vector<std::string> next = small_sweep(storage, 1);
  next.insert(next.end(), {"--grace", "1"});
  CHECK(finish(start(next, directory.path / "log")) == 0);
  const studies::Study study = studies::open_storage(storage)->read_study("ristretto-robust");
  const auto killed = std::find_if(study.trials.begin(), study.trials.end(),
                                   [](const studies::Trial& trial) { return trial.state == studies::State::fail; });
  REQUIRE(killed != study.trials.end());
  const studies::Trial& again = study.trials.back();
  CHECK(again.state == studies::State::complete);
  CHECK(studies::find(again.system_attributes, "failed_trial")->integer == killed->number);
  for (const studies::Parameter& param : killed->params) CHECK(again.find_param(param.name)->value == param.value);
}

TEST_SUITE("slow") {
  TEST_CASE("sweep: the program's trials are whole, reproducible, and lie beside a study of another objective") {
    const TemporaryDirectory directory;
    const auto log = directory.path / "log";
    const std::string first = (directory.path / "first.db").string(), second = (directory.path / "second.db").string();
    std::filesystem::copy_file(kSource + "/data/studies/example.db", first);
    std::vector<std::string> command = small_sweep(first, 2);
    command.insert(command.end(),
                   {"--study-name", "cappuccino_maxgpu", "--start-from", "cappuccino_maxgpu", "--seed", "3"});
    REQUIRE(finish(start(command, log)) == 0);
    const studies::Study study = studies::open_storage(first)->read_study("cappuccino_maxgpu-robust-v2");
    REQUIRE(study.trials.size() == 2);
    CHECK(studies::generation_of(study) == studies::Generation::ristretto);
    for (const studies::Trial& trial : study.trials) {
      CHECK(trial.state == studies::State::complete);
      CHECK(trial.reports.size() == 12);
      REQUIRE(trial.find_param("net_dimension") != nullptr);
      CHECK(trial.find_param("net_dimension")->value == agents::Value(std::int64_t{16}));
      for (const char* key :
           {"mean_sharpe_bot", "mean_sharpe_hodl", "std_sharpe_bot", "sharpe_list_bot", "sharpe_list_hodl"}) {
        CHECK_MESSAGE(studies::find(trial.user_attributes, key) != nullptr, key);
      }
      studies::settings_of_trial(study, trial);  // retrain can read it
    }
    CHECK(studies::find(study.trials[0].user_attributes, "source_trial")->integer == 134);
    CHECK(studies::open_storage(first)->read_study("cappuccino_maxgpu").trials.size() == 202);

    // Equal seeds, equal trials: in one go, and in two.
    REQUIRE(finish(start(small_sweep(second, 2), log)) == 0);
    const std::string third = (directory.path / "third.db").string();
    REQUIRE(finish(start(small_sweep(third, 1), log)) == 0);
    REQUIRE(finish(start(small_sweep(third, 1), log)) == 0);
    const studies::Study once = studies::open_storage(second)->read_study("ristretto-robust");
    const studies::Study twice = studies::open_storage(third)->read_study("ristretto-robust");
    REQUIRE(twice.trials.size() == 2);
    for (std::size_t i = 0; i < 2; ++i) {
      CHECK(once.trials[i].values == twice.trials[i].values);
      for (const studies::Parameter& param : once.trials[i].params) {
        CHECK(twice.trials[i].find_param(param.name)->value == param.value);
      }
    }
  }
}

}  // namespace ristretto::train
