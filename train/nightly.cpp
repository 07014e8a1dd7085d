#include "train/nightly.h"

#include <algorithm>
#include <set>

#include "platform/atomic_file.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/file_fault.h"
#include "platform/interrupt.h"
#include "platform/lock.h"
#include "platform/log.h"
#include "platform/text.h"
#include "platform/ticker.h"
#include "release/versions.h"
#include "train/night_room.h"
#include "train/night_work.h"
#include "train/nightly_journal.h"
#include "train/retrain.h"
#include "train/service.h"

namespace ristretto::train {
namespace {

namespace fs = std::filesystem;
using release::Json;

constexpr double kLeastSeconds = 20;              // of a retrain that is begun: what reading bars and judging take
constexpr std::int64_t kAttempts = 2;             // at what kills the process
constexpr std::int64_t kLateSeconds = 12 * 3600;  // after a night's beginning the next one is due
constexpr std::chrono::seconds kTick{5};

class Nights {
 public:
  Nights(const NightlyRequest& request, const std::vector<Given>& given)
      : request_(request), given_(given), directory_(request.runs / "nightly"), store_(request.deployments) {}

  NightlyResult run() {
    check_given(given_);  // else each model would fail by itself
    warn_of_fixed(given_, request_.source.has_value());
    if (request_.dry_run) return tell_due();
    fs::create_directories(directory_);
    const FileLock lock(directory_ / "lock", "nightly");
    // Nights with other runs directories share the deployments.
    std::optional<FileLock> shared;
    if (fs::exists(request_.deployments)) {
      fs::create_directories(request_.deployments / release::kVersions);
      shared.emplace(request_.deployments / release::kVersions / release::kNightlyLock, "nightly");
    }
    NightlyResult before = night();
    if (!night_.finished || !takes_anothers_place() || interrupt_requested() != 0) return before;
    log::info("nightly", "that one is finished, and the one that was asked for begins");
    NightlyResult tonight = night();
    tonight.text = before.text + tonight.text;
    tonight.document["went_on_with"] = before.document;
    if (night_.finished && before.exit_code == static_cast<int>(Fault::failed)) tonight.exit_code = before.exit_code;
    return tonight;
  }

  // What became of the models so far; "" before a night has begun.
  std::string text() const { return night_.id.empty() ? "" : text_of(night_); }

  // A line that says when it could not be told.
  std::string tell_webhook(const std::string& text, const Json& document) const {
    if (!request_.webhook) return "";
    const std::string wrong = tell(*request_.webhook, text, document);
    if (wrong.empty()) return "";
    log::warning("nightly", "the webhook was not told: " + wrong);
    return str("the webhook was not told: ", wrong, "\n");
  }

 private:
  std::vector<std::string> names() const {
    std::vector<std::string> there = store_.names();
    std::erase_if(there, [&](const std::string& name) { return !store_.deployed(name); });  // nothing of it ever passed
    for (const std::string& name : request_.names) store_.require_deployed(name);
    return request_.names.empty() ? there : request_.names;
  }

  // One night, from its beginning or from where it was cut.
  NightlyResult night() {
    begin();
    const Ticker ticker(kTick, [this] { write_seconds(directory_, night_.id, used()); });
    if (const int signal = refresh_study(); signal != 0) return interrupted(signal);
    for (ModelNight& model : night_.models) {
      if (interrupt_requested() != 0) break;
      if (request_.seconds > 0 && model.state == "waiting") set_aside(model);
    }
    for (ModelNight& model : night_.models) {
      if (model.ended()) continue;
      if (const int signal = interrupt_requested(); signal != 0) return interrupted(signal);
      const int signal = one(model);
      save();
      if (signal != 0) return interrupted(signal);
    }
    return finish();
  }

  // Whether the night that was gone on with is not the one that was asked for: of the day before, or without models
  // that are there by now.
  bool takes_anothers_place() const {
    if (!gone_on_) return false;
    if (now_seconds() - night_.started > kLateSeconds) return true;
    if (!request_.names.empty()) return false;  // they are its names
    const std::vector<std::string> there = names();
    return std::any_of(there.begin(), there.end(), [&](const std::string& name) {
      return std::none_of(night_.models.begin(), night_.models.end(),
                          [&](const ModelNight& model) { return model.name == name; });
    });
  }

  // A night of some models that went on with one of others would leave those out that were asked for.
  void require_same_names(const Night& last) const {
    const std::vector<std::string>& wanted = request_.names;
    if (wanted.empty()) return;
    std::vector<std::string> theirs;
    for (const ModelNight& model : last.models) theirs.push_back(model.name);
    if (std::set(wanted.begin(), wanted.end()) == std::set(theirs.begin(), theirs.end())) return;
    throw Error(Fault::usage,
                str("NAMES is ", join(wanted, ","), ", but the night of ", iso_utc(last.started),
                    " is not finished, and it is of ", theirs.empty() ? "none" : join(theirs, ",")),
                str("end that first: leave NAMES out, or move ", journal().string(), " away"));
  }

  // Goes on with the night that was not finished, or begins one.
  void begin() {
    const std::int64_t now = now_seconds();
    night_ = {};
    source_ = request_.source;
    used_before_ = 0;
    watch_.restart();
    gone_on_ = false;
    if (const auto last = read_night(journal())) {
      const std::int64_t latest = last->finished.value_or(last->started);
      if (now < latest) {
        throw Error(Fault::failed,
                    str("the clock reads ", iso_utc(now), ", but the last night was at ", iso_utc(latest)),
                    "set the clock, or move " + journal().string() + " away");
      }
      if (!last->finished) {
        require_same_names(*last);
        night_ = *last;
        gone_on_ = true;
        used_before_ = std::max(night_.seconds, read_seconds(directory_, night_.id));
        log::info("nightly", str("going on with the night of ", iso_utc(night_.started)));
        return;
      }
      remove_checkpoints(*last, request_.runs);
    }
    require_disk_budget(request_);
    night_.started = now;
    for (const std::string& name : names()) {
      ModelNight model;
      model.name = name;
      night_.models.push_back(model);
    }
    // Another night may have begun in this second.
    const auto taken = [&] {
      return fs::exists(directory_ / night_.id) ||
             std::any_of(night_.models.begin(), night_.models.end(), [&](const ModelNight& model) {
               return fs::exists(run_of(request_.runs, model.name, night_.id));
             });
    };
    night_.id = stamp_utc(now);
    for (int number = 2; taken(); ++number) night_.id = str(stamp_utc(now), "-", number);
    for (ModelNight& model : night_.models) model.run = run_of(request_.runs, model.name, night_.id).string();
    save();
  }

  // Adds trials to the study on the bars that no model's hold-out has. Returns the signal that ended it, 0 for none. A
  // sweep that fails costs the night nothing but its trials.
  int refresh_study() {
    if (request_.sweep_trials == 0 || !source_) return 0;
    if (night_.sweep.empty() && night_.sweep_attempts >= kAttempts) {
      night_.sweep = str("failed: the process died ", night_.sweep_attempts, " times in it");
      log::error("nightly", str("sweep: ", night_.sweep));
      save();
    }
    if (night_.sweep.empty()) {
      ++night_.sweep_attempts;
      save();
      try {
        std::string from;
        for (ModelNight& model : night_.models) {
          if (!model.holdout_from) model.holdout_from = holdout_from(request_, source_, given_, model.name);
          const std::string& other = *model.holdout_from;
          if (!other.empty() && (from.empty() || other < from)) from = other;  // as texts they are in order of time
        }
        const std::string study = add_trials(request_, *source_, given_, from);
        if (const int signal = interrupt_requested(); signal != 0) {
          --night_.sweep_attempts;
          return signal;
        }
        resolve(StudySource{source_->storage, study, std::nullopt}, std::nullopt, given_);  // it has a best trial
        night_.study = study;
        night_.sweep = str(request_.sweep_trials, " trials in study ", night_.study);
      } catch (const std::exception& error) {
        night_.sweep = str("failed: ", error.what());
        log::warning("nightly", night_.sweep);
      }
      save();
    }
    if (!night_.study.empty()) source_->study_name = night_.study;
    return 0;
  }

  // Whether there are enough new bars; where not, the model's night is over.
  bool due(ModelNight& model, const Work& work) const {
    if (model.state != "waiting") return true;  // it was, and by now its own look may stand in the ledger
    model.new_bars = work.new_bars;
    if (work.new_bars >= request_.new_bars) return true;
    model.state = "not due";
    model.reason = str(work.new_bars, " new bars, expected at least ", request_.new_bars);
    return false;
  }

  // A model that is not due takes no share of the night's time from the others.
  void set_aside(ModelNight& model) {
    try {
      require_whole(model.name);
      if (!model.holdout_from) model.holdout_from = holdout_from(request_, source_, given_, model.name);
      due(model, work_of(request_, source_, given_, model.name, *model.holdout_from, night_.started, 0));
    } catch (const std::exception&) {
      // one() meets the same and says it.
    }
  }

  // Retrains one model. Returns the signal that ended it, 0 for none.
  int one(ModelNight& model) {
    try {
      require_whole(model.name);
      if (model.state == "running") {
        if (const auto ending = published(store_, model.name, model.run)) {
          take(model, *ending);
          return 0;
        }
        if (model.attempts >= kAttempts) {
          fail(model, str("the process died ", model.attempts, " times while training it"));
          return 0;
        }
      }
      double left = seconds_left(model);
      // What was begun is judged, also where the process died when the time was up.
      if (request_.seconds > 0 && model.state == "running") left = std::max(left, kLeastSeconds);
      // A night that goes on cuts where it began to: its own look at the hold-out stands in the ledger by now.
      if (!model.holdout_from) model.holdout_from = holdout_from(request_, source_, given_, model.name);
      const Work work = work_of(request_, source_, given_, model.name, *model.holdout_from, night_.started, left);
      if (!due(model, work)) return 0;
      if (request_.seconds > 0 && left < kLeastSeconds) {
        model.state = "failed";
        model.reason = left <= 0 ? str("the night's time was up before it")
                                 : str("its share of the night's time was ", fixed(left, 0), " s, expected at least ",
                                       kLeastSeconds, " s");
        return 0;
      }
      model.state = "running";
      ++model.attempts;
      save();
      RetrainRequest retraining{model.name,     request_.deployments, request_.runs, model.run,
                                request_.seeds, request_.thresholds,  true,          request_.command};
      Profile profile;
      const RetrainResult result = retrain(retraining, work.trials, profile);
      if (const int signal = interrupt_requested(); signal != 0 && !result.document.contains("served")) {
        --model.attempts;
        return signal;
      }
      model.document = result.document;
      model.report = fs::absolute(result.document["report"].get<std::string>()).string();
      take(model, {result.document["version"], result.document["status"], result.document["reason"],
                   result.document["served"], false});
    } catch (const std::exception& error) {
      fail(model, message_of(error));
    }
    return 0;
  }

  void fail(ModelNight& model, const std::string& reason) {
    model.state = "failed";
    model.reason = reason;
    try {
      // Its record comes behind the switch.
      if (const auto version = version_of(store_, model.name, model.run); version && version->served) {
        take(model, {version->id, version->status, reason, true, false});
        model.fault = true;
      }
    } catch (const std::exception&) {
      // What is wrong with the store is the reason already.
    }
    log::error("nightly", str(model.name, ": ", model.reason));
  }

  // What is damaged needs a person: a night that replaced it would hide that something writes into versions.
  void require_whole(const std::string& name) {
    store_.slot(name);
    if (!request_.dry_run) store_.settle(name);
    for (const release::Version& version : store_.list(name)) {
      const std::vector<std::string> problems = store_.check(name, version.id);
      if (problems.empty()) continue;
      if (version.served) {
        throw Error(Fault::incompatible, str("what is served is damaged: ", join(problems, "; ")));
      }
      log::warning("nightly", str(name, ": ", join(problems, "; ")));
    }
  }

  static void take(ModelNight& model, const Ending& ending) {
    model.state = ending.served ? "served" : "kept";
    model.version = ending.version;
    model.status = ending.status;
    model.reason = ending.reason;
  }

  // An equal share of what is left for each model that has not ended.
  double seconds_left(const ModelNight& model) const {
    if (request_.seconds <= 0) return 0;
    const auto waiting = std::count_if(night_.models.begin(), night_.models.end(), [&](const ModelNight& other) {
      return !other.ended() || other.name == model.name;
    });
    return (request_.seconds - used()) / static_cast<double>(waiting);
  }

  double used() const { return used_before_ + watch_.seconds(); }

  fs::path journal() const { return directory_ / "journal.json"; }

  void save() {
    night_.seconds = used();
    write_night(journal(), night_);
  }

  NightlyResult interrupted(int signal) {
    save();
    return {json_of(night_), text_of(night_) + "interrupted; the same command goes on with this night where it was\n",
            interrupt_exit_code(signal)};
  }

  NightlyResult finish() {
    const fs::path reports = directory_ / night_.id;
    fs::create_directories(reports);
    night_.finished = now_seconds();
    night_.seconds = used();
    write_file_atomically(reports / "report.html", html_of(night_, reports));
    write_file_atomically(reports / "report.json",
                          json_of(night_).dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
    // Before the night is over: one that is cut here tells again rather than never.
    const std::string told = tell_webhook(text_of(night_), json_of(night_));
    if (const int signal = interrupt_requested(); signal != 0 && !told.empty()) {
      night_.finished.reset();
      return interrupted(signal);
    }
    save();
    return {json_of(night_), text_of(night_) + told + str("report: ", (reports / "report.html").string(), "\n"),
            exit_code()};
  }

  NightlyResult tell_due() {
    for (const std::string& name : names()) {
      ModelNight model;
      model.name = name;
      try {
        require_whole(name);
        const std::string from = holdout_from(request_, source_, given_, name);
        model.new_bars = work_of(request_, source_, given_, name, from, now_seconds(), 0).new_bars;
        model.state = model.new_bars >= request_.new_bars ? "due" : "not due";
        model.reason = str(model.new_bars, " new bars");
      } catch (const std::exception& error) {
        model.state = "failed";
        model.reason = error.what();
      }
      night_.models.push_back(std::move(model));
    }
    night_.started = now_seconds();
    Json document = json_of(night_);
    document["dry_run"] = true;
    return {document, text_of(night_) + "dry run: nothing was done\n", exit_code()};
  }

  int exit_code() const {
    const auto any = [&](const char* state) {
      return std::any_of(night_.models.begin(), night_.models.end(),
                         [&](const ModelNight& model) { return model.state == state; });
    };
    const bool fault =
        std::any_of(night_.models.begin(), night_.models.end(), [](const ModelNight& model) { return model.fault; });
    if (any("failed") || fault) return static_cast<int>(Fault::failed);
    return !any("served") && any("kept") ? static_cast<int>(Fault::refused) : 0;
  }

  const NightlyRequest& request_;
  const std::vector<Given>& given_;
  std::optional<StudySource> source_;
  fs::path directory_;
  release::VersionStore store_;
  Night night_;
  bool gone_on_ = false;    // the night was begun by another process
  double used_before_ = 0;  // this one's beginning
  Stopwatch watch_;
};

}  // namespace

NightlyResult nightly(const NightlyRequest& request, const std::vector<Given>& given) {
  Nights nights(request, given);
  try {
    return nights.run();
  } catch (const std::exception& error) {
    // Nobody reads an unattended job's standard error.
    const auto* known = dynamic_cast<const Error*>(&error);
    const bool busy = known != nullptr && known->fault() == Fault::busy;
    if (!busy && !request.dry_run) {
      const std::string message = message_of(error);
      nights.tell_webhook(str("the night failed: ", message, "\n", nights.text()), {{"error", message}});
    }
    throw;
  }
}

}  // namespace ristretto::train
