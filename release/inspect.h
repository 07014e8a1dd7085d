// What a model is, what it needs, whether today's environment serves it, and if not, why (commands.md, `inspect`).
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "release/old_layouts.h"

namespace ristretto::release {

struct InspectOptions {
  std::optional<std::vector<std::string>> assets;  // what somebody takes the model's assets for: checked, corrected
  std::string storage, study_name;                 // where a missing best_trial may be found
  std::optional<std::int64_t> trial;               // its number there
};

struct Finding {
  // corrected: what was said is wrong, and what was taken instead. unserved: nothing serves it, but it runs. fault: it
  // does not run.
  enum class Kind { note, corrected, unserved, fault };
  Kind kind = Kind::note;
  std::string text, hint;
};

// Where the names of a model's observation and those of today's trader differ.
struct Difference {
  std::vector<std::string> missing;  // today's, which the model does not read
  std::vector<std::string> unknown;  // the model's, which today's environment does not have
  std::vector<std::string> moved;    // of both, in another column
};

struct Inspection {
  std::filesystem::path path;
  std::string kind;                                  // "deployment", "file", "Stable-Baselines3 policy"
  std::optional<agents::Architecture> architecture;  // heads 0 where nothing tells them
  std::vector<LayoutFit> fits;                       // every layout that the dimension fits
  std::optional<env::Layout> layout;                 // the one that it was trained on
  std::string layout_from;                           // "manifest", "dimension and best_trial" ...
  bool trial_is_lost = false;                        // best_trial is missing, and the trial is found elsewhere
  std::optional<Trial> trial;
  std::string trial_from;  // "best_trial", "study S, trial 14, by number", "the weights alone"
  std::optional<Json> manifest;
  Difference difference;
  std::string served_by;  // "cappuccino", "ristretto", "" where nothing serves it
  std::vector<Finding> findings;

  bool servable() const { return !served_by.empty(); }
};

// Never throws for what it finds in the model; Error(incompatible) where there is no such path, and what the storage of
// the options throws.
Inspection inspect(const std::filesystem::path& path, const InspectOptions& options = {});

// A file or a deployment directory: itself; another directory: every one below it, by name, without hidden ones.
// Throws Error(incompatible) where there is none.
std::vector<std::filesystem::path> models_under(const std::filesystem::path& path);

// The lines for people, and the document.
std::vector<std::string> lines_of(const Inspection& inspection);
Json json_of(const Inspection& inspection);

// The commands, as the words behind the program's name, that run the model on `bars` in its own layout, one after the
// other. `lookup`: the options of the storage that a missing best_trial was found with. Throws Error(incompatible) with
// the first fault where it does not run.
std::vector<std::vector<std::string>> commands_of(const Inspection& inspection, const std::string& bars,
                                                  const std::vector<std::string>& lookup = {});

}  // namespace ristretto::release
