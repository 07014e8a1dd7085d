#include "train/service.h"

#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::train {

Ending serve_version(release::VersionStore& store, const std::string& name, const std::string& version,
                     const std::optional<std::string>& champion, const release::Verdict& verdict,
                     const release::Json& gates) {
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
                      const release::Verdict& verdict, const release::Json& gates, bool promote) {
  if (!release::all_passed(integrity)) {
    const Ending ending{"", verdict.status, release::refusals(integrity), false, false};
    store.refuse(name, std::nullopt, ending.reason, gates);
    return ending;
  }
  const std::string version = store.publish(name, staged, {champion, verdict.status, gates});
  if (verdict.serve && !promote) return {version, verdict.status, verdict.reason, false, true};
  return serve_version(store, name, version, champion, verdict, gates);
}

}  // namespace ristretto::train
