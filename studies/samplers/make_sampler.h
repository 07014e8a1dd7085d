// Samplers by name, for settings and the command line.
#pragma once

#include <optional>

#include "studies/samplers/tpe.h"

namespace ristretto::studies {

struct SamplerOptions {
  TpeOptions tpe{Profile::optuna_5_0};  // of tpe; random takes its profile
  SearchSpace space;                    // of grid and quasi-random, which need it before the first trial
};

const std::vector<std::string>& sampler_names();
// Without a seed: one of the machine's. Throws Error(usage) that lists the names where `name` is none of them, and as
// the sampler's constructor.
std::unique_ptr<Sampler> make_sampler(const std::string& name, const SamplerOptions& options,
                                      std::optional<std::uint32_t> seed);

}  // namespace ristretto::studies
