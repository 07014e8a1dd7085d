#include "train/nightly_journal.h"

#include <cctype>
#include <cmath>
#include <fstream>
#include <string_view>

#include "evaluation/page.h"
#include "platform/atomic_file.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::train {
namespace {

using release::Json;

constexpr int kJournalFormat = 1;
constexpr const char* kSeconds = "seconds";

std::int64_t time_of(const Json& text) { return parse_utc(text.get<std::string>()).value(); }

std::string url_of(const std::filesystem::path& path) {
  constexpr std::string_view kPlain = "-._~/+@=,";
  constexpr const char* kDigits = "0123456789ABCDEF";
  std::string out;
  for (const char c : path.generic_string()) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte) != 0 || kPlain.find(c) != std::string_view::npos) {
      out += c;
    } else {
      out += str('%', kDigits[byte >> 4], kDigits[byte & 15]);
    }
  }
  return out;
}

// Relative where it can be, so that the pages can be moved or copied together.
std::string link_of(const std::filesystem::path& target, const std::filesystem::path& directory) {
  if (directory.empty()) return "file://" + url_of(target);
  const std::filesystem::path relative = std::filesystem::absolute(target).lexically_normal().lexically_relative(
      std::filesystem::absolute(directory).lexically_normal());
  return relative.empty() ? "file://" + url_of(target) : url_of(relative);
}

std::string percent(const Json& metrics, const char* name) {
  const auto value = metrics.find(name);
  if (value == metrics.end() || !value->is_number()) return "";
  const double share = 100 * value->get<double>();
  return str(share < 0 ? "−" : "", fixed(std::abs(share), 2), " %");
}

}  // namespace

Json json_of(const Night& night) {
  Json out = {{"format", kJournalFormat},
              {"id", night.id},
              {"started", iso_utc(night.started)},
              {"finished", night.finished ? Json(iso_utc(*night.finished)) : Json(nullptr)},
              {"seconds", night.seconds},
              {"study", night.study},
              {"sweep", night.sweep},
              {"sweep_attempts", night.sweep_attempts},
              {"models", Json::array()}};
  for (const ModelNight& model : night.models) {
    out["models"].push_back({{"name", model.name},
                             {"state", model.state},
                             {"attempts", model.attempts},
                             {"fault", model.fault},
                             {"run", model.run},
                             {"holdout_from", model.holdout_from ? Json(*model.holdout_from) : Json()},
                             {"version", model.version},
                             {"status", model.status},
                             {"reason", model.reason},
                             {"report", model.report},
                             {"new_bars", model.new_bars},
                             {"retrain", model.document}});
  }
  return out;
}

std::optional<Night> read_night(const std::filesystem::path& journal) {
  if (!std::filesystem::exists(journal)) return std::nullopt;
  const std::string hint = "move it away: the next night begins anew";
  try {
    const Json document = Json::parse(read_file(journal));
    if (document.at("format") != kJournalFormat) {
      throw Error(Fault::incompatible,
                  str(journal.string(), " is of format ", release::line_of(document.at("format")), ", expected ",
                      kJournalFormat),
                  hint);
    }
    Night night;
    night.id = document.at("id").get<std::string>();
    night.started = time_of(document.at("started"));
    night.study = document.at("study").get<std::string>();
    night.sweep = document.at("sweep").get<std::string>();
    night.sweep_attempts = document.value("sweep_attempts", std::int64_t{0});
    night.seconds = document.at("seconds").get<double>();
    if (!document.at("finished").is_null()) night.finished = time_of(document.at("finished"));
    for (const Json& model : document.at("models")) {
      ModelNight read;
      read.name = model.at("name");
      read.state = model.at("state");
      // Not in journals from before these were counted.
      read.attempts = model.value("attempts", std::int64_t{read.state == "running"});
      read.fault = model.value("fault", false);
      read.run = model.at("run");
      if (const auto from = model.find("holdout_from"); from != model.end() && !from->is_null()) {
        read.holdout_from = from->get<std::string>();
      }
      read.version = model.at("version");
      read.status = model.at("status");
      read.reason = model.at("reason");
      read.report = model.at("report");
      read.new_bars = model.at("new_bars");
      read.document = model.at("retrain");
      night.models.push_back(std::move(read));
    }
    return night;
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    throw Error(Fault::incompatible, str(journal.string(), " is damaged: ", error.what()), hint);
  }
}

void write_night(const std::filesystem::path& journal, const Night& night) {
  write_file_atomically(journal, json_of(night).dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

// Not by write_file_atomically, which waits for the disk: it is written often, and what a crash of the machine loses of
// it are seconds.
void write_seconds(const std::filesystem::path& directory, const std::string& id, double seconds) {
  const std::filesystem::path beside = directory / str(kSeconds, ".new");
  std::ofstream file(beside);
  file << id << ' ' << fixed(seconds, 1) << '\n';
  file.close();
  std::error_code ignored;
  if (file) std::filesystem::rename(beside, directory / kSeconds, ignored);
}

double read_seconds(const std::filesystem::path& directory, const std::string& id) {
  std::ifstream file(directory / kSeconds);
  std::string of;
  double seconds = 0;
  return file >> of >> seconds && of == id && std::isfinite(seconds) ? seconds : 0;
}

std::string text_of(const Night& night) {
  std::string text = night.sweep.empty() ? "" : str("sweep: ", night.sweep, "\n");
  if (night.models.empty()) text += "there are no deployments\n";
  for (const ModelNight& model : night.models) {
    text += str(model.name, ": ", model.state, model.version.empty() ? "" : " " + model.version,
                model.status.empty() ? "" : " (" + model.status + ")", model.reason.empty() ? "" : ": " + model.reason,
                "\n");
  }
  return text;
}

std::string html_of(const Night& night, const std::filesystem::path& directory) {
  std::string out = str("<p>Began ", iso_utc(night.started), ", took ", duration_text(night.seconds), ".</p>\n");
  if (!night.sweep.empty()) out += str("<p>Sweep: ", escaped(night.sweep), "</p>\n");
  if (night.models.empty()) out += "<p>There are no deployments.</p>\n";
  out +=
      "<table class=\"stack\"><thead><tr><th>model</th><th>what became of it</th><th>version</th><th>status</th>"
      "<th>hold-out's return</th><th>drawdown</th><th>new bars</th><th>why</th><th></th></tr></thead><tbody>\n";
  for (const ModelNight& model : night.models) {
    const Json metrics = model.document.is_object() ? model.document.value("holdout", Json::object()) : Json::object();
    out += str("<tr", model.state == "failed" ? " class=\"refused\"" : "", ">",
               evaluation::labelled_cell("", model.name), evaluation::labelled_cell("", model.state),
               evaluation::labelled_cell("version", model.version), evaluation::labelled_cell("status", model.status),
               evaluation::labelled_cell("hold-out's return", percent(metrics, "total_return")),
               evaluation::labelled_cell("drawdown", percent(metrics, "max_drawdown")),
               evaluation::labelled_cell("new bars", with_thousands(model.new_bars)),
               evaluation::labelled_cell("why", model.reason), "<td>");
    if (!model.report.empty()) out += str("<a href=\"", escaped(link_of(model.report, directory)), "\">report</a>");
    out += "</td></tr>\n";
  }
  return evaluation::page(str("Night of ", iso_utc(night.started).substr(0, 10)), out + "</tbody></table>\n");
}

}  // namespace ristretto::train
