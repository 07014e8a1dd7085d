#include <algorithm>
#include <cstdio>

#include "cli/commands.h"
#include "cli/options.h"
#include "platform/error.h"
#include "platform/text.h"
#include "release/versions.h"

namespace ristretto::cli {

int list(const Arguments& arguments) {
  Options options("list", "What is deployed: every name, its versions, their status, and which one is served.");
  options.value("deployments", "DIR", "[deployments]");
  options.flag("check", "re-hash every version; exit code 4 where something is wrong");
  if (!options.parse(arguments)) return 0;
  const release::VersionStore store(options.get("deployments", "deployments"));
  release::Json document = release::Json::array();
  std::vector<std::string> problems;
  for (const std::string& name : store.names()) {
    release::Json entry = {{"name", name}, {"versions", release::Json::array()}};
    const std::vector<release::Version> versions = store.list(name);
    if (!options.json())
      std::printf("%s%s\n", name.c_str(),
                  versions.empty() ? "  (a directory without versions: the next retrain adopts it)" : "");
    for (const release::Version& version : versions) {
      entry["versions"].push_back({{"id", version.id},
                                   {"status", version.status},
                                   {"created", version.created},
                                   {"parent", version.parent},
                                   {"served", version.served}});
      if (!options.json()) {
        std::printf("  %s %s  %-18s %s%s\n", version.served ? "*" : " ", version.id.c_str(), version.status.c_str(),
                    version.created.c_str(), version.parent.empty() ? "" : str("  after ", version.parent).c_str());
      }
    }
    if (options.has("check")) {
      for (const std::string& problem : store.check(name)) {
        problems.push_back(str(name, ": ", problem));
        entry["problems"].push_back(problem);
      }
    }
    document.push_back(entry);
  }
  if (options.json()) {
    std::printf("%s\n", document.dump(2).c_str());
  } else {
    for (const std::string& problem : problems) std::printf("problem: %s\n", problem.c_str());
    if (options.has("check") && problems.empty()) std::printf("every version is as it was written\n");
    if (document.empty()) std::printf("nothing is deployed in %s\n", options.get("deployments", "deployments").c_str());
  }
  return problems.empty() ? 0 : static_cast<int>(Fault::incompatible);
}

int history(const Arguments& arguments) {
  Options options("history NAME",
                  "What happened to a deployment, oldest first: publications, promotions, refusals, rollbacks.");
  options.positional("NAME", true);
  options.value("deployments", "DIR", "[deployments]");
  if (!options.parse(arguments)) return 0;
  const release::VersionStore store(options.get("deployments", "deployments"));
  const std::vector<release::Json> lines = store.history(options.get("NAME"));
  if (options.json()) {
    std::printf("%s\n", release::Json(lines).dump(2).c_str());
    return 0;
  }
  for (const release::Json& line : lines) {
    std::printf("%s  %-12s %s  %s\n", release::text_field(line, "time").c_str(),
                release::text_field(line, "event").c_str(), release::text_field(line, "version").c_str(),
                release::text_field(line, "reason").c_str());
  }
  if (lines.empty()) std::printf("nothing has happened to '%s'\n", options.get("NAME").c_str());
  return 0;
}

int rollback(const Arguments& arguments) {
  Options options("rollback NAME", "Puts the parent of what is served, or --to VERSION, back in service.");
  options.positional("NAME", true);
  options.value("to", "VERSION", "a version's number or id");
  options.value("deployments", "DIR", "[deployments]");
  options.flag("dry-run", "say what would be served, and change nothing");
  if (!options.parse(arguments)) return 0;
  release::VersionStore store(options.get("deployments", "deployments"));
  const std::string name = options.get("NAME");
  if (options.has("dry-run")) {
    const std::optional<std::string> served = store.served(name);
    std::string target = options.has("to") ? store.find(name, options.get("to")) : std::string();
    for (const release::Version& version : store.list(name)) {
      if (target.empty() && served && version.id == *served) target = version.parent;
    }
    if (target.empty())
      throw Error(Fault::usage, str("'", name, "' has no earlier version"), "ristretto list shows what there is");
    std::printf("dry run: %s would serve %s; nothing was changed\n", name.c_str(), target.c_str());
    return 0;
  }
  const std::string version = store.rollback(name, options.find("to"), "rollback by hand");
  if (options.json()) {
    std::printf("%s\n", release::Json({{"name", name}, {"served", version}}).dump(2).c_str());
  } else {
    std::printf("%s serves %s\n", name.c_str(), version.c_str());
  }
  return 0;
}

}  // namespace ristretto::cli
