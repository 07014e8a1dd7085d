#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "platform/error.h"
#include "platform/text.h"
#include "train/resolve.h"
#include "train/schedule.h"
#include "train/settings.h"
#include "train/sweep.h"

namespace ristretto::train {
namespace {

const std::string kStudy = std::string(RISTRETTO_SOURCE) + "/data/studies/example.db";

Given on_command_line(const char* name, const char* text) { return {name, text, "command line"}; }

}  // namespace

TEST_CASE("settings: later layers win, and each value says where it came from") {
  const Resolved resolved = resolve(StudySource{kStudy, "cappuccino_maxgpu", {}}, {},
                                    {{"gamma", "0.9", "run.ini:3"}, on_command_line("gamma", "0.95")});
  CHECK(resolved.trial->number == 134);
  CHECK(resolved.settings.hyperparameters.gamma == 0.95);
  CHECK(resolved.settings.source_of("gamma") == "command line");
  CHECK(resolved.settings.hyperparameters.net_dimension == 1280);
  CHECK(resolved.settings.source_of("net_dimension") == "study trial 134");
  CHECK(resolved.settings.hyperparameters.clip_range == 0.2);  // untested in that generation: our default
  CHECK(resolved.settings.source_of("clip_range") == "default");
}

TEST_CASE("settings: what was never tested is taken only when asked for") {
  const Resolved resolved =
      resolve(StudySource{kStudy, "cappuccino_maxgpu", 134}, {}, {on_command_line("use_untested", "true")});
  CHECK(resolved.settings.hyperparameters.clip_range == doctest::Approx(0.3));
}

TEST_CASE("settings: the serving profile fixes what the consumer fixes, and says so") {
  const Resolved served = resolve(StudySource{kStudy, "cappuccino_maxgpu", {}}, {}, {});
  CHECK(served.settings.run.serving == "cappuccino");
  CHECK(served.settings.run.features == "alpaca-14");
  CHECK(served.settings.hyperparameters.norm_action == 100);
  REQUIRE(served.overridden.size() == 1);
  CHECK(served.overridden[0].find("norm_action 12000") != std::string::npos);
  const Resolved from_study =
      resolve(StudySource{kStudy, "cappuccino_maxgpu", {}}, {}, {on_command_line("norm_action", "study")});
  CHECK(from_study.settings.hyperparameters.norm_action == 12000);
  const Resolved ft = resolve(StudySource{kStudy, "cappuccino_ft_16gb_optimized", {}}, {}, {});
  CHECK(ft.settings.run.serving == "ristretto");
  CHECK(ft.settings.run.features == "alpaca-14b");
  CHECK(ft.settings.hyperparameters.batch_size == 98304);
  CHECK(architecture_of(ft.settings).network == agents::Network::ft_transformer);
  CHECK_THROWS_AS(
      resolve(StudySource{kStudy, "cappuccino_ft_16gb_optimized", {}}, {}, {on_command_line("serving", "cappuccino")}),
      Error);
}

TEST_CASE("settings: --encoder chooses the network over what a study says, and a sweep may draw it") {
  const Resolved context =
      resolve(StudySource{kStudy, "cappuccino_ft_16gb_optimized", {}}, {},
              {on_command_line("encoder", "market_context"), on_command_line("market_tokens", "feature")});
  CHECK(context.settings.run.serving == "ristretto");
  const agents::Architecture architecture = architecture_of(context.settings);
  CHECK(architecture.network == agents::Network::market_context);
  CHECK(architecture.context.tokens == ft_transformer::MarketTokens::feature);
  CHECK(architecture.context.features == 14);
  CHECK(architecture.context.d_token == context.settings.hyperparameters.ft_d_token);
  CHECK(architecture.observation == layout_of(context.settings).size());
  CHECK_THROWS_WITH_AS(resolve({}, {}, {on_command_line("market_tokens", "asset")}),
                       "--market-tokens (command line) is read by market_context only, and the network is an MLP",
                       Error);

  const auto has = [](const studies::SearchSpace& space, const std::string& name) {
    return std::any_of(space.begin(), space.end(), [&](const auto& entry) { return entry.first == name; });
  };
  const Resolved plain = resolve({}, {}, {on_command_line("serving", "ristretto")});
  CHECK_FALSE(has(search_space(plain.settings, {}), "ft_d_token"));
  const studies::SearchSpace drawn =
      search_space(plain.settings, {"encoder=mlp,market_context", "market_tokens=asset,feature"});
  for (const char* name : {"encoder", "market_tokens", "ft_d_token", "ft_n_blocks"}) CHECK(has(drawn, name));
  CHECK_THROWS_WITH_AS(search_space(resolve({}, {}, {}).settings, {"encoder=mlp,market_context"}),
                       "--space names encoder market_context, and --serving cappuccino builds an MLP", Error);
}

TEST_CASE("settings: portfolios and steps follow from the batch") {
  const Resolved ft = resolve(StudySource{kStudy, "cappuccino_ft_16gb_optimized", {}}, {}, {});
  // 98304 * 4 / 395 = 995.5, up to a multiple of 64.
  CHECK(portfolios_of(ft.settings) == 1024);
  CHECK(steps_of(ft.settings) == 200 * 1024 * 395);
  Settings settings;
  settings.apply(on_command_line("portfolios", "10"));
  settings.apply(on_command_line("steps", "5000"));
  CHECK(portfolios_of(settings) == 10);
  CHECK(steps_of(settings) == 5000);
}

TEST_CASE("settings: what is wrong is refused in words") {
  Settings settings;
  try {
    settings.apply(on_command_line("learning_rte", "1"));
    FAIL("an unknown name was accepted");
  } catch (const Error& error) {
    CHECK(error.hint().find("learning_rate") != std::string::npos);
  }
  CHECK_THROWS_AS(settings.apply(on_command_line("gamma", "1.5")), Error);
  CHECK_THROWS_AS(settings.apply(on_command_line("gamma", "x")), Error);
  CHECK_THROWS_AS(settings.apply(on_command_line("seed", "-1")), Error);
  CHECK_THROWS_AS(resolve({}, {}, {on_command_line("ft_d_token", "64")}), Error);  // an MLP does not read it
  CHECK_THROWS_AS(resolve({}, {}, {on_command_line("precision", "fp8")}), Error);
  CHECK_THROWS_AS(resolve({}, {}, {on_command_line("time_budget", "soon")}), Error);
  CHECK_THROWS_AS(resolve({}, {}, {on_command_line("serving", "nobody")}), Error);
  CHECK_THROWS_AS(resolve({}, {}, {on_command_line("assets", "DOGE/USD")}), Error);
}

TEST_CASE("settings: what is written as INI is read back") {
  Settings settings;
  settings.apply(on_command_line("gamma", "0.91"));
  settings.apply(on_command_line("seed", "7"));
  const auto file =
      std::filesystem::temp_directory_path() / str("ristretto-", static_cast<long long>(getpid()), ".ini");
  std::ofstream(file) << settings.as_ini() << "[more]\nnet-dimension = 64 ; by hand\n";
  Settings read;
  for (const Given& given : read_config(file.string())) read.apply(given);
  std::filesystem::remove(file);
  CHECK(read.hyperparameters.gamma == 0.91);
  CHECK(read.run.seed == 7);
  CHECK(read.hyperparameters.net_dimension == 64);
  CHECK(read.source_of("gamma").find(".ini:") != std::string::npos);
  const Resolved mlp = resolve({}, {}, {});
  std::ofstream(file) << mlp.settings.as_ini();
  CHECK(resolve({}, {}, read_config(file.string())).settings.hyperparameters == mlp.settings.hyperparameters);
  std::filesystem::remove(file);
}

TEST_CASE("settings: with its defaults as comments, what is written as INI chooses only what was chosen") {
  Settings settings;
  settings.apply(on_command_line("gamma", "0.98"));
  settings.apply(on_command_line("steps", "5000"));
  apply_serving(settings);  // what it fills in nobody chose either
  const auto file =
      std::filesystem::temp_directory_path() / str("ristretto-", static_cast<long long>(getpid()), ".ini");
  std::ofstream(file) << settings.as_ini(Settings::Defaults::commented);
  std::vector<std::string> chosen;
  for (const Given& given : read_config(file.string())) chosen.push_back(given.name);
  CHECK(chosen == std::vector<std::string>{"steps", "gamma"});
  std::ofstream(file) << Settings().as_ini(Settings::Defaults::commented);
  CHECK(read_config(file.string()).empty());
  std::filesystem::remove(file);
}

TEST_CASE("settings: fee, slippage and half of the spread are what a trade costs, and not all of its value") {
  const Resolved resolved =
      resolve({}, {},
              {on_command_line("fee_fraction", "0.002"), on_command_line("slippage_fraction", "0.0005"),
               on_command_line("spread_fraction", "0.001")});
  CHECK(env::cost_fraction(rules_of(resolved.settings)) == doctest::Approx(0.003));
  CHECK(env::cost_fraction(rules_of(resolve({}, {}, {}).settings)) == 0.0025);  // to the bit: the golden episodes' fee
  CHECK_THROWS_WITH_AS(resolve({}, {},
                               {on_command_line("fee_fraction", "0.6"), on_command_line("slippage_fraction", "0.3"),
                                on_command_line("spread_fraction", "0.4")}),
                       doctest::Contains("a trade would cost"), Error);
}

TEST_CASE("settings: sizes") {
  CHECK(parse_bytes("memory-budget", "4GiB") == 4LL << 30);
  CHECK(parse_bytes("memory-budget", "1.5MiB") == 3LL << 19);
  CHECK(parse_bytes("memory-budget", "1000") == 1000);
  for (const char* bad : {"", "GiB", "-1GiB", "4XB", "nan"})
    CHECK_THROWS_WITH_AS(parse_bytes("disk-budget", bad), doctest::Contains("--disk-budget is '"), Error);
}

TEST_CASE("schedule: linear and exponential end at the factor's share") {
  agents::Hyperparameters hp;
  hp.learning_rate = 0.5;
  CHECK(scheduled_learning_rate(hp, 0.25) == doctest::Approx(0.375));
  CHECK(scheduled_learning_rate(hp, 1) == 0);
  CHECK(scheduled_learning_rate(hp, 1.2) == 0);  // a clock that ran past its budget
  hp.lr_schedule_factor = 0.5;
  CHECK(scheduled_learning_rate(hp, 1) == doctest::Approx(0.25));
  hp.lr_schedule_type = "exponential";
  CHECK(scheduled_learning_rate(hp, 1) == doctest::Approx(0.25));
  CHECK(scheduled_learning_rate(hp, 0.5) == doctest::Approx(0.5 * std::sqrt(0.5)));
  hp.use_lr_schedule = false;
  CHECK(scheduled_learning_rate(hp, 1) == 0.5);
}

}  // namespace ristretto::train
