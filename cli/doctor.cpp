#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>

#include "cli/commands.h"
#include "cli/options.h"
#include "cli/output.h"
#include "env/bars.h"
#include "env/layout.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/process.h"
#include "platform/text.h"
#include "release/deployment.h"
#include "release/versions.h"
#include "train/device.h"
#include "train/memory_budget.h"

namespace ristretto::cli {
namespace {

namespace fs = std::filesystem;

constexpr double kGib = 1024.0 * 1024 * 1024;
constexpr double kLeastDisk = 1 * kGib;    // a run of a large network with its checkpoints, and a version
constexpr double kLeastMemory = 1 * kGib;  // LibTorch, the market and a small network's rollout
constexpr int kEarliestYear = 2024;        // a clock before it was never set

struct Finding {
  std::string subject;
  bool ok;
  std::string found;
  std::string remedy;  // of a problem
};

class Examination {
 public:
  void ok(const std::string& subject, const std::string& found) { findings_.push_back({subject, true, found, {}}); }
  void problem(const std::string& subject, const std::string& found, const std::string& remedy) {
    findings_.push_back({subject, false, found, remedy});
  }
  // Whatever a check fails with is a finding, and the others go on. remedy: where the error has no hint of its own.
  void examine(const std::string& subject, const std::string& remedy, const std::function<void()>& check) {
    try {
      check();
    } catch (const Error& error) {
      problem(subject, error.what(), error.hint().empty() ? remedy : error.hint());
    } catch (const std::exception& error) {
      problem(subject, error.what(), remedy);
    }
  }
  const std::vector<Finding>& findings() const { return findings_; }

 private:
  std::vector<Finding> findings_;
};

std::string gib_text(double bytes) { return fixed(bytes / kGib, 1) + " GiB"; }

void examine_device(Examination& examination, const std::string& name) {
  const c10::Device device = train::device_of(name);
  const bool gpu = fs::exists("/dev/nvidia0") || fs::exists("/dev/kfd");
  if (device.is_cpu() && name == "auto" && gpu) {
    examination.problem("device", "there is a GPU, but it cannot be used by this build or with this driver",
                        "configure with the preset cuda or rocm and check the driver, or say --device cpu");
    return;
  }
  const std::string memory = device.is_cpu()
                                 ? std::string()
                                 : str(", ", gib_text(static_cast<double>(train::free_device_bytes(device))), " free");
  examination.ok("device", train::describe(device) + memory);
}

void examine_threads(Examination& examination, std::int64_t wanted) {
  const std::int64_t threads = wanted > 0 ? wanted : at::get_num_threads();
  const int cores = usable_cores();
  const std::string found = str(threads, " threads on ", cores, " usable cores");
  if (threads > cores) {
    examination.problem("threads", str(found, ": ", cores, " are used"),
                        str("give --threads ", cores, " (also as RISTRETTO_THREADS)"));
  } else {
    examination.ok("threads", found);
  }
}

void examine_memory(Examination& examination) {
  const auto available = static_cast<double>(train::free_memory());
  if (available < kLeastMemory) {
    examination.problem("memory", str(gib_text(available), " free, expected at least ", gib_text(kLeastMemory)),
                        "end other programs, or give a small --memory-budget");
  } else {
    examination.ok("memory", gib_text(available) + " free");
  }
}

void examine_clock(Examination& examination) {
  const std::string now = iso_utc(now_seconds());
  if (parse_number<int>(now.substr(0, 4)).value_or(0) < kEarliestYear) {
    examination.problem("clock", str("it is ", now, ", before ", kEarliestYear), "set the clock (timedatectl)");
  } else {
    examination.ok("clock", now);
  }
}

void examine_disk(Examination& examination, const std::string& subject, const fs::path& directory) {
  fs::path existing = fs::absolute(directory);
  while (!fs::exists(existing)) existing = existing.parent_path();
  if (!fs::is_directory(existing)) {
    examination.problem(subject, existing.string() + " is a file, expected a directory", "move it away");
  } else if (access(existing.c_str(), W_OK | X_OK) != 0) {
    examination.problem(subject, existing.string() + " cannot be written to",
                        "change its owner or mode, or name another directory");
  } else if (const auto available = static_cast<double>(fs::space(existing).available); available < kLeastDisk) {
    examination.problem(
        subject, str(gib_text(available), " free at ", existing.string(), ", expected at least ", gib_text(kLeastDisk)),
        "remove old runs and versions");
  } else {
    examination.ok(subject, str(gib_text(available), " free at ", existing.string()));
  }
}

void examine_data(Examination& examination, const train::RunSettings& run) {
  const std::vector<std::string> assets = run.assets.empty() ? env::default_assets() : split(run.assets, ',');
  const env::Bars bars = env::read_bars(run.bars, assets);
  const std::string range = str(with_thousands(static_cast<long long>(bars.time.size())), " common bars of ",
                                assets.size(), " assets in ", run.bars, ", until ", iso_utc(bars.time.back()));
  if (bars.time.back() > now_seconds()) {
    examination.problem("data", range + ", which is in the future", "set the clock, or take these bars away");
  } else {
    examination.ok("data", range);
  }
}

// The holder writes "process ID (purpose)" into a lock's file, and the system lists the locks of each process. Trying
// to take the lock instead would turn away whoever wants it at that moment.
bool is_held(const fs::path& lock, const std::string& holder) {
  std::istringstream text(holder);
  std::string word;
  long long process = 0;
  if (!(text >> word >> process) || word != "process") return false;
  const fs::path of_process = fs::path("/proc") / str(process);
  std::error_code error;
  if (!fs::exists(of_process, error)) return false;
  for (const auto& entry : fs::directory_iterator(of_process / "fdinfo")) {
    if (!fs::equivalent(of_process / "fd" / entry.path().filename(), lock, error)) continue;
    std::stringstream info;
    info << std::ifstream(entry.path()).rdbuf();
    if (info.str().find("FLOCK") != std::string::npos) return true;
  }
  return false;
}

void examine_locks(Examination& examination, const fs::path& runs, const fs::path& deployments) {
  std::vector<fs::path> locks;
  if (fs::is_directory(runs)) {
    for (const auto& entry : fs::directory_iterator(runs)) {
      if (entry.path().extension() == ".lock") locks.push_back(entry.path());
    }
  }
  if (const fs::path versions = deployments / release::kVersions; fs::is_directory(versions)) {
    if (fs::exists(versions / release::kNightlyLock)) locks.push_back(versions / release::kNightlyLock);
    for (const auto& entry : fs::directory_iterator(versions)) {
      if (fs::exists(entry.path() / "lock")) locks.push_back(entry.path() / "lock");
    }
  }
  bool held = false;
  for (const fs::path& lock : locks) {
    std::string holder;
    std::getline(std::ifstream(lock), holder);
    if (!is_held(lock, holder)) continue;
    held = true;
    examination.ok("locks", str(lock.string(), " is held by ", holder));
  }
  if (!held) examination.ok("locks", "none is held");
}

void examine_deployments(Examination& examination, const fs::path& deployments) {
  const release::VersionStore store(deployments);
  const std::vector<std::string> names = store.names();
  if (names.empty()) examination.ok("deployments", str("nothing is deployed in ", deployments.string()));
  for (const std::string& name : names) {
    const std::string subject = "deployment " + name;
    examination.examine(subject, "take it away, or put a version that is whole in service", [&] {
      const release::Slot slot = store.slot(name);
      const std::vector<std::string> problems = store.check(name);
      for (const std::string& found : problems) {
        examination.problem(subject, found,
                            str("put a version that is whole in service: ristretto rollback ", name, " --to VERSION"));
      }
      if (!problems.empty()) return;
      if (slot.kind == release::Slot::Kind::directory) {
        release::load(deployments / name);
        examination.ok(subject, "a directory that opens; the next retrain adopts it");
      } else {
        examination.ok(subject, str(store.list(name).size(), " versions as they were written, ",
                                    slot.version.empty() ? "none served" : slot.version + " served"));
      }
    });
  }
}

}  // namespace

int doctor(const Arguments& arguments) {
  Options options("doctor",
                  "What is wrong with this machine: device, threads, memory, clock, disk, bars, locks, deployments. "
                  "Exit code 1 where\nsomething is.");
  options.value("deployments", "DIR", "[deployments]");
  options.value("runs", "DIR", "[runs]");
  options.settings({"bars", "assets", "device", "threads"});
  if (!options.parse(arguments)) return 0;
  Examination examination;
  train::Settings settings;
  for (const train::Given& given : options.given()) {
    if (given.source == "command line") {
      settings.apply(given);
    } else {
      examination.examine("settings", "correct it, or leave it out", [&] { settings.apply(given); });
    }
  }
  const train::RunSettings& run = settings.run;
  const fs::path deployments = options.get("deployments", "deployments"), runs = options.get("runs", "runs");
  examination.ok("LibTorch", str(RISTRETTO_LIBTORCH_VERSION, ", CPU kernels for ", at::get_cpu_capability()));
  examination.examine("device", "check the driver, or say --device cpu",
                      [&] { examine_device(examination, run.device); });
  examination.examine("threads", "give --threads N", [&] { examine_threads(examination, run.threads); });
  examination.examine("memory", "give --memory-budget with each command", [&] { examine_memory(examination); });
  examination.examine("clock", "set the clock (timedatectl)", [&] { examine_clock(examination); });
  examination.examine("disk", "make sure that the directory can be read",
                      [&] { examine_disk(examination, "disk of deployments", deployments); });
  examination.examine("disk", "make sure that the directory can be read",
                      [&] { examine_disk(examination, "disk of runs", runs); });
  examination.examine("data", "ristretto data check lists every defect; --bars DIR names another directory",
                      [&] { examine_data(examination, run); });
  examination.examine("locks", "make sure that the directories can be read",
                      [&] { examine_locks(examination, runs, deployments); });
  examination.examine("deployments", "make sure that the directory can be read",
                      [&] { examine_deployments(examination, deployments); });

  const std::vector<Finding>& findings = examination.findings();
  const auto problems = std::count_if(findings.begin(), findings.end(), [](const Finding& f) { return !f.ok; });
  if (options.json()) {
    Document document = {{"ok", problems == 0}, {"checks", Document::array()}};
    for (const Finding& finding : findings) {
      document["checks"].push_back(
          {{"subject", finding.subject}, {"ok", finding.ok}, {"found", finding.found}, {"remedy", finding.remedy}});
    }
    print(document);
  } else {
    Table table({"subject", "", "found"});
    for (const Finding& finding : findings) {
      table.row({finding.subject, finding.ok ? "ok" : "problem", finding.found});
      if (!finding.ok && !finding.remedy.empty()) table.row({"", "", "-> " + finding.remedy});
    }
    table.print();
    std::printf("%s\n",
                problems == 0 ? "nothing is wrong" : str(problems, problems == 1 ? " problem" : " problems").c_str());
  }
  return problems == 0 ? 0 : static_cast<int>(Fault::failed);
}

}  // namespace ristretto::cli
