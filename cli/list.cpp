#include <cstdio>
#include <filesystem>
#include <map>

#include "cli/commands.h"
#include "cli/options.h"
#include "cli/output.h"
#include "platform/error.h"
#include "platform/text.h"
#include "release/versions.h"

namespace ristretto::cli {

int list(const Arguments& arguments) {
  Options options("list", "What is deployed: every name, its versions, their status, and which one is served.");
  options.value("deployments", "DIR", "[deployments]");
  options.flag("check", "re-hash every version; exit code 4 where something is wrong");
  if (!options.parse(arguments)) return 0;
  const std::filesystem::path deployments = existing_deployments(options);
  const release::VersionStore store(deployments);
  release::Json document = release::Json::array();
  std::vector<std::string> problems;
  for (const std::string& name : store.names()) {
    release::Json entry = {{"name", name}, {"versions", release::Json::array()}};
    const std::vector<release::Version> versions = store.list(name);
    std::vector<std::string> wrong;
    if (options.has("check")) {
      wrong = store.check(name);
    } else {
      try {
        store.slot(name);
      } catch (const Error& error) {
        wrong.emplace_back(error.what());
      }
    }
    const char* note = "";
    if (versions.empty() && wrong.empty()) {
      note = store.deployed(name) ? "  (a directory without versions: the next retrain adopts it)"
                                  : "  (nothing is served, no version is there)";
    }
    if (!options.json()) std::printf("%s%s\n", name.c_str(), note);
    std::map<std::string, std::string> reasons;  // of each version's last promotion, refusal or rollback
    release::Json candidate;  // the newest that was judged, where it was refused before it became a version
    for (const release::Json& event : store.history(name)) {
      const std::string version = release::text_field(event, "version"), reason = release::text_field(event, "reason");
      const std::string kind = release::text_field(event, "event");
      if (!reason.empty()) reasons[version] = reason;
      if (kind == "refusal" && version.empty()) {
        candidate = {{"time", release::text_field(event, "time")}, {"reason", reason}};
      } else if (kind == "publication" || kind == "refusal" || kind == "promotion") {
        candidate = nullptr;
      }
    }
    entry["refused_candidate"] = candidate;
    for (const release::Version& version : versions) {
      entry["versions"].push_back({{"id", version.id},
                                   {"status", version.status},
                                   {"created", version.created},
                                   {"parent", version.parent},
                                   {"reason", reasons[version.id]},
                                   {"served", version.served}});
      if (!options.json()) {
        std::printf("  %s %s  %-18s %s%s\n", version.served ? "*" : " ", version.id.c_str(), version.status.c_str(),
                    version.created.c_str(), version.parent.empty() ? "" : str("  after ", version.parent).c_str());
        if (!reasons[version.id].empty()) std::printf("      %s\n", plain(reasons[version.id]).c_str());
      }
    }
    if (!options.json() && !candidate.is_null()) {
      std::printf("    refused, no version of its own     %s\n      %s\n",
                  release::text_field(candidate, "time").c_str(),
                  plain(release::text_field(candidate, "reason")).c_str());
    }
    for (const std::string& problem : wrong) {
      problems.push_back(str(name, ": ", problem));
      entry["problems"].push_back(problem);
    }
    document.push_back(entry);
  }
  if (options.json()) {
    print(document);
  } else {
    for (const std::string& problem : problems) std::printf("problem: %s\n", problem.c_str());
    if (options.has("check") && problems.empty()) std::printf("every version is as it was written\n");
    if (document.empty()) std::printf("nothing is deployed in %s\n", deployments.c_str());
  }
  return problems.empty() ? 0 : static_cast<int>(Fault::incompatible);
}

}  // namespace ristretto::cli
