// Every look at the final hold-out of a deployment, so that the deflated Sharpe ratio can count them all (algorithms.md
// 3.0, 3.3). A candidate that looked and was refused, or whose process died while it looked, has looked. To ask the
// same again shows nothing new and is the same look; whatever differs makes another.
//
//   deployments/.versions/NAME/ledger.jsonl   append-only; one JSON object a line, under the lock of NAME
//   {"format": 1, "event": "opening", "number": 3, "time": "2026-07-13T02:00:00Z", "candidate": "...",
//    "question_sha256": "...", "first_bar": "...", "last_bar": "...", "bars": 3942, "data_sha256": "...", "trials":
//    205, "studies": [{"id": "...", "trials": 200}], "purpose": "judgement", "holdout_from": "..."}
//   {"format": 1, "event": "result", "number": 3, "time": "...", "sharpe": 0.021, "log_gain": 0.4,
//    "verdict": "refused"}
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "release/manifest.h"

namespace ristretto::release {

inline constexpr const char* kLedger = "ledger.jsonl";
inline constexpr int kLedgerFormat = 1;
// What a look was for. Lines from before there were two are judgements.
inline constexpr const char* kJudgement = "judgement";
inline constexpr const char* kEvaluation = "evaluation";

// What a look showed.
struct LookResult {
  double sharpe = 0;    // per bar
  double log_gain = 0;  // over the range
  std::string verdict;  // as in the manifest: "proven", "refused", ...
};

// Trials of a study, or of another name's ledger, which are behind every candidate that is chosen by it, and are
// counted once.
struct StudyTrials {
  std::string id;          // tells it from every other; empty: nothing does, and they count each time
  std::int64_t count = 0;  // of them
  bool operator==(const StudyTrials&) const = default;
};
// Adds the other to the list: as many of one study as there were at most, for trials are never taken away. Returns how
// many more the list has now.
std::int64_t merge(std::vector<StudyTrials>& studies, const StudyTrials& other);
// [{"id", "trials"}], as ledger, manifest, evidence and the attribute of a study have them. `studies_of` throws
// std::exception for another JSON.
Json json_of(const std::vector<StudyTrials>& studies);
std::vector<StudyTrials> studies_of(const Json& json);

struct Opening {
  std::string candidate;  // the sha256 of its weights, its run: whatever tells it from every other
  // Of all else that the answer depends on: weights (a run may be trained on), money and costs, what is asked of it.
  std::string question_sha256;
  std::int64_t first_bar = 0, last_bar = 0;  // that are looked at; seconds since 1970, UTC
  std::int64_t bars = 0;
  std::optional<std::int64_t> holdout_from;  // where the hold-out was cut, before purge and embargo; if it was
  std::string data_sha256;                   // of the files that the bars are from
  std::int64_t trials = 1;                   // that the candidate was chosen among, itself included
  std::vector<StudyTrials> studies;          // the part of them that stands in studies
  std::string purpose = kJudgement;
  std::int64_t number = 0;           // 1, 2, ... in order of time; the ledger gives it
  std::int64_t time = 0;             // seconds since 1970, UTC; the ledger gives it
  std::optional<LookResult> result;  // nothing while the look goes on, and where its process died
};

struct LedgerRecord {
  std::vector<Opening> openings;  // in the order of the file
  std::int64_t unreadable = 0;    // lines that are damaged

  // Trials of all openings: those of each study once, as many as it had at most, and as the last entry, with the id
  // `rest`, all others. A damaged line may have been one and counts as one: never too few.
  std::vector<StudyTrials> behind(const std::string& rest) const;
  std::int64_t trials() const;  // their sum
  // The Sharpe ratios of judgements before look `number` that have a result: an evaluation's is of other bars.
  std::vector<double> sharpes_before(std::int64_t number) const;
  // How often this candidate looked, as this name.
  std::int64_t looks(const std::string& candidate) const;
};

// The ledger of one deployment. All functions throw Error(usage) for a name that is no plain one, Error(incompatible)
// where the file is of a later format, and Error(failed) where it cannot be read or written.
class Ledger {
 public:
  Ledger(const std::filesystem::path& deployments, const std::string& name, double lock_wait_seconds = 10);

  // Before the look: a look that is not on the disk must not happen. Returns its number: that of an equal opening
  // where there is one. Throws Error(usage) for an opening that does not say what it looks at, Error(busy) while
  // another process holds the lock.
  std::int64_t open(const Opening& opening);
  // After it, before anybody is told; the first result of a look stands. Throws Error(usage) for a number that was not
  // opened, and for numbers that are not finite.
  void conclude(std::int64_t number, const LookResult& result);
  // How often the candidate looked, as this name or another of these deployments: what was chosen there may come here.
  std::int64_t looks(const std::string& candidate) const;
  // Needs no lock; a line that is being written just now may count as damaged.
  LedgerRecord read() const;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  double lock_wait_seconds_;
};

}  // namespace ristretto::release
