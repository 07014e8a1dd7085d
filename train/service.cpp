#include "train/service.h"

#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::train {

using release::Json;

Ending serve_version(release::VersionStore& store, const std::string& name, const std::string& version,
                     const std::optional<std::string>& champion, const release::Verdict& verdict, const Json& gates) {
  Ending ending{version, verdict.status, verdict.reason, false, false};
  if (!verdict.serve) {
    store.refuse(name, version, verdict.reason, gates);
    return ending;
  }
  try {
    store.serve(name, version, champion, verdict.reason, gates);
    ending.served = true;
  } catch (const Error& error) {
    if (error.fault() != Fault::refused) {
      if (store.served(name) != version) throw;
      throw Error(error.fault(),
                  str(name, " serves version ", version, " now, but that could not be recorded: ", error.what()),
                  error.hint());
    }
    ending.reason = error.what();  // something else was put in service meanwhile
    store.refuse(name, version, ending.reason, gates);
  }
  return ending;
}

Ending put_in_service(release::VersionStore& store, const std::string& name, const std::filesystem::path& staged,
                      const std::optional<std::string>& champion, const std::vector<release::GateResult>& integrity,
                      const release::Verdict& verdict, const Json& gates, bool promote) {
  if (!release::all_passed(integrity)) {
    const Ending ending{"", verdict.status, release::refusals(integrity), false, false};
    store.refuse(name, std::nullopt, ending.reason, gates);
    return ending;
  }
  const std::string version = store.publish(name, staged, {champion, verdict.status, gates});
  if (verdict.serve && !promote) return {version, verdict.status, verdict.reason, false, true};
  return serve_version(store, name, version, champion, verdict, gates);
}

std::optional<release::Version> version_with(const release::VersionStore& store, const std::string& name,
                                             const std::string& pointer, const std::string& value) {
  for (const release::Version& version : store.list(name)) {
    if (version.status == "damaged") continue;
    const auto manifest = release::read_manifest(version.path);
    if (manifest && release::text_at(*manifest, pointer) == value) return version;
  }
  return std::nullopt;
}

std::optional<release::Version> version_of(const release::VersionStore& store, const std::string& name,
                                           const std::string& run) {
  return version_with(store, name, "/training/candidate", std::filesystem::path(run).filename().string());
}

std::optional<Ending> published(release::VersionStore& store, const std::string& name, const std::string& run) {
  const auto version = version_of(store, name, run);
  if (!version) return std::nullopt;
  Ending ending{version->id, version->status, "", version->served, false};
  for (const Json& event : store.history(name)) {
    const std::string kind = release::text_field(event, "event");
    if (release::text_field(event, "version") != version->id || (kind != "refusal" && kind != "promotion")) continue;
    ending.reason = release::text_field(event, "reason");
    return ending;
  }
  const auto champion = version->parent.empty() ? std::nullopt : std::optional(version->parent);
  const bool passed = version->status != "refused";
  return serve_version(store, name, version->id, champion,
                       {passed, version->status, "as it was judged before the night was interrupted"},
                       release::read_manifest(version->path).value().value("gates", Json::array()));
}

}  // namespace ristretto::train
