#include <doctest/doctest.h>
#include <sys/wait.h>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <map>

#include "formats/archive.h"
#include "formats/npz.h"
#include "formats/torch_file.h"
#include "platform/atomic_file.h"
#include "platform/error.h"
#include "platform/text.h"
#include "release/inspect.h"
#include "release/lost_trial.h"
#include "release_fixture.h"

using namespace ristretto;
using namespace ristretto::release;
namespace fs = std::filesystem;

namespace {

const fs::path kGolden = fs::path(RISTRETTO_GOLDEN) / "deployments";
const std::string kExampleStudies = "sqlite:///" RISTRETTO_SOURCE "/data/studies/example.db";

std::string all_of(const Inspection& inspection) { return join(lines_of(inspection), "\n"); }

bool says(const Inspection& inspection, const std::string& part) {
  return all_of(inspection).find(part) != std::string::npos;
}

bool has_fault(const Inspection& inspection) {
  for (const Finding& finding : inspection.findings) {
    if (finding.kind == Finding::Kind::fault) return true;
  }
  return false;
}

fs::path copy_of(const std::string& name, const Scratch& scratch) {
  const fs::path to = scratch / fs::path(name).filename().string();
  fs::copy(kGolden / name, to, fs::copy_options::recursive);
  fs::permissions(to, fs::perms::owner_all);
  return to;
}

struct Ran {
  int code;
  std::string out;
};

Ran run(const std::string& command, const Scratch& scratch) {
  const fs::path out = scratch / "stdout";
  const int status = std::system(
      str("cd '" RISTRETTO_SOURCE "' && (", command, ") >'", out.string(), "' 2>'", out.string(), ".err'").c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read_file(out)};
}

// act_optim.pth as Adam leaves it after inputs of these sizes.
void write_moments(const fs::path& file, const std::vector<double>& input_sizes, std::int64_t width) {
  std::vector<float> moments;
  for (std::int64_t row = 0; row < width; ++row) {
    for (const double size : input_sizes) moments.push_back(static_cast<float>(1e-6 * size * size));
  }
  const auto columns = static_cast<std::int64_t>(input_sizes.size());
  const std::string bytes = formats::write_torch_bytes(
      {{"state.1.exp_avg_sq", formats::Array::of_floats({width, columns}, moments)}}, "act_optim");
  write_file_atomically(file, bytes);
}

std::vector<double> sizes_at_prices(const env::Layout& layout, const std::vector<std::string>& order) {
  const std::map<std::string, double> prices{{"AAVE/USD", 90},  {"AVAX/USD", 15}, {"BTC/USD", 30000}, {"LINK/USD", 7},
                                             {"ETH/USD", 1900}, {"LTC/USD", 80},  {"UNI/USD", 6}};
  std::vector<double> sizes(static_cast<std::size_t>(layout.size()), 1.0);
  const std::size_t features = layout.features.size();
  for (std::size_t asset = 0; asset < order.size(); ++asset) {
    for (std::size_t price = 0; price < 4; ++price) {
      sizes[1 + order.size() + asset * features + price] = prices.at(order[asset]);
    }
  }
  return sizes;
}

}  // namespace

TEST_CASE("inspect: every golden directory gets the diagnosis that its README gives it") {
  struct Expected {
    const char* name;
    const char* served_by;  // "" for nothing
    bool runs;
    std::int64_t observation;
    std::vector<const char*> parts;
  };
  const std::vector<Expected> all = {
      {"mlp_85",
       "",
       true,
       85,
       {"mlp 85 -> 256 -> 7", "11 features (alpaca-11), lookback 1", "AAVE/USD:atr_regime_shift@0",
        "observes 106 values", "lacks       21"}},
      {"mlp_239", "", true, 239, {"lookback 3", "observes 302 values", "trial       157", "lacks       63"}},
      {"mlp_106", "cappuccino", true, 106, {"served by today's paper trader", "14 features (alpaca-14), lookback 1"}},
      {"ft_85", "", true, 85, {"ft_transformer 85", "tokens of 16, 2 blocks, 4 heads", "builds an MLP"}},
      {"ft_239", "", true, 239, {"tokens of 16, 1 blocks, 2 heads", "builds an MLP"}},
      {"ft_trial_mlp_file", "cappuccino", true, 106, {"the weights are an MLP's, and the MLP is what is served"}},
      {"broken/state_dim_85_for_239",
       "",
       false,
       85,
       {"actor.pth takes 85 values; best_trial (lookback 3) wants 239 with 11 features, 302 with 14; 85 is lookback 1 "
        "of 11 features"}},
      {"broken/missing_best_trial", "", true, 106, {"best_trial is missing", "from the weights alone"}},
      {"broken/truncated_actor", "", false, 0, {"not a complete zip archive"}},
      {"broken/ft_truncated_actor", "", false, 0, {"not a complete zip archive"}},
      {"broken/no_actor", "", false, 0, {"no weights", "random", "temporary"}},
      {"broken/actor_only_in_stored_agent", "", false, 106, {"no weights", "stored_agent/ has one"}},
      {"broken/stale_act_target", "", false, 106, {"act_target.pth differs from actor.pth"}},
      {"broken/critic_of_another_size", "", false, 106, {"critic.pth", "refuses to start"}},
      {"broken/renamed_keys", "", false, 106, {"prefix 'module.'"}},
      {"broken/nan_weight", "", false, 106, {"net.2.bias holds NaN"}},
      {"broken/ft_without_use_ft_encoder", "", true, 0, {"lack use_ft_encoder, as --force-ft trials do"}},
      {"broken/batch_size_index", "cappuccino", true, 106, {"batch_size 1: the index of a categorical"}},
  };
  for (const Expected& expected : all) {
    CAPTURE(expected.name);
    const Inspection found = inspect(kGolden / expected.name);
    CAPTURE(all_of(found));
    CHECK(found.served_by == expected.served_by);
    CHECK(has_fault(found) == !expected.runs);
    if (expected.observation > 0) {
      REQUIRE(found.architecture);
      CHECK(found.architecture->observation == expected.observation);
    }
    for (const char* part : expected.parts) CHECK_MESSAGE(says(found, part), part);
    CHECK(json_of(found)["servable"] == found.servable());
  }
  CHECK(models_under(kGolden).size() == all.size());
}

TEST_CASE("inspect: a sound directory broken in each of the ways says the same") {
  const Scratch scratch;
  const fs::path sound = copy_of("mlp_106", scratch);
  fs::remove(sound / "act_optim.pth");
  CHECK(inspect(sound).servable());
  const auto broken = [&](const char* name, const std::function<void(const fs::path&)>& change, const char* part) {
    CAPTURE(name);
    const fs::path copy = scratch / name;
    fs::copy(sound, copy, fs::copy_options::recursive);
    change(copy);
    const Inspection found = inspect(copy);
    CAPTURE(all_of(found));
    CHECK_FALSE(found.servable());
    CHECK(says(found, part));
  };
  const auto rewrite = [](const fs::path& file, const std::function<void(formats::NamedArrays&)>& change) {
    formats::NamedArrays arrays = formats::read_torch_file(file);
    change(arrays);
    write_file_atomically(file, formats::write_torch_bytes(arrays, "x"));
  };
  broken(
      "dimension",
      [&](const fs::path& d) {
        for (const char* f : {"actor.pth", "act_target.pth", "critic.pth", "cri_target.pth"}) fs::remove(d / f);
        fs::copy_file(kGolden / "mlp_85/actor.pth", d / "actor.pth");
      },
      "observes 106 values");
  broken(
      "no_trial", [](const fs::path& d) { fs::remove(d / "best_trial"); }, "best_trial is missing");
  broken(
      "bad_trial", [](const fs::path& d) { std::ofstream(d / "best_trial") << "nonsense"; }, "best_trial");
  broken(
      "cut", [](const fs::path& d) { fs::resize_file(d / "actor.pth", fs::file_size(d / "actor.pth") * 6 / 10); },
      "not a complete zip archive");
  broken(
      "cut_by_100", [](const fs::path& d) { fs::resize_file(d / "actor.pth", fs::file_size(d / "actor.pth") - 100); },
      "not a complete zip archive");
  broken(
      "no_actor", [](const fs::path& d) { fs::remove(d / "actor.pth"); }, "random");
  broken(
      "stored",
      [](const fs::path& d) {
        fs::create_directory(d / "stored_agent");
        fs::rename(d / "actor.pth", d / "stored_agent/actor.pth");
      },
      "stored_agent/ has one");
  broken(
      "stale",
      [&](const fs::path& d) {
        rewrite(d / "act_target.pth", [](auto& arrays) { arrays[1].second.bytes[1] ^= std::byte{1}; });
      },
      "act_target.pth differs");
  broken(
      "critic",
      [](const fs::path& d) {
        fs::copy_file(kGolden / "mlp_239/critic.pth", d / "critic.pth", fs::copy_options::overwrite_existing);
      },
      "critic.pth");
  broken(
      "renamed",
      [&](const fs::path& d) {
        rewrite(d / "actor.pth", [](auto& arrays) {
          for (auto& array : arrays) array.first = "module." + array.first;
        });
      },
      "'module.'");
  broken(
      "nan",
      [&](const fs::path& d) {
        for (const char* f : {"actor.pth", "act_target.pth"}) {
          rewrite(d / f, [](auto& arrays) {
            for (auto& [name, array] : arrays) {
              if (name == "net.2.bias") array = formats::Array::of_floats(array.shape, std::vector<float>(64, NAN));
            }
          });
        }
      },
      "net.2.bias holds NaN");

  const auto with_parameters = [](const fs::path& d, const std::function<void(Json&)>& change) {
    Trial trial = read_trial(d / "best_trial");
    change(trial.parameters);
    write_file_atomically(d / "best_trial", trial_bytes(trial));
  };
  const fs::path transformer = copy_of("ft_239", scratch);
  with_parameters(transformer, [](Json& parameters) { parameters.erase("use_ft_encoder"); });
  CHECK_FALSE(inspect(transformer).servable());
  CHECK(says(inspect(transformer), "lack use_ft_encoder, as --force-ft trials do"));
  // What training alone reads, and what the weights tell better: corrected, and served.
  with_parameters(sound, [](Json& parameters) {
    parameters["batch_size"] = 1;
    parameters["use_ft_encoder"] = true;
  });
  CHECK(inspect(sound).servable());
  CHECK(says(inspect(sound), "batch_size 1: the index of a categorical"));
  CHECK(says(inspect(sound), "the weights are an MLP's, and the MLP is what is served"));
}

TEST_CASE("inspect: the layouts that a dimension fits") {
  const auto texts = [](std::int64_t observation, std::int64_t assets) {
    std::vector<std::string> out;
    for (const LayoutFit& fit : layouts_of(observation, assets)) out.push_back(text_of(fit));
    return join(out, "; ");
  };
  CHECK(texts(85, 7) == "11 features (alpaca-11), lookback 1, 7 assets");
  CHECK(texts(239, 7) == "11 features (alpaca-11), lookback 3, 7 assets");
  CHECK(texts(106, 7) ==
        "14 features (alpaca-14), lookback 1, 7 assets; 14 features (alpaca-14b), lookback 1, 7 assets");
  for (std::int64_t lookback = 1; lookback <= 5; ++lookback) CHECK(layouts_of(8 + 98 * lookback, 7).size() == 2);
  CHECK(texts(1 + 7 + 7 * 154, 7).find("alpaca-11), lookback 14") != std::string::npos);  // 154 is of both sizes
  CHECK(texts(1 + 7 + 7 * 154, 7).find("alpaca-14), lookback 11") != std::string::npos);
  CHECK(texts(211, 14).find("alpaca-14), lookback 1, 14 assets") != std::string::npos);
  CHECK(texts(211, 7) == "29 values an asset (features x lookback; no known set), 7 assets");
  CHECK(texts(141, 7) == "19 values an asset (features x lookback; no known set), 7 assets");
  CHECK(layouts_of(141, 0).size() > 3);
  CHECK(layouts_of(8, 7).empty());
  CHECK(layouts_of(1, 0).empty());
}

TEST_CASE("inspect: a missing best_trial is found in a study, by number or architecture, or made from the weights") {
  agents::Architecture architecture;
  architecture.observation = 106;
  architecture.actions = 7;
  architecture.width = 12345;  // of no trial
  const LostTrial alone = find_trial(architecture, {kExampleStudies, "cappuccino_maxgpu", {}}, Json());
  CHECK(alone.from == "the weights alone");
  CHECK(alone.trial.parameters["net_dimension"] == 12345);
  CHECK(alone.trial.parameters["lookback"] == 1);

  const LostTrial wrong = find_trial(architecture, {kExampleStudies, "cappuccino_maxgpu", 134}, Json());
  CHECK(wrong.from == "the weights alone");
  CHECK(join(wrong.notes, "\n").find("trial 134 of cappuccino_maxgpu is not the model's: net_dimension") !=
        std::string::npos);

  architecture.width = 1280;  // trial 134: lookback 4
  architecture.observation = 400;
  const LostTrial by_number = find_trial(architecture, {kExampleStudies, "cappuccino_maxgpu", 134}, Json());
  CHECK(by_number.from == "study cappuccino_maxgpu, trial 134, by its number");
  CHECK(by_number.trial.parameters["norm_cash_exp"] == -15);
  CHECK(by_number.trial.user_attributes.contains("mean_sharpe_bot"));
  const LostTrial by_metadata =
      find_trial(architecture, {kExampleStudies, "", {}}, {{"trial_number", 134}, {"study", "cappuccino_maxgpu"}});
  CHECK(by_metadata.from == by_number.from);
  const LostTrial by_architecture =
      find_trial(architecture, {kExampleStudies, "cappuccino_maxgpu", {}}, {{"trial_number", 1}});
  CHECK(by_architecture.from == "study cappuccino_maxgpu, trial 134, by its architecture");
  const LostTrial unnamed = find_trial(architecture, {kExampleStudies, "", {}}, Json());
  CHECK(join(unnamed.notes, "\n").find("--study-name") != std::string::npos);
  CHECK_THROWS_AS(find_trial(architecture, {"sqlite:////absent.db", "", {}}, Json()), Error);
}

TEST_CASE("inspect: the order of ETH and LINK is recognised by what Adam saw of their prices, and by nothing less") {
  const Scratch scratch;
  const fs::path directory = copy_of("mlp_106", scratch);
  CHECK(says(inspect(directory), "nothing here tells whether it was trained with ETH before LINK"));  // random inputs
  const Inspection sound = inspect(directory);
  REQUIRE(sound.layout);
  write_moments(directory / "act_optim.pth", sizes_at_prices(*sound.layout, env::default_assets()), 64);
  const Inspection in_order = inspect(directory);
  CHECK(in_order.servable());
  CHECK(says(in_order, "agrees with the order of assets"));
  write_moments(directory / "act_optim.pth", sizes_at_prices(*sound.layout, processor_order()), 64);
  const Inspection exchanged = inspect(directory);
  CAPTURE(all_of(exchanged));
  CHECK_FALSE(exchanged.servable());
  CHECK_FALSE(has_fault(exchanged));
  CHECK(says(exchanged, "trained with ETH before LINK"));
  CHECK(exchanged.layout->assets == processor_order());
  CHECK(exchanged.difference.missing.empty());
  CHECK(exchanged.difference.moved.size() == 2 * 15);
  const auto commands = commands_of(exchanged, "data/crypto_1h");
  REQUIRE(commands.size() == 1);
  CHECK(join(commands[0], " ").find("--assets AAVE/USD,AVAX/USD,BTC/USD,ETH/USD,LINK/USD,LTC/USD,UNI/USD") !=
        std::string::npos);
}

TEST_CASE("inspect: a wrong list of assets is corrected to the training assets by a line that says so") {
  InspectOptions options;
  options.assets = {"BTC/USD", "ETH/USD", "SOL/USD"};
  const Inspection found = inspect(kGolden / "mlp_106", options);
  CHECK(found.servable());
  CHECK(found.layout->assets == env::default_assets());
  CHECK(says(found, "--assets names 3 assets (BTC/USD ETH/USD SOL/USD); the model was trained on 7 (AAVE/USD"));
  const Scratch scratch;
  const fs::path directory = copy_of("mlp_106", scratch);
  write_file_atomically(directory / "metadata.json", R"({"trial_number": 195, "assets": ["BTC/USD"]})");
  CHECK(says(inspect(directory), "metadata.json's assets names 1 assets (BTC/USD)"));
}

TEST_CASE("inspect: a best_trial that was made from the weights alone stays known as a guess when it is written") {
  const Scratch scratch;
  const fs::path directory = copy_of("broken/missing_best_trial", scratch);
  Inspection found = inspect(directory);
  REQUIRE(found.trial);
  write_file_atomically(directory / "best_trial", trial_bytes(*found.trial));
  found = inspect(directory);
  CAPTURE(all_of(found));
  CHECK_FALSE(found.servable());
  CHECK_FALSE(has_fault(found));
  CHECK(says(found, "best_trial was made from the weights alone"));
  found.trial->user_attributes[kReconstructed] = "study S, trial 93, by its number";
  write_file_atomically(directory / "best_trial", trial_bytes(*found.trial));
  CHECK(inspect(directory).servable());
  CHECK(says(inspect(directory), "lost and found again in study S, trial 93"));
}

TEST_CASE("inspect: versions of this project are explained by their manifest") {
  const Scratch scratch;
  stage(small_content(agents::Network::ft_transformer), scratch / "v");
  const Inspection found = inspect(scratch / "v");
  CAPTURE(all_of(found));
  CHECK(found.served_by == "ristretto");
  CHECK(found.layout_from == "the manifest");
  CHECK(found.layout->assets == std::vector<std::string>{"BTC/USD", "ETH/USD"});
  CHECK(json_of(found)["layout"]["names"][1] == "holding:BTC/USD");
}

TEST_CASE("inspect: files: a state_dict, safetensors, npz, a whole module, a policy of Stable-Baselines3, and others") {
  const fs::path checkpoints = fs::path(RISTRETTO_GOLDEN) / "algorithms/ckpt";
  for (const char* name :
       {"actor_zip.pth", "actor_legacy.pth", "actor_fullmodule.pth", "actor_fullmodule_legacy.pth"}) {
    const Inspection found = inspect(checkpoints / name);
    CAPTURE(all_of(found));
    REQUIRE(found.architecture);
    CHECK(found.architecture->observation == 85);
    CHECK(found.architecture->width == 16);
    CHECK_FALSE(has_fault(found));
    CHECK_FALSE(found.servable());
  }
  CHECK(inspect(kGolden / "mlp_106/actor.pth").servable());
  for (const auto& entry : fs::directory_iterator(checkpoints)) {
    if (!entry.path().filename().string().starts_with("bad_")) continue;
    CAPTURE(entry.path().string());
    CHECK(has_fault(inspect(entry.path())));
  }
  const Scratch scratch;
  const std::string policy = formats::write_torch_bytes(
      {{"mlp_extractor.policy_net.0.weight", formats::Array::of_floats({2, 85}, std::vector<float>(170, 1))},
       {"action_net.weight", formats::Array::of_floats({7, 2}, std::vector<float>(14, 1))}},
      "policy");
  write_file_atomically(scratch / "ppo.zip", formats::write_archive({{"data", "{}"}, {"policy.pth", policy}}));
  const Inspection sb3 = inspect(scratch / "ppo.zip");
  CHECK(sb3.kind == "Stable-Baselines3 policy");
  CHECK(sb3.architecture->observation == 85);
  CHECK(says(sb3, "alpaca-11"));
  CHECK(says(sb3, "clipped mean"));
  write_file_atomically(scratch / "weights.npz",
                        formats::write_npz(formats::read_torch_file(kGolden / "mlp_239/actor.pth")));
  CHECK(inspect(scratch / "weights.npz").architecture->observation == 239);
  fs::copy_file(kGolden / "ft_85/actor.pth", scratch / "lone.pth");
  CHECK(says(inspect(scratch / "lone.pth"), "number of heads"));
  CHECK_THROWS_AS(inspect(scratch / "absent"), Error);
  fs::create_directory(scratch / "empty");
  CHECK_THROWS_AS(models_under(scratch / "empty"), Error);
}

TEST_CASE("inspect: the program's exit codes, document and commands") {
  const Scratch scratch;
  const std::string program = "'" RISTRETTO_PROGRAM "' inspect ";
  const auto path = [](const char* name) { return "'" + (kGolden / name).string() + "' "; };
  for (const fs::path& model : models_under(kGolden)) {
    const std::string name = model.lexically_relative(kGolden).string();
    CAPTURE(name);
    const bool served = name == "mlp_106" || name == "ft_trial_mlp_file" || name == "broken/batch_size_index";
    CHECK(run(program + path(name.c_str()), scratch).code == (served ? 0 : 4));
  }
  CHECK(run(program + "/absent", scratch).code == 2);
  CHECK(run(program + path("mlp_106") + "--trial x", scratch).code == 2);
  const Ran tree = run(program + path("") + "--json", scratch);
  CHECK(tree.code == 4);
  const Json document = Json::parse(tree.out);
  CHECK(document.size() == 18);
  CHECK(Json::parse(run(program + path("mlp_239") + "--json", scratch).out)["difference"]["missing"].size() == 63);
  CHECK(run(program + path("broken/nan_weight") + "--generate-command", scratch).code == 4);
  CHECK(run(program + path("broken/missing_best_trial") + "--out '" + (scratch / "t").string() + "'", scratch).code ==
        4);
  CHECK(read_trial(scratch / "t").number == 93);
}

TEST_SUITE("slow") {
  TEST_CASE("inspect: the generated command works when pasted, also for old layouts") {
    const Scratch scratch;
    for (const char* name : {"mlp_106", "mlp_85", "ft_85", "mlp_239", "ft_239", "ft_trial_mlp_file"}) {
      CAPTURE(name);
      const Ran command =
          run(str("'" RISTRETTO_PROGRAM "' inspect '", (kGolden / name).string(), "' --generate-command"), scratch);
      REQUIRE(command.code == 0);
      const std::string line = command.out.substr(0, command.out.size() - 1);
      const Ran ran = run(str(line, " --from 2023-06-20 --out '", (scratch / "report.html").string(), "'"), scratch);
      CHECK(ran.code == 0);
      CHECK(ran.out.find("this model") != std::string::npos);
    }
  }
}
