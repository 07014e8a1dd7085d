#include "studies/trial_settings.h"

#include <algorithm>
#include <optional>

#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::studies {
namespace {

using agents::Row;
using agents::Status;
using agents::Value;

// What the existing training script uses, outside the parameters, where ft_use_pretrained is true.
constexpr std::int64_t kPretrainedLookback = 10;

struct Encoder {
  bool used = false;        // the network is an FT-Transformer, or market_context
  bool context = false;     // market_context
  std::string source;       // where that is from, if not from a parameter
  bool pretrained = false;  // it starts from weights that were trained before
};

bool is_true(const Trial& trial, const char* name) {
  const Parameter* found = trial.find_param(name);
  return found && found->value == Value(true);
}

std::string place_of(const Study& study, const Trial& trial) {
  return str("trial ", trial.number, " of study '", study.name, "'");
}

bool flag_of(const formats::Json& json, const std::string& where) {
  if (json.kind == formats::Json::Kind::boolean) return json.boolean;
  throw Error(Fault::incompatible, str(where, " is ", formats::write_json(json), ", expected true or false"));
}

// A parameter, else an attribute of the trial, else one of the study, else true where there are parameters of the
// encoder: the existing training script asks for those only with it, and never for use_ft_encoder itself.
Encoder encoder_of(const Study& study, const Trial& trial, const Interpretation& how) {
  static const char* const kName = "use_ft_encoder";
  Encoder encoder;
  const Parameter* chosen = trial.find_param("encoder");
  if (chosen && chosen->value != Value(std::string("auto"))) {
    encoder.used = chosen->value != Value(std::string("mlp"));
    encoder.context = chosen->value == Value(std::string("market_context"));
  } else if (trial.find_param(kName)) {
    encoder.used = is_true(trial, kName);
  } else if (const formats::Json* own = find(trial.user_attributes, kName)) {
    encoder.source = "user attribute of the trial";
    encoder.used = flag_of(*own, str(place_of(study, trial), ": the user attribute ", kName));
  } else if (const formats::Json* common = find(study.user_attributes, kName)) {
    encoder.source = "user attribute of the study";
    encoder.used = flag_of(*common, str("study '", study.name, "': the user attribute ", kName));
  } else if (std::any_of(trial.params.begin(), trial.params.end(), [](const Parameter& parameter) {
               const Row* row = agents::find_row(parameter.name);
               return row && row->ft_only;
             })) {
    encoder.source = "follows from its ft_ parameters";
    encoder.used = true;
  }
  encoder.pretrained = encoder.used && how.pretrained_encoder && is_true(trial, "ft_use_pretrained");
  return encoder;
}

// Why a row does nothing in this trial, whatever its generation; nothing where it does something.
std::optional<std::string> inert_here(const Row& row, const Value& value, const Encoder& encoder) {
  const std::string name = row.name;
  if (name == "ft_dropout") return "in PPO all dropout is 0: the ratio must be 1 on the first minibatch";
  if (row.unread) return "of the existing trainer only";
  if (row.ft_only && !encoder.used) return "the network is an MLP";
  if (row.context_only && !encoder.context) return "the network is no market_context";
  if (value == Value(true) && !encoder.pretrained) {
    if (name == "ft_use_pretrained")
      return "no pre-trained encoder weights are given: training starts from random ones";
    if (name == "ft_freeze_encoder") return "without pre-trained weights it would freeze a random encoder";
  }
  return std::nullopt;
}

Taken judge(const Row& row, const Value& value, const Encoder& encoder, Generation generation,
            const Interpretation& how) {
  Taken taken{row.name, value, Status::used, true, {}};
  if (const std::optional<std::string> reason = inert_here(row, value, encoder)) {
    taken.status = Status::inert;
    taken.applied = false;
    taken.note = *reason;
    return taken;
  }
  if (generation == Generation::cappuccino) taken.status = row.in_cappuccino;
  const std::string kept = str("the default ", agents::text_of(agents::get({}, row)), " stays; ");
  if (taken.status == Status::untested) {
    taken.applied = how.use_untested;
    taken.note = taken.applied ? "sampled without effect on the study's value; taken by --use-untested"
                               : str("sampled without effect on the study's value; ", kept, "--use-untested takes it");
  } else if (taken.status == Status::inert) {
    taken.applied = how.activate_inert;
    taken.note = taken.applied ? "did nothing in the study; acts by --activate-inert"
                               : str("did nothing in the study; ", kept, "--activate-inert lets it act");
  }
  return taken;
}

void apply(agents::Hyperparameters& values, const Taken& taken, const Row& row, const std::string& where) {
  if (!taken.applied) return;
  try {
    agents::set(values, row, taken.value);
  } catch (const Error& error) {
    throw Error(Fault::incompatible, str(where, ": ", error.what()));
  }
}

void require_known(const Trial& trial, const std::string& where) {
  std::vector<std::string> unknown, known;
  for (const Row& row : agents::table()) known.emplace_back(row.name);
  for (const Parameter& parameter : trial.params) {
    if (agents::find_row(parameter.name)) continue;
    unknown.push_back(str("'", parameter.name, "' (nearest: ", nearest_name(parameter.name, known), ")"));
  }
  if (unknown.empty()) return;
  throw Error(Fault::usage, str(where, " has parameters that are no hyperparameters here: ", join(unknown, ", ")),
              "--ignore-unknown leaves them out");
}

}  // namespace

const char* name_of(Generation generation) { return generation == Generation::cappuccino ? "cappuccino" : "ristretto"; }

Generation generation_of(const Study& study) {
  return find(study.user_attributes, kObjectiveAttribute) ? Generation::ristretto : Generation::cappuccino;
}

Generation generation_of(const Study& study, const Trial& trial) {
  return find(trial.user_attributes, kObjectiveAttribute) ? Generation::ristretto : generation_of(study);
}

TrialSettings settings_of_trial(const Study& study, const Trial& trial, const Interpretation& how) {
  const std::string where = place_of(study, trial);
  if (trial.params.empty()) {
    throw Error(Fault::usage, str(where, " (", name_of(trial.state), ") has no parameters, expected those of a run"),
                "name a COMPLETE trial");
  }
  if (!how.ignore_unknown) require_known(trial, where);

  TrialSettings settings{generation_of(study, trial), {}, {}};
  const Encoder encoder = encoder_of(study, trial, how);
  const auto add = [&](Taken taken, const Row& row) {
    apply(settings.hyperparameters, taken, row, where);
    settings.parameters.push_back(std::move(taken));
  };
  for (const Parameter& parameter : trial.params) {
    if (const Row* row = agents::find_row(parameter.name)) {
      add(judge(*row, parameter.value, encoder, settings.generation, how), *row);
    } else {
      settings.parameters.push_back({parameter.name, parameter.value, Status::inert, false, "no hyperparameter here"});
    }
  }
  if (!encoder.source.empty()) {
    add({"use_ft_encoder", encoder.used, Status::used, true, encoder.source}, *agents::find_row("use_ft_encoder"));
  }
  if (settings.generation == Generation::cappuccino && encoder.used && !trial.find_param("lookback") &&
      is_true(trial, "ft_use_pretrained")) {
    add({"lookback", kPretrainedLookback, Status::used, true, "fixed by the training script with ft_use_pretrained"},
        *agents::find_row("lookback"));
  }
  return settings;
}

}  // namespace ristretto::studies
