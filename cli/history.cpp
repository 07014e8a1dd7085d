#include <cstdio>

#include "cli/commands.h"
#include "cli/options.h"
#include "cli/output.h"
#include "release/versions.h"

namespace ristretto::cli {

int history(const Arguments& arguments) {
  Options options("history NAME",
                  "What happened to a deployment, oldest first: publications, promotions, refusals, rollbacks.");
  options.positional("NAME", true);
  options.value("deployments", "DIR", "[deployments]");
  if (!options.parse(arguments)) return 0;
  const release::VersionStore store(options.get("deployments", "deployments"));
  const std::vector<release::Json> lines = store.history(options.get("NAME"));
  if (lines.empty()) store.require_deployed(options.get("NAME"));
  if (options.json()) {
    print(Document(lines));
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

}  // namespace ristretto::cli
