#include "env/signature.h"

#include <cstdio>

#include "cli/commands.h"
#include "cli/options.h"
#include "train/device.h"

namespace ristretto::cli {

int signature(const Arguments& arguments) {
  Options options("signature",
                  "One number over every state and reward of a scripted run: the environment's behaviour.");
  options.settings({"device"});
  if (!options.parse(arguments)) return 0;
  train::Settings settings;
  settings.run.device = "cpu";
  for (const train::Given& given : options.given()) settings.apply(given);
  const unsigned long long number = env::signature(train::device_of(settings.run.device));
  std::printf(options.json() ? "{\"signature\": \"%016llx\"}\n" : "%016llx\n", number);
  return 0;
}

}  // namespace ristretto::cli
