// What a backtest was, as one HTML file for people: no scripts, nothing loaded from elsewhere, light and dark.
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "evaluation/ladder.h"

namespace ristretto::evaluation {

// What one gate decided, in words.
struct ReportGate {
  std::string name, verdict, value, threshold, reason;
};

struct Report {
  std::string title;
  std::vector<std::string> assets;  // names of the columns of Backtest::shares
  Reference agent;
  std::vector<Reference> references;  // in the order of the table; those named "..., no fees" are set apart
  std::vector<std::pair<std::string, std::string>> facts;  // further lines, such as {"Deflated Sharpe ratio", "0.97"}
  std::vector<ReportGate> gates = {};
};

Report report_of(std::string title, Backtest agent, std::vector<Reference> references, std::vector<std::string> assets);

// Metrics against the references, the account's value beside those named "equal weight" and "cash" (if they are there),
// its drawdown and what it held. Throws Error(failed) where the file cannot be written.
void write_report(const std::filesystem::path& path, const Report& report);

// The file's text.
std::string html_of(const Report& report);

}  // namespace ristretto::evaluation
