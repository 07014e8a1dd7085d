#include "train/pretrain.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <limits>

#include "agents/normalizer.h"
#include "agents/optimizer.h"
#include "env/random.h"
#include "formats/safetensors.h"
#include "ft_transformer/pretrain.h"
#include "platform/atomic_file.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/interrupt.h"
#include "platform/log.h"
#include "platform/text.h"
#include "train/device.h"

namespace ristretto::train {
namespace {

using ft_transformer::MarketContextShape;
using ft_transformer::Weights;

constexpr const char* kFormat = "ristretto-market-encoder";
constexpr std::int64_t kWindows = 256;  // of one optimiser step: a few dozen steps an epoch on a year of hourly bars
constexpr double kMaxGradientNorm = 1;
constexpr std::int64_t kValidationMask = -1;  // its number: the same features are hidden at every validation

// Bars whose window lies in one segment: [K] int32.
at::Tensor bars_of(const env::Market& market, int lookback, at::Device device) {
  std::vector<std::int32_t> bars;
  for (const env::Segment& segment : market.segments) {
    for (std::int64_t bar = segment.begin + lookback - 1; bar < segment.end; ++bar) {
      bars.push_back(static_cast<std::int32_t>(bar));
    }
  }
  return at::tensor(bars, at::kInt).to(device);
}

at::Tensor hidden_of(const at::Tensor& windows, double share, std::uint64_t seed, std::int64_t number,
                     std::int64_t first) {
  const std::int64_t columns = windows.numel() / windows.size(0);
  return (env::uniform(windows.size(0), columns, seed, number, windows.device(), first) < share).view(windows.sizes());
}

std::map<std::string, std::string> metadata_of(const Settings& settings, const Data& data,
                                               const MarketContextShape& shape, const PretrainResult& result) {
  return {{"format", kFormat},
          {"version", str(kPretrainedVersion)},
          {"features", join(data.layout.features, ",")},
          {"assets", join(data.layout.assets, ",")},
          {"lookback", str(shape.lookback)},
          {"tokens", settings.hyperparameters.market_tokens},
          {"d_token", str(shape.d_token)},
          {"blocks", str(shape.blocks)},
          {"heads", str(shape.heads)},
          {"epoch", str(result.best_epoch)},
          {"val_loss", str(result.best_loss)},
          {"seen_until", str(data.splits.validation.last_time)}};
}

}  // namespace

PretrainResult pretrain(const Settings& settings, const Data& data, const PretrainOptions& options,
                        const std::filesystem::path& file) {
  const agents::Architecture architecture = architecture_of(settings);
  if (architecture.network != agents::Network::market_context) {
    throw Error(Fault::usage,
                str("the network is ", agents::name_of(architecture.network),
                    ", and only market_context's encoder is pre-trained"),
                "add --encoder market_context");
  }
  const MarketContextShape& shape = architecture.context;
  const at::Device device = device_of(settings.run.device);
  const auto seed = static_cast<std::uint64_t>(settings.run.seed);
  const env::Market train = data.splits.train.market.to(device, at::kDouble);
  const env::Market validation = data.splits.validation.market.to(device, at::kDouble);
  const std::int64_t account = 1 + data.layout.assets_count();
  const agents::Normalizer normalizer(train, data.layout,
                                      {at::zeros({account}, at::kDouble), at::ones({account}, at::kDouble), 1},
                                      architecture.network);
  const at::Tensor seen = bars_of(train, data.layout.lookback, device);
  const at::Tensor unseen = bars_of(validation, data.layout.lookback, device);

  Weights weights;
  const at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  ft_transformer::add_market_encoder_weights(weights, shape, generator);
  ft_transformer::add_reconstruction_weights(weights, shape, generator);
  weights = weights.to(device, at::kFloat);
  weights.require_grad(true);
  agents::Optimizer optimizer(weights.tensors(), {});

  const auto validate = [&] {
    const at::NoGradGuard no_gradients;
    at::Tensor sum = at::zeros({}, at::TensorOptions().device(device));
    for (std::int64_t begin = 0; begin < unseen.size(0); begin += kWindows) {
      const std::int64_t count = std::min(kWindows, unseen.size(0) - begin);
      const at::Tensor windows = normalizer.windows(unseen.narrow(0, begin, count));
      const at::Tensor hidden = hidden_of(windows, options.masked, seed, kValidationMask, begin);
      sum += ft_transformer::reconstruction_loss(weights, shape, windows, hidden) * static_cast<double>(count);
    }
    return sum.item<double>() / static_cast<double>(unseen.size(0));
  };

  const Stopwatch watch;
  const double budget = settings.run.time_budget.empty() ? 0 : *parse_duration(settings.run.time_budget);
  PretrainResult result;
  result.first_loss = result.best_loss = validate();
  Weights best = weights.clone();
  result.ended = "epochs";
  std::int64_t step = 0;
  for (std::int64_t epoch = 1; epoch <= options.epochs; ++epoch) {
    const at::Tensor order = env::permutation(seen.size(0), seed, epoch, device);
    at::Tensor sum = at::zeros({}, at::TensorOptions().device(device));
    std::int64_t steps = 0;
    bool stop = false;
    for (std::int64_t begin = 0; begin < seen.size(0); begin += kWindows, ++step) {
      result.signal = interrupt_requested();
      stop = result.signal != 0 || (budget > 0 && watch.seconds() >= budget);
      if (stop) break;
      const at::Tensor windows =
          normalizer.windows(seen.index_select(0, order.narrow(0, begin, std::min(kWindows, seen.size(0) - begin))));
      optimizer.zero_gradients();
      const at::Tensor loss = ft_transformer::reconstruction_loss(weights, shape, windows,
                                                                  hidden_of(windows, options.masked, seed, step, 0));
      loss.backward();
      optimizer.step(settings.hyperparameters.learning_rate, kMaxGradientNorm);
      sum += loss.detach();
      ++steps;
    }
    if (stop) {
      result.ended = result.signal == 0 ? "time budget" : result.signal == 2 ? "SIGINT" : "SIGTERM";
      break;
    }
    result.epochs = epoch;
    const double loss = validate();
    log::info("pretrain", str("epoch ", epoch, ": error of hidden features ",
                              fixed(sum.item<double>() / static_cast<double>(steps), 4), " in training, ",
                              fixed(loss, 4), " in validation"));
    if (!(loss < std::numeric_limits<double>::infinity())) {
      throw Error(Fault::failed, str("the validation loss of epoch ", epoch, " is ", loss),
                  "give a smaller --learning-rate");
    }
    if (loss < result.best_loss) {
      result.best_loss = loss;
      result.best_epoch = epoch;
      best = weights.clone();
    } else if (epoch - result.best_epoch >= options.patience) {
      result.ended = "early stop";
      break;
    }
  }
  result.seconds = watch.seconds();
  if (result.best_epoch == 0) {
    throw Error(Fault::failed,
                str("no epoch was better than the start (", result.ended, " after ", result.epochs,
                    " epochs): nothing is written"),
                "give more time, or another --learning-rate");
  }
  Weights encoder;
  for (const auto& [name, tensor] : best.to(at::kCPU, at::kFloat)) {
    if (name.starts_with("encoder.")) encoder.add(name, tensor);
  }
  write_file_atomically(
      file, formats::write_safetensors(ft_transformer::arrays_of(encoder), metadata_of(settings, data, shape, result)));
  return result;
}

Pretrained read_pretrained(const std::filesystem::path& file) {
  const std::string origin = file.string();
  const formats::Safetensors content = formats::read_safetensors(read_file(file), origin);
  const auto field = [&](const char* name) -> std::string {
    const auto found = content.metadata.find(name);
    return found == content.metadata.end() ? std::string() : found->second;
  };
  if (field("format") != kFormat) {
    throw Error(
        Fault::incompatible,
        str(origin, " is no pre-trained encoder: its format is '", field("format"), "', expected '", kFormat, "'"),
        "ristretto pretrain writes one");
  }
  if (field("version") != str(kPretrainedVersion)) {
    throw Error(Fault::incompatible,
                str(origin, " is of version '", field("version"), "', expected ", kPretrainedVersion),
                "pretrain it again with this program");
  }
  const auto seen_until = parse_number<std::int64_t>(field("seen_until"));
  if (!seen_until) throw Error(Fault::incompatible, str(origin, " does not say until when its bars reach"));
  Pretrained out;
  out.encoder = ft_transformer::weights_of(content.arrays);
  out.features = split(field("features"), ',');
  out.seen_until = *seen_until;
  return out;
}

void start_from(const Pretrained& pretrained, const std::string& origin, const env::Layout& layout,
                agents::Policy& policy) {
  const at::NoGradGuard no_gradients;
  if (pretrained.features != layout.features) {
    throw Error(Fault::incompatible,
                str(origin, " reads the features ", join(pretrained.features, ","), ", this network ",
                    join(layout.features, ",")),
                "pretrain with the same --features");
  }
  for (auto* weights : {&policy.actor, &policy.critic}) {
    std::size_t taken = 0;
    for (const auto& [name, tensor] : *weights) {
      if (!name.starts_with("encoder.")) continue;
      if (!pretrained.encoder.contains(name) || !pretrained.encoder.at(name).sizes().equals(tensor.sizes())) {
        throw Error(Fault::incompatible, str(origin, " does not hold '", name, "' in this network's shape"),
                    "pretrain with the same --lookback, --market-tokens, --ft-d-token and --ft-n-blocks");
      }
      weights->at(name).copy_(pretrained.encoder.at(name));
      ++taken;
    }
    if (taken != pretrained.encoder.size()) {
      throw Error(Fault::incompatible,
                  str(origin, " holds ", pretrained.encoder.size(), " weights, this encoder ", taken),
                  "pretrain with the same --ft-n-blocks");
    }
  }
}

}  // namespace ristretto::train
