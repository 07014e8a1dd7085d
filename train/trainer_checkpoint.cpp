#include <ATen/core/grad_mode.h>
#include <ATen/record_function.h>

#include "platform/clock.h"
#include "platform/error.h"
#include "platform/text.h"
#include "train/memory_budget.h"
#include "train/price_sum.h"
#include "train/trainer_state.h"

namespace ristretto::train {
namespace {

agents::NamedTensors named(const ft_transformer::Weights& weights) {
  agents::NamedTensors out;
  for (const auto& [name, tensor] : weights) out.emplace_back(name, tensor.detach());
  return out;
}

void copy_into(ft_transformer::Weights& weights, const agents::NamedTensors& saved, const char* what) {
  const at::NoGradGuard no_gradients;
  for (const auto& [name, tensor] : saved) {
    if (!weights.contains(name) || !weights.at(name).sizes().equals(tensor.sizes())) {
      throw Error(Fault::incompatible,
                  str("the checkpoint's ", what, " holds '", name, "', which this network has not in that shape"),
                  "it was written with other settings: start a new run");
    }
    weights.at(name).copy_(tensor);
  }
}

}  // namespace

std::int64_t checkpoint_bytes(const Settings& settings) {
  const agents::Architecture architecture = architecture_of(settings);
  constexpr std::int64_t kFloatBytes = 4, kPortfolioBytes = 512, kSmallBytes = 1 << 20;
  // Weights, Adam's two moments, the best weights so far; the actor's first ones.
  return bytes_of_weights(architecture) + kFloatBytes * agents::actor_template(architecture).parameters() +
         kPortfolioBytes * portfolios_of(settings) + kSmallBytes;
}

// The checkpoint holds row numbers: they mean the same only on the same rows.
std::string Trainer::State::bars_identity() const {
  const env::Market& market = environment.market();
  // Later bars, which come in every day, are none of this training's.
  const std::int64_t rows = market.segments.empty() ? market.rows() : market.segments.back().end;
  std::string out = str(rows, " rows");
  for (const env::Segment& segment : market.segments) out += str(" ", segment.begin, "-", segment.end);
  if (!market.time.empty()) {
    out += str(", ", iso_utc(market.time.front()), " to ", iso_utc(market.time[static_cast<std::size_t>(rows - 1)]));
  }
  return out + ", " + price_sum(market, rows);
}

void Trainer::State::save() {
  if (directory.empty()) return;
  RECORD_USER_SCOPE("checkpoint");
  agents::Checkpoint checkpoint;
  agents::add_prefixed(checkpoint.tensors, "actor/", named(policy.actor));
  agents::add_prefixed(checkpoint.tensors, "critic/", named(policy.critic));
  agents::add_prefixed(checkpoint.tensors, "initial_actor/", named(initial_actor));
  agents::add_prefixed(checkpoint.tensors, "adam/", optimizer.state());
  agents::add_prefixed(checkpoint.tensors, "normalizer/", normalizer.state());
  agents::add_prefixed(checkpoint.tensors, "rewards/", rewards.state());
  agents::add_prefixed(checkpoint.tensors, "environment/", environment.state());
  agents::add_prefixed(checkpoint.tensors, "episodes/", episodes.state());
  if (best) {
    agents::add_prefixed(checkpoint.tensors, "best_actor/", named(best->policy.actor));
    agents::add_prefixed(checkpoint.tensors, "best_critic/", named(best->policy.critic));
    agents::add_prefixed(checkpoint.tensors, "best_normalizer/", best->normalizer.state());
    checkpoint.fields["best_score"] = str(best->score);
    checkpoint.fields["best_iteration"] = str(best->iteration);
  }
  checkpoint.fields["bars"] = bars_identity();
  checkpoint.fields["layout"] = release::line_of(release::section_of(layout_of(settings)));
  checkpoint.fields["iteration"] = str(iteration);
  checkpoint.fields["environment_steps"] = str(environment_steps);
  checkpoint.fields["optimizer_steps"] = str(optimizer_steps);
  checkpoint.fields["seconds"] = str(seconds);
  checkpoint.fields["progress"] = str(progress);
  std::vector<std::string> shares;
  for (const double share : reward_term_shares) shares.push_back(str(share));
  checkpoint.fields["reward_term_shares"] = join(shares, " ");
  for (const agents::Row& row : agents::table()) {
    checkpoint.fields[str("hyperparameter/", row.name)] = agents::text_of(agents::get(settings.hyperparameters, row));
  }
  for (const RunRow& row : run_table()) {
    if (!row.resumable) checkpoint.fields[str("run/", row.name)] = text_of(settings.run, row);
  }
  agents::write_checkpoint(directory / kCheckpointDirectory, checkpoint);
}

agents::Checkpoint Trainer::State::restore_networks() {
  agents::Checkpoint checkpoint = agents::read_checkpoint(directory / kCheckpointDirectory);
  const auto field = [&](const std::string& name) -> const std::string& {
    const auto found = checkpoint.fields.find(name);
    if (found == checkpoint.fields.end()) {
      throw Error(Fault::incompatible, str(directory.string(), ": the checkpoint has no '", name, "'"));
    }
    return found->second;
  };
  // By names, before the settings that they follow from.
  if (const auto saved = checkpoint.fields.find("layout"); saved != checkpoint.fields.end()) {
    const release::Json section = release::Json::parse(saved->second, nullptr, /*allow_exceptions=*/false);
    const std::string other = env::difference(layout_of(settings), release::layout_of(section, directory.string()));
    if (!other.empty()) {
      throw Error(
          Fault::incompatible,
          str("the run in ", directory.string(), " observes another layout than the settings ask for now: ", other),
          "resume with the same settings, or start a new run");
    }
  }
  agents::Hyperparameters old_values;
  for (const agents::Row& row : agents::table()) {
    agents::set(old_values, row, agents::parse_value(row, field(str("hyperparameter/", row.name))));
  }
  agents::require_resumable(old_values, settings.hyperparameters);
  for (const RunRow& row : run_table()) {
    if (row.resumable) continue;
    // A setting that the run is older than had its default.
    const auto saved = checkpoint.fields.find(str("run/", row.name));
    const std::string now = text_of(settings.run, row),
                      before = saved == checkpoint.fields.end() ? text_of(RunSettings{}, row) : saved->second;
    if (now != before) {
      throw Error(Fault::incompatible,
                  str("the run in ", directory.string(), " has ", row.name, " '", before, "', now it is '", now, "'"),
                  "resume with the same settings, or start a new run");
    }
  }
  if (!same_but_for_the_order(field("bars"), bars_identity())) {
    throw Error(Fault::incompatible,
                str("the run in ", directory.string(), " was trained on the bars ", field("bars"), ", now they are ",
                    bars_identity()),
                "name the bars it began with (--bars), or start a new run");
  }
  copy_into(policy.actor, agents::with_prefix(checkpoint.tensors, "actor/"), "actor");
  copy_into(policy.critic, agents::with_prefix(checkpoint.tensors, "critic/"), "critic");
  copy_into(initial_actor, agents::with_prefix(checkpoint.tensors, "initial_actor/"), "initial actor");
  normalizer.restore(agents::with_prefix(checkpoint.tensors, "normalizer/"));
  iteration = parse_number<std::int64_t>(field("iteration")).value_or(0);
  environment_steps = parse_number<std::int64_t>(field("environment_steps")).value_or(0);
  optimizer_steps = parse_number<std::int64_t>(field("optimizer_steps")).value_or(0);
  seconds = parse_number<double>(field("seconds")).value_or(0);
  // Runs from before there were these go on without them.
  const auto newer = [&](const char* name) {
    const auto found = checkpoint.fields.find(name);
    return found == checkpoint.fields.end() ? std::string() : found->second;
  };
  progress = parse_number<double>(newer("progress")).value_or(0);
  for (const std::string& share : split(newer("reward_term_shares"), ' ')) {
    if (const auto number = parse_number<double>(share)) reward_term_shares.push_back(*number);
  }
  if (checkpoint.fields.count("best_score") > 0) {
    Snapshot found{copy_of(policy), normalizer, 0, 0};
    copy_into(found.policy.actor, agents::with_prefix(checkpoint.tensors, "best_actor/"), "best actor");
    copy_into(found.policy.critic, agents::with_prefix(checkpoint.tensors, "best_critic/"), "best critic");
    found.normalizer.restore(agents::with_prefix(checkpoint.tensors, "best_normalizer/"));
    found.score = parse_number<double>(field("best_score")).value_or(0);
    found.iteration = parse_number<std::int64_t>(field("best_iteration")).value_or(0);
    best = std::move(found);
  }
  return checkpoint;
}

void Trainer::State::restore() {
  const agents::Checkpoint checkpoint = restore_networks();
  optimizer.restore(agents::with_prefix(checkpoint.tensors, "adam/"));
  rewards.restore(agents::with_prefix(checkpoint.tensors, "rewards/"));
  environment.restore(agents::with_prefix(checkpoint.tensors, "environment/"));
  episodes.restore(agents::with_prefix(checkpoint.tensors, "episodes/"));
  if (iteration > 0) environment.take_reward_terms();  // of the first rollout, and noted then
}

}  // namespace ristretto::train
