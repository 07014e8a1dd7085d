#include "train/weights_behind.h"

#include <algorithm>
#include <optional>
#include <set>

#include "platform/clock.h"
#include "platform/error.h"
#include "platform/text.h"
#include "release/manifest.h"
#include "release/versions.h"
#include "train/judge.h"

namespace ristretto::train {
namespace {

namespace fs = std::filesystem;
using release::Json;
using Trials = std::vector<release::StudyTrials>;

std::string id_of(const release::Ledger& ledger, const release::LedgerRecord& record) {
  const std::string place = fs::weakly_canonical(ledger.path()).string();
  return record.openings.empty() ? "" : str("ledger ", place, " begun ", iso_utc(record.openings[0].time));
}

// What a retrain wrote beside its candidate, or what the manifest of a version without that says of its judgement.
Trials recorded(const fs::path& version, const Json& manifest) {
  Trials out;
  std::int64_t all = 1;  // itself
  if (const auto background = read_background(version / release::kTrainingDirectory / kEvidenceFile)) {
    all = background->trial_count;
    out = background->studies;
  }
  try {
    for (const Json& gate : manifest.value("gates", Json::array())) {
      const Json::json_pointer trials("/numbers/trials");
      if (release::text_field(gate, "name") != "deflated_sharpe" || !gate.contains(trials)) continue;
      if (gate[trials].is_number_integer()) all = std::max(all, gate[trials].get<std::int64_t>());
    }
    const Json::json_pointer studies("/study/studies");
    if (out.empty() && manifest.contains(studies)) out = release::studies_of(manifest[studies]);
  } catch (const std::exception& error) {
    throw Error(Fault::incompatible, str((version / release::kManifest).string(), " is damaged: ", error.what()));
  }
  for (const release::StudyTrials& study : out) {
    if (study.count < 0) {
      throw Error(Fault::incompatible, str(version.string(), " counts ", study.count, " trials of ", study.id));
    }
    all -= study.count;
  }
  // Without an id it counts each time.
  const auto candidate = release::text_at(manifest, "/training/candidate");
  if (all > 0) out.push_back({candidate ? str("candidate ", *candidate) : "", all});
  return out;
}

// seen: versions that a conversion has led through; moved ones may lead in a circle.
Trials chosen_among(const fs::path& directory, const release::Ledger& own, const release::LedgerRecord& known,
                    std::set<fs::path>& seen) {
  const fs::path whole = fs::canonical(directory);
  const fs::path version = fs::is_directory(whole) ? whole : whole.parent_path(), of_name = version.parent_path();
  if (of_name == fs::weakly_canonical(own.path().parent_path())) return {};
  if (of_name.parent_path().filename() == release::kVersions) {
    const std::string name = of_name.filename().string();
    const release::Ledger ledger(of_name.parent_path().parent_path(), name);
    const release::LedgerRecord record = ledger.read();
    if (record.trials() > 0) return record.behind(id_of(ledger, record));
  }
  const std::optional<Json> manifest = release::read_manifest(version);
  if (!manifest) return {};
  const auto converted = release::text_at(*manifest, "/conversion/from/path");
  if (converted && fs::exists(*converted) && seen.insert(version).second) {
    return chosen_among(*converted, own, known, seen);
  }
  const auto candidate = release::text_at(*manifest, "/training/candidate");
  if (candidate && known.looks(*candidate) > 0) return {};  // a copy of its own
  return recorded(version, *manifest);
}

}  // namespace

Trials weights_chosen_among(const fs::path& directory, const fs::path& deployments, const std::string& name) {
  const release::Ledger own(deployments, name);
  const release::LedgerRecord known = own.read();
  std::set<fs::path> seen;
  Trials out = chosen_among(directory, own, known, seen);
  // Where its own weights went into these before.
  const std::string id = id_of(own, known);
  std::erase_if(out, [&](const release::StudyTrials& study) { return !id.empty() && study.id == id; });
  return out;
}

}  // namespace ristretto::train
