#include "train/studies_behind.h"

#include <filesystem>

#include "platform/text.h"
#include "studies/datetime.h"

namespace ristretto::train {
namespace {

constexpr const char* kStartedFrom = "ristretto:started_from";

std::string id_of(const studies::Study& study, const studies::StorageInfo& storage) {
  if (study.trials.empty() || !study.trials[0].started) return "";
  std::error_code no_file;
  const std::filesystem::path file = std::filesystem::canonical(storage.path, no_file);
  return str(study.name, " in ", no_file ? storage.path : file.string(), " begun ",
             studies::datetime_text(*study.trials[0].started, storage.local_datetimes));
}

}  // namespace

std::vector<release::StudyTrials> studies_behind(const studies::Study& study, const studies::StorageInfo& storage) {
  std::vector<release::StudyTrials> behind = {{id_of(study, storage), static_cast<std::int64_t>(study.trials.size())}};
  const formats::Json* started_from = studies::find(study.user_attributes, kStartedFrom);
  if (started_from == nullptr) return behind;
  const std::string text = formats::write_json(*started_from);
  try {
    for (const release::StudyTrials& other : release::studies_of(release::Json::parse(text)))
      release::merge(behind, other);
  } catch (const std::exception&) {
    throw Error(Fault::incompatible, str(storage.path, ": study '", study.name, "': the attribute ", kStartedFrom,
                                         " is ", text, R"(, expected [{"id": "...", "trials": N}, ...])"));
  }
  return behind;
}

void record_start(studies::WritableStorage& storage, const std::string& study, const studies::Study& from) {
  storage.together([&] {  // another sweep may begin it with other trials just now
    const studies::Study now = storage.read_study(study);
    std::vector<release::StudyTrials> behind = studies_behind(now, storage.info());
    behind.erase(behind.begin());  // its own trials, which it has itself
    for (const release::StudyTrials& other : studies_behind(from, storage.info())) release::merge(behind, other);
    storage.set_study_attribute(now.id, studies::Scope::user, kStartedFrom,
                                formats::read_json(release::json_of(behind).dump(), kStartedFrom));
  });
}

}  // namespace ristretto::train
