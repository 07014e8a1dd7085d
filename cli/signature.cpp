#include "env/signature.h"

#include <cstdio>

#include "cli/commands.h"
#include "cli/options.h"

namespace ristretto::cli {

int signature(const Arguments& arguments) {
  Options options("signature",
                  "One number over every state and reward of a scripted run: the environment's behaviour.");
  if (!options.parse(arguments)) return 0;
  const unsigned long long number = env::signature();
  std::printf(options.json() ? "{\"signature\": \"%016llx\"}\n" : "%016llx\n", number);
  return 0;
}

}  // namespace ristretto::cli
