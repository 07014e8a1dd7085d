// Where studies are kept: an Optuna RDB database, named by Optuna's URL. The interface is free of databases;
// sqlite*.cpp and postgres*.cpp have the SQL of one each (study.md, "Rules for every write", "PostgreSQL").
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "platform/error.h"
#include "studies/study.h"

namespace ristretto::studies {

// Optuna up to 4.9 writes a trial's datetimes in local time, from 5.0 in UTC; nothing in the file says which, so the
// version that made it decides, unless this says otherwise.
enum class Datetimes { by_version, utc, local };

struct StorageOptions {
  int busy_timeout_ms = 60000;  // how long a lock of another process is waited for
  Datetimes datetimes = Datetimes::by_version;
};

struct StorageInfo {
  std::string path;              // of the file; of a database its url
  std::string url;               // sqlite:///..., as Optuna names it, without a password
  std::string revision;          // alembic's, such as v3.2.0.a
  std::string library_version;   // of the Optuna that made or last upgraded it
  bool local_datetimes = false;  // trials' datetimes are written in local time
};

// One connection: of one thread, and not carried over a fork. Faults of the file are Error(incompatible) with file and
// place, a lock that lasts is Error(busy).
class Storage {
 public:
  virtual ~Storage() = default;
  virtual const StorageInfo& info() const = 0;
  // In the order of their creation.
  virtual std::vector<std::string> study_names() = 0;
  // All of it, from one moment. Throws Error(usage) that lists the known names where `name` is none of them.
  virtual Study read_study(const std::string& name) = 0;
  // Brings a study that was read before to this moment: its attributes, the trials that were unfinished and the newer
  // ones. Finished trials never change, so what it costs does not grow with them.
  virtual void refresh(Study& study) = 0;
};

// A trial that this process may not write any more: somebody else finished it, such as a reaper of stale trials, or
// took over the WAITING trial that we had claimed. Nothing was written; go on with another trial.
class TrialLost : public Error {
 public:
  explicit TrialLost(const std::string& message) : Error(Fault::failed, message) {}
};

enum class Scope { user, system };
enum class IfExists { refuse, reuse };

// A storage that writes. Each function is one transaction, tried again while another process holds the lock; when it
// returns, all is on disk, and when it throws, nothing has changed. Ids are the database's, as in Study::id, Trial::id;
// Error(usage) for one that there is not. A function that takes a trial's id throws TrialLost.
class WritableStorage : public Storage {
 public:
  // One transaction of all that `work` calls on this connection: all of it is done, or nothing. As any write it may be
  // run again from its start.
  virtual void together(const std::function<void()>& work) = 0;

  // The new study's id. One direction an objective, none of them not_set. Where the name is taken Error(usage), or, to
  // reuse it, the id of that study if its directions are these.
  virtual std::int64_t create_study(const std::string& name, const std::vector<Direction>& directions,
                                    IfExists if_exists = IfExists::refuse) = 0;
  // Replaces the value of the key. Error(usage) for NaN and infinities, which strict readers of JSON refuse.
  virtual void set_study_attribute(std::int64_t study_id, Scope scope, const std::string& key,
                                   const formats::Json& value) = 0;

  // A new RUNNING trial that has started now.
  virtual Trial create_trial(std::int64_t study_id) = 0;
  // A new trial with all that `content` holds but id and number: a WAITING one for the queue, or one that is finished.
  // A datetime that its state needs and that is not given is now. Error(usage) where values do not fit the state.
  virtual Trial add_trial(std::int64_t study_id, const Trial& content) = 0;
  // The oldest WAITING trial, RUNNING from now and ours, with what it was queued with; nothing where none waits. Python
  // workers can take it over (study.md, "Claims"): the next write then throws TrialLost.
  virtual std::optional<Trial> claim_waiting(std::int64_t study_id) = 0;

  // The external value of a parameter that the trial does not have yet. Numbers outside the range are taken, as Optuna
  // does for fixed_params; Error(usage) for a value of another type, for a choice that there is not, and, in Optuna's
  // words, for a distribution that conflicts with the first of this name in the study.
  virtual void set_param(std::int64_t trial_id, const std::string& name, const agents::Value& value,
                         const agents::Range& distribution) = 0;
  // step >= 0; NaN and infinities are values. The first report of a step stays: false where there was one.
  virtual bool report(std::int64_t trial_id, std::int64_t step, double value) = 0;
  // As set_study_attribute.
  virtual void set_trial_attribute(std::int64_t trial_id, Scope scope, const std::string& key,
                                   const formats::Json& value) = 0;
  // Ends a RUNNING trial as complete, with one value an objective, pruned or fail, without values: the value of a
  // pruned one is its last report. The state that was stored: FAIL where a value is NaN.
  virtual State finish(std::int64_t trial_id, State state, const std::vector<double>& values = {}) = 0;

  // A sign of life, from a thread and connection of its own, more often than twice in the smallest grace of all that
  // reap. False where the trial is RUNNING no more: stop beating and writing.
  virtual bool beat(std::int64_t trial_id) = 0;
  // Fails the RUNNING trials whose last heartbeat is more than `grace_seconds` ago; those without a heartbeat stay.
  // Their numbers, ascending.
  virtual std::vector<std::int64_t> fail_stale(std::int64_t study_id, std::int64_t grace_seconds) = 0;
};

// Opens for reading only: not a byte of the file changes, but where a writer was killed within a commit, which has to
// be undone first. Throws Error(usage) for what url_path refuses and for a file that is not there, Error(incompatible)
// for one that is no Optuna database or of a revision that is not read here (study.md, "Revisions").
std::unique_ptr<Storage> open_storage(const std::string& url, const StorageOptions& options = {});

// The same; nothing where create_storage() would make what it opens. A PostgreSQL database that open_storage refuses
// counts as such, for its refusal does not say whether it is empty.
std::unique_ptr<Storage> open_if_there(const std::string& url);

// Opens what is there. Beside the errors of open_storage: Error(incompatible) for a revision that is read, but not
// written, Error(failed) for a file that may not be written.
std::unique_ptr<WritableStorage> open_storage_for_writing(const std::string& url, const StorageOptions& options = {});

struct NewStorage {
  std::string revision = "v3.2.0.a";  // or v3.0.0.d, for Optuna 3.0 and 3.1
  // The Optuna whose file it passes for, which decides how datetimes are read; "": the newest of the revision.
  std::string library_version;
};
// Opens for writing what is there, as it is; makes it, empty of studies, where there is no file or an empty one. Any
// number of processes may do so at the same time; start Python's workers afterwards.
std::unique_ptr<WritableStorage> create_storage(const std::string& url, const NewStorage& wanted = {},
                                                const StorageOptions& options = {});

// Queues a WAITING trial: whoever takes it gets these external values when it asks for these names.
Trial enqueue(WritableStorage& storage, std::int64_t study_id,
              const std::vector<std::pair<std::string, agents::Value>>& fixed_params,
              const std::vector<Attribute>& user_attributes = {});
// Queues a failed trial again: its parameters and attributes, with failed_trial and retry_history, as Optuna's own
// callback writes them, but for completed_rung_<r>, which it has to earn again. Nothing where it is the result of
// `most_retries` retries already.
std::optional<Trial> retry(WritableStorage& storage, std::int64_t study_id, const Trial& failed,
                           std::size_t most_retries);
// The same for a trial that somebody interrupted: no retry, so it is counted as none.
Trial queue_again(WritableStorage& storage, std::int64_t study_id, const Trial& interrupted);

// The path of sqlite:///relative.db, sqlite:////absolute.db or of a plain path. Throws Error(usage) for other
// databases.
std::string url_path(const std::string& url);

// A URL, or an argument that holds one, with *** in the place of a password, for messages, logs and records.
std::string without_password(const std::string& text);

}  // namespace ristretto::studies
