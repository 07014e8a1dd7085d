#include <algorithm>

#include "optuna_files.h"
#include "studies/storage.h"
#include "studies/trial_settings.h"

using namespace ristretto;
using namespace ristretto::studies;
using agents::Status;

namespace {

Study example(const char* name) { return open_storage(kExample)->read_study(name); }

const Taken& taken_of(const TrialSettings& settings, const std::string& name) {
  const auto found = std::find_if(settings.parameters.begin(), settings.parameters.end(),
                                  [&](const Taken& taken) { return taken.name == name; });
  REQUIRE(found != settings.parameters.end());
  return *found;
}

Trial trial_with(std::vector<std::pair<std::string, agents::Value>> params) {
  Trial trial;
  trial.number = 7;
  trial.state = State::complete;
  for (auto& [name, value] : params) trial.params.push_back({name, value, agents::Choices{}});
  return trial;
}

Study study_of(std::vector<Attribute> user_attributes = {}) {
  Study study;
  study.name = std::string("s");
  study.user_attributes = std::move(user_attributes);
  return study;
}

}  // namespace

TEST_CASE("settings: the published trial gives the parameters that reached the agent, and its network") {
  const Study study = example("cappuccino_ft_16gb_optimized");
  const TrialSettings settings = settings_of_trial(study, trial_of(study, 14));
  CHECK(settings.generation == Generation::cappuccino);
  const agents::Hyperparameters& h = settings.hyperparameters;
  const agents::Hyperparameters defaults;
  CHECK(h.learning_rate == 9.941716684429581e-06);
  CHECK(h.batch_size == 98304);
  CHECK(h.gamma == 0.92);
  CHECK(h.net_dimension == 3584);
  CHECK(h.base_target_step == 395);
  CHECK(h.base_break_step == 70000);
  CHECK(h.lookback == 4);
  CHECK(h.norm_cash_exp == -12);
  CHECK(h.norm_stocks_exp == -6);
  CHECK(h.norm_tech_exp == -15);
  CHECK(h.norm_reward_exp == -12);
  CHECK(h.norm_action == 19000);
  CHECK(h.time_decay_floor == 0.5);
  CHECK(h.min_cash_reserve == 0.25);
  CHECK(h.concentration_penalty == 0.07);
  CHECK(h.use_ft_encoder);
  CHECK(h.ft_d_token == 64);
  CHECK(h.ft_n_blocks == 2);
  CHECK(h.ft_n_heads == 2);
  // Untested or inert: the defaults stay.
  CHECK(h.clip_range == defaults.clip_range);
  CHECK(h.ppo_epochs == defaults.ppo_epochs);
  CHECK(h.adam_epsilon == defaults.adam_epsilon);
  CHECK(h.use_lr_schedule == defaults.use_lr_schedule);
  CHECK(h.max_drawdown_penalty == 0);
  CHECK(h.volatility_penalty == 0);
  CHECK(h.ft_dropout == 0);
  CHECK_FALSE(h.ft_use_pretrained);
  CHECK_FALSE(h.ft_freeze_encoder);
  agents::check(h);

  CHECK(settings.parameters.size() == 36);  // 35 and use_ft_encoder
  CHECK(settings.parameters.front().name == "worker_num");
  CHECK(settings.parameters.back().name == "use_ft_encoder");
  CHECK(contains(settings.parameters.back().note, "follows from"));
  std::vector<std::string> untested, inert;
  for (const Taken& taken : settings.parameters) {
    CHECK(taken.applied == (taken.status == Status::used));
    CHECK((taken.applied || !taken.note.empty()));
    if (taken.status == Status::untested) untested.push_back(taken.name);
    if (taken.status == Status::inert) inert.push_back(taken.name);
  }
  CHECK(untested == std::vector<std::string>{"clip_range", "entropy_coef", "value_loss_coef", "max_grad_norm",
                                             "gae_lambda", "ppo_epochs", "kl_target", "adam_epsilon",
                                             "use_lr_schedule"});
  CHECK(inert == std::vector<std::string>{"worker_num", "thread_num", "max_drawdown_penalty", "volatility_penalty",
                                          "ft_dropout", "ft_freeze_encoder", "eval_time_gap"});
}

TEST_CASE("settings: an MLP's study, with its learning-rate schedule") {
  const Study study = example("cappuccino_maxgpu");
  for (const Trial& trial : study.trials) {
    if (trial.state != State::complete) continue;
    const TrialSettings settings = settings_of_trial(study, trial);
    CHECK_FALSE(settings.hyperparameters.use_ft_encoder);
    CHECK(settings.parameters.size() == trial.params.size());
    agents::check(settings.hyperparameters);
    Interpretation all;
    all.use_untested = all.activate_inert = true;
    agents::check(settings_of_trial(study, trial, all).hyperparameters);
    if (trial.find_param("lr_schedule_type")) {
      CHECK(taken_of(settings, "lr_schedule_type").status == Status::untested);
      CHECK(taken_of(settings, "lr_schedule_factor").status == Status::untested);
    }
  }
}

TEST_CASE("settings: untested and inert values are taken when asked for, what nothing reads never") {
  const Study study = example("cappuccino_ft_16gb_optimized");
  Interpretation how;
  how.use_untested = true;
  TrialSettings settings = settings_of_trial(study, trial_of(study, 14), how);
  CHECK(settings.hyperparameters.clip_range == 0.15000000000000002);
  CHECK(settings.hyperparameters.ppo_epochs == 16);
  CHECK_FALSE(settings.hyperparameters.use_lr_schedule);
  CHECK(taken_of(settings, "clip_range").status == Status::untested);
  CHECK(taken_of(settings, "clip_range").applied);
  CHECK(contains(taken_of(settings, "clip_range").note, "--use-untested"));
  CHECK(settings.hyperparameters.volatility_penalty == 0);

  how = {};
  how.activate_inert = true;
  settings = settings_of_trial(study, trial_of(study, 14), how);
  CHECK(settings.hyperparameters.max_drawdown_penalty == 0.03);
  CHECK(settings.hyperparameters.volatility_penalty == 0.03);
  CHECK(settings.hyperparameters.clip_range == agents::Hyperparameters{}.clip_range);
  CHECK(settings.hyperparameters.ft_dropout == 0);
  CHECK(settings.hyperparameters.worker_num == 0);
  CHECK_FALSE(taken_of(settings, "ft_dropout").applied);
}

TEST_CASE("settings: a frozen encoder needs pre-trained weights, given and wanted") {
  Interpretation how;
  const Trial wanted = trial_with({{"ft_freeze_encoder", true}, {"ft_use_pretrained", true}});
  const TrialSettings missing = settings_of_trial(study_of(), wanted, how);
  CHECK_FALSE(missing.hyperparameters.ft_use_pretrained);
  CHECK_FALSE(missing.hyperparameters.ft_freeze_encoder);
  CHECK(taken_of(missing, "ft_use_pretrained").status == Status::inert);
  CHECK(contains(taken_of(missing, "ft_use_pretrained").note, "no pre-trained encoder weights are given"));
  how.pretrained_encoder = true;
  const TrialSettings given = settings_of_trial(study_of(), wanted, how);
  CHECK(given.hyperparameters.ft_use_pretrained);
  CHECK(given.hyperparameters.ft_freeze_encoder);
  agents::check(given.hyperparameters);
  const Trial random = trial_with({{"ft_freeze_encoder", true}, {"ft_use_pretrained", false}});
  const TrialSettings unwanted = settings_of_trial(study_of(), random, how);
  CHECK_FALSE(unwanted.hyperparameters.ft_freeze_encoder);
  CHECK(taken_of(unwanted, "ft_freeze_encoder").status == Status::inert);
  CHECK(contains(taken_of(unwanted, "ft_freeze_encoder").note, "random encoder"));
  CHECK(taken_of(unwanted, "ft_use_pretrained").status == Status::used);
}

TEST_CASE("settings: a parameter or attribute use_ft_encoder overrides what the ft_ parameters say") {
  const auto network = [](const Study& study, const Trial& trial) {
    return settings_of_trial(study, trial).hyperparameters.use_ft_encoder;
  };
  const Attribute no{"use_ft_encoder", formats::read_json("false", "test")};
  const Attribute yes{"use_ft_encoder", formats::read_json("true", "test")};
  Trial trial = trial_with({{"ft_d_token", std::int64_t{64}}, {"gamma", 0.9}});
  CHECK(network(study_of(), trial));
  CHECK_FALSE(network(study_of({no}), trial));
  trial.user_attributes = {yes};
  CHECK(network(study_of({no}), trial));
  trial.params.push_back({"use_ft_encoder", false, agents::Choices{}});
  const TrialSettings mlp = settings_of_trial(study_of({no}), trial);
  CHECK_FALSE(mlp.hyperparameters.use_ft_encoder);
  CHECK(mlp.hyperparameters.ft_d_token == agents::Hyperparameters{}.ft_d_token);
  CHECK(taken_of(mlp, "ft_d_token").status == Status::inert);
  CHECK(taken_of(mlp, "ft_d_token").note == "the network is an MLP");
  CHECK(mlp.parameters.size() == 3);
  trial.params.pop_back();
  trial.user_attributes = {{"use_ft_encoder", formats::read_json("\"maybe\"", "test")}};
  CHECK(caught([&] { settings_of_trial(study_of(), trial); }).fault == Fault::incompatible);
}

TEST_CASE("settings: with pre-trained weights the existing script observes 10 bars outside the parameters") {
  const Trial without = trial_with({{"ft_use_pretrained", true}});
  CHECK(settings_of_trial(study_of(), without).hyperparameters.lookback == 10);
  CHECK(taken_of(settings_of_trial(study_of(), without), "lookback").status == Status::used);
  const Trial with = trial_with({{"ft_use_pretrained", true}, {"lookback", std::int64_t{4}}});
  CHECK(settings_of_trial(study_of(), with).hyperparameters.lookback == 4);
  const Trial scratch = trial_with({{"ft_use_pretrained", false}});
  CHECK(settings_of_trial(study_of(), scratch).hyperparameters.lookback == agents::Hyperparameters{}.lookback);
}

TEST_CASE("settings: a study of this project's own uses all that it sampled") {
  const Study own = study_of({{kObjectiveAttribute, formats::read_json(R"({"name": "x", "version": 1})", "test")}});
  CHECK(generation_of(own) == Generation::ristretto);
  const Trial trial = trial_with({{"clip_range", 0.3},
                                  {"volatility_penalty", 0.02},
                                  {"worker_num", std::int64_t{3}},
                                  {"minibatches", std::int64_t{8}}});
  const TrialSettings settings = settings_of_trial(own, trial);
  CHECK(settings.hyperparameters.clip_range == 0.3);
  CHECK(settings.hyperparameters.volatility_penalty == 0.02);
  CHECK(settings.hyperparameters.minibatches == 8);
  CHECK(settings.hyperparameters.worker_num == 0);
  CHECK(taken_of(settings, "clip_range").status == Status::used);
  CHECK(taken_of(settings, "worker_num").status == Status::inert);
}

TEST_CASE("settings: unknown parameters are an error with the nearest name, or left out when asked") {
  const Trial trial = trial_with({{"gama", 0.9}, {"learning_rate", 1e-4}});
  const Caught found = caught([&] { settings_of_trial(study_of(), trial); });
  CHECK(found.fault == Fault::usage);
  CHECK(contains(found.text,
                 "trial 7 of study 's' has parameters that are no hyperparameters here: 'gama' (nearest: gamma)"));
  CHECK(contains(found.text, "--ignore-unknown"));
  Interpretation how;
  how.ignore_unknown = true;
  const TrialSettings settings = settings_of_trial(study_of(), trial, how);
  CHECK(settings.hyperparameters.learning_rate == 1e-4);
  CHECK_FALSE(taken_of(settings, "gama").applied);
}

TEST_CASE("settings: a value that its row does not accept, and a trial without parameters, are refused") {
  const Caught invalid = caught([] { settings_of_trial(study_of(), trial_with({{"gamma", 1.5}})); });
  CHECK(invalid.fault == Fault::incompatible);
  CHECK(contains(invalid.text, "trial 7 of study 's': gamma is 1.5, expected a number with 0 < gamma < 1"));
  const Caught empty = caught([] { settings_of_trial(study_of(), trial_with({})); });
  CHECK(empty.fault == Fault::usage);
  CHECK(contains(empty.text, "has no parameters"));
  // A whole number that was stored as a double.
  CHECK(settings_of_trial(study_of(), trial_with({{"norm_tech_exp", -15.0}})).hyperparameters.norm_tech_exp == -15);
}

TEST_CASE("settings: the table's ranges hold every distribution of the example's studies") {
  using namespace agents;
  for (const char* name : {"cappuccino_maxgpu", "cappuccino_ft_16gb_optimized"}) {
    for (const Trial& trial : example(name).trials) {
      for (const Parameter& parameter : trial.params) {
        INFO(name << " " << parameter.name);
        const Row* row = find_row(parameter.name);
        REQUIRE(row != nullptr);
        REQUIRE(row->range.index() == parameter.distribution.index());
        if (const auto* real = std::get_if<FloatRange>(&parameter.distribution)) {
          const auto& ours = std::get<FloatRange>(row->range);
          CHECK((ours.low == real->low && ours.high == real->high && ours.step == real->step && ours.log == real->log));
        } else if (const auto* integer = std::get_if<IntRange>(&parameter.distribution)) {
          const auto& ours = std::get<IntRange>(row->range);
          CHECK((ours.low <= integer->low && ours.high >= integer->high && ours.log == integer->log));
          CHECK(((integer->low - ours.low) % ours.step == 0 && integer->step % ours.step == 0));
        } else {
          const auto& ours = std::get<Choices>(row->range).choices;
          for (const Value& choice : std::get<Choices>(parameter.distribution).choices) {
            CHECK(std::find(ours.begin(), ours.end(), choice) != ours.end());
          }
        }
      }
    }
  }
}
