#include "studies/samplers/ask.h"

#include <algorithm>

#include "platform/error.h"
#include "platform/log.h"
#include "platform/text.h"

namespace ristretto::studies {
Ask::Ask(Sampler& sampler, const Study& study, Trial trial)
    : trial_(std::move(trial)), proposals_(sampler.begin(study, trial_)) {}

agents::Value Ask::suggest(const std::string& name, const agents::Range& range) {
  if (const Parameter* known = trial_.find_param(name)) return known->value;
  agents::Value value = choose(name, range);
  trial_.params.push_back({name, value, range});
  return value;
}

agents::Value Ask::choose(const std::string& name, const agents::Range& range) {
  const formats::Json* all_fixed = find(trial_.system_attributes, "fixed_params");
  if (const formats::Json* fixed = all_fixed ? all_fixed->find(name) : nullptr) {
    const agents::Value value = value_of_json(*fixed);
    const std::optional<double> internal = internal_value(range, value);
    if (!internal) {
      throw Error(Fault::incompatible, str("trial ", trial_.number, ": fixed_params has ", name, " = ",
                                           agents::text_of(value), ", which its range cannot store"));
    }
    if (!contains(range, *internal)) {
      log::warning("studies", str("trial ", trial_.number, ": fixed_params has ", name, " = ", agents::text_of(value),
                                  ", outside its range; it is used"));
    }
    return value_of(range, *internal);
  }
  if (const std::optional<agents::Value> only = single_value(range)) return *only;
  if (!relative_) relative_ = proposals_->relative();
  for (const Parameter& joint : *relative_) {
    if (joint.name != name || !compatible(joint.distribution, range)) continue;
    const std::optional<double> internal = internal_value(range, joint.value);
    if (internal && contains(range, *internal)) return value_of(range, *internal);
  }
  return proposals_->sample(name, range);
}

}  // namespace ristretto::studies
