// Which running trials are not worth their remaining steps (study.md, "Pruners"). Knows of no database: a pruner reads
// a Study and says what is to be written.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "studies/study.h"

namespace ristretto::studies {

struct Decision {
  bool prune = false;
  std::vector<Attribute> system_attributes;  // to write to the trial, whether it is pruned or not: completed_rung_<r>
};

// One study's; of one thread at a time. What it has derived of the study (resources given as 'auto') stays as it was at
// the first call.
class Pruner {
 public:
  virtual ~Pruner() = default;
  // Asked after each report of `trial`, which has all its reports and system attributes; a copy of it in study.trials
  // is ignored and may be older. Throws Error(usage) for a study of several objectives, Error(incompatible) for one
  // without a direction.
  Decision decide(const Study& study, const Trial& trial);
  // Whether a sampler that chooses for trial `number` may learn from trial `other`: with Hyperband, those of its
  // bracket.
  virtual bool sees(const Study& study, std::int64_t number, std::int64_t other);

 private:
  // The study has one objective with a direction, the trial a report.
  virtual Decision decide_reported(const Study& study, const Trial& trial) = 0;
};

// Options by Optuna's names: {{"n_startup_trials", "5"}}. Of "patient" the option "wrapped" names the pruner within,
// which takes the options that are not patience and min_delta. Throws Error(usage) that lists the names there are, of
// pruners or of the pruner's options, and for values out of their range.
std::unique_ptr<Pruner> make_pruner(const std::string& name, const std::map<std::string, std::string>& options = {});
// As make_pruner takes them.
const std::vector<std::string>& pruner_names();

}  // namespace ristretto::studies
