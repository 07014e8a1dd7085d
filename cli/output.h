// What commands print on standard output: aligned tables for people, one JSON document for programs.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "agents/hyperparameters.h"
#include "formats/json_text.h"
#include "train/resolve.h"

namespace ristretto::cli {

// Columns as wide as their widest cell. Cells come from files of others: their control characters are shown as '?'.
class Table {
 public:
  explicit Table(std::vector<std::string> header) { row(std::move(header)); }
  void row(std::vector<std::string> cells);
  void print() const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

// Control characters as '?', so that no text of a file reaches the terminal as a command.
std::string plain(std::string text);

using Document = nlohmann::ordered_json;
// JSON has no NaN and no infinities: they are the texts "NaN", "Infinity" and "-Infinity".
Document json_of(double value);
Document json_of(const agents::Value& value);
Document json_of(const formats::Json& value);
// {name: {value, status, applied, note}}
Document json_of(const std::vector<studies::Taken>& parameters);
// The document and a newline; bytes that are no UTF-8 are replaced.
std::string text_of(const Document& document);
void print(const Document& document);

}  // namespace ristretto::cli
