// The tree-structured Parzen estimator as Optuna has it (study.md, "TPE, exactly").
#pragma once

#include <memory>
#include <optional>

#include "studies/samplers/parzen.h"

namespace ristretto::studies {

struct TpeOptions {
  Profile profile;
  bool multivariate;   // all parameters that every trial has are drawn together
  bool constant_liar;  // RUNNING trials count as bad ones
  bool group = false;  // multivariate, in parts of parameters that occur together
  // A violated constraint makes a trial worse than any without. 4.9: one without `constraints` is the worst. 5.0 always
  // does this, and takes such a trial for feasible.
  bool constraints = false;
  std::size_t startup_trials = 10;  // COMPLETE and PRUNED, before which values are uniform
  std::size_t candidates = 24;

  explicit TpeOptions(Profile of)
      : profile(of), multivariate(of >= Profile::optuna_5_0), constant_liar(of >= Profile::optuna_5_0) {}
};

// How many of n finished trials are `below`.
std::size_t below_count(std::size_t n);

// Good and bad trials, each by number. In neither: WAITING, FAIL and, without constant_liar, RUNNING ones; and `self`.
struct Split {
  std::vector<const Trial*> below, above;
};
// Throws Error(usage) for several objectives, Error(incompatible) for the direction NOT_SET.
Split split_trials(const Study& study, std::int64_t self, const TpeOptions& options);

// What was drawn for some parameters, and how each candidate did; `best` is taken.
struct Candidates {
  SearchSpace space;
  Samples samples;
  std::vector<double> scores;
  std::size_t best;
};

class TpeSampler : public Sampler {
 public:
  // One seed for both of Optuna's generators: TPE's own, and that of the first trials.
  TpeSampler(const TpeOptions& options, std::uint32_t seed);
  // Throws as split_trials.
  std::unique_ptr<Proposals> begin(const Study& study, const Trial& trial) override;

  // Of the last comparison of two densities; nothing before the first.
  const std::optional<Candidates>& last_candidates() const { return last_; }

 private:
  friend class TpeProposals;
  TpeOptions options_;
  RandomState random_, startup_random_;
  std::optional<Candidates> last_;
};

}  // namespace ristretto::studies
