// An old model for another observation: surgery by the columns' names, proved over bars, written as a deployment
// (commands.md, `convert`; algorithms.md 6).
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "release/conversion_proof.h"
#include "release/deployment.h"

namespace ristretto::release {

struct ConvertRequest {
  std::filesystem::path source;  // as load() takes it
  // A feature set's name, or a directory whose manifest's layout is meant, then without lookback and assets.
  std::string to;
  std::optional<int> lookback;                      // of the new layout; the old one's
  std::optional<std::vector<std::string>> assets;   // likewise
  std::optional<std::vector<std::string>> trained;  // the order of assets that the source was trained in, where no
                                                    // manifest says it; default: what inspect() finds
  std::filesystem::path bars;                       // of the proof
  std::filesystem::path out;                        // a deployment's directory; must not exist
  bool allow_inexact = false;
  bool dry_run = false;  // all but writing
  std::string command;   // as typed, for the manifest
};

struct Conversion {
  // exact: the same function of what the old one reads. inexact: columns that matter are gone. warm start: tokens of an
  // FT-Transformer are gone, which its attention saw.
  enum class Kind { exact, inexact, warm_start };
  Kind kind = Kind::exact;
  Mapping mapping;
  ConversionProof proof;
  std::vector<std::string> frozen;   // removed columns that are constant, and went into the bias
  std::vector<std::string> dropped;  // removed columns that are not
  std::vector<std::string> notes;    // what is not carried along, or not known
  Json document;                     // all of it; the manifest's section `conversion`
};

// Throws Error(incompatible) where the source does not load or its layout is not known, Error(usage) for a target that
// is none, Error(refused) where the conversion is not exact, with how much it is not, unless allow_inexact.
Conversion convert(const ConvertRequest& request);

const char* name_of(Conversion::Kind kind);

}  // namespace ristretto::release
