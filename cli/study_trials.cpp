#include "cli/study_trials.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "platform/text.h"

namespace ristretto::cli {
namespace {

using studies::Study;
using studies::Trial;

constexpr int kValueDecimals = 6;
// Columns of trials, where a trial has them: the two parts of the existing objective.
constexpr const char* kAttributeColumns[] = {"mean_sharpe_bot", "mean_sharpe_hodl"};

std::optional<double> seconds_of(const Trial& trial) {
  if (!trial.started || !trial.completed) return std::nullopt;
  return std::chrono::duration<double>(*trial.completed - *trial.started).count();
}

// With microseconds, as Optuna keeps them: "2026-07-13T02:00:00.123456Z".
std::string exact_iso_of(const std::optional<Instant>& instant) {
  if (!instant) return {};
  const auto whole = std::chrono::floor<std::chrono::seconds>(*instant);
  const auto micros = std::chrono::duration_cast<std::chrono::microseconds>(*instant - whole).count();
  return str(iso_of(instant).substr(0, 19), ".", str(1000000 + micros).substr(1), "Z");
}

Document distribution_json(const agents::Range& range) {
  if (const auto* real = std::get_if<agents::FloatRange>(&range)) {
    return {{"name", "FloatDistribution"},
            {"attributes",
             {{"step", real->step > 0 ? Document(real->step) : Document()},
              {"low", real->low},
              {"high", real->high},
              {"log", real->log}}}};
  }
  if (const auto* integer = std::get_if<agents::IntRange>(&range)) {
    return {{"name", "IntDistribution"},
            {"attributes",
             {{"log", integer->log}, {"step", integer->step}, {"low", integer->low}, {"high", integer->high}}}};
  }
  Document choices = Document::array();
  for (const agents::Value& choice : std::get<agents::Choices>(range).choices) choices.push_back(json_of(choice));
  return {{"name", "CategoricalDistribution"}, {"attributes", {{"choices", std::move(choices)}}}};
}

std::string csv_cell(std::string text) {
  for (char& c : text) {
    if ((static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\r' && c != '\t') || c == 0x7f) c = '?';
  }
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  return str("\"", join(split(text, '"'), "\"\""), "\"");
}

void add_new(std::vector<std::string>& names, const std::string& name) {
  if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
}

}  // namespace

std::string iso_of(const std::optional<Instant>& instant) {
  if (!instant) return {};
  return iso_utc(std::chrono::floor<std::chrono::seconds>(*instant).time_since_epoch().count());
}

std::string values_text(const std::vector<double>& values) {
  std::vector<std::string> texts;
  for (const double value : values) texts.push_back(fixed(value, kValueDecimals));
  return join(texts, ", ");
}

Document json_of(const std::vector<studies::Attribute>& attributes) {
  Document out = Document::object();
  for (const studies::Attribute& attribute : attributes) out[attribute.key] = json_of(attribute.value);
  return out;
}

Document json_of(const Trial& trial) {
  Document out = {{"number", trial.number}, {"state", studies::name_of(trial.state)}};
  out["values"] = Document::array();
  for (const double value : trial.values) out["values"].push_back(json_of(value));
  out["value"] = trial.values.size() == 1 ? out["values"][0] : Document(nullptr);
  out["started"] = trial.started ? Document(iso_of(trial.started)) : Document(nullptr);
  out["completed"] = trial.completed ? Document(iso_of(trial.completed)) : Document(nullptr);
  const auto seconds = seconds_of(trial);
  out["seconds"] = seconds ? Document(*seconds) : Document(nullptr);
  out["params"] = Document::object();
  for (const studies::Parameter& parameter : trial.params) out["params"][parameter.name] = json_of(parameter.value);
  out["user_attributes"] = json_of(trial.user_attributes);
  return out;
}

Document export_of(const studies::StorageInfo& info, const Study& study) {
  Document out = {{"name", study.name},
                  {"storage", info.url},
                  {"revision", info.revision},
                  {"library_version", info.library_version},
                  {"directions", Document::array()}};
  for (const auto direction : study.directions) out["directions"].push_back(studies::name_of(direction));
  out["user_attributes"] = json_of(study.user_attributes);
  out["system_attributes"] = json_of(study.system_attributes);
  out["trials"] = Document::array();
  for (const Trial& trial : study.trials) {
    Document one = json_of(trial);
    one["started"] = trial.started ? Document(exact_iso_of(trial.started)) : Document();
    one["completed"] = trial.completed ? Document(exact_iso_of(trial.completed)) : Document();
    one["distributions"] = Document::object();
    for (const studies::Parameter& parameter : trial.params) {
      one["distributions"][parameter.name] = distribution_json(parameter.distribution);
    }
    one["reports"] = Document::array();
    for (const studies::Report& report : trial.reports) {
      one["reports"].push_back({{"step", report.step}, {"value", json_of(report.value)}});
    }
    one["system_attributes"] = json_of(trial.system_attributes);
    out["trials"].push_back(std::move(one));
  }
  return out;
}

std::string csv_of(const Study& study, const std::vector<const Trial*>& trials) {
  std::vector<std::string> params, attributes;
  for (const Trial* trial : trials) {
    for (const studies::Parameter& parameter : trial->params) add_new(params, parameter.name);
    for (const studies::Attribute& attribute : trial->user_attributes) add_new(attributes, attribute.key);
  }
  const std::size_t objectives = study.directions.size();
  std::vector<std::string> cells = {"number"};
  for (std::size_t k = 0; k < objectives; ++k) cells.push_back(objectives == 1 ? "value" : str("values_", k));
  cells.insert(cells.end(), {"datetime_start", "datetime_complete", "seconds"});
  for (const std::string& name : params) cells.push_back("params_" + name);
  for (const std::string& name : attributes) cells.push_back("user_attrs_" + name);
  cells.push_back("state");
  std::string out;
  const auto end_line = [&] {
    for (std::string& cell : cells) cell = csv_cell(std::move(cell));
    out += join(cells, ",") + "\n";
    cells.clear();
  };
  end_line();
  for (const Trial* trial : trials) {
    cells.push_back(str(trial->number));
    for (std::size_t k = 0; k < objectives; ++k) {
      cells.push_back(k < trial->values.size() ? str(trial->values[k]) : std::string());
    }
    const auto seconds = seconds_of(*trial);
    cells.insert(cells.end(), {exact_iso_of(trial->started), exact_iso_of(trial->completed),
                               seconds ? str(*seconds) : std::string()});
    for (const std::string& name : params) {
      const studies::Parameter* parameter = trial->find_param(name);
      cells.push_back(parameter != nullptr ? agents::text_of(parameter->value) : std::string());
    }
    for (const std::string& name : attributes) {
      const formats::Json* value = studies::find(trial->user_attributes, name);
      const bool text = value != nullptr && value->kind == formats::Json::Kind::text;
      cells.push_back(value == nullptr ? std::string() : text ? value->text : formats::write_json(*value));
    }
    cells.emplace_back(studies::name_of(trial->state));
    end_line();
  }
  return out;
}

int print_trials(const std::vector<const Trial*>& trials, bool json) {
  if (json) {
    Document document = Document::array();
    for (const Trial* trial : trials) document.push_back(json_of(*trial));
    print(document);
    return 0;
  }
  std::vector<std::string> header = {"number", "state", "value", "duration", "started"};
  std::vector<const char*> attributes;
  for (const char* name : kAttributeColumns) {
    if (std::any_of(trials.begin(), trials.end(),
                    [&](const Trial* trial) { return studies::find(trial->user_attributes, name) != nullptr; })) {
      attributes.push_back(name);
      header.emplace_back(name);
    }
  }
  Table table(header);
  for (const Trial* trial : trials) {
    const auto seconds = seconds_of(*trial);
    std::vector<std::string> cells = {
        str(trial->number), studies::name_of(trial->state), trial->values.empty() ? "-" : values_text(trial->values),
        seconds ? duration_text(*seconds) : "-", trial->started ? iso_of(trial->started) : "-"};
    for (const char* name : attributes) {
      const formats::Json* value = studies::find(trial->user_attributes, name);
      const bool is_number =
          value != nullptr && (value->kind == formats::Json::Kind::real || value->kind == formats::Json::Kind::integer);
      cells.push_back(is_number ? fixed(value->real, kValueDecimals) : "-");
    }
    table.row(std::move(cells));
  }
  table.print();
  return 0;
}

}  // namespace ristretto::cli
