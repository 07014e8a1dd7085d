// Masked-feature pre-training of market_context's encoder on bars, and the file that a trial may start from.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "agents/policy.h"
#include "train/job.h"
#include "train/settings.h"

namespace ristretto::train {

inline constexpr int kPretrainedVersion = 1;  // of the file's format

struct PretrainOptions {
  std::int64_t epochs = 100;  // at most
  std::int64_t patience = 5;  // epochs without a better validation loss, then it ends
  double masked = 0.15;       // share of the features that are hidden
};

struct PretrainResult {
  std::int64_t epochs = 0, best_epoch = 0;
  double first_loss = 0;  // of the validation, before training
  double best_loss = 0;   // mean squared error of hidden features, in units of their variance over the training bars
  double seconds = 0;
  std::string ended;  // "early stop", "epochs", "time budget", "SIGINT", "SIGTERM"
  int signal = 0;
};

// Fits the encoder that `settings` describe to the training split, stops by the validation split; the hold-out is not
// read. Writes `file` (safetensors: the weights "encoder.*" of the best epoch; metadata: format, version, what the
// encoder reads, the bars it has seen). settings.run.time_budget bounds it. Throws Error(usage) where the network is no
// market_context.
PretrainResult pretrain(const Settings& settings, const Data& data, const PretrainOptions& options,
                        const std::filesystem::path& file);

struct Pretrained {
  ft_transformer::Weights encoder;  // "encoder.*"
  std::vector<std::string> features;
  std::int64_t seen_until = 0;  // its last bar, seconds since 1970, UTC
};
// Throws Error(incompatible) for another format or version.
Pretrained read_pretrained(const std::filesystem::path& file);
// Copies the encoder into actor and critic. Throws Error(incompatible) naming the first difference where it reads other
// features or its shapes are not theirs.
void start_from(const Pretrained& pretrained, const std::string& origin, const env::Layout& layout,
                agents::Policy& policy);

}  // namespace ristretto::train
