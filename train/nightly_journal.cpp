#include "train/nightly_journal.h"

#include "evaluation/chart.h"
#include "platform/atomic_file.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::train {
namespace {

using release::Json;

constexpr int kJournalFormat = 1;

std::int64_t time_of(const Json& text) { return parse_utc(text.get<std::string>()).value(); }

constexpr const char* kPage = R"(<style>
:root { color-scheme: light dark; }
body { margin: 0 auto; padding: 2rem 1rem; max-width: 60rem; font: 15px/1.5 system-ui, sans-serif; }
table { border-collapse: collapse; width: 100%; }
th, td { padding: .3rem .6rem; text-align: left; vertical-align: top; border-bottom: 1px solid #8884; }
</style>)";

}  // namespace

Json json_of(const Night& night) {
  Json out = {{"format", kJournalFormat},
              {"id", night.id},
              {"started", iso_utc(night.started)},
              {"finished", night.finished ? Json(iso_utc(*night.finished)) : Json(nullptr)},
              {"seconds", night.seconds},
              {"study", night.study},
              {"sweep", night.sweep},
              {"models", Json::array()}};
  for (const ModelNight& model : night.models) {
    out["models"].push_back({{"name", model.name},
                             {"state", model.state},
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
    night.seconds = document.at("seconds").get<double>();
    if (!document.at("finished").is_null()) night.finished = time_of(document.at("finished"));
    for (const Json& model : document.at("models")) {
      ModelNight read;
      read.name = model.at("name");
      read.state = model.at("state");
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

std::string html_of(const Night& night) {
  std::string out =
      str("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Night of ", iso_utc(night.started),
          "</title>", kPage, "</head><body>\n<h1>Night of ", iso_utc(night.started).substr(0, 10), "</h1>\n<p>Began ",
          iso_utc(night.started), ", took ", duration_text(night.seconds),
          ".</p>\n<table><thead><tr><th>model</th><th>what became of it</th><th>version</th><th>new bars"
          "</th><th>why</th><th></th></tr></thead><tbody>\n");
  for (const ModelNight& model : night.models) {
    out += str("<tr><td>", escaped(model.name), "</td><td>", escaped(model.state), "</td><td>", escaped(model.version),
               "</td><td>", model.new_bars, "</td><td>", escaped(model.reason), "</td><td>");
    if (!model.report.empty()) out += str("<a href=\"file://", escaped(model.report), "\">report</a>");
    out += "</td></tr>\n";
  }
  return out + "</tbody></table>\n</body></html>\n";
}

}  // namespace ristretto::train
