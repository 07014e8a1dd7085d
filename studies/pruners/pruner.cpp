#include "studies/pruners/pruner.h"

#include <cmath>
#include <limits>
#include <set>

#include "platform/error.h"
#include "platform/text.h"
#include "studies/pruners/halving.h"
#include "studies/pruners/own_reports.h"
#include "studies/pruners/percentile.h"
#include "studies/pruners/wilcoxon.h"

namespace ristretto::studies {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr std::int64_t kLongest = std::numeric_limits<std::int64_t>::max();

// The options of one pruner: each is read with its range; what nobody has read does not exist.
class OptionReader {
 public:
  OptionReader(std::string pruner, const std::map<std::string, std::string>& options)
      : pruner_(std::move(pruner)), options_(options) {}

  // nullptr where it is not given.
  const std::string* text(const std::string& name) {
    known_.insert(name);
    const auto found = options_.find(name);
    return found == options_.end() ? nullptr : &found->second;
  }
  template <class Number>
  Number number(const std::string& name, Number otherwise, Number least, Number most) {
    const std::string* given = text(name);
    if (!given) return otherwise;
    const auto value = parse_number<Number>(*given);
    if (!value || !(*value >= least && *value <= most)) {
      const char* kind = std::is_integral_v<Number> ? "a whole number" : "a number";
      const bool open = most == std::numeric_limits<Number>::max() || static_cast<double>(most) == kInfinity;
      throw Error(Fault::usage, str("pruner ", pruner_, ": ", name, " is '", *given, "', expected ", kind,
                                    open ? str(" of at least ", least) : str(" from ", least, " to ", most)));
    }
    return *value;
  }
  std::int64_t whole(const std::string& name, std::int64_t otherwise, std::int64_t least) {
    return number<std::int64_t>(name, otherwise, least, kLongest);
  }
  // A number of steps, or "auto".
  std::optional<std::int64_t> resource(const std::string& name) {
    const std::string* given = text(name);
    if (!given || *given == "auto") return std::nullopt;
    return whole(name, 1, 1);
  }
  Interval interval() { return {whole("n_warmup_steps", 0, 0), whole("interval_steps", 1, 1)}; }

  void require_known() const {
    for (const auto& [name, value] : options_) {
      if (known_.contains(name)) continue;
      const std::vector<std::string> known(known_.begin(), known_.end());
      throw Error(Fault::usage,
                  str("pruner ", pruner_, " has no option '", name, "'",
                      known.empty() ? "" : str(", expected one of ", join(known, ", "))),
                  known.empty() ? "" : str("did you mean ", nearest_name(name, known), "?"));
    }
  }

 private:
  std::string pruner_;
  const std::map<std::string, std::string>& options_;
  std::set<std::string> known_;
};

std::unique_ptr<Pruner> make_percentile(OptionReader& options, bool median) {
  PercentilePruner::Settings settings;
  if (!median) {
    if (!options.text("percentile")) {
      throw Error(Fault::usage, "pruner percentile needs percentile, the share in percent that is kept",
                  "pruner median is the one with 50");
    }
    settings.percentile = options.number<double>("percentile", 50, 0, 100);
  }
  settings.n_startup_trials = options.whole("n_startup_trials", settings.n_startup_trials, 0);
  settings.interval = options.interval();
  settings.n_min_trials = options.whole("n_min_trials", settings.n_min_trials, 1);
  return std::make_unique<PercentilePruner>(settings);
}

std::unique_ptr<Pruner> make_halving(OptionReader& options) {
  SuccessiveHalvingPruner::Settings settings;
  settings.min_resource = options.resource("min_resource");
  settings.reduction_factor = options.whole("reduction_factor", settings.reduction_factor, 2);
  settings.min_early_stopping_rate = options.whole("min_early_stopping_rate", settings.min_early_stopping_rate, 0);
  settings.bootstrap_count = options.whole("bootstrap_count", settings.bootstrap_count, 0);
  if (settings.bootstrap_count > 0 && !settings.min_resource) {
    throw Error(Fault::usage, "pruner successive_halving: bootstrap_count needs a min_resource that is not 'auto'");
  }
  return std::make_unique<SuccessiveHalvingPruner>(settings);
}

std::unique_ptr<Pruner> make_hyperband(OptionReader& options) {
  HyperbandPruner::Settings settings;
  settings.min_resource = options.whole("min_resource", settings.min_resource, 1);
  settings.max_resource = options.resource("max_resource");
  settings.reduction_factor = options.whole("reduction_factor", settings.reduction_factor, 2);
  settings.bootstrap_count = options.whole("bootstrap_count", settings.bootstrap_count, 0);
  if (settings.max_resource && *settings.max_resource < settings.min_resource) {
    throw Error(Fault::usage, str("pruner hyperband: max_resource is ", *settings.max_resource,
                                  ", expected at least min_resource, ", settings.min_resource));
  }
  return std::make_unique<HyperbandPruner>(settings);
}

std::unique_ptr<Pruner> make_threshold(OptionReader& options) {
  if (!options.text("lower") && !options.text("upper")) {
    throw Error(Fault::usage, "pruner threshold needs lower, upper or both");
  }
  const double lower = options.number<double>("lower", -kInfinity, -kInfinity, kInfinity);
  const double upper = options.number<double>("upper", kInfinity, -kInfinity, kInfinity);
  if (lower > upper) {
    throw Error(Fault::usage, str("pruner threshold: lower is ", lower, ", expected at most upper, ", upper));
  }
  return std::make_unique<ThresholdPruner>(lower, upper, options.interval());
}

std::unique_ptr<Pruner> make_wilcoxon(OptionReader& options) {
  const double p_threshold = options.number<double>("p_threshold", 0.1, 0, 1);
  return std::make_unique<WilcoxonPruner>(p_threshold, options.whole("n_startup_steps", 2, 0));
}

std::unique_ptr<Pruner> make_patient(const std::map<std::string, std::string>& all) {
  std::map<std::string, std::string> own, inner = all;
  for (const char* name : {"patience", "min_delta", "wrapped"}) {
    if (auto node = inner.extract(name)) own.insert(std::move(node));
  }
  OptionReader options("patient", own);
  if (!options.text("patience")) {
    throw Error(Fault::usage, "pruner patient needs patience, the number of reports that may be no better");
  }
  const std::int64_t patience = options.whole("patience", 0, 0);
  const double min_delta = options.number<double>("min_delta", 0, 0, std::numeric_limits<double>::max());
  const std::string* wrapped = options.text("wrapped");
  if (!wrapped && !inner.empty()) {
    throw Error(
        Fault::usage,
        str("pruner patient has no option '", inner.begin()->first, "', expected one of patience, min_delta, wrapped"),
        "options of a pruner within need wrapped, its name");
  }
  return std::make_unique<PatientPruner>(wrapped ? make_pruner(*wrapped, inner) : nullptr, patience, min_delta);
}

}  // namespace

Decision Pruner::decide(const Study& study, const Trial& trial) {
  if (study.directions.size() != 1) {
    throw Error(Fault::usage, str("study '", study.name, "' has ", study.directions.size(),
                                  " objectives, expected one: its trials cannot be pruned"));
  }
  if (study.directions[0] == Direction::not_set) {
    throw Error(Fault::incompatible, str("study '", study.name, "' has the direction NOT_SET, expected MINIMIZE or ",
                                         "MAXIMIZE: no report of it is better than another"));
  }
  if (trial.reports.empty()) return {};
  return decide_reported(study, trial);
}

bool Pruner::sees(const Study&, std::int64_t, std::int64_t) { return true; }

const std::vector<std::string>& pruner_names() {
  static const std::vector<std::string> names = {"none",      "median",  "percentile", "successive_halving",
                                                 "hyperband", "patient", "threshold",  "wilcoxon"};
  return names;
}

std::unique_ptr<Pruner> make_pruner(const std::string& name, const std::map<std::string, std::string>& options) {
  if (name == "patient") return make_patient(options);
  OptionReader reader(name, options);
  std::unique_ptr<Pruner> pruner;
  if (name == "none") pruner = std::make_unique<NoPruner>();
  if (name == "median") pruner = make_percentile(reader, true);
  if (name == "percentile") pruner = make_percentile(reader, false);
  if (name == "successive_halving") pruner = make_halving(reader);
  if (name == "hyperband") pruner = make_hyperband(reader);
  if (name == "threshold") pruner = make_threshold(reader);
  if (name == "wilcoxon") pruner = make_wilcoxon(reader);
  if (!pruner) {
    throw Error(Fault::usage, str("the pruner is '", name, "', expected one of ", join(pruner_names(), ", ")),
                str("did you mean ", nearest_name(name, pruner_names()), "?"));
  }
  reader.require_known();
  return pruner;
}

}  // namespace ristretto::studies
