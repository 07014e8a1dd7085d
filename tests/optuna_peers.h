// Other processes for the tests of the storage: real Optunas, and this test's own executable as a worker.
#pragma once

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <thread>

#include "optuna_files.h"
#include "studies/storage.h"

namespace ristretto::studies {

// A child process; killed with the object if it is still there.
class Process {
 public:
  // `environment`: NAME=VALUE beside our own; `out`: a file for its standard output, and its errors where asked.
  explicit Process(const std::vector<std::string>& command, const std::vector<std::string>& environment = {},
                   const std::string& out = "/dev/null", bool with_errors = false) {
    pid_ = fork();
    REQUIRE(pid_ >= 0);
    if (pid_ > 0) return;
    for (const std::string& pair : environment) putenv(const_cast<char*>(pair.c_str()));
    std::vector<char*> arguments;
    for (const std::string& argument : command) arguments.push_back(const_cast<char*>(argument.c_str()));
    arguments.push_back(nullptr);
    const int file = open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (file < 0 || dup2(file, STDOUT_FILENO) < 0 || (with_errors && dup2(file, STDERR_FILENO) < 0)) _exit(126);
    execv(arguments[0], arguments.data());
    _exit(127);
  }
  ~Process() { kill(); }
  Process(Process&& other) noexcept : pid_(std::exchange(other.pid_, -1)) {}
  Process& operator=(Process&&) = delete;

  // The exit code, -1 for a signal.
  int wait() {
    int status = 0;
    REQUIRE(waitpid(std::exchange(pid_, -1), &status, 0) > 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  void kill(int signal = SIGKILL) {
    if (pid_ < 0) return;
    ::kill(pid_, signal);
    waitpid(std::exchange(pid_, -1), nullptr, 0);
  }

 private:
  pid_t pid_;
};

inline void sleep_ms(int milliseconds) { std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds)); }

inline std::string optuna_bin(const std::string& version) {
  return RISTRETTO_SOURCE "/.venv-optuna/" + version + "/bin/";
}

// Those of the versions that are installed; a message for each that is not.
inline std::vector<std::string> installed(std::vector<std::string> versions) {
  std::erase_if(versions, [](const std::string& version) {
    const bool missing = !fs::exists(optuna_bin(version) + "python");
    if (missing) {
      MESSAGE("skipped: there is no Optuna " << version << " in .venv-optuna; scripts/setup --interop makes it");
    }
    return missing;
  });
  return versions;
}
// Whose file it is: the first of these opens v3.0.0.d, the others v3.2.0.a.
inline std::string revision_of(const std::string& version) { return version == "3.1.0" ? "v3.0.0.d" : "v3.2.0.a"; }

// tests/interop/optuna_peer.py under that version.
inline Process optuna_peer(const std::string& version, std::vector<std::string> arguments,
                           const std::string& out = "/dev/null", const std::string& time_zone = "UTC") {
  arguments.insert(arguments.begin(),
                   {optuna_bin(version) + "python", RISTRETTO_SOURCE "/tests/interop/optuna_peer.py"});
  return Process(arguments, {"TZ=" + time_zone, "OMP_NUM_THREADS=1"}, out);
}

inline Json dump_of(const std::string& version, const std::string& database, const std::string& out,
                    const std::string& time_zone = "UTC") {
  REQUIRE(optuna_peer(version, {"dump", database, out}, "/dev/null", time_zone).wait() == 0);
  return formats::read_json(bytes_of(out), out);
}

// Our reading of the same: "" where it is equal, else the first difference.
inline std::string difference(const Json& ours, const Json& theirs, const std::string& place = "") {
  if (ours.kind != theirs.kind || ours.items.size() != theirs.items.size() ||
      ours.members.size() != theirs.members.size()) {
    return str(place, ": ", shown(ours), " against ", shown(theirs));
  }
  for (std::size_t i = 0; i < ours.items.size(); ++i) {
    const std::string found = difference(ours.items[i], theirs.items[i], str(place, "[", i, "]"));
    if (!found.empty()) return found;
  }
  for (const auto& [key, value] : ours.members) {
    const Json* other = theirs.find(key);
    const std::string found = other ? difference(value, *other, str(place, ".", key)) : str(place, ": no ", key);
    if (!found.empty()) return found;
  }
  return shown(ours) == shown(theirs) ? "" : str(place, ": ", shown(ours), " against ", shown(theirs));
}

inline Json study_json(const Study& study) {
  std::vector<Json> directions, trials, front;
  for (const Direction direction : study.directions) directions.push_back(text_json(name_of(direction)));
  for (const Trial& trial : study.trials) trials.push_back(trial_json(trial));
  for (const Trial* trial : pareto_front(study)) front.push_back(integer_json(trial->number));
  Json best = array_json(front);
  if (study.directions.size() == 1) {
    const Trial* first = best_trial(study);
    best = first ? integer_json(first->number) : Json{};
  }
  return object_json({{"study", text_json(study.name)},
                      {"directions", array_json(directions)},
                      {"user_attrs", attributes_json(study.user_attributes)},
                      {"system_attrs", attributes_json(study.system_attributes)},
                      {"best", best},
                      {"trials", array_json(trials)}});
}

// Where our reading of the storage is not that version's; "" where it is.
inline std::string disagreement(const std::string& version, const std::string& url, const std::string& out,
                                const char* zone = "UTC") {
  const auto storage = open_storage(url);
  std::vector<Json> studies;
  for (const std::string& name : storage->study_names()) studies.push_back(study_json(storage->read_study(name)));
  Json theirs = dump_of(version, url, out, zone);
  if (version == "3.1.0") {
    // Its best trial knows no constraints, and takes an infinity, stored as NULL, for the smallest number.
    for (std::vector<Json>* all : {&studies, &theirs.members.at(0).second.items}) {
      for (Json& study : *all) std::erase_if(study.members, [](const auto& member) { return member.first == "best"; });
    }
  }
  return difference(plain(object_json({{"studies", array_json(studies)}})), theirs);
}

}  // namespace ristretto::studies
