#include "studies/samplers/make_sampler.h"

#include <random>

#include "platform/error.h"
#include "platform/text.h"
#include "studies/samplers/grid.h"
#include "studies/samplers/quasi_random.h"
#include "studies/samplers/random.h"

namespace ristretto::studies {

const std::vector<std::string>& sampler_names() {
  static const std::vector<std::string> names = {"tpe", "random", "quasi-random", "grid"};
  return names;
}

std::unique_ptr<Sampler> make_sampler(const std::string& name, const SamplerOptions& options,
                                      std::optional<std::uint32_t> seed) {
  if (!seed) seed = std::random_device{}();
  if (name == "tpe") return std::make_unique<TpeSampler>(options.tpe, *seed);
  if (name == "random") return std::make_unique<RandomSampler>(options.tpe.profile, *seed);
  if (name == "quasi-random") return std::make_unique<QuasiRandomSampler>(options.space, *seed);
  if (name == "grid") return std::make_unique<GridSampler>(grid_of(options.space), *seed);
  throw Error(Fault::usage, str("there is no sampler '", name, "', expected one of ", join(sampler_names(), ", ")));
}

}  // namespace ristretto::studies
