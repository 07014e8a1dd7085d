#include "cli/profile_option.h"

#include "platform/atomic_file.h"
#include "platform/error.h"
#include "platform/log.h"
#include "platform/text.h"

namespace ristretto::cli {

void ProfileOption::declare(Options& options) {
  options.value("profile", "FILE",
                "say where the time went, and write a Chrome trace of it (ui.perfetto.dev opens it)");
}

ProfileOption::ProfileOption(const Options& options) : file_(options.get("profile")) {
  if (file_.empty()) return;
  require_writable(file_);
  trace_.emplace();
}

void ProfileOption::tell(nlohmann::ordered_json& document, std::string& text) const {
  if (!trace_) return;
  try {
    trace_->write(file_);
  } catch (const Error& error) {
    log::warning("profile", error.what());  // it must not hide what became of the training
  }
  for (const auto& [part, seconds] : trace_->seconds()) document["profile"][part] = seconds;
  text += str("\nwhere the time went (trace: ", file_.string(), "):\n", trace_->table());
}

}  // namespace ristretto::cli
