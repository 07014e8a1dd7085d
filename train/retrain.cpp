#include "train/retrain.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/zeros.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "env/random.h"
#include "evaluation/ladder.h"
#include "evaluation/look_ahead.h"
#include "evaluation/metrics.h"
#include "evaluation/metrics_table.h"
#include "evaluation/report.h"
#include "platform/atomic_file.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/interrupt.h"
#include "platform/lock.h"
#include "platform/log.h"
#include "platform/text.h"
#include "release/deployment.h"
#include "release/gates.h"
#include "release/ledger.h"
#include "release/served_actor.h"
#include "release/sha256.h"
#include "release/versions.h"
#include "train/device.h"
#include "train/job.h"
#include "train/trainer.h"

namespace ristretto::train {
namespace {

using release::Json;

constexpr double kLadderSeconds = 4;      // the reference agents on the hold-out, and the rest of judging
constexpr double kBytesPerSecond = 20e6;  // writing, hashing and verifying a version
constexpr double kJudgingValidations =
    4;  // hold-out, validation, champion and look-ahead take about as long as one each
constexpr std::int64_t kProbeRows = 16;

// Sum of log returns over the bars that `other` decided too: with another lookback a window begins and ends elsewhere.
double log_gain(const evaluation::Backtest& backtest, const evaluation::Backtest& other) {
  double sum = 0;
  for (std::size_t k = 0; k < backtest.time.size(); ++k) {
    if (std::binary_search(other.time.begin(), other.time.end(), backtest.time[k])) sum += backtest.log_returns[k];
  }
  return sum;
}

// Not finite (a ratio without a loss) is null: JSON has no such number.
Json number(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

Json json_of(const agents::Value& value) {
  return std::visit(
      [](const auto& v) -> Json {
        if constexpr (std::is_same_v<std::decay_t<decltype(v)>, std::monostate>) {
          return nullptr;
        } else {
          return v;
        }
      },
      value);
}

Json json_of(const evaluation::Split& split) {
  return {{"first_bar", iso_utc(split.first_time)},
          {"last_bar", iso_utc(split.last_time)},
          {"bars", split.market.bars_in_segments()},
          {"segments", split.market.segments.size()}};
}

Json study_section(const Resolved& resolved) {
  if (!resolved.trial) return nullptr;
  Json section = {{"storage", resolved.storage},
                  {"name", resolved.study_name},
                  {"trial", resolved.trial->number},
                  {"value", resolved.trial->values.empty() ? Json(nullptr) : number(resolved.trial->values[0])},
                  {"library_version", resolved.library_version},
                  {"generation", resolved.generation ? studies::name_of(*resolved.generation) : ""}};
  for (const studies::Taken& taken : resolved.parameters) {
    section["parameters"][taken.name] = {
        {"value", json_of(taken.value)}, {"status", agents::name_of(taken.status)}, {"applied", taken.applied}};
    if (!taken.note.empty()) section["parameters"][taken.name]["note"] = taken.note;
  }
  return section;
}

Json hyperparameters_section(const Settings& settings) {
  Json section;
  for (const agents::Row& row : agents::table()) {
    section[row.name] = {{"value", json_of(agents::get(settings.hyperparameters, row))},
                         {"source", settings.source_of(row.name)}};
  }
  return section;
}

Json data_section(const Settings& settings, const Data& data) {
  Json section = {{"directory", settings.run.bars}, {"features", settings.run.features}};
  for (const std::string& asset : data.layout.assets) {
    const std::filesystem::path file = env::bars_file(settings.run.bars, asset);
    section["files"][file.filename().string()] = {{"sha256", release::sha256_of_file(file)},
                                                  {"bytes", std::filesystem::file_size(file)}};
  }
  for (const evaluation::Split* split : {&data.splits.train, &data.splits.validation, &data.splits.holdout}) {
    section["splits"][split->name] = json_of(*split);
  }
  section["purged_bars"] = data.splits.purged_bars;
  section["embargo_bars"] = 0;
  return section;
}

// States that the model may meet: bars spread over the hold-out, accounts between all cash and full positions.
at::Tensor probe_states(const Data& data, std::uint64_t seed) {
  const env::Market& market = data.splits.holdout.market;
  std::vector<std::int32_t> bars;
  for (const env::Segment& segment : market.segments) {
    for (std::int64_t row = segment.begin + data.layout.lookback - 1; row < segment.end; ++row)
      bars.push_back(static_cast<std::int32_t>(row));
  }
  const std::int64_t n = data.layout.assets_count();
  env::Observation observation;
  observation.bar = at::zeros({kProbeRows}, at::kInt);
  observation.account = env::uniform(kProbeRows, 1 + n, seed, 0, at::kCPU) * data.rules.initial_capital;
  for (std::int64_t k = 0; k < kProbeRows; ++k) {
    const std::int32_t bar = bars[bars.size() * static_cast<std::size_t>(k) / kProbeRows];
    observation.bar[k] = bar;
    observation.account[k].narrow(0, 1, n).div_(market.price[bar].to(at::kFloat) * static_cast<double>(n));
  }
  return env::materialize(observation, market.tech, data.layout);
}

// What is served now, run over the candidate's hold-out.
struct Champion {
  std::optional<std::string> version;
  release::Served state = release::Served::empty;
  std::optional<evaluation::Backtest> backtest;
  std::string note;  // why there is no backtest
};

Champion judge_champion(release::VersionStore& store, const std::string& name, const Settings& settings,
                        const Data& data) {
  Champion champion;
  champion.version = store.adopt(name);
  if (!champion.version) return champion;
  const std::filesystem::path path = store.path_of(name, *champion.version);
  champion.state = release::served_state(path);
  if (champion.state == release::Served::damaged) {
    champion.note = "it does not verify";
    return champion;
  }
  const release::Model model = release::load(path);
  const std::optional<env::Layout> layout = release::served_layout(model);
  if (!layout) {
    champion.state = release::Served::damaged;
    champion.note = str("its ", model.architecture.observation,
                        " inputs fit no layout of today's environment: it cannot be served");
    return champion;
  }
  // From here on the champion is whole: what cannot be compared stays in service (deployments.md).
  if (layout->assets != data.layout.assets) {
    champion.note = "it trades other assets: the two cannot be compared";
    return champion;
  }
  env::Market market = data.market;
  if (layout->features != data.layout.features) {
    market = env::Market::of(env::read_bars(settings.run.bars, layout->assets), layout->features);
    if (market.time != data.market.time) {
      champion.note = "its features are defined on other bars: the two cannot be compared";
      return champion;
    }
  }
  market = market.with_segments(data.splits.holdout.market.segments);
  env::Rules rules = model.rules.value_or(data.rules);
  rules.lookback = layout->lookback;
  // Both are judged with the same money and the same costs, whatever they were trained with.
  rules.fee_fraction = data.rules.fee_fraction;
  rules.initial_capital = data.rules.initial_capital;
  champion.backtest = evaluation::backtest(market, *layout, rules, release::actor_of(model, *layout, market));
  return champion;
}

std::filesystem::path new_run_directory(const RetrainRequest& request) {
  std::string stamp = iso_utc(std::chrono::duration_cast<std::chrono::seconds>(now_utc().time_since_epoch()).count());
  std::erase_if(stamp, [](char c) { return c == '-' || c == ':'; });
  std::filesystem::create_directories(request.runs);
  for (int attempt = 1;; ++attempt) {
    const std::filesystem::path directory =
        request.runs / str(request.name, "-", stamp, attempt > 1 ? str("-", attempt) : std::string());
    if (std::filesystem::create_directory(directory)) return directory;
  }
}

}  // namespace

RetrainResult retrain(const RetrainRequest& request, const Resolved& resolved, Profile& profile) {
  release::require_name(request.name);
  const Settings& settings = resolved.settings;
  std::filesystem::create_directories(request.deployments);
  std::filesystem::create_directories(request.runs);
  const FileLock lock(request.runs / ("." + request.name + ".lock"), "retrain " + request.name);
  release::VersionStore store(request.deployments);
  store.slot(request.name);  // refuses what is not ours before hours are spent
  const agents::Architecture architecture = architecture_of(settings);
  store.require_room(2 * release::staged_bytes(architecture));

  // Train.
  prepare_machine(settings);
  const Data data = load_data(settings);
  log::info("train",
            str(data.layout.size(), " inputs: ", data.layout.assets_count(), " assets x ", data.layout.features.size(),
                " features x ", data.layout.lookback, " bars; train ", iso_utc(data.splits.train.first_time), " to ",
                iso_utc(data.splits.train.last_time), ", hold-out from ", iso_utc(data.splits.holdout.first_time)));
  if (resolved.seen_until && *resolved.seen_until >= data.splits.holdout.first_time) {
    throw Error(Fault::usage,
                str("the hold-out begins at ", iso_utc(data.splits.holdout.first_time), ", but ", resolved.origin,
                    " was chosen by bars up to ", iso_utc(*resolved.seen_until), ": they cannot judge it"),
                str("--holdout-from a date after that"));
  }
  const std::filesystem::path run_directory = new_run_directory(request);
  write_file_atomically(run_directory / "config.ini", settings.as_ini());
  const bool bf16 = settings.run.precision == "bf16";
  Trainer trainer(settings, data.splits.train.market, run_directory, validation_on(data, bf16), profile);
  const Plan& plan = trainer.plan();
  report_plan(plan, settings, profile.total());
  const double reserve = kLadderSeconds + static_cast<double>(release::staged_bytes(architecture)) / kBytesPerSecond;
  const double training_seconds =
      plan.budget_seconds > 0 ? std::max(1.0, plan.budget_seconds - profile.total() - reserve) : 0;
  const Outcome outcome = trainer.run(training_seconds, kJudgingValidations);
  const double step_share = static_cast<double>(outcome.environment_steps) / static_cast<double>(plan.steps);
  RetrainResult result;
  if (outcome.signal != 0) {
    result.exit_code = interrupt_exit_code(outcome.signal);
    result.text =
        str(outcome.ended, " after ", with_thousands(outcome.environment_steps), " steps; the run is saved in ",
            run_directory.string(), "\nit trains on (without judging or serving) with: ristretto train --resume --run ",
            run_directory.string(), "\n");
    result.document = {{"name", request.name},
                       {"ended", outcome.ended},
                       {"run", run_directory.string()},
                       {"steps", outcome.environment_steps}};
    return result;
  }

  // Write the candidate.
  profile.enter("judging");
  release::Content content;
  content.architecture = architecture;
  const ft_transformer::Weights actor = outcome.best.policy.actor.to(at::kCPU, at::kFloat);
  const ft_transformer::Weights critic = outcome.best.policy.critic.to(at::kCPU, at::kFloat);
  content.actor = outcome.best.normalizer.folded(actor, architecture, data.layout);
  content.critic = outcome.best.normalizer.folded(critic, architecture, data.layout);
  content.layout = data.layout;
  content.rules = data.rules;
  for (const agents::Row& row : agents::table())
    content.parameters[row.name] = json_of(agents::get(settings.hyperparameters, row));
  if (resolved.trial) {
    content.trial_number = resolved.trial->number;
    content.trial_value = resolved.trial->values.empty() ? 0 : resolved.trial->values[0];
  }
  content.study_name = resolved.study_name;
  content.probe_states = probe_states(data, static_cast<std::uint64_t>(settings.run.seed));

  // Judge it: the served form of the weights, on bars that nothing has seen.
  const env::Market& holdout = data.splits.holdout.market;
  const auto served_actor = [&](const env::Market& market) -> evaluation::Actor {
    return [&content, tech = market.tech](const env::Observation& seen) {
      const at::NoGradGuard no_gradients;
      return at::tanh(
          agents::actor_mean(content.actor, content.architecture, env::materialize(seen, tech, content.layout)));
    };
  };
  const Json data_record = data_section(settings, data);
  release::Ledger ledger(request.deployments, request.name);
  release::Opening opening;
  opening.candidate = run_directory.filename().string();
  opening.first_bar = data.splits.holdout.first_time;
  opening.last_bar = data.splits.holdout.last_time;
  opening.bars = holdout.bars_in_segments();
  opening.data_sha256 = release::sha256(data_record["files"].dump());
  opening.trials = resolved.trials;
  const std::int64_t look = ledger.open(opening);
  const evaluation::Backtest judged =
      evaluation::backtest(holdout, data.layout, data.rules, served_actor(holdout), true);
  const evaluation::Backtest validated = evaluation::backtest(data.splits.validation.market, data.layout, data.rules,
                                                              served_actor(data.splits.validation.market));
  const evaluation::Metrics metrics = evaluation::metrics_of(judged);
  const std::vector<evaluation::Reference> references = evaluation::ladder(holdout, data.layout, data.rules);
  const std::vector<std::string> ladder_problems = evaluation::check_ladder(references, data.rules);
  const std::optional<std::string> look_ahead =
      evaluation::look_ahead_violation(holdout, data.layout, data.rules, served_actor);
  const Champion champion = judge_champion(store, request.name, settings, data);

  Json training = {{"environment_steps", outcome.environment_steps},
                   {"planned_steps", plan.steps},
                   {"iterations", outcome.iterations},
                   {"kept_iteration", outcome.best.iteration},
                   {"optimizer_steps", outcome.optimizer_steps},
                   {"seconds", outcome.seconds},
                   {"ended", outcome.ended},
                   {"relative_weight_change", outcome.weight_change},
                   {"seed", settings.run.seed},
                   {"device", describe(device_of(settings.run.device))},
                   {"precision", settings.run.precision},
                   {"portfolios", plan.portfolios},
                   {"libtorch", RISTRETTO_LIBTORCH_VERSION},
                   {"ristretto", RISTRETTO_VERSION},
                   {"git_commit", RISTRETTO_COMMIT},
                   {"command", request.command},
                   {"run", run_directory.string()}};
  for (std::size_t k = 0; k < outcome.reward_term_shares.size(); ++k) {
    training["reward_term_shares"][env::kRewardTerms[k]] = outcome.reward_term_shares[k];
  }
  Json& sections = content.manifest_sections;
  sections["study"] = study_section(resolved);
  sections["hyperparameters"] = hyperparameters_section(settings);
  sections["serving"] = {{"profile", settings.run.serving}, {"overrides", resolved.overridden}};
  sections["training"] = training;
  sections["data"] = data_record;
  sections["metrics"]["validation"] = json_of(evaluation::metrics_of(validated));
  sections["metrics"]["holdout"] = json_of(metrics);
  for (const evaluation::Reference& reference : references) {
    sections["metrics"]["holdout_references"][reference.name] = json_of(reference.metrics);
  }
  if (champion.backtest) sections["metrics"]["holdout_champion"] = json_of(evaluation::metrics_of(*champion.backtest));

  profile.enter("writing");
  const std::filesystem::path staged = run_directory / "deployment";
  std::filesystem::create_directories(staged / "training");
  for (const char* file : {"config.ini", "checkpoint/checkpoint.safetensors"}) {
    std::filesystem::copy_file(run_directory / file, staged / "training" / std::filesystem::path(file).filename());
  }
  release::stage(content, staged);
  std::vector<release::GateResult> gates =
      release::integrity_gates({staged, data.layout, judged.orders, outcome.environment_steps,
                                outcome.iterations * plan.samples, outcome.optimizer_steps, outcome.weight_change});
  gates.push_back({"ladder", ladder_problems.empty(), ladder_problems.empty() ? "in order" : "out of order", "in order",
                   join(ladder_problems, "; ")});
  gates.push_back({"look_ahead", !look_ahead, look_ahead ? "found" : "none", "none", look_ahead.value_or("")});
  const evaluation::Backtest& other = champion.backtest ? *champion.backtest : judged;
  const double candidate_value = log_gain(judged, other);
  const std::optional<double> champion_value =
      champion.backtest ? std::optional(log_gain(*champion.backtest, judged)) : std::nullopt;
  const release::Verdict verdict =
      release::decide(champion.state, release::all_passed(gates), candidate_value, champion_value);
  const Json gates_json = release::json_of(gates);
  ledger.conclude(look, {metrics.sharpe, log_gain(judged, judged), verdict.status});

  // Before the step that cannot be taken back: a full disk must not hide what was served.
  const std::filesystem::path report = run_directory / "report.html";
  std::vector<evaluation::Reference> shown = references;
  if (champion.backtest) {
    shown.insert(shown.begin(), {"served until now", evaluation::metrics_of(*champion.backtest), *champion.backtest});
  }
  evaluation::write_report(
      report, evaluation::report_of(str(request.name, " on the hold-out"), judged, shown, data.layout.assets));
  if (const int signal = interrupt_requested(); signal != 0) {
    result.exit_code = interrupt_exit_code(signal);
    result.text = str("interrupted before anything was published; the candidate lies in ", staged.string(), "\n");
    result.document = {{"name", request.name},
                       {"ended", "interrupted"},
                       {"run", run_directory.string()},
                       {"steps", outcome.environment_steps}};
    return result;
  }
  std::string version, reason = verdict.reason;
  bool served = false;
  if (release::all_passed(gates)) {
    version = store.publish(request.name, staged, {champion.version, verdict.status, gates_json});
    if (verdict.serve && request.promote) {
      try {
        store.serve(request.name, version, champion.version, verdict.reason, gates_json);
        served = true;
      } catch (const Error& error) {
        if (error.fault() != Fault::refused) throw;
        reason = error.what();  // something else was put in service meanwhile
        store.refuse(request.name, version, reason, gates_json);
      }
    } else if (!verdict.serve) {
      store.refuse(request.name, version, verdict.reason, gates_json);
    }
  } else {
    reason = release::refusals(gates);
    store.refuse(request.name, std::nullopt, reason, gates_json);
  }
  profile.enter("other");
  result.exit_code = served || (verdict.serve && !request.promote) ? 0 : static_cast<int>(Fault::refused);

  // Tell.
  const double total = profile.total();
  const double in_training = profile.seconds_in("rollout") + profile.seconds_in("update");
  result.document = {{"name", request.name},
                     {"version", version},
                     {"status", verdict.status},
                     {"served", served},
                     {"reason", reason},
                     {"hyperparameters_from", resolved.origin},
                     {"steps", outcome.environment_steps},
                     {"planned_steps", plan.steps},
                     {"iterations", outcome.iterations},
                     {"seconds", total},
                     {"training_share", in_training / total},
                     {"holdout", json_of(metrics)},
                     {"gates", gates_json},
                     {"run", run_directory.string()},
                     {"report", report.string()}};
  for (const auto& [phase, seconds] : profile.seconds()) result.document["phases"][phase] = seconds;
  std::string& text = result.text;
  text =
      str("\n", request.name, ": trained ", with_thousands(outcome.environment_steps), " of ",
          with_thousands(plan.steps), " steps (", fixed(100 * step_share, 1), " %) in ", duration_text(outcome.seconds),
          ", ended by ", outcome.ended, "; kept iteration ", outcome.best.iteration, " of ", outcome.iterations, "\n");
  text += str("hyperparameters: ", resolved.origin, "\n");
  text += str("\nhold-out, ", iso_utc(data.splits.holdout.first_time), " to ", iso_utc(data.splits.holdout.last_time),
              ", ", metrics.bars, " bars; look ", look, " of this name at a hold-out, ",
              with_thousands(ledger.read().trials()), " trials behind all of them:\n");
  text += evaluation::table_header();
  text += evaluation::table_line("this model", metrics);
  if (champion.backtest) text += evaluation::table_line("served until now", evaluation::metrics_of(*champion.backtest));
  for (const evaluation::Reference& reference : references)
    text += evaluation::table_line(reference.name, reference.metrics);
  if (!champion.note.empty()) text += str("\nserved until now (", *champion.version, "): ", champion.note, "\n");
  text += "\ngates: ";
  for (const release::GateResult& gate : gates) text += str(gate.name, gate.passed ? " ok  " : " REFUSED  ");
  text += "\n";
  if (served) {
    text += str("served: ", (request.deployments / request.name).string(), " -> ", version, ", status ", verdict.status,
                " (", reason, ")\n");
    text += "        unproven: no statistics stand behind it yet; do not put money on it\n";
  } else if (version.empty()) {
    text += str("refused, not published: ", reason, "\n        the candidate lies in ", staged.string(), "\n");
  } else {
    text += str(verdict.serve && !request.promote ? "published, not served as asked: " : "refused: ", reason,
                "\n        published as version ", version, "\n");
  }
  std::vector<std::string> parts;
  for (const auto& [phase, seconds] : profile.seconds()) {
    if (seconds >= 0.01 * total) parts.push_back(str(phase, " ", fixed(100 * seconds / total, 0), " %"));
  }
  text += str("time: ", duration_text(total), " (", join(parts, ", "), "); report: ", report.string(), "\n");
  return result;
}

}  // namespace ristretto::train
