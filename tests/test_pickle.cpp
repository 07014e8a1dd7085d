#include <doctest/doctest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "formats/pickle.h"
#include "platform/atomic_file.h"
#include "platform/error.h"
#include "platform/text.h"

using namespace ristretto;
using namespace ristretto::formats;
using Kind = PickleValue::Kind;

namespace {

const std::filesystem::path kDeployments = std::filesystem::path(RISTRETTO_GOLDEN) / "deployments";

PicklePointer golden(const std::string& name) {
  return read_pickle(read_file(kDeployments / name / "best_trial"), name);
}

std::string message_of(const std::string& bytes) {
  try {
    read_pickle(bytes, "file");
  } catch (const Error& error) {
    CHECK(error.fault() == Fault::incompatible);
    return error.what();
  }
  return "";
}

bool says(const std::string& bytes, const std::string& what) {
  return message_of(bytes).find(what) != std::string::npos;
}

template <class... Bytes>
std::string bytes_of(Bytes... bytes) {
  return {static_cast<char>(bytes)...};
}

PicklePointer make(Kind kind) {
  auto value = std::make_shared<PickleValue>();
  value->kind = kind;
  return value;
}
PicklePointer text(const std::string& content) {
  auto value = make(Kind::text);
  value->text = content;
  return value;
}
PicklePointer integer(std::int64_t number) {
  auto value = make(Kind::integer);
  value->integer = number;
  return value;
}
PicklePointer real(double number) {
  auto value = make(Kind::real);
  value->real = number;
  return value;
}
PicklePointer boolean(bool truth) {
  auto value = make(Kind::boolean);
  value->boolean = truth;
  return value;
}

PickleValue trial() {
  PickleValue out;
  out.kind = Kind::object;
  auto params = make(Kind::dict);
  params->entries = {{text("learning_rate"), real(1e-5)},
                     {text("batch_size"), integer(98304)},
                     {text("flag"), boolean(true)},
                     {text("big"), integer(-5'000'000'000)},
                     {text("caf\xC3\xA9"), make(Kind::none)}};
  auto list = make(Kind::list);
  list->items = {real(0.5), real(-0.25)};
  auto pair = make(Kind::tuple);
  pair->items = {integer(0), integer(-1)};
  auto attributes = make(Kind::dict);
  attributes->entries = {{text("timeframe"), text("1h")},
                         {text("sharpe_list"), list},
                         {text("betas"), pair},
                         {text("none"), make(Kind::dict)}};
  out.entries = {{text("number"), integer(134)},
                 {text("params"), params},
                 {text("user_attrs"), attributes},
                 {text("value"), real(0.171965)}};
  return out;
}

// `number`, `params`, `user_attrs` or `value`, of an Optuna FrozenTrial too.
PicklePointer trial_attribute(const PickleValue& trial, const std::string& name) {
  if (PicklePointer value = trial.find(name)) return value;
  if (PicklePointer value = trial.find("_" + name)) return value;
  const PicklePointer values = name == "value" ? trial.find("_values") : nullptr;
  return values == nullptr || values->items.empty() ? nullptr : values->items[0];
}

}  // namespace

TEST_CASE("pickle: a DeploymentTrial, a FrozenTrial and a SimpleNamespace give number, params and value") {
  struct Row {
    const char* name;
    const char* of;
    std::int64_t number;
    double learning_rate;
  };
  for (const Row& row : {Row{"mlp_85", "deployment_trial DeploymentTrial", 26, 3.4738340411182337e-06},
                         Row{"mlp_239", "optuna.trial._frozen FrozenTrial", 157, 2.9006045717177554e-06},
                         Row{"mlp_106", "types SimpleNamespace", 195, 0.00021533133440412817}}) {
    CAPTURE(row.name);
    const PicklePointer value = golden(row.name);
    REQUIRE(value->kind == Kind::object);
    CHECK(value->items[0]->text == row.of);
    CHECK(trial_attribute(*value, "number")->integer == row.number);
    CHECK(trial_attribute(*value, "params")->find("learning_rate")->real == row.learning_rate);
    CHECK(trial_attribute(*value, "params")->find("use_lr_schedule")->kind == Kind::boolean);
    CHECK(trial_attribute(*value, "user_attrs")->find("timeframe")->text == "1h");
    CHECK(trial_attribute(*value, "value")->kind == Kind::real);
    CHECK(trial_attribute(*value, "nothing") == nullptr);
  }
  CHECK(trial_attribute(*golden("mlp_239"), "value")->real == 0.17739823280421793);
}

TEST_CASE("pickle: every golden best_trial can be read") {
  std::size_t files = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(kDeployments)) {
    if (entry.path().filename() != "best_trial") continue;
    CAPTURE(entry.path().string());
    const PicklePointer value = read_pickle(read_file(entry.path()), "trial");
    CHECK(trial_attribute(*value, "number")->kind == Kind::integer);
    CHECK(trial_attribute(*value, "params")->kind == Kind::dict);
    CHECK(trial_attribute(*value, "value") != nullptr);
    ++files;
  }
  CHECK(files == 17);
}

TEST_CASE("pickle: a trial that we write reads back") {
  const std::string bytes = write_pickle(trial());
  CHECK(bytes.substr(0, 2) == "\x80\x02");
  std::size_t used = 0;
  const PicklePointer again = read_pickle(bytes + "tail", "ours", &used);
  CHECK(used == bytes.size());
  CHECK(again->items[0]->text == "types SimpleNamespace");
  CHECK(again->find("number")->integer == 134);
  CHECK(again->find("value")->real == 0.171965);
  CHECK(again->find("params")->find("big")->integer == -5'000'000'000);
  CHECK(again->find("params")->find("flag")->boolean);
  CHECK(again->find("params")->find("caf\xC3\xA9")->kind == Kind::none);
  CHECK(again->find("user_attrs")->find("sharpe_list")->items[1]->real == -0.25);
  CHECK(again->find("user_attrs")->find("betas")->kind == Kind::tuple);
  CHECK(again->find("user_attrs")->find("betas")->items[1]->integer == -1);
  CHECK_THROWS_AS(write_pickle(*make(Kind::set)), Error);
}

TEST_CASE("pickle: the old protocols' opcodes") {
  // pickle.dumps({'a': [1, True, 2.5, None, 10**20, 'é\u20ac'], 'b': (1, 2)}, 0)
  const PicklePointer value = read_pickle(
      "(dp0\nVa\np1\n(lp2\nI1\naI01\naF2.5\naNaL100000000000000000000L\naV\xE9\\u20ac\np3\nasVb\np4\n(I1\nI2\ntp5\ns.",
      "file");
  const auto& items = value->find("a")->items;
  REQUIRE(items.size() == 6);
  CHECK(items[0]->integer == 1);
  CHECK(items[1]->kind == Kind::boolean);
  CHECK(items[2]->real == 2.5);
  CHECK(items[3]->kind == Kind::none);
  CHECK(items[4]->real == 1e20);
  CHECK(items[5]->text == "\xC3\xA9\xE2\x82\xAC");
  CHECK(value->find("b")->items.size() == 2);
  CHECK(read_pickle("(i__main__\nC\n(dVx\nI3\nsb.", "file")->find("x")->integer == 3);
  CHECK(read_pickle("c_codecs\nencode\n(V\xE9\nVlatin1\ntR.", "file")->text == "\xE9");
  CHECK(read_pickle("\x80\x02\x8A\x02\xFF\x7F.", "file")->integer == 32767);
  CHECK(read_pickle("\x80\x02\x8A\x01\xFF.", "file")->integer == -1);
  CHECK(read_pickle(std::string("\x80\x02\x8A\0.", 5), "file")->integer == 0);
}

TEST_CASE("pickle: malformed and hostile pickles are refused") {
  CHECK(says("", "1 bytes are expected"));
  CHECK(says(".", "stack is empty"));
  CHECK(says("NN.", "left on the stack"));
  CHECK(says("(N.", "left on the stack"));
  CHECK(says("\x80\x06N.", "protocol 6"));
  CHECK(says("\xF7", "opcode 247"));
  CHECK(says("h\x05.", "no entry 5"));
  CHECK(says("N]R.", "call of what is no function"));
  CHECK(says("cos\nsystem\n]R.", "arguments are no tuple"));
  CHECK(says("NNa.", "no list"));
  CHECK(says("}(Nu.", "key without a value"));
  CHECK(says("NNNs.", "no dictionary"));
  CHECK(says("N(N\x90.", "no set"));
  CHECK(says("NNb.", "no object"));
  CHECK(says("t.", "no mark"));
  CHECK(says("(N(a.", "stack is empty"));  // nothing below the mark is touched
  CHECK(says("X\xFF\xFF\xFF\xFFz", "4294967295 bytes are expected, 1 are left"));
  CHECK(says("\x8D\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFFz", "18446744073709551615 bytes"));
  CHECK(says(bytes_of('X', 1, 0, 0, 0, 0xFF, '.'), "not UTF-8"));
  CHECK(says(std::string(300, '('), "marks"));
  CHECK(says("Iabc\n.", "expected a number"));
  CHECK(says("I1", "without end"));
}

TEST_CASE("pickle: what contains itself, or is nested deeper than 64, is refused without a crash or a leak") {
  CHECK(says("]q\1h\1a.", "contains itself"));
  CHECK(says("]q\1]q\2h\1a0h\2a.", "contains itself"));
  CHECK(says("}q\1Nh\1s.", "contains itself"));
  const auto nested = [](std::size_t depth) { return std::string(depth, ']') + std::string(depth - 1, 'a') + "."; };
  CHECK(message_of(nested(64)).empty());
  CHECK(says(nested(65), "deeper than 64"));
  CHECK(says(nested(200'000), "deeper than 64"));
  CHECK(message_of("(" + std::string(200'000, ']') + std::string(199'999, 'a') + "1N.").empty());  // thrown away
  CHECK(says(std::string(1'100'000, 'N') + ".", "more than 1000000"));
}

TEST_CASE("pickle: with a list of callables another call is refused by its name, even where its result is dropped") {
  const std::vector<std::string> none;
  const std::string bytes = "cposix\nsystem\n(X" + bytes_of(2, 0, 0, 0) + "lstR0N.";
  CHECK(read_pickle(bytes, "file")->kind == Kind::none);  // inert: never called
  CHECK_THROWS_WITH_AS(read_pickle(bytes, "file", nullptr, &none), doctest::Contains("posix system"), Error);
}

TEST_CASE("pickle: a pickle cut or changed anywhere never does more than throw") {
  for (const char* name : {"mlp_85", "mlp_239", "mlp_106"}) {
    const std::string bytes = read_file(kDeployments / name / "best_trial");
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      CHECK_FALSE(message_of(bytes.substr(0, i)).empty());
      std::string changed = bytes;
      changed[i] = static_cast<char>(changed[i] ^ (1 << (i % 8)));
      message_of(changed);
    }
  }
}

TEST_SUITE("interop") {
  TEST_CASE("pickle: Python reads the trial that we write") {
    const std::filesystem::path path = std::filesystem::temp_directory_path() / str("ristretto_trial_", getpid());
    write_file_atomically(path, write_pickle(trial()));
    const std::string program =
        "import pickle, sys, types\n"
        "t = pickle.load(open(sys.argv[1], 'rb'))\n"
        "assert type(t) is types.SimpleNamespace\n"
        "assert t == types.SimpleNamespace(number=134, value=0.171965,\n"
        "    params={'learning_rate': 1e-5, 'batch_size': 98304, 'flag': True, 'big': -5000000000, 'caf\\u00e9': "
        "None},\n"
        "    user_attrs={'timeframe': '1h', 'sharpe_list': [0.5, -0.25], 'betas': (0, -1), 'none': {}}), t\n";
    const std::filesystem::path script = path.string() + ".py";
    write_file_atomically(script, program);
    CHECK(std::system(str("python3 ", script.string(), " ", path.string()).c_str()) == 0);
    std::filesystem::remove(path);
    std::filesystem::remove(script);
  }
}
