#include "studies/heart.h"

#include <chrono>
#include <memory>

#include "platform/error.h"
#include "platform/log.h"
#include "platform/text.h"
#include "studies/storage.h"

namespace ristretto::studies {
namespace {

constexpr double kBeatSeconds = 15;

}  // namespace

void Heart::beat(const std::string& storage) {
  std::unique_ptr<WritableStorage> connection;
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    const std::set<std::int64_t> now = trials_;
    lock.unlock();
    try {
      if (!connection) connection = open_storage_for_writing(storage);
      for (const std::int64_t trial : now) connection->beat(trial);
    } catch (const Error& error) {  // the next beat tries again; a trial that is taken for dead ends by TrialLost
      log::warning("studies", str("no heartbeat: ", error.what()));
    }
    lock.lock();
    changed_.wait_for(lock, std::chrono::duration<double>(kBeatSeconds), [&] { return stopping_ || trials_ != now; });
  }
}

}  // namespace ristretto::studies
