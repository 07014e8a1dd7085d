// Everything that is measured of a candidate before it is decided upon: the hold-out at several costs, what is served
// now, the references, and the returns that the gates of evidence judge by (algorithms.md 3.0, 4).
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "evaluation/attribution.h"
#include "evaluation/ladder.h"
#include "evaluation/metrics.h"
#include "release/deployment.h"
#include "release/evidence.h"
#include "release/gates.h"
#include "release/ledger.h"
#include "release/versions.h"
#include "train/job.h"

namespace ristretto::train {

// Simple returns per bar, and the bars that they are of.
struct TimedReturns {
  std::vector<std::int64_t> time;  // [T] seconds since 1970, UTC, ascending
  evaluation::Series returns;      // [T]
};
TimedReturns returns_of(const evaluation::Backtest& backtest);
// The bars that all of them have; no bars where there is no series.
std::vector<std::int64_t> common_bars(const std::vector<const TimedReturns*>& series);
evaluation::Series returns_at(const TimedReturns& series, const std::vector<std::int64_t>& bars);

// What a candidate was chosen among. It lies beside its weights (training/evidence.json), so that it can be judged
// again, against another version.
struct Background {
  std::vector<TimedReturns> seeds;   // on the hold-out: the same training from each seed, the candidate's included
  std::vector<TimedReturns> trials;  // on the validation bars: one a trial, the mean of its seeds
  std::int64_t trial_count = 1;      // the study's, the start's and this retrain's, the candidate included
  std::vector<release::StudyTrials> studies;  // of them
  std::vector<double> trial_sharpes;          // per bar, of as many of these as are known
};
inline constexpr const char* kEvidenceFile = "evidence.json";
void write_background(const std::filesystem::path& path, const Background& background);
// Nothing where there is no such file. Throws Error(incompatible) for one that is damaged or of a later format.
std::optional<Background> read_background(const std::filesystem::path& path);

// What is served now, run over the candidate's hold-out with the candidate's money and costs.
struct Champion {
  std::optional<std::string> version;
  release::Served state = release::Served::empty;
  std::optional<evaluation::Backtest> backtest;
  std::string note;  // why there is no backtest
};

struct Candidate {
  std::string name;          // of the deployment
  std::string label;         // in the ledger: what tells it from every other
  const Settings& settings;  // bars, money, costs
  const Data& data;          // by its layout
  const release::Content& content;
  std::vector<const release::Content*> seeds;  // of its training that run now, the candidate among them; or none, ...
  Background background;                       // ... and these hold what is known of them
  std::optional<std::string> origin_unknown = {};  // release::Evidence's
};

struct Judgement {
  std::int64_t look = 0;              // its number in the ledger
  std::int64_t trials_of_ledger = 0;  // behind all looks
  evaluation::Backtest holdout;       // with actions and holdings
  evaluation::Metrics metrics;
  std::vector<evaluation::CostStress> stress;     // of both, at 1, 2 and 3 times the costs
  std::vector<evaluation::Reference> references;  // the ladder
  Champion champion;
  Background background;                      // with the seeds' returns
  std::vector<release::GateResult> sanity;    // ladder, look_ahead: count as integrity
  std::vector<release::GateResult> evidence;  // release::evidence_gates()
  double candidate_value = 0;                 // log gain over the bars that both decided
  std::optional<double> champion_value;
};

// Looks at the hold-out, once: the ledger has it before. Throws as its parts do.
Judgement judge(const Candidate& candidate, release::VersionStore& store, release::Ledger& ledger,
                const release::Thresholds& thresholds);

// Adds to what a training tells of a version's integrity what its hold-out does, and what it would replace.
void add_holdout(release::IntegrityInputs& inputs, const Judgement& judgement, const Data& data,
                 const release::VersionStore& store, const std::string& name);

// What the gates make of a judgement.
struct Decision {
  std::vector<release::GateResult> integrity;  // with the judgement's sanity
  release::Verdict verdict;
  release::Json gates;
};
Decision decide(const Judgement& judgement, std::vector<release::GateResult> integrity);
// Writes what its look showed into the ledger, before anybody is told.
void conclude(const Judgement& judgement, const release::Verdict& verdict, release::Ledger& ledger);
// Both kinds in one array, each with its "kind".
release::Json gates_json(const std::vector<release::GateResult>& integrity,
                         const std::vector<release::GateResult>& evidence);
// The bars' files with their hashes.
release::Json files_section(const std::string& bars, const std::vector<std::string>& assets);
// Those and the splits: the manifest's `data`.
release::Json data_section(const Settings& settings, const Data& data);

}  // namespace ristretto::train
