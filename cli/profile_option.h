// --profile FILE of the commands that train: a table of where the time went, and a Chrome trace.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "cli/options.h"
#include "train/trace.h"

namespace ristretto::cli {

class ProfileOption {
 public:
  static void declare(Options& options);
  // Records from here on where --profile was given.
  explicit ProfileOption(const Options& options);
  // Writes the trace and adds what it says: `document`'s "profile", and lines to `text`. Throws Error(failed).
  void tell(nlohmann::ordered_json& document, std::string& text) const;

 private:
  std::filesystem::path file_;
  std::optional<train::Trace> trace_;
};

}  // namespace ristretto::cli
