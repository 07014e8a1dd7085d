#include "studies/importance.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::studies {
namespace {

constexpr int kTrees = 64, kMostDepth = 64;  // Optuna's

// One parameter as the forest sees it: a number from 0 to 1, or the index of a choice.
struct Dimension {
  std::string name;
  std::size_t choices = 0;  // 0: a number
  std::vector<double> x;    // [samples]
};

// An interval of uniform numbers, before they are brought to 0 to 1. Whole and stepped numbers get half a step on
// either side, so that all are equally likely.
struct Span {
  double low, high;
  bool log;
};

Span span_of(const agents::Range& range) {
  Span span{};
  if (const auto* real = std::get_if<agents::FloatRange>(&range)) {
    span = {real->low - real->step / 2, real->high + real->step / 2, real->log};
  } else {
    const auto& integer = std::get<agents::IntRange>(range);
    const double half = static_cast<double>(integer.step) / 2;
    const bool single = integer.low == integer.high;
    span = {static_cast<double>(integer.low) - (single ? 0 : half),
            static_cast<double>(integer.high) + (single ? 0 : half), integer.log};
  }
  if (span.log) {
    span.low = std::log(span.low);
    span.high = std::log(span.high);
  }
  return span;
}

double number_of(const agents::Value& value) {
  const auto* integer = std::get_if<std::int64_t>(&value);
  return integer != nullptr ? static_cast<double>(*integer) : std::get<double>(value);
}

// Of choices that are equal the first; a NaN is equal to itself here.
std::size_t index_of(const agents::Value& value, const std::vector<agents::Value>& choices) {
  const auto is_nan = [](const agents::Value& v) {
    return std::holds_alternative<double>(v) && std::isnan(std::get<double>(v));
  };
  return static_cast<std::size_t>(
      std::find_if(choices.begin(), choices.end(),
                   [&](const agents::Value& choice) { return choice == value || (is_nan(choice) && is_nan(value)); }) -
      choices.begin());
}

// Nothing where a trial lacks the parameter; no samples where it has one possible value.
std::optional<Dimension> dimension_of(const std::string& name, const std::vector<const Trial*>& trials) {
  Dimension dimension;
  dimension.name = name;
  std::vector<const Parameter*> parameters;
  for (const Trial* trial : trials) {
    parameters.push_back(trial->find_param(name));
    if (parameters.back() == nullptr) return std::nullopt;
    if (parameters.back()->distribution.index() != parameters[0]->distribution.index()) {
      throw Error(Fault::incompatible,
                  str("parameter '", name, "' of trial ", trial->number, " is of another kind than in trial ",
                      trials[0]->number, ", expected one kind in a study"));
    }
  }
  if (const auto* categorical = std::get_if<agents::Choices>(&parameters[0]->distribution)) {
    dimension.choices = categorical->choices.size();
    if (dimension.choices == 1) return dimension;
    for (const Parameter* parameter : parameters) {
      const std::size_t index = index_of(parameter->value, categorical->choices);
      if (index == dimension.choices) {
        throw Error(Fault::incompatible, str("parameter '", name, "' has the value ", agents::text_of(parameter->value),
                                             ", which its first trial's choices lack"));
      }
      dimension.x.push_back(static_cast<double>(index));
    }
    return dimension;
  }
  Span widest = span_of(parameters[0]->distribution);
  for (const Parameter* parameter : parameters) {
    const Span span = span_of(parameter->distribution);
    widest = {std::min(widest.low, span.low), std::max(widest.high, span.high), widest.log};
  }
  if (!(widest.high > widest.low)) return dimension;
  for (const Parameter* parameter : parameters) {
    const double number = number_of(parameter->value);
    const double share = ((widest.log ? std::log(number) : number) - widest.low) / (widest.high - widest.low);
    if (std::isnan(share)) {
      throw Error(Fault::incompatible, str("parameter '", name, "' has the value ", number, ", outside its range"));
    }
    dimension.x.push_back(std::clamp(share, 0.0, 1.0));
  }
  return dimension;
}

// A regression tree on a bootstrap sample, grown to pure leaves; each leaf is a box, and of the boxes the variances
// follow exactly.
class Tree {
 public:
  Tree(const std::vector<Dimension>& dimensions, const std::vector<double>& y, std::mt19937_64& random)
      : dimensions_(dimensions), y_(y), random_(random), weight_(y.size()), is_left_(y.size()) {
    for (std::size_t i = 0; i < y.size(); ++i) ++weight_[random_() % y.size()];
    std::vector<std::size_t> drawn;
    for (std::size_t i = 0; i < y.size(); ++i) {
      if (weight_[i] > 0) drawn.push_back(i);
    }
    for (const Dimension& dimension : dimensions) {
      order_.push_back(drawn);
      std::stable_sort(order_.back().begin(), order_.back().end(),
                       [&](std::size_t a, std::size_t b) { return dimension.x[a] < dimension.x[b]; });
      box_.push_back({0, 1, std::vector<bool>(dimension.choices, true), dimension.choices});
    }
    grow(0, drawn.size(), 0);
  }

  // Adds each dimension's share of the variance to `shares`; false where the tree is constant.
  bool add_shares(std::vector<double>& shares) const {
    double mean = 0, variance = 0;
    for (const Leaf& leaf : leaves_) mean += leaf.volume * leaf.value;
    for (const Leaf& leaf : leaves_) variance += leaf.volume * (leaf.value - mean) * (leaf.value - mean);
    if (!(variance > 0)) return false;
    for (std::size_t f = 0; f < dimensions_.size(); ++f) shares[f] += marginal_variance(f, mean) / variance;
    return true;
  }

 private:
  // One dimension of a box.
  struct Side {
    double low, high;           // of a number
    std::vector<bool> allowed;  // of choices
    std::size_t count;          // of those allowed
    double width() const {
      return allowed.empty() ? high - low : static_cast<double>(count) / static_cast<double>(allowed.size());
    }
  };
  struct Leaf {
    double value, volume;
    std::vector<Side> box;
  };
  struct Split {
    double score = -1;  // of the sums of squares, larger is better
    std::size_t dimension = 0;
    double at = 0;  // to the left: numbers up to it, or this choice
  };

  void grow(std::size_t begin, std::size_t end, int depth) {
    double weights = 0, sum = 0;
    bool pure = true;
    for (std::size_t k = begin; k < end; ++k) {
      const std::size_t i = order_[0][k];
      weights += weight_[i];
      sum += weight_[i] * y_[i];
      pure = pure && y_[i] == y_[order_[0][begin]];
    }
    const Split split = pure || depth == kMostDepth ? Split{} : best_split(begin, end, weights, sum);
    if (split.score < 0) {
      double volume = 1;
      for (const Side& side : box_) volume *= side.width();
      leaves_.push_back({sum / weights, volume, box_});
      return;
    }
    const Dimension& dimension = dimensions_[split.dimension];
    std::size_t left = 0;
    for (std::size_t k = begin; k < end; ++k) {
      const std::size_t i = order_[0][k];
      is_left_[i] = dimension.choices > 0 ? dimension.x[i] == split.at : dimension.x[i] <= split.at;
      left += is_left_[i] ? 1 : 0;
    }
    for (std::vector<std::size_t>& order : order_) {
      std::stable_partition(order.begin() + static_cast<std::ptrdiff_t>(begin),
                            order.begin() + static_cast<std::ptrdiff_t>(end),
                            [&](std::size_t i) { return is_left_[i]; });
    }
    Side& side = box_[split.dimension];  // nothing is added to box_
    const Side whole = side;
    if (dimension.choices > 0) {
      side.allowed.assign(dimension.choices, false);
      side.allowed[static_cast<std::size_t>(split.at)] = true;
      side.count = 1;
    } else {
      side.high = split.at;
    }
    grow(begin, begin + left, depth + 1);
    side = whole;
    if (dimension.choices > 0) {
      side.allowed[static_cast<std::size_t>(split.at)] = false;
      --side.count;
    } else {
      side.low = split.at;
    }
    grow(begin + left, end, depth + 1);
    side = whole;
  }

  // Of equally good ones that of the dimension that chance puts first.
  Split best_split(std::size_t begin, std::size_t end, double weights, double sum) {
    std::vector<std::size_t> turn(dimensions_.size());
    std::iota(turn.begin(), turn.end(), std::size_t{0});
    for (std::size_t k = turn.size(); k > 1; --k) std::swap(turn[k - 1], turn[random_() % k]);
    Split best;
    for (const std::size_t f : turn) {
      const Dimension& dimension = dimensions_[f];
      const auto consider = [&](double left_weights, double left_sum, double at) {
        const double right_weights = weights - left_weights, right_sum = sum - left_sum;
        const double score = left_sum * left_sum / left_weights + right_sum * right_sum / right_weights;
        if (score > best.score) best = {score, f, at};
      };
      if (dimension.choices > 0) {
        std::vector<double> of_weights(dimension.choices), of_sum(dimension.choices);
        for (std::size_t k = begin; k < end; ++k) {
          const std::size_t i = order_[f][k], choice = static_cast<std::size_t>(dimension.x[i]);
          of_weights[choice] += weight_[i];
          of_sum[choice] += weight_[i] * y_[i];
        }
        for (std::size_t c = 0; c < dimension.choices; ++c) {
          if (of_weights[c] > 0 && of_weights[c] < weights) consider(of_weights[c], of_sum[c], static_cast<double>(c));
        }
        continue;
      }
      double left_weights = 0, left_sum = 0;
      for (std::size_t k = begin; k + 1 < end; ++k) {
        const std::size_t i = order_[f][k];
        left_weights += weight_[i];
        left_sum += weight_[i] * y_[i];
        const double here = dimension.x[i], next = dimension.x[order_[f][k + 1]];
        if (here == next) continue;
        const double middle = (here + next) / 2;
        consider(left_weights, left_sum, middle < next ? middle : here);
      }
    }
    return best;
  }

  // Of the prediction's mean over all other dimensions. A leaf counts at a point of this one with its volume in the
  // others.
  double marginal_variance(std::size_t f, double mean) const {
    double variance = 0;
    if (dimensions_[f].choices > 0) {
      std::vector<double> marginal(dimensions_[f].choices);
      for (const Leaf& leaf : leaves_) {
        for (std::size_t c = 0; c < marginal.size(); ++c) {
          if (leaf.box[f].allowed[c]) marginal[c] += leaf.value * leaf.volume / leaf.box[f].width();
        }
      }
      for (const double value : marginal)
        variance += (value - mean) * (value - mean) / static_cast<double>(marginal.size());
      return variance;
    }
    std::vector<std::pair<double, double>> steps;  // where the marginal changes, and by how much
    for (const Leaf& leaf : leaves_) {
      if (!(leaf.volume > 0)) continue;
      const double height = leaf.value * leaf.volume / leaf.box[f].width();
      steps.emplace_back(leaf.box[f].low, height);
      steps.emplace_back(leaf.box[f].high, -height);
    }
    std::sort(steps.begin(), steps.end());
    double marginal = 0, from = 0;
    for (const auto& [at, change] : steps) {
      variance += (at - from) * (marginal - mean) * (marginal - mean);
      marginal += change;
      from = at;
    }
    return variance;
  }

  const std::vector<Dimension>& dimensions_;
  const std::vector<double>& y_;
  std::mt19937_64& random_;
  std::vector<double> weight_;                   // how often each sample was drawn
  std::vector<char> is_left_;                    // of the split at hand
  std::vector<std::vector<std::size_t>> order_;  // [dimensions][drawn], samples by x, a node's side by side
  std::vector<Side> box_;                        // of the node at hand
  std::vector<Leaf> leaves_;
};

}  // namespace

std::vector<Importance> importances(const Study& study, std::uint64_t seed) {
  if (study.directions.size() != 1) {
    throw Error(Fault::usage, str("study '", study.name, "' has ", study.directions.size(),
                                  " objectives, expected one: the importance of a parameter is for one value"));
  }
  std::vector<const Trial*> trials;
  std::vector<double> y;
  for (const Trial& trial : study.trials) {
    if (trial.state != State::complete || trial.values.empty() || !std::isfinite(trial.values[0])) continue;
    trials.push_back(&trial);
    y.push_back(trial.values[0]);
  }
  if (trials.size() < 2) {
    throw Error(Fault::failed, str("study '", study.name, "' has ", trials.size(),
                                   " COMPLETE trials with a finite value, expected at least 2 to compare"));
  }
  const double largest = *std::max_element(y.begin(), y.end()), smallest = *std::min_element(y.begin(), y.end());
  if (largest == smallest) {
    throw Error(Fault::failed,
                str("all ", trials.size(), " COMPLETE trials of study '", study.name, "' have the value ", largest,
                    ", expected different ones: no parameter makes a difference"));
  }
  for (double& value : y) value = value / 2 / (largest / 2 - smallest / 2);  // no overflow, whatever the values
  const double middle = std::accumulate(y.begin(), y.end(), 0.0) / static_cast<double>(y.size());
  for (double& value : y) value -= middle;

  std::vector<Importance> all;
  std::vector<Dimension> dimensions;
  for (const Parameter& parameter : trials[0]->params) {
    std::optional<Dimension> dimension = dimension_of(parameter.name, trials);
    if (!dimension) continue;
    if (dimension->x.empty()) {
      all.push_back({parameter.name, 0});
    } else {
      dimensions.push_back(std::move(*dimension));
    }
  }
  if (dimensions.empty()) {
    throw Error(Fault::failed, str("the ", trials.size(), " COMPLETE trials of study '", study.name,
                                   "' have no parameter in common that could differ, expected at least one"));
  }
  std::mt19937_64 random(seed);
  std::vector<double> shares(dimensions.size());
  for (int tree = 0; tree < kTrees; ++tree) Tree(dimensions, y, random).add_shares(shares);
  const double sum = std::accumulate(shares.begin(), shares.end(), 0.0);
  for (std::size_t f = 0; f < dimensions.size(); ++f) {
    all.push_back({dimensions[f].name, sum > 0 ? shares[f] / sum : 0});
  }
  std::sort(all.begin(), all.end(), [](const Importance& a, const Importance& b) {
    return a.share != b.share ? a.share > b.share : a.name < b.name;
  });
  return all;
}

}  // namespace ristretto::studies
