#include "studies/samplers/tpe.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>
#include <unordered_map>

#include "platform/error.h"
#include "platform/text.h"
#include "studies/distribution.h"
#include "studies/samplers/random.h"

namespace ristretto::studies {
namespace {

using formats::Json;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kMissing = std::numeric_limits<double>::quiet_NaN();
constexpr const char* kRelativePrefix = "tpe:relative_params:";

bool is_finished(const Trial& trial) { return trial.state == State::complete || trial.state == State::pruned; }

// The sum of what exceeds 0; nothing for a trial without constraints.
std::optional<double> violation(const Trial& trial, Profile profile) {
  std::optional<double> sum;
  const auto add = [&](const Json& value) { sum = sum.value_or(0) + std::max(value.real, 0.0); };
  std::size_t items = 0;
  if (const Json* list = find(trial.system_attributes, "constraints"); list && list->kind == Json::Kind::array) {
    sum = 0;
    for (const Json& item : list->items) add(item);
    items = list->items.size();
  }
  if (profile < Profile::optuna_5_0) return sum;
  constexpr std::string_view kPrefix = "constraints:";
  for (const Attribute& attribute : trial.system_attributes) {
    if (!attribute.key.starts_with(kPrefix)) continue;
    // Items of the list are called "0", "1" ...: one that is there in both forms counts once.
    const auto index = parse_number<std::size_t>(std::string_view(attribute.key).substr(kPrefix.size()));
    if (!index || *index >= items) add(attribute.value);
  }
  return sum;
}

// The place among pruned trials: later steps first, then better reports.
std::pair<double, double> pruned_rank(const Trial& trial, double sign) {
  if (trial.reports.empty()) return {1, 0};
  const Report& last = trial.reports.back();
  return {-static_cast<double>(last.step), std::isnan(last.value) ? kInfinity : sign * last.value};
}

// External values that a RUNNING trial was given together, of which some may not be asked for yet.
Json relative_params(const Trial& trial) {
  std::string text;
  for (std::size_t i = 0; const Json* chunk = find(trial.system_attributes, str(kRelativePrefix, i)); ++i) {
    text += chunk->text;
  }
  if (text.empty()) return {};
  return formats::read_json(text, str("trial ", trial.number, ", ", kRelativePrefix, "0"));
}

// The parameters of some trials as columns of internal values, NaN where a trial lacks one. Read once for all the
// parameters of a trial.
class Columns {
 public:
  Columns(std::vector<const Trial*> trials, bool with_relative_params) : count_(trials.size()) {
    for (std::size_t row = 0; row < count_; ++row) {
      const Trial& trial = *trials[row];
      if (with_relative_params && trial.state == State::running) {
        if (Json params = relative_params(trial); params.kind == Json::Kind::object) {
          promised_.emplace_back(row, std::move(params));
        }
      }
      for (std::size_t i = 0; i < trial.params.size(); ++i) {
        const Parameter& parameter = trial.params[i];
        // Trials mostly have the same names in the same order.
        if (i >= names_.size() || *names_[i] != parameter.name) {
          put(index_of(parameter.name), row, parameter);
        } else {
          put(i, row, parameter);
        }
      }
    }
  }

  // Of a parameter of `range`, [trials].
  std::vector<double> column(const std::string& name, const agents::Range& range) const {
    const auto found = places_.find(name);
    std::vector<double> values =
        found == places_.end() ? std::vector<double>(count_, kMissing) : values_[found->second];
    for (const auto& [row, params] : promised_) {
      const Json* promised = params.find(name);
      if (!std::isnan(values[row]) || !promised) continue;
      values[row] = internal_value(range, value_of_json(*promised)).value_or(kMissing);
    }
    return values;
  }

 private:
  std::size_t index_of(const std::string& name) {
    const auto [place, is_new] = places_.try_emplace(name, values_.size());
    if (is_new) {
      values_.emplace_back(count_, kMissing);
      names_.push_back(&place->first);
    }
    return place->second;
  }
  void put(std::size_t column, std::size_t row, const Parameter& parameter) {
    values_[column][row] = internal_value(parameter.distribution, parameter.value).value_or(kMissing);
  }

  std::size_t count_;
  std::unordered_map<std::string, std::size_t> places_;
  std::vector<const std::string*> names_;    // by place
  std::vector<std::vector<double>> values_;  // by place, [trials]
  std::vector<std::pair<std::size_t, Json>> promised_;
};

// One column a parameter of the space, without the rows in which one is missing.
std::vector<std::vector<double>> observations(const Columns& columns, const SearchSpace& space) {
  std::vector<std::vector<double>> all;
  for (const auto& [name, range] : space) all.push_back(columns.column(name, range));
  std::size_t kept = 0;
  for (std::size_t row = 0; row < all[0].size(); ++row) {
    if (std::any_of(all.begin(), all.end(), [&](const auto& column) { return std::isnan(column[row]); })) continue;
    for (auto& column : all) column[kept] = column[row];
    ++kept;
  }
  for (auto& column : all) column.resize(kept);
  return all;
}

}  // namespace

std::size_t below_count(std::size_t n) { return std::min<std::size_t>((n + 9) / 10, 25); }

Split split_trials(const Study& study, std::int64_t self, const TpeOptions& options) {
  if (study.directions.size() != 1) {
    throw Error(Fault::usage,
                str("study '", study.name, "' has ", study.directions.size(),
                    " objectives, expected one: TPE here takes one objective"),
                "use the sampler random or quasi-random");
  }
  if (study.directions[0] == Direction::not_set) {
    throw Error(Fault::incompatible,
                str("study '", study.name, "' has the direction NOT_SET, expected MINIMIZE or MAXIMIZE"));
  }
  const double sign = study.directions[0] == Direction::maximize ? -1 : 1;
  const bool constrained = options.constraints || options.profile >= Profile::optuna_5_0;
  const double unconstrained = options.profile >= Profile::optuna_5_0 ? 0 : kInfinity;

  // Better ones have smaller ranks; class, then what orders the class.
  struct Ranked {
    const Trial* trial;
    int kind;  // 0 COMPLETE, 1 PRUNED, 2 infeasible
    std::pair<double, double> rank;
  };
  std::vector<Ranked> finished;
  Split split;
  for (const Trial& trial : study.trials) {
    if (trial.number == self) continue;
    if (trial.state == State::running && options.constant_liar) split.above.push_back(&trial);
    if (!is_finished(trial)) continue;
    const double excess = constrained ? violation(trial, options.profile).value_or(unconstrained) : 0;
    if (excess > 0) {
      finished.push_back({&trial, 2, {excess, 0}});
    } else if (trial.state == State::complete) {
      finished.push_back({&trial, 0, {sign * trial.values.at(0), 0}});
    } else {
      finished.push_back({&trial, 1, pruned_rank(trial, sign)});
    }
  }
  const auto better = [](const Ranked& a, const Ranked& b) {
    return std::tie(a.kind, a.rank, a.trial) < std::tie(b.kind, b.rank, b.trial);  // of equal ones the earlier
  };
  const std::size_t good = below_count(finished.size());
  std::vector<Ranked> ordered = finished;
  if (good < ordered.size()) std::nth_element(ordered.begin(), ordered.begin() + good, ordered.end(), better);
  for (const Ranked& ranked : finished) {
    (good == ordered.size() || better(ranked, ordered[good]) ? split.below : split.above).push_back(ranked.trial);
  }
  const auto by_number = [](const Trial* a, const Trial* b) { return a->number < b->number; };
  std::sort(split.below.begin(), split.below.end(), by_number);
  std::sort(split.above.begin(), split.above.end(), by_number);
  return split;
}

// --- One trial -------------------------------------------------------------------------------------------------------

class TpeProposals : public Proposals {
 public:
  TpeProposals(TpeSampler& sampler, const Study& study, const Trial& trial)
      : sampler_(sampler), study_(study), split_(split_trials(study, trial.number, sampler.options_)) {
    const auto finished = std::count_if(study.trials.begin(), study.trials.end(), is_finished);
    starting_ = static_cast<std::size_t>(finished) < sampler.options_.startup_trials;
    if (starting_) return;
    below_.emplace(split_.below, sampler.options_.multivariate);
    above_.emplace(split_.above, sampler.options_.multivariate);
    if (sampler.options_.profile <= Profile::optuna_3_1) draw_joint();  // it drew for every new trial
  }

  std::vector<Parameter> relative() override {
    if (sampler_.options_.profile > Profile::optuna_3_1) draw_joint();
    return joint_;
  }

  agents::Value sample(const std::string& name, const agents::Range& range) override {
    if (starting_) return random_value(sampler_.startup_random_, range, sampler_.options_.profile);
    return compare({{name, range}})[0].value;
  }

  // The joint values, so that other workers under constant_liar keep away from them before they are asked for.
  std::vector<Attribute> attributes() const override {
    const TpeOptions& options = sampler_.options_;
    if (joint_.empty() || !options.constant_liar || options.profile < Profile::optuna_4_9) return {};
    Json params;
    params.kind = Json::Kind::object;
    for (const Parameter& parameter : joint_) params.members.emplace_back(parameter.name, json_of(parameter.value));
    const std::string text = formats::write_json(params);
    std::vector<Attribute> chunks;
    constexpr std::size_t kChunk = 2045;
    for (std::size_t begin = 0; begin < text.size(); begin += kChunk) {
      Json chunk;
      chunk.kind = Json::Kind::text;
      chunk.text = text.substr(begin, kChunk);
      chunks.push_back({str(kRelativePrefix, chunks.size()), std::move(chunk)});
    }
    return chunks;
  }

 private:
  void draw_joint() {
    const TpeOptions& options = sampler_.options_;
    if (starting_ || !options.multivariate) return;
    if (options.group) {
      for (const SearchSpace& part : grouped_spaces(study_)) draw(part);
    } else {
      const SearchSpace space = intersection_space(study_, options.profile > Profile::optuna_3_1);
      if (!space.empty()) draw(space);
    }
  }
  void draw(const SearchSpace& space) {
    for (Parameter& parameter : compare(space)) joint_.push_back(std::move(parameter));
  }

  std::vector<Parameter> compare(const SearchSpace& space) {
    const TpeOptions& options = sampler_.options_;
    const ParzenEstimator below(space, observations(*below_, space), options.multivariate, options.profile);
    const ParzenEstimator above(space, observations(*above_, space), options.multivariate, options.profile);
    Candidates drawn{space, below.sample(sampler_.random_, options.candidates), {}, 0};
    drawn.scores = below.log_density(drawn.samples);
    const std::vector<double> bad = above.log_density(drawn.samples);
    for (std::size_t i = 0; i < bad.size(); ++i) drawn.scores[i] -= bad[i];
    const auto best = std::max_element(drawn.scores.begin(), drawn.scores.end());  // the first of equals
    drawn.best = static_cast<std::size_t>(best - drawn.scores.begin());
    std::vector<Parameter> values;
    for (std::size_t p = 0; p < space.size(); ++p) {
      const auto& [name, range] = space[p];
      values.push_back({name, value_of(range, drawn.samples[p][drawn.best]), range});
    }
    sampler_.last_ = std::move(drawn);
    return values;
  }

  TpeSampler& sampler_;
  const Study& study_;
  Split split_;
  bool starting_ = false;
  std::optional<Columns> below_, above_;
  std::vector<Parameter> joint_;
};

TpeSampler::TpeSampler(const TpeOptions& options, std::uint32_t seed)
    : options_(options), random_(seed), startup_random_(seed) {
  if (options.group && !options.multivariate) {
    throw Error(Fault::usage, "the sampler tpe has group without multivariate, expected both");
  }
  if (options.candidates < 1) throw Error(Fault::usage, "the sampler tpe has 0 candidates, expected 1 or more");
}

std::unique_ptr<Proposals> TpeSampler::begin(const Study& study, const Trial& trial) {
  return std::make_unique<TpeProposals>(*this, study, trial);
}

}  // namespace ristretto::studies
