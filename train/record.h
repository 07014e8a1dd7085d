// What a retrain leaves behind it: sections of the manifest, one JSON document, text for people, report.html.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "evaluation/findings.h"
#include "train/contenders.h"
#include "train/judge.h"
#include "train/profile.h"
#include "train/service.h"

namespace ristretto::train {

// What a manifest says of a training before it begins: `study`, `serving`, and of `training` the seed, the machine and
// the program.
release::Json making_of(const Resolved& resolved, const Settings& settings);
// Every value with where it came from.
release::Json hyperparameters_section(const Settings& settings);
// study, hyperparameters, serving, training, data, metrics: all that is known before the files are written.
// label: the candidate's in the ledger.
release::Json manifest_sections(const Contender& contender, const Judgement& judgement, std::size_t contenders,
                                const std::string& label, const std::string& command);

// The table of the hold-out, what every gate decided, and what became of the candidate.
std::string text_of(const Judgement& judgement, const Data& data);
std::string text_of(const std::vector<release::GateResult>& integrity,
                    const std::vector<release::GateResult>& evidence);
std::string text_of(const Ending& ending, const std::filesystem::path& place, const std::filesystem::path& staged);
std::string text_of(const Profile& profile);

// Of the hold-out, none of whose bars had a part in the training.
evaluation::Findings findings_of(const Judgement& judgement, const Data& data);
void write_report(const std::filesystem::path& path, const std::string& title, const Judgement& judgement,
                  const std::vector<release::GateResult>& integrity, const Data& data);

}  // namespace ristretto::train
