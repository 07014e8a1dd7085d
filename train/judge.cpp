#include "train/judge.h"

#include <algorithm>
#include <cmath>

#include "evaluation/costs.h"
#include "evaluation/look_ahead.h"
#include "evaluation/trades.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/text.h"
#include "release/served_actor.h"
#include "release/sha256.h"
#include "train/contenders.h"

namespace ristretto::train {
namespace {

using release::Json;

// Sum of log returns over the bars that `other` decided too: with another lookback a window begins and ends elsewhere.
double log_gain(const evaluation::Backtest& backtest, const evaluation::Backtest& other) {
  double sum = 0;
  for (std::size_t k = 0; k < backtest.time.size(); ++k) {
    if (std::binary_search(other.time.begin(), other.time.end(), backtest.time[k])) sum += backtest.log_returns[k];
  }
  return sum;
}

Json json_of(const evaluation::Split& split) {
  return {{"first_bar", iso_utc(split.first_time)},
          {"last_bar", iso_utc(split.last_time)},
          {"bars", split.market.bars_in_segments()},
          {"segments", split.market.segments.size()}};
}

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
  if (const auto unseen = release::unseen_from(model); unseen && *unseen > data.splits.holdout.first_time) {
    champion.note = str("it was trained on bars up to ", iso_utc(*unseen), ": the two cannot be compared");
    return champion;
  }
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
  rules = evaluation::with_costs_of(rules, data.rules);
  rules.initial_capital = data.rules.initial_capital;
  champion.backtest = evaluation::backtest(market, *layout, rules, release::actor_of(model, *layout, market));
  return champion;
}

}  // namespace

release::Json files_section(const std::string& bars, const std::vector<std::string>& assets) {
  Json files;
  for (const std::string& asset : assets) {
    const std::filesystem::path file = env::bars_file(bars, asset);
    files[file.filename().string()] = {{"sha256", release::sha256_of_file(file)},
                                       {"bytes", std::filesystem::file_size(file)}};
  }
  return files;
}

release::Json data_section(const Settings& settings, const Data& data) {
  Json section = {{"directory", settings.run.bars}, {"features", settings.run.features}};
  section["files"] = files_section(settings.run.bars, data.layout.assets);
  for (const evaluation::Split* split : {&data.splits.train, &data.splits.validation, &data.splits.holdout}) {
    section["splits"][split->name] = json_of(*split);
  }
  section["holdout_from"] = iso_utc(data.splits.holdout_from);
  section["purged_bars"] = data.splits.purged_bars;
  section["embargo_bars"] = evaluation::kEmbargoBars;
  return section;
}

Judgement judge(const Candidate& candidate, release::VersionStore& store, release::Ledger& ledger,
                const release::Thresholds& thresholds) {
  const Data& data = candidate.data;
  const evaluation::Split& split = data.splits.holdout;
  const env::Market& market = split.market;
  Judgement out;
  out.background = candidate.background;

  release::Opening opening;
  opening.candidate = candidate.label;
  const std::optional<std::string> served = store.adopt(candidate.name);
  opening.question_sha256 =
      release::sha256(str(release::actor_hash(candidate.content.actor), release::section_of(data.rules).dump(),
                          release::text_of(thresholds), served.value_or("")));
  opening.first_bar = split.first_time;
  opening.last_bar = split.last_time;
  opening.bars = market.bars_in_segments();
  opening.holdout_from = data.splits.holdout_from;
  opening.data_sha256 = release::sha256(files_section(candidate.settings.run.bars, data.layout.assets).dump());
  opening.trials = candidate.background.trial_count;
  opening.studies = candidate.background.studies;
  out.look = ledger.open(opening);
  const release::LedgerRecord record = ledger.read();
  out.trials_of_ledger = record.trials();

  const auto run = [&](const release::Content& content, double costs, bool keep_actions) {
    const env::Rules rules = evaluation::with_costs(data.rules, costs);
    return evaluation::backtest(market, content.layout, rules, actor_of(content, market), keep_actions);
  };
  const std::size_t assets = data.layout.assets.size();
  const auto equal_weight = [&](double costs) {
    const env::Rules rules = evaluation::with_costs(data.rules, costs);
    return evaluation::hold(market, data.layout, rules, std::vector<double>(assets, 1.0 / static_cast<double>(assets)));
  };
  out.holdout = run(candidate.content, 1, true);
  out.metrics = evaluation::metrics_of(out.holdout);
  out.references = evaluation::ladder(market, data.layout, data.rules);
  const std::vector<std::string> problems = evaluation::check_ladder(out.references, data.rules);
  const std::optional<std::string> look_ahead = evaluation::look_ahead_violation(
      market, data.layout, data.rules, [&](const env::Market& other) { return actor_of(candidate.content, other); });
  out.sanity.push_back(
      {"ladder", problems.empty(), problems.empty() ? "in order" : "out of order", "in order", join(problems, "; ")});
  out.sanity.push_back({"look_ahead", !look_ahead, look_ahead ? "found" : "none", "none", look_ahead.value_or("")});
  out.champion = judge_champion(store, candidate.name, candidate.settings, data);
  const evaluation::Backtest& other = out.champion.backtest ? *out.champion.backtest : out.holdout;
  out.candidate_value = log_gain(out.holdout, other);
  if (out.champion.backtest) out.champion_value = log_gain(*out.champion.backtest, out.holdout);
  for (const release::Content* seed : candidate.seeds) {
    out.background.seeds.push_back(returns_of(seed == &candidate.content ? out.holdout : run(*seed, 1, false)));
  }

  // Every series over the bars that all of them decided.
  const auto stressed = [&](double costs) {
    const evaluation::Backtest agent = costs == 1 ? out.holdout : run(candidate.content, costs, false);
    const evaluation::Backtest held = equal_weight(costs);
    out.stress.push_back({costs, evaluation::metrics_of(agent), evaluation::metrics_of(held)});
    return std::pair{returns_of(agent), returns_of(held)};
  };
  const auto [mine, passive] = stressed(1);
  const auto [mine_2x, passive_2x] = stressed(2);
  const auto [mine_3x, passive_3x] = stressed(3);
  std::optional<TimedReturns> champion;
  std::vector<const TimedReturns*> all = {&mine, &passive};
  if (out.champion.backtest) {
    champion = returns_of(*out.champion.backtest);
    all.push_back(&*champion);
  }
  // Those that were recorded may be of fewer bars than there are by now: they cannot speak for the others.
  std::vector<const TimedReturns*> seeds;
  for (const TimedReturns& seed : out.background.seeds) {
    if (!candidate.seeds.empty() || common_bars({&seed, &mine}).size() == mine.time.size()) seeds.push_back(&seed);
  }
  all.insert(all.end(), seeds.begin(), seeds.end());
  const std::vector<std::int64_t> bars = common_bars(all);
  release::Evidence evidence;
  evidence.candidate = returns_at(mine, bars);
  evidence.equal_weight = returns_at(passive, bars);
  if (champion) evidence.champion = returns_at(*champion, bars);
  evidence.costs_2x = {returns_at(mine_2x, bars), returns_at(passive_2x, bars)};
  evidence.costs_3x = {returns_at(mine_3x, bars), returns_at(passive_3x, bars)};
  for (const TimedReturns* seed : seeds) evidence.seeds.push_back(returns_at(*seed, bars));
  all.clear();
  for (const TimedReturns& trial : out.background.trials) all.push_back(&trial);
  const std::vector<std::int64_t> seen = common_bars(all);
  for (const TimedReturns& trial : out.background.trials) evidence.trials.push_back(returns_at(trial, seen));
  evidence.trial_count = out.trials_of_ledger;
  evidence.trial_sharpes = out.background.trial_sharpes;
  // A look that is taken again sees what the first saw.
  const std::vector<double> earlier = record.sharpes_before(out.look);
  evidence.trial_sharpes.insert(evidence.trial_sharpes.end(), earlier.begin(), earlier.end());
  evidence.last_bar = split.last_time;
  evidence.judged_at = now_seconds();
  evidence.looks = ledger.looks(candidate.label);
  evidence.origin_unknown = candidate.origin_unknown;
  out.evidence = release::evidence_gates(evidence, thresholds);
  return out;
}

void add_holdout(release::IntegrityInputs& inputs, const Judgement& judgement, const Data& data,
                 const release::VersionStore& store, const std::string& name) {
  inputs.orders = judgement.holdout.orders;
  inputs.turnover = judgement.holdout.turnover;
  const auto trades = evaluation::trades_of(judgement.holdout, data.splits.holdout.market, data.rules);
  inputs.trading_bars = static_cast<double>(trades.value().bars_with_trade) / static_cast<double>(trades->bars);
  if (judgement.champion.version) inputs.served = store.path_of(name, *judgement.champion.version);
}

release::Json gates_json(const std::vector<release::GateResult>& integrity,
                         const std::vector<release::GateResult>& evidence) {
  Json out = Json::array();
  const auto add = [&](const std::vector<release::GateResult>& gates, const char* kind) {
    for (Json& gate : release::json_of(gates)) {
      gate["kind"] = kind;
      out.push_back(std::move(gate));
    }
  };
  add(integrity, "integrity");
  add(evidence, "evidence");
  return out;
}

Decision decide(const Judgement& judgement, std::vector<release::GateResult> integrity) {
  integrity.insert(integrity.end(), judgement.sanity.begin(), judgement.sanity.end());
  const bool whole = release::all_passed(integrity);
  release::Verdict verdict = release::decide(judgement.champion.state, whole, judgement.candidate_value,
                                             judgement.champion_value, release::all_passed(judgement.evidence));
  if (!verdict.serve && whole && judgement.champion.state == release::Served::proven) {
    std::vector<std::string> names;
    for (const release::GateResult& gate : judgement.evidence) {
      if (!gate.passed) names.push_back(gate.name);
    }
    verdict.reason += "; it did not pass " + join(names, ", ");
  }
  Json gates = gates_json(integrity, judgement.evidence);
  return {std::move(integrity), verdict, std::move(gates)};
}

void conclude(const Judgement& judgement, const release::Verdict& verdict, release::Ledger& ledger) {
  ledger.conclude(judgement.look,
                  {judgement.metrics.sharpe, log_gain(judgement.holdout, judgement.holdout), verdict.status});
}

}  // namespace ristretto::train
