#include "train/sweep_worker.h"

#include <cmath>
#include <memory>

#include "platform/error.h"
#include "platform/interrupt.h"
#include "platform/log.h"
#include "platform/text.h"
#include "studies/distribution.h"
#include "studies/pruners/pruner.h"
#include "studies/samplers/ask.h"
#include "studies/samplers/make_sampler.h"
#include "studies/storage.h"
#include "studies/trial_settings.h"
#include "train/memory_budget.h"

namespace ristretto::train {
namespace {

using formats::Json;
using studies::json_of;

constexpr std::size_t kMostRetries = 2;   // of a trial whose worker was killed
constexpr double kPlainLineSeconds = 30;  // between lines of progress off a terminal
constexpr int kMostRefused = 20;          // trials in a row
constexpr double kDivergedValue = -1;     // of a diverged training, in Sharpe ratios far below any other

Json json_list(const std::vector<double>& values) {
  Json list;
  list.kind = Json::Kind::array;
  for (const double value : values) list.items.push_back(json_of(value));
  return list;
}

// Equal in every process for one seed and trial, so that a sweep that goes on draws what it would have drawn.
std::uint32_t seed_of_trial(std::int64_t seed, std::int64_t number) {
  std::uint64_t z = static_cast<std::uint64_t>(seed) * 0x9e3779b97f4a7c15ull + static_cast<std::uint64_t>(number + 1);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;  // splitmix64
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return static_cast<std::uint32_t>(z ^ (z >> 31));
}

void show_progress(Shared& shared) {
  const double rate = static_cast<double>(shared.parts) / std::max(1.0, shared.watch.seconds());
  const double parts_left = static_cast<double>((shared.request.trials - shared.finished) * shared.objective.parts());
  std::string line = str("trial ", shared.finished, " of ", shared.request.trials, "  ", shared.running, " running  ");
  if (shared.best) line += str("best ", fixed(*shared.best, 5), " (trial ", shared.best_number, ")  ");
  if (shared.parts > 0) line += str("at most ", duration_text(parts_left / rate), " left");
  log::progress(line);
  if (!log::stderr_is_terminal() && shared.since_line.seconds() >= kPlainLineSeconds) {
    log::info("train", line);
    shared.since_line.restart();
  }
}

// How a trial ended, for people: a row of the table that grows in the log.
struct End {
  const char* state;
  std::size_t parts = 0;
  std::optional<double> value{};
  std::string note{};
};

constexpr const char* kHeader = "trial  state          value   parts      time";
constexpr std::int64_t kRowsPerHeader = 20;

std::string row(std::int64_t trial, const End& end, std::int64_t parts, double seconds) {
  return str(padded_left(str(trial), 5), "  ", padded_right(end.state, 9),
             padded_left(end.value ? fixed(*end.value, 5) : "-", 10), padded_left(str(end.parts, "/", parts), 8),
             padded_left(duration_text(seconds), 10), "  ", end.note);
}

// One thread's view of the study.
class Worker {
 public:
  Worker(Shared& shared, Settings settings)
      : shared_(shared),
        settings_(std::move(settings)),
        storage_(studies::open_storage_for_writing(shared.request.storage)),
        study_(storage_->read_study(shared.study_name)),
        pruner_(studies::make_pruner(shared.request.pruner, shared.request.pruner_options)) {}

  void run() {
    while (anything_left() && shared_.may_begin()) run_trial();
  }

 private:
  // A grid ends; what is queued is tried all the same.
  bool anything_left() {
    if (shared_.request.sampler != "grid") return true;
    fail_stale_trials();  // a point of a killed worker is queued again
    const bool queued = std::any_of(study_.trials.begin(), study_.trials.end(),
                                    [](const studies::Trial& trial) { return trial.state == studies::State::waiting; });
    return queued || !make_sampler(0)->exhausted(study_);
  }

  // Points of a grid or sequence are numbered, and need one seed; random ones need another in each trial.
  std::unique_ptr<studies::Sampler> make_sampler(std::int64_t number) const {
    const std::string& name = shared_.request.sampler;
    studies::SamplerOptions options;
    options.space = shared_.space;
    const bool numbered = name == "grid" || name == "quasi-random";
    return studies::make_sampler(
        name, options,
        numbered ? static_cast<std::uint32_t>(settings_.run.seed) : seed_of_trial(settings_.run.seed, number));
  }

  void run_trial() {
    fail_stale_trials();
    studies::Trial trial;
    if (auto waiting = storage_->claim_waiting(study_.id)) {
      trial = std::move(*waiting);
    } else {
      trial = storage_->create_trial(study_.id);
    }
    storage_->beat(trial.id);  // from its first moment: a trial that never had a beat is nobody's to fail
    shared_.heart.begin(trial.id);
    const Stopwatch watch;
    End end;
    try {
      end = measure(trial);
    } catch (const studies::TrialLost& lost) {
      end = {"dropped", 0, std::nullopt, lost.what()};
      const std::lock_guard lock(shared_.mutex);
      --shared_.begun;
    } catch (...) {
      shared_.heart.end(trial.id);
      log::error("train", str("trial ", trial.number, ": ", give_up(trial, kMostRetries).note));
      throw;
    }
    shared_.heart.end(trial.id);
    const std::lock_guard lock(shared_.mutex);
    --shared_.running;
    if (shared_.rows++ % kRowsPerHeader == 0) log::info("train", kHeader);
    log::info("train", row(trial.number, end, shared_.objective.parts(), watch.seconds()));
    show_progress(shared_);
  }

  // Trials of workers that were killed: failed, and queued again.
  void fail_stale_trials() {
    std::vector<std::pair<std::int64_t, bool>> failed;  // number, queued again
    storage_->together([&] {
      failed.clear();
      const std::vector<std::int64_t> numbers = storage_->fail_stale(study_.id, shared_.request.grace_seconds);
      if (numbers.empty()) return;
      studies::Study study = study_;  // what this transaction may take back is not study_'s
      storage_->refresh(study);
      for (const std::int64_t number : numbers) {
        const auto again = studies::retry(*storage_, study.id, studies::trial_of(study, number), kMostRetries);
        failed.emplace_back(number, again.has_value());
      }
    });
    storage_->refresh(study_);
    for (const auto& [number, again] : failed) {
      log::warning("train", str("trial ", number, " had no heartbeat for ", shared_.request.grace_seconds, " s: failed",
                                again ? ", and queued again" : ""));
    }
  }

  // What the trial was queued with and this sweep does not draw would stand in its row and not in its agent.
  std::optional<std::string> foreign_parameter(const studies::Trial& trial) const {
    std::vector<std::string> names;
    for (const studies::Parameter& param : trial.params) names.push_back(param.name);
    if (const Json* fixed = studies::find(trial.system_attributes, "fixed_params")) {
      for (const auto& member : fixed->members) names.push_back(member.first);
    }
    for (const std::string& name : names) {
      if (studies::find_range(shared_.space, name) == nullptr) return name;
    }
    return std::nullopt;
  }

  Settings draw(studies::Trial& trial) {
    sampler_ = make_sampler(trial.number);
    // What the pruner compares the trial with is what the sampler learns from (Hyperband: its bracket).
    const bool by_bracket = shared_.request.sampler == "tpe" && shared_.request.pruner == "hyperband";
    studies::Study seen;
    if (by_bracket) {
      seen = study_;
      std::erase_if(seen.trials,
                    [&](const studies::Trial& other) { return !pruner_->sees(study_, trial.number, other.number); });
    }
    studies::Ask ask(*sampler_, by_bracket ? seen : study_, trial);
    Settings settings = settings_;
    for (const auto& [parameter, range] : shared_.space) {
      agents::set(settings.hyperparameters, *agents::find_row(parameter), ask.suggest(parameter, range));
      settings.sources[parameter] = str("study trial ", trial.number);
    }
    // One write, and so one wait for the disk.
    storage_->together([&] {
      for (const studies::Attribute& attribute : ask.attributes()) {
        if (studies::find(trial.system_attributes, attribute.key) != nullptr) continue;
        storage_->set_trial_attribute(trial.id, studies::Scope::system, attribute.key, attribute.value);
      }
      for (const studies::Parameter& parameter : ask.trial().params) {
        if (trial.find_param(parameter.name) != nullptr) continue;
        storage_->set_param(trial.id, parameter.name, parameter.value, parameter.distribution);
      }
    });
    trial = ask.trial();
    return settings;
  }

  // To the trial's end.
  End measure(studies::Trial& trial) {
    std::vector<Part> parts;
    if (const auto foreign = foreign_parameter(trial)) {
      return refuse(trial, str("it was queued with ", *foreign, ", which this sweep does not draw"));
    }
    const Settings settings = draw(trial);
    try {
      check(settings);
    } catch (const Error& error) {
      return refuse(trial, error.what());
    }
    storage_->set_trial_attribute(trial.id, studies::Scope::user, studies::kObjectiveAttribute,
                                  json_of(objective_text(shared_.objective.kind())));
    storage_->set_trial_attribute(trial.id, studies::Scope::user, studies::kSeenUntilAttribute,
                                  json_of(iso_utc(shared_.objective.last_time())));
    for (std::int64_t part = 0; part < shared_.objective.parts(); ++part) {
      if (shared_.stopping()) return give_up(trial, std::nullopt);
      try {
        parts.push_back(shared_.objective.measure(settings, part));
      } catch (const Error& error) {
        // What check() cannot see without the bars: an agent that could not trade, a network beyond the memory.
        if (error.fault() == Fault::usage) return refuse(trial, error.what());
        if (error.fault() != Fault::failed) throw;
        return diverged(trial, parts, error.what());
      } catch (const std::exception& error) {
        if (const auto text = out_of_memory(error)) return refuse(trial, *text);  // the others may fit
        throw;
      }
      const double so_far = value_so_far(parts);
      storage_->report(trial.id, part, so_far);
      trial.reports.push_back({part, so_far});
      {
        const std::lock_guard lock(shared_.mutex);
        ++shared_.parts;
        show_progress(shared_);
      }
      if (parts.back().idle && shared_.objective.kind() == ObjectiveKind::cappuccino) {
        return prune(trial, parts, "an agent that does not trade");
      }
      if (part + 1 < shared_.objective.parts() && worth_pruning(trial)) return prune(trial, parts, "not promising");
    }
    const double value = value_of(shared_.objective.kind(), parts);
    studies::State state{};
    storage_->together([&] {
      write_attributes(trial, parts);
      state = storage_->finish(trial.id, studies::State::complete, {value});
    });
    const std::lock_guard lock(shared_.mutex);
    ++shared_.finished;
    if (state != studies::State::complete) {
      ++shared_.failed;
      return {"failed", parts.size(), std::nullopt, "its value is not a number"};
    }
    ++shared_.complete;
    refused_ = 0;
    const bool better = !shared_.best || value > *shared_.best;
    if (better) {
      shared_.best = value;
      shared_.best_number = trial.number;
    }
    return {"complete", parts.size(), value, better ? "the best so far" : ""};
  }

  bool worth_pruning(studies::Trial& trial) {
    storage_->refresh(study_);
    const studies::Decision decision = pruner_->decide(study_, trial);
    for (const studies::Attribute& attribute : decision.system_attributes) {
      storage_->set_trial_attribute(trial.id, studies::Scope::system, attribute.key, attribute.value);
      trial.system_attributes.push_back(attribute);
    }
    return decision.prune;
  }

  End prune(const studies::Trial& trial, const std::vector<Part>& parts, const std::string& reason) {
    refused_ = 0;
    storage_->together([&] {
      write_attributes(trial, parts);
      storage_->finish(trial.id, studies::State::pruned);
    });
    const std::lock_guard lock(shared_.mutex);
    ++shared_.finished;
    ++shared_.pruned;
    return {"pruned", parts.size(), trial.reports.back().value, reason};
  }

  // A sampler learns from a bad report, not from a failed trial.
  End diverged(const studies::Trial& trial, const std::vector<Part>& parts, const std::string& reason) {
    refused_ = 0;
    storage_->together([&] {
      storage_->report(trial.id, static_cast<std::int64_t>(parts.size()), kDivergedValue);
      storage_->set_trial_attribute(trial.id, studies::Scope::user, "failure", json_of(reason));
      storage_->finish(trial.id, studies::State::pruned);
    });
    const std::lock_guard lock(shared_.mutex);
    ++shared_.finished;
    ++shared_.pruned;
    return {"pruned", parts.size(), kDivergedValue, str("its training diverged: ", reason)};
  }

  // Parameters that fit neither each other nor this sweep: failed, for nobody can learn from it. Several in a row end
  // the sweep.
  End refuse(const studies::Trial& trial, const std::string& reason) {
    storage_->together([&] {
      storage_->set_trial_attribute(trial.id, studies::Scope::user, "failure", json_of(reason));
      storage_->finish(trial.id, studies::State::fail);
    });
    if (++refused_ >= kMostRefused) {
      throw Error(Fault::usage, str(refused_, " trials in a row were refused, the last one because ", reason));
    }
    const std::lock_guard lock(shared_.mutex);
    ++shared_.finished;
    ++shared_.failed;
    return {"failed", 0, std::nullopt, reason};
  }

  // Interrupted, by a signal or a fault that is not the trial's: failed, and queued again with the same parameters. A
  // fault may come again with them, so there are `most_retries`; a signal (nothing) says nothing of the trial.
  End give_up(const studies::Trial& trial, std::optional<std::size_t> most_retries) {
    End end{"failed", trial.reports.size()};
    try {
      bool again = true;
      storage_->together([&] {
        storage_->finish(trial.id, studies::State::fail);
        studies::Study study = study_;
        storage_->refresh(study);
        const studies::Trial& failed = studies::trial_of(study, trial.number);
        if (most_retries) {
          again = studies::retry(*storage_, study.id, failed, *most_retries).has_value();
        } else {
          studies::queue_again(*storage_, study.id, failed);
        }
      });
      const std::lock_guard lock(shared_.mutex);
      if (again) ++shared_.requeued;
      end.note = again ? "interrupted, and queued again" : "interrupted";
    } catch (const Error& error) {  // who finds its heartbeat stale queues it again
      end.note = str("interrupted, and could not be queued again: ", error.what());
    }
    return end;
  }

  // The names that existing tools read (commands.md), and what a value can be traced by.
  void write_attributes(const studies::Trial& trial, const std::vector<Part>& parts) {
    std::vector<double> agent, reference;
    std::int64_t steps = 0, orders = 0;
    double seconds = 0;
    for (const Part& part : parts) {
      agent.push_back(part.agent);
      reference.push_back(part.reference);
      steps += part.environment_steps;
      orders += part.orders;
      seconds += part.seconds;
    }
    const auto write = [&](const char* key, const Json& value) {
      storage_->set_trial_attribute(trial.id, studies::Scope::user, key, value);
    };
    write("mean_sharpe_bot", json_of(mean_of(agent)));
    write("mean_sharpe_hodl", json_of(mean_of(reference)));
    write("std_sharpe_bot", json_of(deviation_of(agent, 0)));
    write("sharpe_list_bot", json_list(agent));
    write("sharpe_list_hodl", json_list(reference));
    write("environment_steps", json_of(steps));
    write("orders", json_of(orders));
    write("seconds", json_of(seconds));
  }

  Shared& shared_;
  const Settings settings_;
  std::unique_ptr<studies::WritableStorage> storage_;
  studies::Study study_;
  std::unique_ptr<studies::Pruner> pruner_;
  std::unique_ptr<studies::Sampler> sampler_;  // of the trial in hand
  int refused_ = 0;                            // trials in a row
};

}  // namespace

std::string objective_text(ObjectiveKind kind) { return str(name_of(kind), " v", kObjectiveVersion); }

bool Shared::may_begin() {
  const std::lock_guard lock(mutex);
  if (fault || interrupt_requested() != 0 || begun >= request.trials) return false;
  if (request.seconds > 0 && watch.seconds() >= request.seconds) return false;
  ++begun;
  ++running;
  return true;
}

bool Shared::stopping() {
  const std::lock_guard lock(mutex);
  return fault || interrupt_requested() != 0;
}

void run_worker(Shared& shared, const Settings& settings) { Worker(shared, settings).run(); }

}  // namespace ristretto::train
