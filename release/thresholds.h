// What the gates of a version compare with: one table, and the INI file that changes it (deployments.md, "Served,
// proven, unproven").
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace ristretto::release {

// All that the gates compare with, of integrity first; the rows of threshold_table() say what each is.
struct Thresholds {
  double orders_minimum = 10;
  double turnover_minimum = 0.1;
  double trading_bars_minimum = 0.001;
  double steps_minimum = 1000;
  double optimizer_steps_minimum = 1;
  double weight_change_minimum = 1e-6;  // one step of Adam at the smallest learning rate is more
  double served_distance_minimum = 1e-6;
  double overfitting_maximum = 0.10;
  double overfitting_blocks = 16;
  double deflated_sharpe_minimum = 0.95;
  double confidence = 0.95;
  double replicates = 10'000;
  double drawdown_ratio_maximum = 1.1;
  double costs_1x_minimum = 0;
  double costs_2x_minimum = 0;
  double costs_3x_minimum = 0;
  double seeds_minimum = 5;
  double worst_seeds_minimum = 0;
  double data_age_days_maximum = 7;
  double bars_minimum = 250;
};

struct ThresholdRow {
  const char* name;  // in gates.ini
  double Thresholds::*member;
  double least, most;  // that it may be, both included
  bool whole;          // a whole number
  const char* help;
};
const std::vector<ThresholdRow>& threshold_table();

// As such a file, each with what it is.
std::string text_of(const Thresholds& thresholds);
// The defaults, and in their place what the INI file has: lines `name = value`; `;` or `#` begins a comment, [sections]
// are not needed. Throws Error(usage) naming the line for a name that the table has not (with the nearest one), one
// given twice, a value out of its range, and where there is no such file.
Thresholds read_thresholds(const std::filesystem::path& gates_ini);

}  // namespace ristretto::release
