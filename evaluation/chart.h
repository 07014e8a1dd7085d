// Time series and distributions as inline SVG. Colours are classes of the page's style.
#pragma once

#include <string>
#include <vector>

#include "evaluation/backtest.h"

namespace ristretto::evaluation {

struct Line {
  std::string name;       // written at its end where there is room
  std::string colour;     // class
  std::vector<double> y;  // one a bar of the backtest
  double start = 0;       // at the first window's start; a later window starts where the one before ended
  bool filled = false;    // down from `start`
};

enum class Scale { automatic, linear };  // automatic: logarithmic where the largest is several times the smallest

// Of a screen: what a chart of 960 pixels shows is not to be read on a phone, which has 400.
enum class Width { wide, narrow };

struct LineChart {
  std::string label;  // what it shows, for those who cannot see it
  std::string unit;   // of the vertical axis; "(log scale)" is added where it is one
  int height = 320;   // pixels
  Scale scale = Scale::linear;
  bool percent = false;
  Width width = Width::wide;  // narrow: the lines have no names
};

// All lines belong to backtests of the same windows as `axis`, whose times they share. Bars without market are shaded.
std::string line_chart(const Backtest& axis, const std::vector<Line>& lines, const LineChart& chart);

// axis.shares stacked from 0 to 1, mean a column of pixels; colours: one class an asset.
std::string share_chart(const Backtest& axis, const std::vector<std::string>& colours, const std::string& label,
                        Width width = Width::wide);

// How often returns of each size were: the values as bars, those of `other` (may be empty) as an outline, both as
// shares of their number. The outermost bars hold all beyond.
struct Histogram {
  std::string label, unit;
  std::string colour, other_colour;  // classes
  Width width = Width::wide;
};
std::string histogram_chart(const std::vector<double>& values, const std::vector<double>& other,
                            const Histogram& chart);

}  // namespace ristretto::evaluation
