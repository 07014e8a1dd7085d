// What a trainer is made of; for trainer*.cpp alone.
#pragma once

#include <ATen/ops/full.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "agents/checkpoint.h"
#include "agents/optimizer.h"
#include "train/run_log.h"
#include "train/trainer.h"

namespace ristretto::train {

// What a run tells about itself: in the background only to who asks for it.
void tell(bool background, const std::string& text);
agents::Policy copy_of(const agents::Policy& policy);

// Running sums of each world's episode, on the host.
struct EpisodeReturns {
  std::vector<double> sum, length;
  double finished_sum = 0, finished_length = 0;
  std::int64_t finished = 0;

  void add(const at::Tensor& reward, const at::Tensor& ended);  // [horizon, N]
  agents::NamedTensors state() const;
  void restore(const agents::NamedTensors& saved);  // nothing: as new, for runs from before they were saved
};

struct Trainer::State {
  ProcessGroup* group;  // nullptr: this process alone
  Settings settings;
  Plan plan;
  c10::Device device;
  std::filesystem::path directory;
  Validate validate;
  Profile& profile;
  bool background;

  env::Portfolios environment;
  agents::Policy policy;
  ft_transformer::Weights initial_actor;
  agents::Normalizer normalizer;
  agents::RewardNormalizer rewards;
  agents::Optimizer optimizer;
  agents::Ppo ppo;

  std::int64_t iteration = 0, environment_steps = 0, optimizer_steps = 0;
  double seconds = 0;   // of training, in this and earlier processes
  double progress = 0;  // how much of the run is over, by steps or by the time that it had
  std::optional<Snapshot> best;
  std::vector<double> reward_term_shares;
  EpisodeReturns episodes;
  int frozen = 0;

  State(const Settings& s, const env::Market& train, const env::Market& market, c10::Device d,
        std::filesystem::path dir, Validate v, Profile& p, bool in_background, ProcessGroup* processes);

  int shares() const { return group != nullptr ? group->size() : 1; }
  std::int64_t first_portfolio() const { return group != nullptr ? group->rank() * (plan.portfolios / shares()) : 0; }
  agents::Shard shard() const {
    if (group == nullptr) return {};
    return {group->rank(), group->size(), [this](const at::Tensor& tensor) { group->sum(tensor); }};
  }
  // The same answer in every process.
  bool any(bool here) const { return group != nullptr ? group->any(here) : here; }
  // The first process's number, in all of them.
  double of_first(double here) const {
    if (group == nullptr) return here;
    const at::Tensor number = at::full({}, group->rank() == 0 ? here : 0.0, at::kDouble);
    group->sum(number);
    return number.item<double>();
  }

  // trainer_state.cpp
  void note_reward_terms();
  void validate_now(RunLog& run_log);
  // One iteration; returns its figures.
  Scalars iterate(double fraction_done, const std::function<bool()>& keep_going);
  Outcome outcome(const std::string& ended, int signal) const;

  // trainer_checkpoint.cpp
  std::string bars_identity() const;
  void save();
  // Networks, statistics, counters and the best of them, of directory/checkpoint, which it returns.
  agents::Checkpoint restore_networks();
  void restore();
};

}  // namespace ristretto::train
