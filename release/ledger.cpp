#include "release/ledger.h"

#include <algorithm>
#include <cmath>
#include <tuple>

#include "platform/atomic_file.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/lock.h"
#include "platform/text.h"
#include "release/directories.h"
#include "release/versions.h"

namespace ristretto::release {
namespace {

[[noreturn]] void refuse(const std::string& message) { throw Error(Fault::usage, message); }

std::int64_t time_field(const Json& line, const char* name) {
  return parse_utc(line.at(name).get<std::string>()).value();
}

void require_format(const Json& line, const std::filesystem::path& path, std::size_t number) {
  const auto format = line.find("format");
  if (format == line.end() || !format->is_number_integer() || *format == kLedgerFormat) return;
  throw Error(Fault::incompatible,
              str(path.string(), ":", number, " is of format ", line_of(*format), ", expected ", kLedgerFormat),
              "a later version of this program wrote it: use that one");
}

// Whether no study has a negative number of trials, and the candidate's own training is none of theirs.
bool fit(const Opening& opening) {
  std::int64_t left = opening.trials;
  for (const StudyTrials& study : opening.studies) {
    if (study.count < 0 || study.count >= left) return false;
    left -= study.count;
  }
  return true;
}

// Throws where the line is not one that append() wrote: nlohmann's exceptions, or std::bad_optional_access.
void take(const Json& line, std::vector<Opening>& openings) {
  if (line.at("format") != kLedgerFormat) throw std::bad_optional_access();
  const auto number = line.at("number").get<std::int64_t>();
  const auto found =
      std::find_if(openings.begin(), openings.end(), [&](const Opening& o) { return o.number == number; });
  const auto event = line.at("event").get<std::string>();
  if (event == "opening" && found == openings.end()) {
    Opening opening;
    opening.candidate = line.at("candidate").get<std::string>();
    opening.question_sha256 = line.value("question_sha256", "");
    opening.first_bar = time_field(line, "first_bar");
    opening.last_bar = time_field(line, "last_bar");
    opening.bars = line.at("bars").get<std::int64_t>();
    if (line.contains("holdout_from")) opening.holdout_from = time_field(line, "holdout_from");
    opening.data_sha256 = line.at("data_sha256").get<std::string>();
    opening.trials = std::max<std::int64_t>(1, line.at("trials").get<std::int64_t>());
    opening.studies = studies_of(line.value("studies", Json::array()));
    if (!fit(opening)) throw std::bad_optional_access();
    opening.purpose = line.value("purpose", kJudgement);
    opening.number = number;
    opening.time = time_field(line, "time");
    openings.push_back(std::move(opening));
  } else if (event == "result" && found != openings.end() && !found->result) {
    found->result = LookResult{line.at("sharpe").get<double>(), line.at("log_gain").get<double>(),
                               line.at("verdict").get<std::string>()};
  } else {
    throw std::bad_optional_access();
  }
}

// Of lines from before there were questions nothing tells.
bool same_look(const Opening& a, const Opening& b) {
  const auto parts = [](const Opening& o) {
    return std::tie(o.candidate, o.question_sha256, o.first_bar, o.last_bar, o.bars, o.data_sha256, o.trials, o.studies,
                    o.purpose);
  };
  return !a.question_sha256.empty() && parts(a) == parts(b);
}

}  // namespace

Json json_of(const std::vector<StudyTrials>& studies) {
  Json list = Json::array();
  for (const StudyTrials& study : studies) list.push_back({{"id", study.id}, {"trials", study.count}});
  return list;
}

std::vector<StudyTrials> studies_of(const Json& json) {
  std::vector<StudyTrials> studies;
  for (const Json& study : json) {
    studies.push_back({study.at("id").get<std::string>(), study.at("trials").get<std::int64_t>()});
  }
  return studies;
}

std::int64_t merge(std::vector<StudyTrials>& studies, const StudyTrials& other) {
  const auto same =
      std::find_if(studies.begin(), studies.end(), [&](const auto& study) { return study.id == other.id; });
  if (same == studies.end() || other.id.empty()) {
    studies.push_back(other);
    return other.count;
  }
  const std::int64_t more = std::max<std::int64_t>(0, other.count - same->count);
  same->count += more;
  return more;
}

std::vector<StudyTrials> LedgerRecord::behind(const std::string& rest) const {
  std::vector<StudyTrials> studies;
  std::int64_t others = unreadable;
  for (const Opening& opening : openings) {
    others += opening.trials;
    for (const StudyTrials& study : opening.studies) {
      if (study.id.empty()) continue;
      others -= study.count;
      merge(studies, study);
    }
  }
  studies.push_back({rest, others});
  return studies;
}

std::int64_t LedgerRecord::trials() const {
  std::int64_t sum = 0;
  for (const StudyTrials& study : behind("")) sum += study.count;
  return sum;
}

std::vector<double> LedgerRecord::sharpes_before(std::int64_t number) const {
  std::vector<double> out;
  for (const Opening& opening : openings) {
    const bool judged = opening.result && opening.purpose == kJudgement;
    if (judged && opening.number < number) out.push_back(opening.result->sharpe);
  }
  return out;
}

std::int64_t LedgerRecord::looks(const std::string& candidate) const {
  return std::count_if(openings.begin(), openings.end(), [&](const Opening& o) { return o.candidate == candidate; });
}

Ledger::Ledger(const std::filesystem::path& deployments, const std::string& name, double lock_wait_seconds)
    : lock_wait_seconds_(lock_wait_seconds) {
  require_name(name);
  path_ = deployments / kVersions / name / kLedger;
}

std::int64_t Ledger::open(const Opening& opening) {
  if (opening.candidate.empty()) refuse("a look at the hold-out names no candidate");
  if (opening.bars < 1 || opening.last_bar < opening.first_bar) {
    refuse(str("a look at ", opening.bars, " bars from ", iso_utc(opening.first_bar), " to ", iso_utc(opening.last_bar),
               " is no range of bars"));
  }
  if (opening.data_sha256.size() != 64 ||
      opening.data_sha256.find_first_not_of("0123456789abcdef") != std::string::npos) {
    refuse(str("the data's hash is '", opening.data_sha256, "', expected 64 hexadecimal digits"));
  }
  if (opening.trials < 1) refuse(str("the candidate is one of ", opening.trials, " trials, expected at least 1"));
  if (!fit(opening)) {
    refuse(str("of ", opening.trials, " trials these stand in studies: ", line_of(json_of(opening.studies)),
               ", expected fewer"));
  }

  make_directories(path_.parent_path());
  const FileLock lock(path_.parent_path() / kLock, "ledger", lock_wait_seconds_);
  // A number that stands on a damaged line is not taken again: there is at most one a line.
  const LedgerRecord record = read();
  for (const Opening& other : record.openings) {
    if (same_look(other, opening)) return other.number;
  }
  std::int64_t number = static_cast<std::int64_t>(record.openings.size()) + record.unreadable + 1;
  for (const Opening& other : record.openings) number = std::max(number, other.number + 1);
  Json line = {{"format", kLedgerFormat},
               {"event", "opening"},
               {"number", number},
               {"time", iso_utc(now_seconds())},
               {"candidate", opening.candidate},
               {"question_sha256", opening.question_sha256},
               {"first_bar", iso_utc(opening.first_bar)},
               {"last_bar", iso_utc(opening.last_bar)},
               {"bars", opening.bars},
               {"data_sha256", opening.data_sha256},
               {"trials", opening.trials},
               {"studies", json_of(opening.studies)},
               {"purpose", opening.purpose}};
  if (opening.holdout_from) line["holdout_from"] = iso_utc(*opening.holdout_from);
  append_line(path_, line_of(line));
  return number;
}

void Ledger::conclude(std::int64_t number, const LookResult& result) {
  if (!std::isfinite(result.sharpe) || !std::isfinite(result.log_gain)) {
    refuse(str("look ", number, " gave a Sharpe ratio of ", result.sharpe, " and a log gain of ", result.log_gain,
               ", expected finite numbers"));
  }
  const FileLock lock(path_.parent_path() / kLock, "ledger", lock_wait_seconds_);
  const LedgerRecord record = read();
  const auto found = std::find_if(record.openings.begin(), record.openings.end(),
                                  [&](const Opening& opening) { return opening.number == number; });
  if (found == record.openings.end()) refuse(str(path_.string(), " has no look ", number));
  if (found->result) return;
  append_line(path_, line_of({{"format", kLedgerFormat},
                              {"event", "result"},
                              {"number", number},
                              {"time", iso_utc(now_seconds())},
                              {"sharpe", result.sharpe},
                              {"log_gain", result.log_gain},
                              {"verdict", result.verdict}}));
}

std::int64_t Ledger::looks(const std::string& candidate) const {
  std::int64_t looks = 0;
  const std::filesystem::path versions = path_.parent_path().parent_path();
  for (const auto& entry : std::filesystem::directory_iterator(versions)) {
    if (!std::filesystem::exists(entry.path() / kLedger)) continue;
    looks += Ledger(versions.parent_path(), entry.path().filename().string()).read().looks(candidate);
  }
  return looks;
}

LedgerRecord Ledger::read() const {
  LedgerRecord record;
  if (!std::filesystem::exists(path_)) return record;
  const std::vector<std::string> lines = split(read_file(path_), '\n');
  for (std::size_t k = 0; k < lines.size(); ++k) {
    if (lines[k].empty()) continue;
    const Json line = Json::parse(lines[k], nullptr, /*allow_exceptions=*/false);
    if (line.is_object()) require_format(line, path_, k + 1);
    try {
      take(line, record.openings);
    } catch (const std::exception&) {
      ++record.unreadable;
    }
  }
  return record;
}

}  // namespace ristretto::release
