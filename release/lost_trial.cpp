#include "release/lost_trial.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "platform/error.h"
#include "platform/text.h"
#include "release/old_layouts.h"
#include "studies/storage.h"

namespace ristretto::release {
namespace {

Trial trial_of(const studies::Trial& stored) {
  Trial trial;
  trial.number = stored.number;
  for (const studies::Parameter& parameter : stored.params) {
    trial.parameters[parameter.name] = release::json_of(parameter.value);
  }
  for (const studies::Attribute& attribute : stored.user_attributes) {
    trial.user_attributes[attribute.key] =
        formats::document_of<Json>(attribute.value, [](double real) { return Json(real); });
  }
  if (stored.values.size() == 1) trial.value = stored.values[0];
  return trial;
}

// Nothing where the weights may be of this trial, else what contradicts.
std::string contradiction(const Trial& trial, const agents::Architecture& architecture) {
  const bool context = architecture.network == agents::Network::market_context;
  const bool transformer = architecture.network != agents::Network::mlp;
  const std::int64_t d_token = context ? architecture.context.d_token : architecture.encoder.d_token;
  const std::int64_t blocks = context ? architecture.context.blocks : architecture.encoder.blocks;
  const auto differs = [&](const char* name, std::int64_t is) {
    const auto says = whole_parameter(trial, name);
    return says && *says != is ? str(name, " ", *says, ", the weights have ", is) : std::string();
  };
  const bool has_encoder = trial.parameters.contains("ft_d_token");
  if (has_encoder != transformer) {
    return transformer ? "it has no parameters of an encoder" : "it has parameters of an encoder, the weights none";
  }
  for (const std::string& difference :
       {differs("net_dimension", architecture.width), transformer ? differs("ft_d_token", d_token) : std::string(),
        transformer ? differs("ft_n_blocks", blocks) : std::string()}) {
    if (!difference.empty()) return difference;
  }
  const auto lookback = whole_parameter(trial, "lookback");
  const std::vector<LayoutFit> fits = layouts_of(architecture.observation, architecture.actions);
  const bool known = !fits.empty() && !fits.front().features.empty();
  if (lookback && known &&
      std::none_of(fits.begin(), fits.end(), [&](const LayoutFit& fit) { return fit.lookback == *lookback; })) {
    return str("lookback ", *lookback, " does not fit ", architecture.observation, " values");
  }
  return "";
}

Trial of_weights(const agents::Architecture& architecture, const Json& metadata) {
  Trial trial;
  if (metadata.is_object() && metadata.contains("trial_number") && metadata["trial_number"].is_number_integer()) {
    trial.number = metadata["trial_number"].get<std::int64_t>();
  }
  const bool transformer = architecture.network == agents::Network::ft_transformer;
  const env::ObservationScales scales;
  trial.parameters = {{"net_dimension", architecture.width},
                      {"norm_cash_exp", scales.cash_exp},
                      {"norm_stocks_exp", scales.stocks_exp},
                      {"norm_tech_exp", scales.tech_exp},
                      {"use_ft_encoder", transformer}};
  const std::vector<LayoutFit> fits = layouts_of(architecture.observation, architecture.actions);
  if (!fits.empty() && !fits.front().features.empty()) trial.parameters["lookback"] = fits.front().lookback;
  if (transformer) {
    trial.parameters["ft_d_token"] = architecture.encoder.d_token;
    trial.parameters["ft_n_blocks"] = architecture.encoder.blocks;
  }
  if (architecture.network == agents::Network::market_context) {
    trial.parameters["encoder"] = agents::name_of(architecture.network);
    trial.parameters["ft_d_token"] = architecture.context.d_token;
    trial.parameters["ft_n_blocks"] = architecture.context.blocks;
  }
  return trial;
}

std::optional<studies::Study> study_of(studies::Storage& storage, const TrialLookup& lookup, const Json& metadata,
                                       std::vector<std::string>& notes) {
  const std::vector<std::string> names = storage.study_names();
  if (!lookup.study_name.empty()) return storage.read_study(lookup.study_name);
  const std::string named = metadata.is_object() ? text_field(metadata, "study") : "";
  if (std::find(names.begin(), names.end(), named) != names.end()) return storage.read_study(named);
  if (names.size() == 1) return storage.read_study(names[0]);
  notes.push_back(str("the storage holds ", names.size(), " studies (", join(names, ", "),
                      "), and nothing says which is meant: --study-name does"));
  return std::nullopt;
}

}  // namespace

std::optional<std::int64_t> whole_parameter(const Trial& trial, const std::string& name) {
  const auto found = trial.parameters.find(name);
  if (found == trial.parameters.end() || !found->is_number()) return std::nullopt;
  const double value = found->get<double>();
  if (!(std::abs(value) < 1e15) || value != std::floor(value)) return std::nullopt;
  return static_cast<std::int64_t>(value);
}

namespace {

LostTrial search(const agents::Architecture& architecture, const TrialLookup& lookup, const Json& metadata) {
  LostTrial out;
  if (!lookup.storage.empty()) {
    const auto storage = studies::open_storage(lookup.storage);
    if (const auto study = study_of(*storage, lookup, metadata, out.notes)) {
      std::optional<std::int64_t> number = lookup.number;
      if (!number && metadata.is_object() && metadata.contains("trial_number") &&
          metadata["trial_number"].is_number_integer()) {
        number = metadata["trial_number"].get<std::int64_t>();
      }
      const studies::Trial* best = nullptr;
      std::size_t matching = 0;
      for (const studies::Trial& stored : study->trials) {
        const Trial trial = trial_of(stored);
        const std::string against = contradiction(trial, architecture);
        if (number && stored.number == *number) {
          if (against.empty()) {
            out.trial = trial;
            out.from = str("study ", study->name, ", trial ", *number, ", by its number");
            return out;
          }
          out.notes.push_back(str("trial ", *number, " of ", study->name, " is not the model's: ", against));
        }
        if (!against.empty() || stored.state != studies::State::complete || stored.values.size() != 1) continue;
        ++matching;
        const bool minimize = study->directions.front() == studies::Direction::minimize;
        if (best == nullptr || (minimize ? stored.values[0] < best->values[0] : stored.values[0] > best->values[0])) {
          best = &stored;
        }
      }
      if (best != nullptr) {
        out.trial = trial_of(*best);
        out.from = str("study ", study->name, ", trial ", best->number, ", by its architecture");
        if (matching > 1) {
          out.notes.push_back(str(matching, " trials of ", study->name,
                                  " have this architecture: the best of them is taken, --trial N takes another"));
        }
        return out;
      }
      out.notes.push_back(str("no trial of ", study->name, " has this architecture"));
    }
  }
  out.trial = of_weights(architecture, metadata);
  out.from = kWeightsAlone;
  out.notes.push_back("the scales of the observation leave no trace in weights: the defaults' are assumed");
  return out;
}

}  // namespace

LostTrial find_trial(const agents::Architecture& architecture, const TrialLookup& lookup, const Json& metadata) {
  LostTrial out = search(architecture, lookup, metadata);
  out.trial.user_attributes[kReconstructed] = out.from;
  return out;
}

}  // namespace ristretto::release
