#include <ATen/CPUGeneratorImpl.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros_like.h>
#include <doctest/doctest.h>
#include <unistd.h>

#include <filesystem>
#include <functional>

#include "formats/safetensors.h"
#include "ft_transformer/pretrain.h"
#include "platform/atomic_file.h"
#include "platform/error.h"
#include "train/pretrain.h"

using namespace ristretto;
namespace fs = std::filesystem;

namespace {

struct Scratch {
  fs::path path = fs::temp_directory_path() / ("ristretto_pretrain_" + std::to_string(getpid()));
  Scratch() { fs::create_directories(path); }
  ~Scratch() { fs::remove_all(path); }
};

train::Settings small_settings() {
  train::Settings settings;
  const std::string bars = std::string(RISTRETTO_SOURCE) + "/data/crypto_1h";
  for (const auto& [name, text] : {std::pair<const char*, std::string>{"encoder", "market_context"},
                                   {"bars", bars},
                                   {"assets", "BTC/USD,ETH/USD"},
                                   {"features", "alpaca-14b"},
                                   {"lookback", "2"},
                                   {"ft_d_token", "8"},
                                   {"ft_n_blocks", "1"},
                                   {"ft_n_heads", "2"},
                                   {"net_dimension", "16"},
                                   {"device", "cpu"},
                                   {"learning_rate", "3e-3"}}) {
    settings.apply({name, text, "test"});
  }
  train::apply_serving(settings);
  train::check(settings);
  return settings;
}

std::string message(const std::function<void()>& run) {
  try {
    run();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace

TEST_CASE("pretrain: only hidden features count, and what is hidden is not seen") {
  for (const auto tokens : {ft_transformer::MarketTokens::asset, ft_transformer::MarketTokens::feature}) {
    ft_transformer::MarketContextShape shape;
    shape.assets = 3;
    shape.features = 4;
    shape.lookback = 2;
    shape.tokens = tokens;
    shape.d_token = 8;
    shape.heads = 2;
    const at::Generator numbers = at::make_generator<at::CPUGeneratorImpl>(1);
    ft_transformer::Weights weights;
    ft_transformer::add_market_encoder_weights(weights, shape, numbers);
    ft_transformer::add_reconstruction_weights(weights, shape, numbers);
    const at::Tensor windows = at::randn({20, 3, 2, 4}, numbers);
    const at::Tensor hidden = at::rand({20, 3, 2, 4}, numbers) < 0.15;
    const at::Tensor loss = ft_transformer::reconstruction_loss(weights, shape, windows, hidden);
    // Were a hidden value seen, or a value that is not hidden a target, the loss would not be this square.
    const at::Tensor moved = windows + hidden.to(at::kFloat) * 1000;
    const at::Tensor far = ft_transformer::reconstruction_loss(weights, shape, moved, hidden);
    CHECK(far.item<double>() == doctest::Approx(1e6).epsilon(0.01));
    CHECK(loss.item<double>() < 10);
    CHECK(ft_transformer::reconstruction_loss(weights, shape, windows, at::zeros_like(hidden)).item<double>() == 0);
  }
}

TEST_CASE("pretrain: the encoder learns on the bars, its file starts both networks, and others are refused") {
  const Scratch scratch;
  const fs::path file = scratch.path / "encoder.safetensors";
  const train::Settings settings = small_settings();
  const train::Data data = train::load_data(settings);
  train::PretrainOptions options;
  options.epochs = 3;
  const train::PretrainResult result = train::pretrain(settings, data, options, file);
  CHECK(result.best_epoch > 0);
  CHECK(result.best_loss < 0.8 * result.first_loss);

  const train::Pretrained read = train::read_pretrained(file);
  CHECK(read.seen_until == data.splits.validation.last_time);
  CHECK(read.seen_until < data.splits.holdout.first_time);
  agents::Policy policy = agents::make_policy(train::architecture_of(settings), {}, at::kCPU);
  train::start_from(read, "file", data.layout, policy);
  std::size_t taken = 0;
  for (const auto& [name, tensor] : read.encoder) {
    CHECK(at::equal(policy.actor.at(name), tensor));
    CHECK(at::equal(policy.critic.at(name), tensor));
    ++taken;
  }
  CHECK(taken > 10);

  train::Settings wider = settings;
  wider.hyperparameters.ft_d_token = 16;
  agents::Policy other = agents::make_policy(train::architecture_of(wider), {}, at::kCPU);
  CHECK(message([&] { train::start_from(read, "file", data.layout, other); }) ==
        "file does not hold 'encoder.tokenizer.weight' in this network's shape");
  env::Layout fewer = data.layout;
  fewer.features.pop_back();
  CHECK(message([&] { train::start_from(read, "file", fewer, policy); }).starts_with("file reads the features open,"));

  // Bars that the encoder has seen are no hold-out.
  train::Settings earlier = settings;
  earlier.run.pretrained = file.string();
  earlier.run.holdout_from = "2023-01-01";
  CHECK(message([&] { train::load_data(earlier); }).find("has seen bars until") != std::string::npos);

  formats::Safetensors content = formats::read_safetensors(read_file(file), "file");
  content.metadata["version"] = "2";
  write_file_atomically(file, formats::write_safetensors(content.arrays, content.metadata));
  CHECK(message([&] { train::read_pretrained(file); }) == file.string() + " is of version '2', expected 1");
  content.metadata["format"] = "pt";
  write_file_atomically(file, formats::write_safetensors(content.arrays, content.metadata));
  CHECK(message([&] { train::read_pretrained(file); }).find("is no pre-trained encoder") != std::string::npos);
}

TEST_CASE("pretrain: settings that start from it say what is missing") {
  train::Settings settings = small_settings();
  settings.hyperparameters.ft_use_pretrained = true;
  CHECK(message([&] { train::check(settings); }) ==
        "ft_use_pretrained is true, and no file of pre-trained weights is given");
  settings = small_settings();
  settings.run.pretrained = "encoder.safetensors";
  train::apply_serving(settings);
  CHECK(settings.hyperparameters.ft_use_pretrained);
  settings.hyperparameters.encoder = "mlp";
  settings.sources.clear();
  CHECK(message([&] { train::check(settings); }) ==
        "--pretrained is read by market_context only, and the network is mlp");
}
