#include "release/evidence.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>

#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::release {
namespace {

using evaluation::Series;

constexpr double kDaySeconds = 86400;
// The spread of fewer says little of the spread of all trials.
constexpr std::int64_t kFewestSharpes = 5;

// What a gate throws that cannot decide.
Error no_evidence(const std::string& reason) { return {Fault::refused, reason}; }

struct Finding {
  bool passed;
  std::string value;
  std::string reason;  // if it did not pass
  Json numbers = {};
};

// without_evidence: its numbers where it cannot decide.
GateResult gate(const char* name, const std::string& threshold, const std::function<Finding()>& judge,
                const Json& without_evidence = {}) {
  GateResult result{name, false, "", threshold, ""};
  try {
    const Finding found = judge();
    result.passed = found.passed;
    result.value = found.value;
    result.numbers = found.numbers;
    if (!found.passed) result.reason = found.reason;
  } catch (const Error& error) {
    result.no_evidence = true;
    result.reason = error.what();
    result.numbers = without_evidence;
  }
  return result;
}

void require_bars(const Series& series, const char* whose, const Thresholds& thresholds) {
  if (series.empty()) throw no_evidence(str("the returns of ", whose, " are not known"));
  if (static_cast<double>(series.size()) < thresholds.bars_minimum) {
    throw no_evidence(str(whose, " has ", series.size(), " bars, expected at least ", thresholds.bars_minimum));
  }
  for (std::size_t t = 0; t < series.size(); ++t) {
    if (!(series[t] > -1) || !std::isfinite(series[t])) {
      throw no_evidence(str("the return of ", whose, " at bar ", t, " is ", series[t], ", expected more than -1"));
    }
  }
}

void require_same_bars(const Series& candidate, const Series& other, const char* whose) {
  if (other.size() != candidate.size()) {
    throw no_evidence(
        str(whose, " has ", other.size(), " bars and the candidate ", candidate.size(), ", expected the same bars"));
  }
}

double log_gain(const Series& returns) {
  double sum = 0;
  for (const double r : returns) sum += std::log1p(r);
  return sum;
}

// The largest fall from an earlier peak, as a fraction of it; the first peak is where it began.
double largest_drawdown(const Series& returns) {
  double value = 1, peak = 1, largest = 0;
  for (const double r : returns) {
    value *= 1 + r;
    peak = std::max(peak, value);
    largest = std::max(largest, 1 - value / peak);
  }
  return largest;
}

Finding overfitting(const Evidence& evidence, const Thresholds& thresholds) {
  if (evidence.trials.size() < 2) {
    throw no_evidence(str("the returns of ", evidence.trials.size(), " trials are known, expected at least 2"));
  }
  for (const Series& trial : evidence.trials) require_bars(trial, "a trial", thresholds);
  const evaluation::Overfitting found =
      evaluation::overfitting(evidence.trials, static_cast<int>(thresholds.overfitting_blocks));
  return {found.probability <= thresholds.overfitting_maximum,
          str(six_digits(found.probability), " over ", evidence.trials.size(), " trials",
              found.slope ? str(", slope ", six_digits(*found.slope)) : "", ", P(loss) ",
              six_digits(found.probability_of_loss)),
          "the best trial in one half of the bars is too often below the median in the other"};
}

Finding deflated_sharpe(const Evidence& evidence, const Thresholds& thresholds) {
  require_bars(evidence.candidate, "the candidate", thresholds);
  if (!evidence.trial_count || *evidence.trial_count < 1) throw no_evidence("the number of trials is not known");
  const std::int64_t trials = *evidence.trial_count;
  const auto known = static_cast<std::int64_t>(evidence.trial_sharpes.size());
  if (known > trials) throw no_evidence(str(known, " trials have a Sharpe ratio, and ", trials, " are counted"));
  double variance = 0;
  if (trials > 1) {
    if (known < std::min(trials, kFewestSharpes)) {
      throw no_evidence(str("the Sharpe ratios of ", known, " of ", trials, " trials are known, expected at least ",
                            std::min(trials, kFewestSharpes)));
    }
    double mean = 0;
    for (const double sharpe : evidence.trial_sharpes) mean += sharpe / static_cast<double>(known);
    for (const double sharpe : evidence.trial_sharpes) {
      variance += (sharpe - mean) * (sharpe - mean) / static_cast<double>(known - 1);
    }
  }
  const evaluation::SharpeSample sample = evaluation::sharpe_sample(evidence.candidate);
  // Those known may be seeds of one training, or alike for another reason: over so many bars trials without skill
  // differ at least by what one Sharpe ratio is uncertain by.
  if (trials > 1) variance = std::max(variance, 1.0 / static_cast<double>(sample.bars - 1));
  const double n = static_cast<double>(trials), value = evaluation::deflated_sharpe(sample, n, variance);
  const auto length = evaluation::minimum_track_record(sample, evaluation::expected_maximum_sharpe(n, variance));
  Json numbers = {{"sharpe_per_bar", sample.sharpe},
                  {"bars", sample.bars},
                  {"skewness", sample.skewness},
                  {"kurtosis", sample.kurtosis},
                  {"trials", trials},
                  {"sharpe_variance", variance},
                  {"expected_maximum_sharpe", evaluation::expected_maximum_sharpe(n, variance)},
                  {"deflated_sharpe", value},
                  {"minimum_track_record_bars", length ? Json(*length) : Json(nullptr)}};
  std::string effective;
  if (!evidence.trials.empty()) {
    const evaluation::EffectiveTrials some = evaluation::effective_trials(evidence.trials);
    effective = str(", N_eff ", six_digits(some.participation_ratio), " and ", some.clusters, " clusters of ",
                    evidence.trials.size());
    numbers["effective_trials"] = {
        {"participation_ratio", some.participation_ratio}, {"clusters", some.clusters}, {"of", evidence.trials.size()}};
  }
  return {value >= thresholds.deflated_sharpe_minimum,
          str(six_digits(value), " (Sharpe ratio ", six_digits(sample.sharpe), ", N ", trials, effective, ", V ",
              six_digits(variance), ")"),
          length ? str("it would take ", std::ceil(*length), " bars to tell it from the best of ", trials,
                       " without skill, and there are ", sample.bars)
                 : str("the best of ", trials, " without skill is expected to be as good"),
          numbers};
}

// N, and how many of them have a Sharpe ratio, for a deflated Sharpe ratio that cannot be said.
Json trial_numbers(const Evidence& evidence) {
  return {{"trials", evidence.trial_count ? Json(*evidence.trial_count) : Json(nullptr)},
          {"trials_with_sharpe", evidence.trial_sharpes.size()}};
}

Finding against(const Evidence& evidence, const Series& other, const char* whose, const Thresholds& thresholds) {
  require_bars(evidence.candidate, "the candidate", thresholds);
  require_bars(other, whose, thresholds);
  require_same_bars(evidence.candidate, other, whose);
  const evaluation::Interval found = evaluation::gain_difference(
      evidence.candidate, other, {static_cast<std::int64_t>(thresholds.replicates), thresholds.confidence, 0});
  return {found.low > 0,
          str(six_digits(found.estimate), " in [", six_digits(found.low), ", ", six_digits(found.high), "], blocks of ",
              six_digits(found.mean_block)),
          found.high < 0 ? str("it gains less than ", whose) : str("it may gain no more than ", whose)};
}

Finding drawdown(const Evidence& evidence, const Thresholds& thresholds) {
  require_bars(evidence.candidate, "the candidate", thresholds);
  require_bars(evidence.champion, "the champion", thresholds);
  require_same_bars(evidence.candidate, evidence.champion, "the champion");
  const double value = largest_drawdown(evidence.candidate), champion = largest_drawdown(evidence.champion);
  return {value <= thresholds.drawdown_ratio_maximum * champion,
          str(six_digits(value), " against ", six_digits(champion)), "it falls deeper than the champion"};
}

Finding costs(const Series& candidate, const Series& equal_weight, double minimum, const Thresholds& thresholds) {
  require_bars(candidate, "the candidate", thresholds);
  require_bars(equal_weight, "equal weight", thresholds);
  require_same_bars(candidate, equal_weight, "equal weight");
  const double value = log_gain(candidate) - log_gain(equal_weight);
  return {value >= minimum, six_digits(value), "costs eat what it gains over equal weight"};
}

Finding seeds(const Evidence& evidence, const Thresholds& thresholds) {
  if (static_cast<double>(evidence.seeds.size()) < thresholds.seeds_minimum) {
    throw no_evidence(str(evidence.seeds.size(), " seeds were trained, expected at least ", thresholds.seeds_minimum));
  }
  require_bars(evidence.equal_weight, "equal weight", thresholds);
  const double benchmark = log_gain(evidence.equal_weight);
  Series gains;
  for (const Series& seed : evidence.seeds) {
    require_bars(seed, "a seed", thresholds);
    require_same_bars(seed, evidence.equal_weight, "equal weight");
    gains.push_back(log_gain(seed) - benchmark);
  }
  std::sort(gains.begin(), gains.end());
  gains.resize((gains.size() + 3) / 4);
  double mean = 0;
  for (const double gain : gains) mean += gain / static_cast<double>(gains.size());
  return {mean >= thresholds.worst_seeds_minimum,
          str(six_digits(mean), " of the worst ", gains.size(), " of ", evidence.seeds.size()),
          "the worst quarter of the seeds gains too little over equal weight"};
}

Finding freshness(const Evidence& evidence, const Thresholds& thresholds) {
  if (!evidence.last_bar || !evidence.judged_at) throw no_evidence("the time of the last bar is not known");
  const double days = static_cast<double>(*evidence.judged_at - *evidence.last_bar) / kDaySeconds;
  return {days >= 0 && days <= thresholds.data_age_days_maximum, str(six_digits(days), " days"),
          days < 0 ? "the last bar lies in the future" : "the data are old: fetch newer bars"};
}

Finding holdout(const Evidence& evidence) {
  if (evidence.origin_unknown) throw no_evidence(*evidence.origin_unknown);
  if (!evidence.looks) throw no_evidence("the ledger was not read");
  return {*evidence.looks == 1, str(*evidence.looks),
          *evidence.looks < 1 ? "the look at the hold-out is not in the ledger"
                              : "this candidate has looked at the hold-out before"};
}

}  // namespace

std::vector<GateResult> evidence_gates(const Evidence& evidence, const Thresholds& thresholds) {
  const Thresholds& t = thresholds;
  const std::string interval = str("all of the ", 100 * t.confidence, " % interval above 0");
  const auto excess = [](double minimum) { return str("at least ", minimum, " over equal weight"); };
  return {
      gate("overfitting", str("at most ", t.overfitting_maximum), [&] { return overfitting(evidence, t); }),
      gate(
          "deflated_sharpe", str("at least ", t.deflated_sharpe_minimum), [&] { return deflated_sharpe(evidence, t); },
          trial_numbers(evidence)),
      gate("against_champion", interval, [&] { return against(evidence, evidence.champion, "the champion", t); }),
      gate("against_equal_weight", interval,
           [&] { return against(evidence, evidence.equal_weight, "equal weight", t); }),
      gate("against_cash", interval,
           [&] { return against(evidence, Series(evidence.candidate.size(), 0.0), "cash", t); }),
      gate("drawdown", str("at most ", t.drawdown_ratio_maximum, " of the champion's"),
           [&] { return drawdown(evidence, t); }),
      gate("costs_1x", excess(t.costs_1x_minimum),
           [&] { return costs(evidence.candidate, evidence.equal_weight, t.costs_1x_minimum, t); }),
      gate("costs_2x", excess(t.costs_2x_minimum),
           [&] { return costs(evidence.costs_2x.candidate, evidence.costs_2x.equal_weight, t.costs_2x_minimum, t); }),
      gate("costs_3x", excess(t.costs_3x_minimum),
           [&] { return costs(evidence.costs_3x.candidate, evidence.costs_3x.equal_weight, t.costs_3x_minimum, t); }),
      gate("seeds", str("at least ", t.seeds_minimum, "; the worst quarter at least ", t.worst_seeds_minimum),
           [&] { return seeds(evidence, t); }),
      gate("freshness", str("at most ", t.data_age_days_maximum, " days"), [&] { return freshness(evidence, t); }),
      gate("holdout", "1 look of this candidate", [&] { return holdout(evidence); }),
  };
}

}  // namespace ristretto::release
