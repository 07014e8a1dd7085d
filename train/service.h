// From a judged candidate to a version, served or not.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "release/versions.h"
#include "train/judge.h"

namespace ristretto::train {

// Where a candidate ended.
struct Ending {
  std::string version;  // "": not published
  std::string status, reason;
  bool served = false;
  bool as_asked = false;  // it passed, and was not to be served
};

// Publishes the staged directory where it passed integrity, and serves it where the verdict says so, if what it was
// judged against is served still. A refusal is recorded like a promotion. promote: false stops before serving.
Ending put_in_service(release::VersionStore& store, const std::string& name, const std::filesystem::path& staged,
                      const std::optional<std::string>& champion, const std::vector<release::GateResult>& integrity,
                      const release::Verdict& verdict, const release::Json& gates, bool promote);
// The same of a version that is published already. Throws Error; where only the record of the switch is missing, its
// text says that the version is in service.
Ending serve_version(release::VersionStore& store, const std::string& name, const std::string& version,
                     const std::optional<std::string>& champion, const release::Verdict& verdict,
                     const release::Json& gates);

// The version whose manifest says `value` at `pointer`; a damaged one says nothing.
std::optional<release::Version> version_with(const release::VersionStore& store, const std::string& name,
                                             const std::string& pointer, const std::string& value);
// That was published of a run directory.
std::optional<release::Version> version_of(const release::VersionStore& store, const std::string& name,
                                           const std::string& run);
// What a killed process published of it, put where its verdict says.
std::optional<Ending> published(release::VersionStore& store, const std::string& name, const std::string& run);

}  // namespace ristretto::train
