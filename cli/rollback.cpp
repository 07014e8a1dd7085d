#include <cstdio>

#include "cli/commands.h"
#include "cli/options.h"
#include "cli/output.h"
#include "release/versions.h"

namespace ristretto::cli {

int rollback(const Arguments& arguments) {
  Options options("rollback NAME", "Puts what was served before, or --to VERSION, back in service.");
  options.positional("NAME", true);
  options.value("to", "VERSION", "a version's number or id");
  options.value("deployments", "DIR", "[deployments]");
  options.flag("dry-run", "say what would be served, and change nothing");
  if (!options.parse(arguments)) return 0;
  release::VersionStore store(options.get("deployments", "deployments"));
  const std::string name = options.get("NAME");
  if (options.has("dry-run")) {
    const std::string target = store.rollback_target(name, options.find("to"));
    if (options.json()) {
      print({{"name", name}, {"dry_run", true}, {"would_serve", target}});
      return 0;
    }
    std::printf("dry run: %s would serve %s; nothing was changed\n", name.c_str(), target.c_str());
    return 0;
  }
  const std::string version = store.rollback(name, options.find("to"), "rollback by hand");
  if (options.json()) {
    print({{"name", name}, {"served", version}});
  } else {
    std::printf("%s serves %s\n", name.c_str(), version.c_str());
  }
  return 0;
}

}  // namespace ristretto::cli
