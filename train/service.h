// From a judged candidate to a version, served or not.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "train/judge.h"

namespace ristretto::train {

// Where a candidate ended.
struct Ending {
  std::string version;  // "": not published
  std::string status, reason;
  bool served = false;
  bool as_asked = false;  // it passed, and was not to be served
};

// Both throw Error; one that comes behind the switch, when only the record of it is missing, says that the version is
// in service.
//
// Publishes the staged directory where it passed integrity, and serves it where the verdict says so, if what it was
// judged against is served still. A refusal is recorded like a promotion. promote: false stops before serving.
Ending put_in_service(release::VersionStore& store, const std::string& name, const std::filesystem::path& staged,
                      const std::optional<std::string>& champion, const std::vector<release::GateResult>& integrity,
                      const release::Verdict& verdict, const release::Json& gates, bool promote);
// The same of a version that is published already.
Ending serve_version(release::VersionStore& store, const std::string& name, const std::string& version,
                     const std::optional<std::string>& champion, const release::Verdict& verdict,
                     const release::Json& gates);

}  // namespace ristretto::train
