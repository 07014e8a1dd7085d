#include "train/night_room.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "agents/checkpoint.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/file_fault.h"
#include "platform/lock.h"
#include "platform/log.h"
#include "platform/text.h"
#include "release/directories.h"
#include "train/contenders.h"

namespace ristretto::train {
namespace {

namespace fs = std::filesystem;

// Of the run itself, or of those that the one was chosen among.
std::vector<fs::path> checkpoints_of(const fs::path& run) {
  std::vector<fs::path> found;
  if (fs::is_directory(run / kCheckpointDirectory)) found.push_back(run / kCheckpointDirectory);
  if (!fs::is_directory(run)) return found;
  for (const auto& entry : fs::directory_iterator(run)) {
    const fs::path below = entry.path() / kCheckpointDirectory;
    if (entry.path().filename().string().starts_with(kTrialRun) && fs::is_directory(below)) found.push_back(below);
  }
  return found;
}

std::int64_t seconds_of(fs::file_time_type time) {
  const auto since = std::chrono::file_clock::to_sys(time).time_since_epoch();
  return std::chrono::floor<std::chrono::seconds>(since).count();
}

// Returns the bytes that it freed.
std::int64_t remove_checkpoint(const fs::path& checkpoint, std::int64_t finished) {
  const FileLock lock(checkpoint.parent_path() / ".lock", "nightly, which removes its checkpoint");
  const fs::path newest = checkpoint / agents::kCheckpointFile;
  if (fs::exists(newest) && seconds_of(fs::last_write_time(newest)) > finished) {
    log::info("nightly", str(checkpoint.string(), " stays: it was trained on since"));
    return 0;
  }
  const std::int64_t bytes = release::bytes_below(checkpoint);
  fs::remove_all(checkpoint);
  return bytes;
}

}  // namespace

fs::path run_of(const fs::path& runs, const std::string& name, const std::string& night) {
  return runs / str(name, "-nightly-", night);
}

void remove_checkpoints(const Night& night, const fs::path& runs) {
  std::int64_t freed = 0;
  for (const ModelNight& model : night.models) {
    if (model.version.empty()) continue;
    const fs::path run = run_of(runs, model.name, night.id);
    try {
      for (const fs::path& checkpoint : checkpoints_of(run)) {
        freed += remove_checkpoint(checkpoint, night.finished.value());
      }
    } catch (const std::exception& error) {  // a night is not lost for it
      log::warning("nightly", str("a checkpoint in ", run.string(), " stays: ", message_of(error)));
    }
  }
  if (freed > 0) {
    log::info("nightly", str("removed the checkpoints of the night of ", iso_utc(night.started), ": ",
                             with_thousands(freed), " bytes; the chosen ones are in the versions"));
  }
}

void require_disk_budget(const NightlyRequest& request) {
  if (request.disk_bytes == 0) return;
  const std::int64_t bytes = release::bytes_below(request.runs) + release::bytes_below(request.deployments);
  if (bytes <= request.disk_bytes) return;
  throw Error(Fault::failed,
              str("runs and deployments take ", with_thousands(bytes), " bytes, and --disk-budget is ",
                  with_thousands(request.disk_bytes)),
              "remove old runs, and old versions (ristretto prune)");
}

}  // namespace ristretto::train
