#include "studies/report_charts.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>

#include "platform/text.h"

namespace ristretto::studies {
namespace {

constexpr double kWidth = 960;      // of a wide chart; a slice has a third
constexpr double kFar = 1.5;        // times the middle nine tenths: values further out stay off the axis
constexpr std::size_t kLabel = 14;  // characters of a choice or a name
constexpr double kJitter = 0.35;    // of a choice's width, so that equal ones are seen

std::string px(double x) { return fixed(x, 1); }

// Characters, not bytes.
std::string shortened(const std::string& text, std::size_t most) {
  std::string out;
  std::size_t count = 0;
  for (std::size_t i = 0; i < text.size();) {
    std::size_t end = i + 1;
    while (end < text.size() && (static_cast<unsigned char>(text[end]) >> 6) == 2) ++end;
    if (++count == most && end < text.size()) return out + "…";
    out += text.substr(i, end - i);
    i = end;
  }
  return out;
}

std::string text(double x, double y, const std::string& css, const std::string& content) {
  return str("<text class=\"", css, "\" x=\"", px(x), "\" y=\"", px(y), "\">", escaped(content), "</text>");
}

// The frame of a chart: a rectangle of pixels that two axes fill.
struct Frame {
  const Axis& x_axis;
  const Axis& y_axis;
  double left, right, top, bottom;

  double x(double value) const { return left + x_axis.share(value) * (right - left); }
  double y(double value) const { return bottom - y_axis.share(value) * (bottom - top); }

  std::string grid(std::size_t x_count, std::size_t y_count) const {
    std::string out;
    for (const Axis::Tick& tick : y_axis.ticks(y_count)) {
      const double at = bottom - tick.share * (bottom - top);
      out += str("<path class=\"grid\" d=\"M", px(left), " ", px(at), "H", px(right), "\"/>",
                 text(left - 6, at + 4, "left", tick.label));
    }
    for (const Axis::Tick& tick : x_axis.ticks(x_count)) {
      const double at = left + tick.share * (right - left);
      out += str("<path class=\"grid\" d=\"M", px(at), " ", px(bottom), "v5\"/>",
                 text(at, bottom + 18, "middle", tick.label));
    }
    return out + text(left, top - 10, "unit", y_axis.name) + text(right, bottom + 34, "left unit", x_axis.name) + "\n";
  }
};

std::string opened(double width, double height, const std::string& css, const std::string& label) {
  return str("<svg class=\"", css, "\" viewBox=\"0 0 ", px(width), " ", px(height), "\" role=\"img\" aria-label=\"",
             escaped(label), "\">\n");
}

// Round dots, as strokes without length: thousands of them are a short text.
std::string dots(const std::vector<std::pair<double, double>>& points, const std::string& css) {
  if (points.empty()) return {};
  std::string path;
  for (const auto& [x, y] : points) path += str("M", px(x), " ", px(y), "h0");
  return str("<path class=\"dots ", css, "\" d=\"", path, "\"/>\n");
}

// From -1 to 1, the same for the same index.
double jitter_of(std::size_t index) {
  const auto mixed = static_cast<std::uint32_t>(index * 2654435761u);
  return std::ldexp(static_cast<double>(mixed), -31) - 1;
}

std::vector<double> round_numbers(double low, double high, std::size_t count) {
  const double rough = (high - low) / static_cast<double>(std::max<std::size_t>(count, 2) - 1);
  const double power = std::pow(10.0, std::floor(std::log10(rough)));
  double step = 10 * power;
  for (const double m : {5.0, 2.0, 1.0}) step = m * power >= rough ? m * power : step;
  std::vector<double> numbers;
  // A step may be too small to change a number.
  for (double k = std::ceil(low / step - 1e-9); k * step <= high + 1e-9 * step && numbers.size() < 4 * count; ++k) {
    numbers.push_back(k * step);
  }
  return numbers;
}

// Powers of ten, every so many of them; with 2 and 5 times where there are few.
std::vector<double> round_powers(double low, double high, std::size_t count) {
  const double decades = std::log10(high / low);
  const double every = std::max(1.0, std::ceil(decades / static_cast<double>(count)));
  std::vector<double> numbers;
  for (double k = std::floor(std::log10(low) / every) * every; k <= std::log10(high) + 1e-9; k += every) {
    for (const double m : {1.0, 2.0, 5.0}) {
      if (m > 1 && decades > 2) break;
      const double number = m * std::pow(10.0, k);
      if (number >= low * (1 - 1e-9) && number <= high * (1 + 1e-9)) numbers.push_back(number);
    }
  }
  return numbers;
}

}  // namespace

std::string short_number(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "∞" : "−∞";
  char buffer[32];
  const double size = std::abs(value);
  std::string out(buffer, std::to_chars(buffer, buffer + sizeof buffer, size, std::chars_format::general, 4).ptr);
  if (size >= 1e4 && size < 1e9) out = with_thousands(std::llround(size));
  return value < 0 ? "−" + out : out;
}

double Axis::share(double value) const {
  if (!choices.empty()) return (value + 0.5) / static_cast<double>(choices.size());
  if (!(high > low)) return 0.5;
  const double share =
      log ? std::log(value / low) / std::log(high / low) : (value / 2 - low / 2) / (high / 2 - low / 2);  // no overflow
  return std::clamp(share, 0.0, 1.0);
}

std::vector<Axis::Tick> Axis::ticks(std::size_t count) const {
  std::vector<Tick> all;
  for (std::size_t c = 0; c < choices.size(); ++c) {
    all.push_back({share(static_cast<double>(c)), shortened(choices[c], kLabel)});
  }
  if (!choices.empty()) return all;
  if (!(high > low) || !std::isfinite(high - low)) return {{0.5, short_number(low)}};
  for (const double number : log ? round_powers(low, high, count) : round_numbers(low, high, count)) {
    all.push_back({share(number), short_number(number)});
  }
  return all;
}

Axis value_axis(std::string name, const std::vector<double>& values) {
  std::vector<double> sorted;
  std::copy_if(values.begin(), values.end(), std::back_inserter(sorted), [](double v) { return std::isfinite(v); });
  std::sort(sorted.begin(), sorted.end());
  const std::size_t last = sorted.size() - 1;
  const double early = sorted[last / 20], late = sorted[last - last / 20];
  Axis axis{std::move(name), sorted.front(), sorted.back(), false, {}};
  if (late > early && std::isfinite(late - early)) {
    axis.low = std::max(axis.low, early - kFar * (late - early));
    axis.high = std::min(axis.high, late + kFar * (late - early));
  }
  const double room =
      axis.high > axis.low ? 0.04 * (axis.high / 2 - axis.low / 2) * 2 : 0.05 * std::max(1.0, std::abs(axis.high));
  if (std::isfinite(axis.high + room) && std::isfinite(axis.low - room)) {
    axis.high += room;
    axis.low -= room;
  }
  return axis;
}

Axis parameter_axis(const std::string& name, const std::vector<const Trial*>& trials) {
  Axis axis;
  axis.name = name;
  bool first = true;
  for (const Trial* trial : trials) {
    const Parameter* parameter = trial->find_param(name);
    if (parameter == nullptr) continue;
    if (const auto* categorical = std::get_if<agents::Choices>(&parameter->distribution)) {
      for (const agents::Value& choice : categorical->choices) {
        const std::string label = agents::text_of(choice);
        if (std::find(axis.choices.begin(), axis.choices.end(), label) == axis.choices.end()) {
          axis.choices.push_back(label);
        }
      }
      continue;
    }
    double low, high;
    if (const auto* real = std::get_if<agents::FloatRange>(&parameter->distribution)) {
      low = real->low, high = real->high, axis.log = real->log;
    } else {
      const auto& integer = std::get<agents::IntRange>(parameter->distribution);
      low = static_cast<double>(integer.low), high = static_cast<double>(integer.high), axis.log = integer.log;
    }
    axis.low = first ? low : std::min(axis.low, low);
    axis.high = first ? high : std::max(axis.high, high);
    first = false;
  }
  return axis;
}

std::optional<double> place_of(const Axis& axis, const Trial& trial) {
  const Parameter* parameter = trial.find_param(axis.name);
  if (parameter == nullptr) return std::nullopt;
  if (!axis.choices.empty()) {
    const auto found = std::find(axis.choices.begin(), axis.choices.end(), agents::text_of(parameter->value));
    if (found == axis.choices.end()) return std::nullopt;
    return static_cast<double>(found - axis.choices.begin());
  }
  if (const auto* integer = std::get_if<std::int64_t>(&parameter->value)) return static_cast<double>(*integer);
  const auto* real = std::get_if<double>(&parameter->value);
  return real != nullptr && std::isfinite(*real) ? std::optional<double>(*real) : std::nullopt;
}

std::string history_chart(const History& history, const Axis& values) {
  constexpr double kHeight = 340;
  const double last =
      std::max(history.number.empty() ? 0 : history.number.back(), history.pruned.empty() ? 0 : history.pruned.back());
  const Axis numbers{"trial", 0, std::max(last, 1.0), false, {}};
  const Frame frame{numbers, values, 66, kWidth - 16, 26, kHeight - 42};
  std::string out = opened(kWidth, kHeight, "", "Value of each trial and the best so far");
  out += frame.grid(9, 6);
  std::vector<std::pair<double, double>> points, cut;
  std::string best;
  for (std::size_t i = 0; i < history.number.size(); ++i) {
    points.emplace_back(frame.x(history.number[i]), frame.y(history.value[i]));
    if (std::isnan(history.best[i])) continue;  // none that is feasible so far
    const double level = frame.y(history.best[i]);
    best += best.empty() ? str("M", px(points.back().first), " ", px(level))
                         : str("H", px(points.back().first), "V", px(level));
  }
  for (const double number : history.pruned) cut.emplace_back(frame.x(number), frame.bottom);
  out += dots(cut, "cut") + dots(points, "done");
  if (!best.empty()) out += str("<path class=\"line best\" d=\"", best, "H", px(frame.right), "\"/>\n");
  return out + "</svg>\n";
}

std::string slice_chart(const Slice& slice, const Axis& parameter, const Axis& values) {
  constexpr double kSliceWidth = 320, kHeight = 230;
  Axis unnamed = values;
  unnamed.name.clear();
  Axis x_axis = parameter;
  x_axis.name.clear();
  const Frame frame{x_axis, unnamed, 52, kSliceWidth - 22, 12, kHeight - 26};
  std::string out = opened(kSliceWidth, kHeight, "slice", "Values by " + parameter.name);
  out += frame.grid(4, 5);
  std::vector<std::pair<double, double>> points;
  const double width =
      (frame.right - frame.left) / static_cast<double>(std::max<std::size_t>(parameter.choices.size(), 1));
  for (std::size_t i = 0; i < slice.x.size(); ++i) {
    const double shift = parameter.choices.empty() ? 0 : kJitter * width * jitter_of(i);
    points.emplace_back(frame.x(slice.x[i]) + shift, frame.y(slice.y[i]));
  }
  out += dots(points, "done") + dots({points[slice.best]}, "best");
  return out + "</svg>\n";
}

std::string parallel_chart(const std::vector<std::vector<double>>& lines, const std::vector<Axis>& axes) {
  constexpr double kHeight = 380, kTop = 44, kBottom = kHeight - 28, kLeft = 60, kRight = kWidth - 70;
  const double gap = axes.size() > 1 ? (kRight - kLeft) / static_cast<double>(axes.size() - 1) : 0;
  std::string out = opened(kWidth, kHeight, "", "The best trials: one line each through its parameters and its value");
  for (std::size_t k = lines.size(); k-- > 0;) {  // the first on top
    std::string path;
    for (std::size_t a = 0; a < axes.size(); ++a) {
      path += str(a == 0 ? "M" : "L", px(kLeft + gap * static_cast<double>(a)), " ",
                  px(kBottom - axes[a].share(lines[k][a]) * (kBottom - kTop)));
    }
    out += str("<path class=\"line ", k == 0 ? "best" : "done thin", "\" d=\"", path, "\"/>\n");
  }
  for (std::size_t a = 0; a < axes.size(); ++a) {
    const double x = kLeft + gap * static_cast<double>(a);
    out += str("<path class=\"axis\" d=\"M", px(x), " ", px(kTop), "V", px(kBottom), "\"/>");
    // Names in two rows, or long ones would touch.
    out += text(x, a % 2 == 0 ? kTop - 28 : kTop - 12, "middle name", shortened(axes[a].name, 2 * kLabel));
    for (const Axis::Tick& tick : axes[a].ticks(4)) {
      out += text(x + 5, kBottom - tick.share * (kBottom - kTop) + 4, "halo", tick.label);
    }
  }
  return out + "</svg>\n";
}

std::string curves_chart(const std::vector<Curve>& curves, const Axis& steps, const Axis& values) {
  constexpr double kHeight = 340;
  const Frame frame{steps, values, 66, kWidth - 16, 26, kHeight - 42};
  std::string out = opened(kWidth, kHeight, "", "Intermediate values of the trials by step");
  out += frame.grid(9, 6);
  for (const Curve& curve : curves) {
    std::string path;
    bool gap = true;
    std::size_t drawn = 0;
    for (const Report& report : curve.reports) {
      if (!std::isfinite(report.value)) {
        gap = true;
        continue;
      }
      path += str(gap ? "M" : "L", px(frame.x(static_cast<double>(report.step))), " ", px(frame.y(report.value)));
      gap = false;
      ++drawn;
    }
    if (drawn == 1) path += "h0";  // a dot, by the line's round ends
    if (drawn > 0) out += str("<path class=\"line ", curve.css, "\" d=\"", path, "\"/>\n");
  }
  return out + "</svg>\n";
}

}  // namespace ristretto::studies
