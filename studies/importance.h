// How much of a study's result each parameter decides: functional ANOVA over a random forest (Hutter, Hoos and
// Leyton-Brown 2014, "An Efficient Approach for Assessing Hyperparameter Importance").
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "studies/study.h"

namespace ristretto::studies {

struct Importance {
  std::string name;
  double share;  // of the variance that single parameters explain; all of a study sum to 1
};

// Of the parameters that all COMPLETE trials with a finite value have, the largest first: the variance of the forest's
// prediction over one parameter, with the mean taken over all others, each uniform in its range (on the log scale where
// it is logarithmic; in the widest of its ranges where they changed). Parameters of one possible value have 0. The same
// seed gives the same shares on every machine. Throws Error(usage) for a study of several objectives, Error(failed) for
// fewer than 2 such trials, where no parameter is common to them, and where all values are equal.
std::vector<Importance> importances(const Study& study, std::uint64_t seed = 0);

}  // namespace ristretto::studies
