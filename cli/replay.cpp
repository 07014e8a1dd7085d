#include "evaluation/replay.h"

#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/options.h"
#include "cli/output.h"
#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::cli {

int replay(const Arguments& arguments) {
  Options options(
      "replay FILE.npz",
      "Runs the actions of a recorded episode and compares every state and reward. Exit code 0 only within tolerance.");
  options.positional("FILE.npz", true);
  options.value("arithmetic", "TYPE", "double (default) or float, whose tolerances are 100 times wider");
  if (!options.parse(arguments)) return 0;
  const std::string arithmetic = options.get("arithmetic", "double");
  if (arithmetic != "double" && arithmetic != "float") {
    throw Error(Fault::usage, str("--arithmetic is '", arithmetic, "', expected double or float"));
  }
  const std::string file = options.get("FILE.npz");
  const evaluation::ReplayReport report = evaluation::replay(file, arithmetic == "double" ? at::kDouble : at::kFloat);
  if (options.json()) {
    nlohmann::ordered_json out = {{"file", file}, {"steps", report.steps}, {"passed", report.passed()}};
    for (const auto& quantity : report.quantities) {
      out["quantities"].push_back({{"name", quantity.name},
                                   {"largest_deviation", quantity.largest},
                                   {"tolerance", quantity.tolerance},
                                   {"step", quantity.step}});
    }
    if (!report.passed()) out["first_difference"] = report.first_difference;
    print(out);
  } else {
    std::printf("%s: %lld steps in %s\n", file.c_str(), static_cast<long long>(report.steps), arithmetic.c_str());
    for (const auto& quantity : report.quantities) {
      std::printf("  %-26s largest deviation %9.2e at step %4lld, tolerance %.0e\n", quantity.name.c_str(),
                  quantity.largest, static_cast<long long>(quantity.step), quantity.tolerance);
    }
    if (report.passed()) {
      std::printf("within tolerance\n");
    } else {
      std::printf("first difference: %s\n", report.first_difference.c_str());
    }
  }
  return report.passed() ? 0 : static_cast<int>(Fault::failed);
}

}  // namespace ristretto::cli
