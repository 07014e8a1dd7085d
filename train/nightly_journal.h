// What a night has done so far, so that another process can go on with it.
//
//   runs/nightly/journal.json    replaced atomically after each step
//   {"format": 1, "id": "20260713T020000Z", "started": "...", "finished": null, "seconds": 812.5,
//    "study": "", "sweep": "", "sweep_attempts": 0,
//    "models": [{"name": "model_0", "state": "served", "attempts": 1, "run": "...", "reason": "...", ...}]}
//   runs/nightly/seconds         "20260713T020000Z 815.0": how long that night has taken, written every few seconds
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
  std::optional<std::string> holdout_from;  // where its hold-out begins, once known; empty: where the user put it
  std::string version, status, reason, report;
  std::int64_t attempts = 0;  // that its training was begun, but for those that were interrupted and saved
  bool fault = false;         // it is served, and something failed behind that: reason says what
  std::int64_t new_bars = 0;
  release::Json document;  // of its retrain

  bool ended() const { return state != "waiting" && state != "running"; }
};

struct Night {
  std::string id;            // when it began, as in run directories
  std::int64_t started = 0;  // seconds since 1970, UTC
  std::optional<std::int64_t> finished;
  std::int64_t sweep_attempts = 0;
  std::string study, sweep;  // where the hyperparameters are from once it has swept, and what became of the sweep
  double seconds = 0;        // of wall time that its processes have used
  std::vector<ModelNight> models;
};

// Nothing where there is none. Throws Error(incompatible) for a damaged one or one of a later format.
std::optional<Night> read_night(const std::filesystem::path& journal);
void write_night(const std::filesystem::path& journal, const Night& night);
// Of a night beside its journal, in the directory of both; 0 where nothing is known. A fault in writing is no fault of
// the night's.
void write_seconds(const std::filesystem::path& directory, const std::string& id, double seconds);
double read_seconds(const std::filesystem::path& directory, const std::string& id);
release::Json json_of(const Night& night);
// One line a model, and a page of them. The page's links are relative to `directory`, where it will lie; none: they are
// absolute.
std::string text_of(const Night& night);
std::string html_of(const Night& night, const std::filesystem::path& directory = {});

}  // namespace ristretto::train
