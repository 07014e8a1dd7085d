// What a night has done so far, so that another process can go on with it.
//
//   runs/nightly/journal.json    replaced atomically after each step
//   {"format": 1, "id": "20260713T020000Z", "started": "...", "finished": null, "seconds": 812.5,
//    "study": "", "sweep": "",
//    "models": [{"name": "model_0", "state": "served", "run": "...", "reason": "...", "version": "...", ...}]}
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "release/manifest.h"

namespace ristretto::train {

struct ModelNight {
  std::string name;
  std::string state = "waiting";            // then "running"; at the end "not due", "served", "kept" or "failed"
  std::string run;                          // its run directory
  std::optional<std::string> holdout_from;  // where its hold-out begins, once known; empty: where the settings put it
  std::string version, status, reason, report;
  std::int64_t new_bars = 0;
  release::Json document;  // of its retrain

  bool ended() const { return state != "waiting" && state != "running"; }
};

struct Night {
  std::string id;            // when it began, as in run directories
  std::int64_t started = 0;  // seconds since 1970, UTC
  std::optional<std::int64_t> finished;
  std::string study, sweep;  // where the hyperparameters are from once it has swept, and what became of the sweep
  double seconds = 0;        // of wall time that its processes have used
  std::vector<ModelNight> models;
};

// Nothing where there is none. Throws Error(incompatible) for a damaged one or one of a later format.
std::optional<Night> read_night(const std::filesystem::path& journal);
void write_night(const std::filesystem::path& journal, const Night& night);
release::Json json_of(const Night& night);
// One line a model, and a page of them. The page's links are relative to `directory`, where it will lie; none: they are
// absolute.
std::string text_of(const Night& night);
std::string html_of(const Night& night, const std::filesystem::path& directory = {});

}  // namespace ristretto::train
