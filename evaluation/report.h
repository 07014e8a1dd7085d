// What a backtest was, as one HTML file for people: no scripts, nothing loaded from elsewhere, light and dark.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "evaluation/ladder.h"
#include "evaluation/trades.h"

namespace ristretto::evaluation {

inline constexpr const char* kServedUntilNow = "served until now";  // the reference that a candidate would replace

// What one gate decided, in words.
struct ReportGate {
  std::string name, verdict, value, threshold, reason;
};

struct ReportTable {
  std::string title;
  std::vector<std::string> columns;            // the first is of the rows' names
  std::vector<std::vector<std::string>> rows;  // as long as columns
  std::string note;
};

struct Report {
  std::string title;
  std::vector<std::string> assets;  // names of the columns of Backtest::shares
  Reference agent;
  std::vector<Reference> references;  // in the order of the table; those named "..., no fees" are set apart
  std::vector<std::pair<std::string, std::string>> facts;  // further lines, such as {"Deflated Sharpe ratio", "0.97"}
  std::vector<ReportGate> gates = {};
  std::string gates_note = {};        // of which bars they judged, where these are not the report's
  std::optional<Trades> trades = {};  // the agent's
  std::vector<ReportTable> tables = {};
};

Report report_of(std::string title, Backtest agent, std::vector<Reference> references, std::vector<std::string> assets);

// Metrics against the references; the account's value and drawdown beside those named kServedUntilNow, "equal weight",
// "hold BTC/USD" and "cash" (if they are there), its returns' distribution, its trades and what it held. Throws
// Error(failed) where the file cannot be written.
void write_report(const std::filesystem::path& path, const Report& report);

// The file's text.
std::string html_of(const Report& report);

}  // namespace ristretto::evaluation
