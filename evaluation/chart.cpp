#include "evaluation/chart.h"

#include <algorithm>
#include <cassert>
#include <chrono>
#include <cmath>

#include "platform/clock.h"
#include "platform/text.h"

namespace ristretto::evaluation {
namespace {

constexpr double kTop = 24, kBottom = 28;
constexpr double kLogFrom = 4;          // largest over smallest value from which an axis is logarithmic
constexpr double kLabelHeight = 15;     // of a line's name
constexpr double kDeviations = 4;       // of a histogram's axis, on each side of the mean
constexpr double kBins = 45;            // of a histogram, about
constexpr std::size_t kValueTicks = 7;  // about

// Pixels across; lines have their names on the right of a wide one.
struct Across {
  double all, left, right;
  std::size_t dates;  // at most, on the axis
};
Across across(Width width, bool names = true) {
  return width == Width::narrow ? Across{400, 52, 376, 4} : Across{960, 58, names ? 748.0 : 930.0, 8};
}

std::string px(double x) { return fixed(x, 1); }

std::string text(double x, double y, const char* css, const std::string& content) {
  return str("<text class=\"", css, "\" x=\"", px(x), "\" y=\"", px(y), "\">", escaped(content), "</text>");
}

std::int64_t window_end(const Backtest& axis, std::size_t window) {
  return window + 1 < axis.windows.size() ? axis.first_bar[window + 1] : static_cast<std::int64_t>(axis.time.size());
}

// Horizontal: time to pixels.
class TimeScale {
 public:
  TimeScale(const Backtest& axis, const Across& pixels)
      : across(pixels),
        first_(static_cast<double>(axis.start_time.front())),
        last_(static_cast<double>(axis.time.back())) {}
  double operator()(std::int64_t time) const {
    return across.left + (static_cast<double>(time) - first_) / (last_ - first_) * (across.right - across.left);
  }
  const Across across;

 private:
  double first_, last_;
};

struct DateTick {
  std::int64_t time;
  std::string label;
};

// Round dates in [first, last] in steps of the shortest length that gives few enough of them.
std::vector<DateTick> date_ticks(std::int64_t first, std::int64_t last, std::size_t most) {
  using namespace std::chrono;
  std::vector<DateTick> ticks;
  for (const std::int64_t hours : {1, 3, 6, 12, 24, 48, 4 * 24, 7 * 24, 14 * 24}) {
    const std::int64_t step = hours * 3600;
    if ((last - first) / step >= static_cast<std::int64_t>(most)) continue;
    for (std::int64_t time = (first + step - 1) / step * step; time <= last; time += step) {
      const std::string date = iso_utc(time);  // 2026-07-13T02:00:00Z
      ticks.push_back({time, hours < 24 ? str(date.substr(5, 5), " ", date.substr(11, 5)) : date.substr(0, 10)});
    }
    return ticks;
  }
  for (const int step : {1, 2, 3, 6, 12, 24, 60}) {
    ticks.clear();
    const year_month_day start{floor<days>(sys_seconds{seconds{first}})};
    for (year_month month = start.year() / January;; month += months{step}) {
      const std::int64_t time = sys_seconds{sys_days{month / 1}}.time_since_epoch().count();
      if (time > last) break;
      if (time >= first) ticks.push_back({time, iso_utc(time).substr(0, step < 12 ? 7 : 4)});
    }
    if (ticks.size() <= most) break;
  }
  return ticks;
}

std::vector<double> linear_ticks(double low, double high) {
  const double rough = (high - low) / static_cast<double>(kValueTicks - 1);
  const double power = std::pow(10.0, std::floor(std::log10(rough)));
  double step = 10 * power;
  for (const double m : {5.0, 2.5, 2.0, 1.0}) step = m * power >= rough ? m * power : step;
  std::vector<double> ticks;
  for (double k = std::ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; ++k) ticks.push_back(k * step);
  return ticks;
}

// 1, 2 and 5 times powers of ten; only the powers where that would be too many.
std::vector<double> log_ticks(double low, double high) {
  const bool few = std::log10(high / low) <= 3;
  std::vector<double> ticks;
  for (double power = std::pow(10.0, std::floor(std::log10(low))); power <= high; power *= 10) {
    for (const double m : {1.0, 2.0, 5.0}) {
      if ((few || m == 1) && m * power >= low && m * power <= high) ticks.push_back(m * power);
    }
  }
  return ticks;
}

std::string value_label(double value, bool percent, double step) {
  if (percent) {
    const std::string size = fixed(std::abs(100 * value), 100 * step < 0.999 ? 1 : 0);
    return str(100 * value < -0.05 ? "−" : "", size, " %");
  }
  if (std::abs(value) >= 1e6) return str(fixed(value / 1e6, value < 1e7 ? 1 : 0), "M");
  if (std::abs(value) >= 1000) return with_thousands(std::llround(value));
  return fixed(value, step < 0.1 ? 2 : step < 1 ? 1 : 0);
}

// Vertical: values to pixels.
struct ValueScale {
  double low, high, top, bottom;
  bool logarithmic;
  double operator()(double value) const {
    const double share = logarithmic ? std::log(value / low) / std::log(high / low) : (value - low) / (high - low);
    return bottom - share * (bottom - top);
  }
};

// The frame of a chart: dates, gaps, values.
std::string frame(const Backtest& axis, const TimeScale& x, const ValueScale& y, bool percent,
                  const std::string& unit) {
  std::string out;
  for (std::size_t w = 1; w < axis.windows.size(); ++w) {
    const double begin = x(axis.time[window_end(axis, w - 1) - 1]), end = x(axis.start_time[w]);
    out += str("<rect class=\"gap\" x=\"", px(begin), "\" y=\"", px(y.top), "\" width=\"",
               px(std::max(end - begin, 1.5)), "\" height=\"", px(y.bottom - y.top), "\"/>");
  }
  const std::vector<double> ticks = y.logarithmic ? log_ticks(y.low, y.high) : linear_ticks(y.low, y.high);
  const double step = ticks.size() > 1 ? ticks[1] - ticks[0] : y.high - y.low;
  for (const double tick : ticks) {
    out += str("<path class=\"grid\" d=\"M", px(x.across.left), " ", px(y(tick)), "H", px(x.across.right), "\"/>",
               text(x.across.left - 6, y(tick) + 4, "tick left", value_label(tick, percent, step)));
  }
  for (const DateTick& tick : date_ticks(axis.start_time.front(), axis.time.back(), x.across.dates)) {
    const double at = x(tick.time);
    out += str("<path class=\"grid\" d=\"M", px(at), " ", px(y.bottom), "v5\"/>",
               text(at, y.bottom + 18, "tick middle", tick.label));
  }
  return out + text(x.across.left, y.top - 10, "unit", unit);
}

std::string opened(double width, int height, const std::string& label) {
  return str("<svg viewBox=\"0 0 ", px(width), " ", height, "\" role=\"img\" aria-label=\"", escaped(label), "\">\n");
}

// One stroke a window; of the bars that share a pixel's column the lowest and the highest, in their order.
std::string stroke(const Backtest& axis, const Line& line, const TimeScale& x, const ValueScale& y, bool filled) {
  std::string out;
  double before = line.start;
  for (std::size_t w = 0; w < axis.windows.size(); ++w) {
    const std::int64_t end = window_end(axis, w);
    const double left = x(axis.start_time[w]);
    out += filled ? str("M", px(left), " ", px(y(line.start)), "L", px(left), " ", px(y(before)))
                  : str("M", px(left), " ", px(y(before)));
    for (std::int64_t bar = axis.first_bar[w]; bar < end;) {
      const double column = std::floor(x(axis.time[bar]));
      std::int64_t lowest = bar, highest = bar;
      for (; bar < end && std::floor(x(axis.time[bar])) == column; ++bar) {
        if (line.y[bar] < line.y[lowest]) lowest = bar;
        if (line.y[bar] > line.y[highest]) highest = bar;
      }
      for (const std::int64_t k : {std::min(lowest, highest), std::max(lowest, highest)}) {
        out += str("L", px(x(axis.time[k])), " ", px(y(line.y[k])));
        if (lowest == highest) break;
      }
    }
    before = line.y[end - 1];
    if (filled) out += str("V", px(y(line.start)), "Z");
  }
  return str("<path class=\"", filled ? "area" : "line", " ", line.colour, "\" d=\"", out, "\"/>\n");
}

}  // namespace

std::string line_chart(const Backtest& axis, const std::vector<Line>& lines, const LineChart& chart) {
  assert(!lines.empty());
  double low = lines[0].start, high = low;
  for (const Line& line : lines) {
    assert(line.y.size() == axis.time.size());
    const auto [least, most] = std::minmax_element(line.y.begin(), line.y.end());
    low = std::min({low, *least, line.start});
    high = std::max({high, *most, line.start});
  }
  const bool logarithmic = chart.scale == Scale::automatic && low > 0 && high / low >= kLogFrom;
  const double room = high > low ? 0.03 * (high - low) : 0.05 * std::max(1.0, std::abs(high));
  if (logarithmic) {
    low /= 1.05;
    high *= 1.05;
  } else {
    high = chart.percent && high == 0 ? 0 : high + room;
    low -= room;
  }
  const TimeScale x(axis, across(chart.width));
  const ValueScale y{low, high, kTop, chart.height - kBottom, logarithmic};
  std::string out = opened(x.across.all, chart.height, chart.label);
  out += frame(axis, x, y, chart.percent, logarithmic ? chart.unit + " (log scale)" : chart.unit);
  for (auto line = lines.rbegin(); line != lines.rend(); ++line) {  // the first one on top
    if (line->filled) out += stroke(axis, *line, x, y, true);
    out += stroke(axis, *line, x, y, false);
  }
  if (chart.width == Width::narrow) return out + "</svg>\n";
  // Names at the lines' ends, moved apart where they would overlap.
  struct Label {
    double y;
    const Line* line;
  };
  std::vector<Label> labels;
  for (const Line& line : lines) labels.push_back({y(line.y.back()), &line});
  std::sort(labels.begin(), labels.end(), [](const Label& a, const Label& b) { return a.y < b.y; });
  for (std::size_t k = 1; k < labels.size(); ++k) labels[k].y = std::max(labels[k].y, labels[k - 1].y + kLabelHeight);
  double lowest = y.bottom;
  for (auto label = labels.rbegin(); label != labels.rend(); ++label) {
    label->y = std::min(label->y, lowest);
    lowest = label->y - kLabelHeight;
    out += text(x.across.right + 8, label->y + 4, str("name ", label->line->colour).c_str(), label->line->name);
  }
  return out + "</svg>\n";
}

std::string share_chart(const Backtest& axis, const std::vector<std::string>& colours, const std::string& label,
                        Width width) {
  constexpr int kHeight = 220;
  constexpr double kColumn = 2;  // pixels
  const auto n = static_cast<std::int64_t>(colours.size());
  assert(axis.shares.size(0) == static_cast<std::int64_t>(axis.time.size()) && axis.shares.size(1) == n);
  const double* shares = axis.shares.const_data_ptr<double>();
  const TimeScale x(axis, across(width, false));
  const ValueScale y{0, 1, kTop, kHeight - kBottom, false};
  std::vector<std::string> paths(colours.size());
  for (std::size_t w = 0; w < axis.windows.size(); ++w) {
    const std::int64_t end = window_end(axis, w);
    std::vector<double> at;                // pixels
    std::vector<std::vector<double>> top;  // [columns][n + 1] running sums of the shares
    for (std::int64_t bar = axis.first_bar[w]; bar < end;) {
      const double column = std::floor(x(axis.time[bar]) / kColumn);
      const std::int64_t first = bar;
      std::vector<double> mean(colours.size() + 1);
      for (; bar < end && std::floor(x(axis.time[bar]) / kColumn) == column; ++bar) {
        for (std::int64_t i = 0; i < n; ++i) mean[i + 1] += shares[bar * n + i];
      }
      for (std::int64_t i = 1; i <= n; ++i) mean[i] = mean[i - 1] + mean[i] / static_cast<double>(bar - first);
      at.push_back((x(axis.time[first]) + x(axis.time[bar - 1])) / 2);
      top.push_back(std::move(mean));
    }
    at.front() = x(axis.time[axis.first_bar[w]]);
    at.back() = x(axis.time[end - 1]);
    for (std::int64_t i = 0; i < n; ++i) {
      std::string& path = paths[i];
      for (std::size_t k = 0; k < at.size(); ++k) {
        path += str(k == 0 ? "M" : "L", px(at[k]), " ", px(y(top[k][i + 1])));
      }
      for (std::size_t k = at.size(); k-- > 0;) path += str("L", px(at[k]), " ", px(y(top[k][i])));
      path += "Z";
    }
  }
  std::string out = opened(x.across.all, kHeight, label);
  for (std::int64_t i = 0; i < n; ++i) {
    out += str("<path class=\"stack ", colours[i], "\" d=\"", paths[i], "\"/>\n");
  }
  return out + frame(axis, x, y, true, "") + "</svg>\n";
}

std::string histogram_chart(const std::vector<double>& values, const std::vector<double>& other,
                            const Histogram& chart) {
  assert(!values.empty());
  constexpr int kHeight = 240;
  const Across pixels = across(chart.width, false);
  double mean = 0, squares = 0;
  for (const double value : values) mean += value / static_cast<double>(values.size());
  for (const double value : values) squares += (value - mean) * (value - mean) / static_cast<double>(values.size());
  const double reach = std::max(kDeviations * std::sqrt(squares), 1e-6);
  // Bins of a round width with an edge at 0, so that none holds gains and losses.
  double low = mean - reach, high = mean + reach;
  const std::vector<double> steps = linear_ticks(0, (high - low) / kBins * static_cast<double>(kValueTicks - 1));
  const double bin = steps[1] - steps[0];
  low = std::floor(low / bin) * bin;
  const auto bins = static_cast<std::size_t>(std::ceil((high - low) / bin - 1e-9));
  high = low + bin * static_cast<double>(bins);
  const auto shares = [&](const std::vector<double>& of) {
    std::vector<double> out(bins);
    for (const double value : of) {
      const double at = std::clamp(std::floor((value - low) / bin + 1e-9), 0.0, static_cast<double>(bins - 1));
      out[static_cast<std::size_t>(at)] += 1 / static_cast<double>(of.size());
    }
    return out;
  };
  const std::vector<double> heights = shares(values), outline = other.empty() ? std::vector<double>() : shares(other);
  double most = *std::max_element(heights.begin(), heights.end());
  for (const double share : outline) most = std::max(most, share);
  const ValueScale y{0, most * 1.05, kTop, kHeight - kBottom, false};
  const auto x = [&](double value) {
    return pixels.left + (value - low) / (high - low) * (pixels.right - pixels.left);
  };
  const std::string base = px(y.bottom);
  std::string out = opened(pixels.all, kHeight, chart.label);
  const std::vector<double> levels = linear_ticks(0, y.high);
  for (const double tick : levels) {
    out += str("<path class=\"grid\" d=\"M", px(pixels.left), " ", px(y(tick)), "H", px(pixels.right), "\"/>",
               text(pixels.left - 6, y(tick) + 4, "tick left", value_label(tick, true, levels[1] - levels[0])));
  }
  std::string bars, steps_path;
  for (std::size_t k = 0; k < bins; ++k) {
    const double left = x(low + bin * static_cast<double>(k)), right = x(low + bin * static_cast<double>(k + 1));
    if (heights[k] > 0) {
      bars += str("M", px(left + 0.4), " ", base, "V", px(y(heights[k])), "H", px(right - 0.4), "V", base, "Z");
    }
    if (!outline.empty()) steps_path += str(k == 0 ? "M" : "L", px(left), " ", px(y(outline[k])), "H", px(right));
  }
  out += str("<path class=\"bar ", chart.colour, "\" d=\"", bars, "\"/>\n");
  if (!outline.empty()) out += str("<path class=\"line ", chart.other_colour, "\" d=\"", steps_path, "\"/>\n");
  std::vector<double> ticks = linear_ticks(low, high);
  if (const double every = ticks[1] - ticks[0]; chart.width == Width::narrow && ticks.size() > 5) {
    std::erase_if(ticks, [&](double tick) { return std::llround(tick / every) % 2 != 0; });
  }
  const double step = ticks.size() > 1 ? ticks[1] - ticks[0] : bin;
  for (const double tick : ticks) {
    // Two digits where a step is less than a tenth of a percent.
    const std::string label = step < 0.00099 ? str(fixed(100 * tick, 2), " %") : value_label(tick, true, step);
    out += str("<path class=\"", std::abs(tick) < bin / 2 ? "zero" : "grid", "\" d=\"M", px(x(tick)), " ", base,
               std::abs(tick) < bin / 2 ? str("V", px(y.top)) : std::string("v5"), "\"/>",
               text(x(tick), y.bottom + 18, "tick middle", label));
  }
  return out + text(pixels.left, y.top - 10, "unit", chart.unit) + "</svg>\n";
}

}  // namespace ristretto::evaluation
