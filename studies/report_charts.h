// The charts of a study's report as inline SVG. Colours are classes of the page's style.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "studies/study.h"

namespace ristretto::studies {

// Four significant digits, with a minus sign and an infinity sign.
std::string short_number(double value);

// What a length of a chart stands for: numbers from low to high, or choices side by side.
struct Axis {
  std::string name;
  double low = 0, high = 1;
  bool log = false;
  std::vector<std::string> choices;  // empty: numbers

  // Of a number, or the index of a choice: 0 at the low end, 1 at the high one, which numbers outside are at.
  double share(double value) const;
  struct Tick {
    double share;
    std::string label;
  };
  // About `count` of them at round numbers; of choices all.
  std::vector<Tick> ticks(std::size_t count) const;
};

// Around all finite values, but for a few that are so far off that the others would be a line. At least one is finite.
Axis value_axis(std::string name, const std::vector<double>& values);
// The widest of the ranges that the trials sampled the parameter in; one of them has it.
Axis parameter_axis(const std::string& name, const std::vector<const Trial*>& trials);
// As Axis::share takes it; nothing where the trial lacks the parameter, or has a choice that the axis lacks.
std::optional<double> place_of(const Axis& axis, const Trial& trial);

// One mark a trial, in the order of their numbers; `best` is the best so far at each, NaN before there is one.
struct History {
  std::vector<double> number, value, best;
  std::vector<double> pruned;  // numbers
};
std::string history_chart(const History& history, const Axis& values);

// Points of one parameter; `best` is marked.
struct Slice {
  std::vector<double> x, y;  // x as place_of says
  std::size_t best = 0;
};
std::string slice_chart(const Slice& slice, const Axis& parameter, const Axis& values);

// One line a trial over the axes, places as place_of says; the first is marked.
std::string parallel_chart(const std::vector<std::vector<double>>& lines, const std::vector<Axis>& axes);

// Reports of trials by step.
struct Curve {
  std::vector<Report> reports;  // by step
  std::string css;              // class: best, done or cut
};
// The last ones on top.
std::string curves_chart(const std::vector<Curve>& curves, const Axis& steps, const Axis& values);

}  // namespace ristretto::studies
