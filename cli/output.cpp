#include "cli/output.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <utility>

namespace ristretto::cli {
namespace {

// Characters, not bytes, or a name with an accent shifts its row.
std::size_t width_of(const std::string& text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char byte) { return (static_cast<unsigned char>(byte) >> 6) != 2; }));
}

constexpr std::size_t kColumnGap = 2;

}  // namespace

std::string plain(std::string text) {
  const auto code = [&](std::size_t at) { return static_cast<unsigned char>(text[at]); };
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (code(i) < 0x20 || code(i) == 0x7f) text[i] = '?';
    // U+0080 to U+009F, as UTF-8
    if (code(i) == 0xc2 && i + 1 < text.size() && code(i + 1) < 0xa0) text.replace(i, 2, "?");
  }
  return text;
}

void Table::row(std::vector<std::string> cells) {
  for (std::string& cell : cells) cell = plain(std::move(cell));
  rows_.push_back(std::move(cells));
}

void Table::print() const {
  std::vector<std::size_t> widths;
  for (const auto& cells : rows_) {
    widths.resize(std::max(widths.size(), cells.size()));
    for (std::size_t i = 0; i < cells.size(); ++i) widths[i] = std::max(widths[i], width_of(cells[i]));
  }
  for (const auto& cells : rows_) {
    std::string line;
    for (std::size_t i = 0; i < cells.size(); ++i) {
      line += cells[i] + std::string(widths[i] - width_of(cells[i]) + kColumnGap, ' ');
    }
    line.erase(line.find_last_not_of(' ') + 1);
    std::printf("%s\n", line.c_str());
  }
}

Document json_of(double value) {
  if (std::isfinite(value)) return value;
  if (std::isnan(value)) return "NaN";
  return value > 0 ? "Infinity" : "-Infinity";
}

Document json_of(const agents::Value& value) {
  if (const bool* flag = std::get_if<bool>(&value)) return *flag;
  if (const auto* integer = std::get_if<std::int64_t>(&value)) return *integer;
  if (const double* number = std::get_if<double>(&value)) return json_of(*number);
  if (const auto* text = std::get_if<std::string>(&value)) return *text;
  return nullptr;
}

Document json_of(const formats::Json& value) {
  return formats::document_of<Document>(value, [](double real) { return json_of(real); });
}

Document json_of(const std::vector<studies::Taken>& parameters) {
  Document out = Document::object();
  for (const studies::Taken& taken : parameters) {
    out[taken.name] = {{"value", json_of(taken.value)},
                       {"status", agents::name_of(taken.status)},
                       {"applied", taken.applied},
                       {"note", taken.note}};
  }
  return out;
}

std::string text_of(const Document& document) {
  return document.dump(2, ' ', false, Document::error_handler_t::replace) + "\n";
}

void print(const Document& document) { std::printf("%s", text_of(document).c_str()); }

}  // namespace ristretto::cli
