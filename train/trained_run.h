// A run that is trained already, as its directory tells of it: config.ini, checkpoint/ and origin.json, which says
// whose hyperparameters they are and which bars were seen, whatever becomes of the study and of the bars.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "release/manifest.h"
#include "train/job.h"
#include "train/resolve.h"

namespace ristretto::train {

inline constexpr const char* kOriginFile = "origin.json";

struct TrainedRun {
  // Times of the first and last bar, seconds since 1970, UTC.
  struct Range {
    std::int64_t first = 0, last = 0;
  };
  std::filesystem::path directory;
  Settings settings;     // its config.ini's
  release::Json making;  // making_of() it
  Range train, validation;
  std::int64_t holdout_from = 0;  // its hold-out's first bar, seconds since 1970, UTC
};

// Writes run/origin.json, before the training begins. trainings: those that this one is chosen among, itself included.
void write_origin(const std::filesystem::path& run, const Resolved& resolved, const Settings& settings,
                  const Data& data, std::int64_t trainings = 1);
// Throws Error(usage) where there is no run or it has no origin.json (it is older than that file), Error(incompatible)
// where that is damaged.
TrainedRun read_run(const std::filesystem::path& directory);

// The run as what promote judges. given: bars, and a later beginning of the hold-out. Throws as read_run(), and
// Error(usage) for a hold-out of which bars had a part in the training and for costs or money that are not the
// training's.
Resolved resolve_run(const std::filesystem::path& run, const std::vector<Given>& given);

// load_data() of its settings; train and validation of a trained run are the bars that it had.
Data load_data(const Resolved& resolved);
// Train and validation become the bars that the run had, whatever came since.
void cut_as_trained(Data& data, const TrainedRun& run);

}  // namespace ristretto::train
