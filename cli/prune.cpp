#include <cstdio>

#include "cli/commands.h"
#include "cli/options.h"
#include "cli/output.h"
#include "platform/error.h"
#include "platform/log.h"
#include "platform/text.h"
#include "release/versions.h"

namespace ristretto::cli {

int prune(const Arguments& arguments) {
  Options options(
      "prune [NAME] --keep K",
      "Removes old versions of NAME, or of every deployment: all but the newest K, what is served, what was "
      "served\nbefore, its parent and what is proven.");
  options.positional("NAME", false);
  options.value("keep", "K", "how many of the newest stay");
  options.value("deployments", "DIR", "[deployments]");
  options.flag("dry-run", "say what would be removed, and change nothing");
  if (!options.parse(arguments)) return 0;
  if (!options.has("keep")) throw Error(Fault::usage, "ristretto prune needs --keep K", "--keep 5");
  const std::int64_t keep = positive_number(options, "keep");
  const bool dry_run = options.has("dry-run");
  release::VersionStore store(existing_deployments(options));
  const auto name = options.find("NAME");
  if (name) store.require_deployed(*name);
  const std::vector<std::string> names = name ? std::vector{*name} : store.names();
  Document document = {{"dry_run", dry_run}, {"removed", Document::object()}};
  int code = 0;
  for (const std::string& each : names) {
    std::vector<std::string> removed;
    try {
      removed = store.prune(each, keep, dry_run);
    } catch (const Error& error) {
      if (name) throw;
      log::error("prune", str(each, ": ", error.what()));  // the others' old versions go all the same
      code = static_cast<int>(error.fault());
      continue;
    }
    document["removed"][each] = removed;
    if (options.json()) continue;
    for (const std::string& id : removed) {
      std::printf("%s %s %s\n", dry_run ? "would remove" : "removed", each.c_str(), id.c_str());
    }
    if (removed.empty()) std::printf("%s: nothing to remove\n", each.c_str());
  }
  if (options.json()) print(document);
  return code;
}

}  // namespace ristretto::cli
