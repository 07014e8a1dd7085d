// The program as its users meet it: exit codes, what goes to which stream, and documents that parse.
#include <doctest/doctest.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "platform/atomic_file.h"
#include "platform/lock.h"
#include "platform/text.h"
#include "release/thresholds.h"
#include "release/versions.h"
#include "release_fixture.h"
#include "temporary_directory.h"

namespace ristretto {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

const std::string kProgram = std::string("'") + RISTRETTO_PROGRAM + "'";
const std::string kGolden = RISTRETTO_GOLDEN "/optuna/";

std::string bytes_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// As one word of bash.
std::string in_quotes(const std::string& text) { return "'" + join(split(text, '\''), "'\\''") + "'"; }

struct Ran {
  int code;  // 128 + signal where a signal ended it
  std::string out, err;
};

// A line of bash, from the repository's root, without a terminal; $P is the program.
Ran bash(const std::string& line) {
  const TemporaryDirectory scratch;
  std::ofstream(scratch.path / "line") << "cd '" RISTRETTO_SOURCE "'\nP=" << kProgram << "\n" << line << "\n";
  const fs::path out = scratch.path / "out", err = scratch.path / "err";
  const int status = std::system(
      str("setsid -w bash ", in_quotes(scratch.path / "line"), " </dev/null >", in_quotes(out), " 2>", in_quotes(err))
          .c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), bytes_of(out), bytes_of(err)};
}

Ran run(const std::string& arguments, const std::string& environment = {}) {
  return bash(str(environment, " \"$P\" ", arguments));
}

// The same, where it must succeed and print one document.
Json document_of(const std::string& arguments, const std::string& environment = {}) {
  const Ran ran = run(arguments + " --json", environment);
  CAPTURE(arguments);
  CHECK_MESSAGE(ran.code == 0, ran.err);
  const Json document = Json::parse(ran.out, nullptr, /*allow_exceptions=*/false);
  CHECK_MESSAGE(!document.is_discarded(), ran.out);
  return document;
}

// An error: its code, nothing on standard output, one sentence, and a hint where one is expected.
void check_error(const Ran& ran, int code, const std::vector<std::string>& parts) {
  CHECK(ran.code == code);
  CHECK(ran.out.empty());
  CHECK_MESSAGE(ran.err.rfind("ristretto: ", 0) == 0, ran.err);
  const std::vector<std::string> lines = split(ran.err, '\n');  // behind the last newline: ""
  const bool shape = lines.size() == 2 || (lines.size() == 3 && lines[1].rfind("hint: ", 0) == 0);
  CHECK_MESSAGE(shape, ran.err);
  for (const std::string& part : parts) CHECK_MESSAGE(contains(ran.err, part), ran.err);
}

struct CommandOptions {
  std::string name;
  std::vector<std::string> options;
};

// As the completion lists them, which asks every command.
std::vector<CommandOptions> commands_of(const std::string& script) {
  std::vector<CommandOptions> commands;
  std::istringstream lines(script);
  std::string previous;
  for (std::string line; std::getline(lines, line); previous = line) {
    static const std::string kOptions = "      options=\"";
    if (line.rfind(kOptions, 0) != 0) continue;
    const std::string name = previous.substr(4, previous.size() - 5);  // "    retrain)"
    commands.push_back({name, split(line.substr(kOptions.size(), line.size() - kOptions.size() - 1), ' ')});
  }
  return commands;
}

// A copy of the example, which must be what it was when the test ends.
struct ExampleCopy {
  TemporaryDirectory scratch;
  fs::path file = scratch.path / "example.db";
  std::string before;
  std::string of(const std::string& study) const { return str(" --db ", in_quotes(file), " --study ", study); }
  ExampleCopy() {
    fs::copy_file(RISTRETTO_SOURCE "/data/studies/example.db", file);
    before = bytes_of(file);
  }
  ~ExampleCopy() {
    CHECK(bytes_of(file) == before);
    CHECK(std::distance(fs::directory_iterator(scratch.path), {}) == 1);  // no journal, no WAL
  }
};

const std::string kMaxGpu = "cappuccino_maxgpu", kFt = "cappuccino_ft_16gb_optimized";

}  // namespace

TEST_CASE("cli: --help of every command exits 0 and names every option that it takes") {
  const Ran completion = run("completion bash");
  REQUIRE(completion.code == 0);
  const std::vector<CommandOptions> commands = commands_of(completion.out);
  CHECK(commands.size() >= 14);
  const TemporaryDirectory scratch;
  std::string all;
  for (const CommandOptions& command : commands) {
    all += str("(\"$P\" ", command.name, " --help >", in_quotes(scratch.path / command.name), " 2>&1; echo $? >",
               in_quotes(scratch.path / (command.name + ".code")), ") &\n");
  }
  bash(all + "wait");
  const Ran overview = run("--help");
  CHECK(overview.code == 0);
  for (const CommandOptions& command : commands) {
    CAPTURE(command.name);
    CHECK(bytes_of(scratch.path / (command.name + ".code")) == "0\n");
    const std::string help = bytes_of(scratch.path / command.name);
    CHECK(help.rfind("usage: ristretto " + command.name, 0) == 0);
    CHECK(contains(overview.out, "  " + command.name + " "));
    CHECK(command.options.size() >= 6);
    for (const std::string& option : command.options) CHECK_MESSAGE(contains(help, option), option);
  }
}

TEST_CASE("cli: an unknown command, subcommand, option or value exits 2 with the nearest name") {
  check_error(run("retrian x"), 2, {"no command 'retrian'", "'retrain'"});
  check_error(run("study bets --db x"), 2, {"no 'bets'", "'best'"});
  check_error(run("study best --storge x"), 2, {"'--storge'", "--storage"});
  check_error(run("config --learnin-rate 1"), 2, {"'--learnin-rate'", "--learning-rate"});
  check_error(run("study trials --db x --state COMPLET"), 2, {"'COMPLET'", "did you mean COMPLETE?"});
  check_error(run("study top --db x --limit 0"), 2, {"--limit is '0'"});
  check_error(run("completion zsh"), 2, {"'zsh'", "expected bash"});
  check_error(run("config --trial 3"), 2, {"need --storage"});
  const Ran nothing = run("");
  CHECK(nothing.code == 2);
  CHECK(nothing.out.empty());
  CHECK(contains(nothing.err, "usage: ristretto"));
}

TEST_CASE("cli: an option that a subcommand does not read is refused, not passed over") {
  check_error(run("study list --db x --state COMPLETE"), 2, {"study list does not read --state", "study trials"});
  check_error(run("study best --db x --limit 3"), 2, {"does not read --limit"});
  check_error(run("study show --db x --csv"), 2, {"does not read --csv", "top and trials and export"});
  check_error(run("study trials --db x --csv --json"), 2, {"--csv and --json"});
  check_error(run("study importance --db x --seed -1"), 2, {"--seed is '-1'"});
}

TEST_CASE("cli: a fault of a file is one sentence with the file's name, and its exit code says which kind") {
  check_error(run("study best"), 2, {"needs --storage", "sqlite:///data/studies/example.db"});
  check_error(run("study list --db /nonexistent/study.db"), 2, {"/nonexistent/study.db"});
  check_error(run("study list --db data/studies/README.md"), 4, {"data/studies/README.md"});
  check_error(run("study best --db data/studies/example.db"), 2, {"holds 2 studies", kMaxGpu, kFt});
  check_error(run("study best --db data/studies/example.db --study nothing"), 2, {"nothing", kMaxGpu});
}

TEST_CASE("cli: evaluate takes its bars from one option") {
  check_error(run("evaluate tests/golden/deployments/mlp_106 --from 2023-03-10 --timerange 20230601-20230605"), 2,
              {"--timerange", "--from"});
}

TEST_CASE("cli: a dry run refuses what the run itself would") {
  check_error(run("retrain x --dry-run --runs /etc/passwd"), 2, {"--runs is /etc/passwd"});
  check_error(run("retrain x --dry-run --deployments /etc/passwd/x"), 2,
              {"--deployments", "/etc/passwd is no directory"});
  check_error(run("retrain x --dry-run --episode-bars 1"), 2, {"--episode-bars is 1, expected at least 3"});
}

TEST_CASE("cli: sizes that no memory holds are named as such, and threads beyond the cores are not made") {
  const Ran wide = run("retrain x --dry-run --net-dimension 99999999999");
  CHECK(wide.code == 1);
  CHECK(contains(wide.err, "the memory does not hold "));
  CHECK(contains(wide.err, " bytes at once\nhint: give smaller sizes: --net-dimension"));
  const Ran many = run("retrain x --dry-run --threads 100000");
  CHECK(many.code == 0);
  CHECK(contains(many.err, "--threads is 100000, and this process may use "));
}

TEST_CASE("cli: evaluate says where nothing tells which bars trained the model") {
  const TemporaryDirectory scratch;
  const std::string command = str("evaluate tests/golden/deployments/mlp_106 --timerange 20230601-20230605 --out ",
                                  in_quotes(scratch.path / "report.html"));
  const Ran text = run(command);
  CHECK(text.code == 0);
  CHECK(text.out.find("seen in training: not known") != std::string::npos);
  CHECK(document_of(command)["unseen_from"].is_null());
}

TEST_CASE(
    "cli: evaluate names the bars that there are where none is in the range, and computes nothing for no report") {
  const std::string command = "evaluate tests/golden/deployments/mlp_106 ";
  check_error(run(command + "--from 2030-01-01 --out /dev/shm/report.html"), 2, {"from 2021-0", "to 2023-06-30T"});
  check_error(run(command + "--out tests"), 1, {"tests: cannot be written: Is a directory"});
}

TEST_CASE("cli: help COMMAND is COMMAND --help") {
  const Ran help = run("help rollback");
  CHECK(help.code == 0);
  CHECK(help.out == run("rollback --help").out);
  check_error(run("help rolback"), 2, {"no command 'rolback'", "'rollback'"});
}

TEST_CASE("cli: evaluate with slippage and a spread says what a trade costs, and pays it") {
  const TemporaryDirectory scratch;
  const std::string command = str("evaluate tests/golden/deployments/mlp_106 --timerange 20230601-20230605 --out ",
                                  in_quotes(scratch.path / "report.html"));
  const std::string dearer = command + " --slippage-fraction 0.001 --spread-fraction 0.002";
  CHECK(run(command).out.find("a trade costs 0.25 % of its value (the fee)") != std::string::npos);
  CHECK(run(dearer).out.find(
            "a trade costs 0.45 % of its value (fee 0.25 %, slippage 0.1 %, half of a spread of 0.2 %)") !=
        std::string::npos);
  const auto cheap = document_of(command), dear = document_of(dearer);
  CHECK(cheap["costs"]["cost_fraction"] == 0.0025);
  CHECK(dear["costs"]["cost_fraction"].get<double>() == doctest::Approx(0.0045));
  CHECK(dear["references"]["equal weight"]["fees"].get<double>() >
        1.7 * cheap["references"]["equal weight"]["fees"].get<double>());
  CHECK(dear["trades"]["orders"] == dear["metrics"]["orders"]);
  CHECK(dear["returns"]["bar"]["count"] == dear["metrics"]["bars"]);
  check_error(run(command + " --slippage-fraction 0.999"), 2, {"a trade would cost"});
}

TEST_CASE("cli: study reads the example, and leaves the file as it is") {
  const ExampleCopy example;
  const Json list = document_of("study list --storage 'sqlite:///" + example.file.string() + "'");
  REQUIRE(list.size() == 2);
  CHECK(list[0]["name"] == kMaxGpu);
  CHECK(list[0]["states"]["COMPLETE"] == 150);
  CHECK(list[0]["best"]["number"] == 134);
  CHECK(list[1]["best"]["number"] == 14);
  CHECK(list[1]["best"]["value"].get<double>() == doctest::Approx(0.171965).epsilon(1e-6));

  const Json best = document_of("study best" + example.of(kFt));
  CHECK(best["number"] == 14);
  CHECK(best["params"]["batch_size"] == 98304);
  CHECK(best["parameters"]["net_dimension"]["status"] == "used");
  CHECK(best["parameters"]["net_dimension"]["applied"] == true);
  CHECK(best["parameters"]["clip_range"]["status"] == "untested");
  CHECK(best["parameters"]["clip_range"]["applied"] == false);
  CHECK(best["parameters"]["max_drawdown_penalty"]["status"] == "inert");
  CHECK(best["refusal"].is_null());

  const Json top = document_of("study top --limit 10" + example.of(kMaxGpu));
  REQUIRE(top.size() == 10);
  CHECK(top[0]["number"] == 134);
  for (std::size_t i = 1; i < top.size(); ++i) CHECK(top[i - 1]["value"] >= top[i]["value"]);

  const Json pruned = document_of("study trials --state pruned" + example.of(kMaxGpu));
  CHECK(pruned.size() == 45);
  CHECK(std::all_of(pruned.begin(), pruned.end(), [](const Json& trial) { return trial["state"] == "PRUNED"; }));
  const Json last = document_of("study trials --limit 3" + example.of(kMaxGpu));
  REQUIRE(last.size() == 3);
  CHECK(last[2]["number"] == 201);

  const Json shown = document_of("study show" + example.of(kMaxGpu));
  CHECK(shown["parameters"]["learning_rate"]["range"] == "float 1e-06 to 0.001 log");
  CHECK(shown["best"][0]["number"] == 134);
}

TEST_CASE("cli: study export holds all of a study, CSV one line a trial, and reports go to a file") {
  const ExampleCopy example;
  const Json all = document_of("study export" + example.of(kMaxGpu));
  CHECK(all["name"] == kMaxGpu);
  REQUIRE(all["trials"].size() == 202);
  const Json& best = all["trials"][134];
  CHECK(best["params"]["batch_size"] == 4096);
  CHECK(best["distributions"]["learning_rate"]["name"] == "FloatDistribution");
  CHECK(best["distributions"]["learning_rate"]["attributes"]["log"] == true);
  CHECK(best["started"].get<std::string>().size() == std::string("2026-07-13T02:00:00.123456Z").size());

  const Ran csv = run("study trials --state complete --csv" + example.of(kMaxGpu));
  CHECK(csv.code == 0);
  const std::vector<std::string> lines = split(csv.out, '\n');
  REQUIRE(lines.size() == 152);  // header, 150, and "" behind the last newline
  CHECK(lines[0].rfind("number,value,datetime_start,datetime_complete,seconds,params_", 0) == 0);
  CHECK(contains(lines[0], ",user_attrs_sharpe_list_bot,"));
  CHECK(contains(lines[1], ",\"["));  // a list holds commas

  const TemporaryDirectory scratch;
  const fs::path file = scratch.path / "study.csv", page = scratch.path / "study.html";
  const Ran exported = run(str("study export --csv --out ", in_quotes(file), example.of(kMaxGpu)));
  CHECK(exported.code == 0);
  CHECK(exported.out.empty());
  CHECK(split(bytes_of(file), '\n').size() == 204);
  const Json report = document_of(str("study report --out ", in_quotes(page), example.of(kMaxGpu)));
  CHECK(report["report"] == page.string());
  CHECK(contains(bytes_of(page), "best value, trial 134"));
}

TEST_CASE("cli: study importance ranks the parameters, the same for the same seed") {
  const ExampleCopy example;
  const Json importance = document_of("study importance" + example.of(kMaxGpu))["importance"];
  double sum = 0;
  for (const auto& [name, share] : importance.items()) sum += share.get<double>();
  CHECK(sum == doctest::Approx(1));
  CHECK(importance["learning_rate"].get<double>() > 0.5);
  CHECK(document_of("study importance --seed 0" + example.of(kMaxGpu))["importance"] == importance);
  CHECK(document_of("study importance --seed 1" + example.of(kMaxGpu))["importance"] != importance);
  const Ran table = run("study importance" + example.of(kMaxGpu));
  CHECK(contains(split(table.out, '\n')[1], "learning_rate"));
}

TEST_CASE("cli: tables are aligned, plain and without escape sequences") {
  const Ran ran = run("study top --limit 4 --db data/studies/example.db --study " + kMaxGpu, "TERM=xterm-256color");
  REQUIRE(ran.code == 0);
  CHECK(ran.err.empty());
  CHECK(!contains(ran.out, "\x1b"));
  const std::vector<std::string> lines = split(ran.out, '\n');
  REQUIRE(lines.size() == 6);  // header, 4, and "" behind the last newline
  const std::size_t column = lines[0].find("mean_sharpe_hodl");
  REQUIRE(column != std::string::npos);
  for (std::size_t i = 1; i <= 4; ++i) {
    CHECK(lines[i].at(column - 1) == ' ');
    CHECK(lines[i].at(column) != ' ');
  }
}

TEST_CASE("cli: study prints what Optuna itself reads, NaN and infinities as texts") {
  const TemporaryDirectory scratch;
  const fs::path file = scratch.path / "everything.db";
  fs::copy_file(kGolden + "everything_v5.0.0.db", file);
  const std::string before = bytes_of(file);
  const Json golden = Json::parse(bytes_of(kGolden + "everything_v5.0.0.json"));
  std::size_t compared = 0, not_finite = 0;
  for (const Json& study : golden["studies"]) {
    const auto name = study["study"].get<std::string>();
    CAPTURE(name);
    const Json trials = document_of(str("study trials --db ", in_quotes(file), " --study ", in_quotes(name)));
    REQUIRE(trials.size() == study["trials"].size());
    for (std::size_t i = 0; i < trials.size(); ++i, ++compared) {
      const Json& expected = study["trials"][i];
      CHECK(trials[i]["number"] == expected["number"]);
      CHECK(trials[i]["state"] == expected["state"]);
      CHECK(trials[i]["values"] == (expected["values"].is_null() ? Json::array() : expected["values"]));
      CHECK(trials[i]["params"] == expected["params"]);
      CHECK(trials[i]["user_attributes"] == expected["user_attrs"]);
      if (contains(trials[i].dump(), "\"Infinity\"") || contains(trials[i].dump(), "\"NaN\"")) ++not_finite;
    }
  }
  CHECK(compared > 0);
  CHECK(not_finite > 0);
  const Json list = document_of("study list --db " + in_quotes(file));
  CHECK(list.size() == golden["studies"].size());
  CHECK(bytes_of(file) == before);
}

TEST_CASE("cli: study best prints a trial that no model can be trained from") {
  for (const char* name : {"optuna_v3.1.0.db", "optuna_v5.0.0.db"}) {
    CAPTURE(name);
    const Json best = document_of(str("study best --db ", in_quotes(kGolden + name)));
    CHECK(best["params"].size() == 3);
    CHECK(best["parameters"]["x"]["status"] == "inert");
    CHECK(best["user_attributes"]["u"]["k"] == Json::array({1, 2, "NaN"}));
  }
}

TEST_CASE("cli: a reader that goes away early, or no standard output at all, does not crash") {
  const ExampleCopy example;
  const Ran head = bash("\"$P\" study trials" + example.of(kMaxGpu) + " --json | head -1; echo ${PIPESTATUS[0]}");
  const std::vector<std::string> lines = split(head.out, '\n');
  REQUIRE(lines.size() == 3);
  CHECK(lines[0] == "[");
  const bool ended_well = lines[1] == "0" || lines[1] == "141";  // 141: SIGPIPE, as any filter
  CHECK_MESSAGE(ended_well, lines[1]);
  CHECK(head.err.empty());
  const Ran closed = bash("\"$P\" study trials" + example.of(kMaxGpu) + " >&- 2>&-");
  CHECK(closed.code <= 1);
}

TEST_CASE("cli: settings come from the environment, and the command line wins") {
  const Json document = document_of("config --clip-range 0.3", "RISTRETTO_GAMMA=0.9 RISTRETTO_CLIP_RANGE=0.1");
  CHECK(document["settings"]["gamma"]["value"] == 0.9);
  CHECK(document["settings"]["gamma"]["source"] == "RISTRETTO_GAMMA");
  CHECK(document["settings"]["clip_range"]["value"] == 0.3);
  CHECK(document["settings"]["clip_range"]["source"] == "command line");
  CHECK(document["settings"]["seed"]["source"] == "default");
  check_error(run("config", "RISTRETTO_GAMA=0.9"), 2, {"gama", "RISTRETTO_GAMA", "'gamma'"});
  check_error(run("config", "RISTRETTO_GAMMA=high"), 2, {"gamma", "high"});
}

TEST_CASE("cli: a config file stands below the environment; an unknown key names file, line and the nearest") {
  const TemporaryDirectory scratch;
  const fs::path file = scratch.path / "run.ini";
  std::ofstream(file) << "; mine\n[run]\nseed = 7\ngamma = 0.8\n";
  const Json document = document_of("config --config " + in_quotes(file), "RISTRETTO_GAMMA=0.9");
  CHECK(document["settings"]["seed"]["value"] == 7);
  CHECK(document["settings"]["seed"]["source"] == file.string() + ":3");
  CHECK(document["settings"]["gamma"]["value"] == 0.9);
  std::ofstream(file) << "; mine\n\nlearning_rat = 1e-4\n";
  check_error(run("config --config " + in_quotes(file)), 2,
              {file.string() + ":3", "'learning_rat'", "'learning_rate'"});
  std::ofstream(file) << "gamma 0.9\n";
  check_error(run("config --config " + in_quotes(file)), 2, {file.string() + ":1", "expected name = value"});
  check_error(run("config --config /nonexistent.ini"), 2, {"/nonexistent.ini"});
}

TEST_CASE("cli: config tells each value of the study's best trial, and prints a file that says the same") {
  const ExampleCopy example;
  const Json document = document_of("config" + example.of(kFt));
  CHECK(contains(document["origin"].get<std::string>(), "trial 14"));
  CHECK(document["settings"]["batch_size"]["value"] == 98304);
  CHECK(document["settings"]["batch_size"]["source"] == "study trial 14");
  CHECK(document["parameters"]["clip_range"]["applied"] == false);
  CHECK(document["overridden"].size() == 1);
  const Json& derived = document["derived"];
  CHECK(derived["observation"] == 8 + 4 * 7 * 14);  // cash and 7 assets, and 4 bars of 14 features of each
  CHECK(derived["steps_per_iteration"] ==
        derived["portfolios"].get<std::int64_t>() * derived["horizon_bars"].get<std::int64_t>());
  CHECK(document_of("config --trial-id 3" + example.of(kFt))["origin"] != document["origin"]);

  const TemporaryDirectory scratch;
  const fs::path file = scratch.path / "run.ini";
  REQUIRE(bash("\"$P\" config" + example.of(kFt) + " >" + in_quotes(file)).code == 0);
  const Json again = document_of("config --config " + in_quotes(file));
  for (const auto& [name, setting] : document["settings"].items()) {
    CAPTURE(name);
    CHECK(again["settings"][name]["value"] == setting["value"]);
  }
  CHECK(again["derived"] == derived);
}

TEST_CASE("cli: doctor finds what is wrong with a deployment, a lock and the bars, and says what to do") {
  const TemporaryDirectory scratch;
  const std::string where = str("doctor --deployments ", in_quotes(scratch.path / "deployments"), " --runs ",
                                in_quotes(scratch.path / "runs"), " --device cpu --json");
  const auto finding = [](const Json& document, const std::string& subject) -> Json {
    for (const Json& check : document["checks"]) {
      if (check["subject"] == subject) return check;
    }
    return {};
  };
  const Ran healthy = run(where);
  const Json first = Json::parse(healthy.out);
  CHECK(healthy.code == (first["ok"] == true ? 0 : 1));
  for (const char* subject : {"LibTorch", "device", "data", "locks", "deployments"}) {
    CHECK_MESSAGE(finding(first, subject)["ok"] == true, subject);
  }
  CHECK(finding(first, "locks")["found"] == "none is held");

  fs::create_directories(scratch.path / "deployments/.versions/lost");
  fs::create_directory_symlink(".versions/lost/0001-0123456789ab", scratch.path / "deployments/lost");
  fs::create_directories(scratch.path / "deployments/.versions/changed/0001-0123456789ab");
  fs::create_directories(scratch.path / "runs");
  const FileLock lock(scratch.path / "runs/.btc.lock", "retrain btc");
  const Ran ill = run(where + " --bars /nonexistent", "RISTRETTO_SEDE=1");
  CHECK(ill.code == 1);
  const Json second = Json::parse(ill.out);
  CHECK(second["ok"] == false);
  CHECK(contains(finding(second, "locks")["found"], "(retrain btc)"));
  for (const char* subject : {"deployment lost", "deployment changed", "data", "settings"}) {
    CAPTURE(subject);
    CHECK(finding(second, subject)["ok"] == false);
  }
  CHECK(contains(finding(second, "deployment lost")["found"], "does not exist"));
  CHECK(contains(finding(second, "deployment lost")["remedy"], "remove the link"));
  CHECK(contains(finding(second, "deployment changed")["found"], "can be written to"));
  CHECK(contains(finding(second, "deployment changed")["remedy"], "ristretto rollback changed"));
  CHECK(contains(finding(second, "data")["found"], "/nonexistent"));
  CHECK(contains(finding(second, "settings")["found"], "RISTRETTO_SEDE"));
  check_error(run("doctor --threads many"), 2, {"--threads is 'many'"});
}

TEST_CASE("cli: bash completes commands, options and first arguments") {
  const Ran ran = bash(
      "source <(\"$P\" completion bash)\n"
      "complete_words() { COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); _ristretto; echo \"${COMPREPLY[*]}\"; }\n"
      "complete_words ristretto ret\n"
      "complete_words ristretto study --st\n"
      "complete_words ristretto study t\n"
      "complete_words ristretto list x\n");  // nothing: bash's own file names
  CHECK(ran.out == "retrain\n--storage --study-name --state\ntop trials\n\n");
  CHECK(ran.err.empty());
}

TEST_CASE("cli: list says why each version was served or refused, and why the newest candidate became none") {
  const release::Scratch scratch;
  release::VersionStore store(scratch.path());
  const std::string list = "list --deployments " + in_quotes(scratch.path());
  store.refuse("model_0", std::nullopt, "orders: 1 orders, expected at least 10");
  const Json none = document_of(list)[0];
  CHECK(none["versions"].empty());
  CHECK(none["refused_candidate"]["reason"] == "orders: 1 orders, expected at least 10");
  CHECK(contains(run(list).out, "orders: 1 orders"));

  const auto publish = [&](double tag) {
    release::stage(release::small_content(agents::Network::mlp, tag), scratch / "staged");
    return store.publish("model_0", scratch / "staged", {store.served("model_0"), "unproven"});
  };
  const std::string first = publish(0.1);
  store.serve("model_0", first, std::nullopt, "the first version");
  const std::string second = publish(0.2);
  store.refuse("model_0", second, "not better: 0.1 against 0.2");
  const Json judged = document_of(list)[0];
  CHECK(judged["refused_candidate"].is_null());
  CHECK(judged["versions"][0]["reason"] == "the first version");
  CHECK(judged["versions"][1]["reason"] == "not better: 0.1 against 0.2");
  const std::string text = run(list).out;
  // Beside a name whose version is gone the others are listed.
  std::filesystem::create_symlink(".versions/lost/0001-0123456789ab", scratch / "lost");
  const Ran beside = run(list);
  CHECK(beside.code == 4);
  CHECK(contains(beside.out, "not better"));
  CHECK(contains(beside.out, "problem: lost: "));
  std::filesystem::remove(scratch / "lost");
  CHECK(contains(text, "not better"));
  CHECK(text.find("* " + first) < text.find("the first version"));
  CHECK(text.find(second) < text.find("not better"));
  CHECK(!contains(text, "orders: 1 orders"));

  store.refuse("model_0", std::nullopt, "finite: net.0.weight holds NaN");
  CHECK(document_of(list)[0]["refused_candidate"]["reason"] == "finite: net.0.weight holds NaN");
  CHECK(contains(run(list).out, "finite: net.0.weight holds NaN"));
}

TEST_CASE("cli: config --gates is a file for --gates, with every threshold's default") {
  const TemporaryDirectory scratch;
  const Ran ran = run("config --gates");
  CHECK(ran.code == 0);
  write_file_atomically(scratch.path / "gates.ini", ran.out);
  const release::Thresholds read = release::read_thresholds(scratch.path / "gates.ini"), defaults;
  const Json document = document_of("config --gates");
  CHECK(document.size() == release::threshold_table().size());
  for (const release::ThresholdRow& row : release::threshold_table()) {
    CAPTURE(row.name);
    CHECK(contains(ran.out, str(row.name, " = ")));
    CHECK(contains(ran.out, row.help));
    CHECK(read.*(row.member) == defaults.*(row.member));
    CHECK(document[row.name]["value"] == defaults.*(row.member));
  }
}

TEST_CASE("cli: what computes nothing prints one document with --json") {
  CHECK(document_of("signature")["signature"].get<std::string>().size() == 16);
  const TemporaryDirectory scratch;
  CHECK(document_of("list --deployments " + in_quotes(scratch.path)).empty());
  CHECK(document_of("data check")["defects"].empty());
}

}  // namespace ristretto
