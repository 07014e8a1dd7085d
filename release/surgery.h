// A network for one observation carried over to another, by the names of its columns (algorithms.md 6).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "agents/policy.h"
#include "env/layout.h"
#include "ft_transformer/weights.h"

namespace ristretto::release {

// Where the columns and actions of one layout are found in another.
struct Mapping {
  env::Layout from, to;
  std::vector<std::int64_t> columns;  // [S'] the old column of that name; -1: new
  std::vector<std::int64_t> actions;  // [A'] the old action on that asset; -1: new
  std::vector<std::int64_t> removed;  // old columns that the new layout lacks
  std::vector<std::string> removed_assets;

  std::vector<std::string> added_names() const;
};
Mapping mapping_of(const env::Layout& from, const env::Layout& to);
// Of both layouts' hashes and the columns and actions; 16 hexadecimal digits.
std::string hash_of(const Mapping& mapping);

// The same network for the new layout; float32. A column that keeps its name keeps its weights, times the old scale
// over the new; new columns and new assets' actions are zero; the bias takes up what the removed columns gave at
// `constants` [number removed], in the served units of the old layout. Exact for an MLP whose removed columns are
// constant. Of an FT-Transformer tokens go by name: rearranging them is exact; a new one gets the initial values of
// `seed`, zero columns of the output projection, and a key bias that hides it from the others' attention, which the
// network has from then on: exact too, but for e^-25. Where a token is gone it is another function.
// actor: has a_std_log, and answers actions instead of a value.
ft_transformer::Weights carried(const ft_transformer::Weights& weights, const agents::Architecture& architecture,
                                const Mapping& mapping, const std::vector<double>& constants, bool actor,
                                std::uint64_t seed = 0);
// Adam's first (order 1) or second (order 2) moments of such weights: carried likewise, new entries 0, and divided by
// what the weights are multiplied by, once or twice.
ft_transformer::Weights carried_moments(const ft_transformer::Weights& moments,
                                        const agents::Architecture& architecture, const Mapping& mapping, bool actor,
                                        int order);
// That of the network for the new layout.
agents::Architecture carried(const agents::Architecture& architecture, const Mapping& mapping);

}  // namespace ristretto::release
