#include <cmath>
#include <functional>
#include <numbers>
#include <numeric>

#include "optuna_files.h"
#include "studies/distribution.h"
#include "studies/samplers/ask.h"
#include "studies/samplers/grid.h"
#include "studies/samplers/make_sampler.h"
#include "studies/samplers/quasi_random.h"
#include "studies/samplers/random.h"
#include "studies/samplers/tpe.h"
#include "studies/samplers/truncated_normal.h"

using namespace ristretto;
using namespace ristretto::studies;

namespace {

const std::string kSamplerGolden = RISTRETTO_GOLDEN "/optuna_samplers/";
constexpr double kRelative = 1e-9;  // study.md, conformance test E
constexpr double kTie = 1e-12;      // the same: scores this close are equal but for rounding

Json read_file(const std::string& path) { return formats::read_json(bytes_of(path), path); }

const Json& at(const Json& object, std::string_view key) {
  const Json* found = object.find(key);
  REQUIRE(found);
  return *found;
}
double number_of(const Json& json) {
  if (json.kind == Json::Kind::text) return json.text == "nan" ? NAN : json.text == "inf" ? kInfinity : -kInfinity;
  return json.real;
}

struct Recorded {
  Study study;
  SearchSpace asked;
};

Recorded read_history(const Json& json) {
  Recorded recorded;
  recorded.study.directions = {at(json, "direction").text == "maximize" ? Direction::maximize : Direction::minimize};
  std::vector<agents::Range> ranges;
  for (const Json& text : at(json, "distributions").items) ranges.push_back(read_distribution(text.text, "golden"));
  for (const Json& item : at(json, "trials").items) {
    Trial trial;
    trial.number = static_cast<std::int64_t>(recorded.study.trials.size());
    trial.state = *parse_state(at(item, "state").text);
    if (const Json* value = item.find("value")) trial.values = {number_of(*value)};
    for (const Json& parameter : at(item, "params").items) {
      const agents::Range& range = ranges[static_cast<std::size_t>(parameter.items[1].integer)];
      const std::optional<double> internal = internal_value(range, value_of_json(parameter.items[2]));
      REQUIRE(internal);
      trial.params.push_back({parameter.items[0].text, value_of(range, *internal), range});
    }
    if (const Json* reports = item.find("reports")) {
      for (const Json& report : reports->items) {
        trial.reports.push_back({report.items[0].integer, number_of(report.items[1])});
      }
    }
    if (const Json* attributes = item.find("attrs")) {
      for (const auto& [key, value] : attributes->members) trial.system_attributes.push_back({key, value});
    }
    recorded.study.trials.push_back(std::move(trial));
  }
  for (const Json& item : at(json, "asked").items) {
    recorded.asked.emplace_back(item.items[0].text, ranges[static_cast<std::size_t>(item.items[1].integer)]);
  }
  return recorded;
}

bool close(double ours, double theirs) {
  return ours == theirs || std::abs(ours - theirs) <= kRelative * std::max(std::abs(ours), std::abs(theirs));
}

// Whether a candidate with the value, in the parameter's place, scores as well as the best but for rounding.
bool is_tie(const std::optional<Candidates>& drawn, const std::string& name, double internal) {
  if (!drawn) return false;
  for (std::size_t p = 0; p < drawn->space.size(); ++p) {
    if (drawn->space[p].first != name) continue;
    for (std::size_t i = 0; i < drawn->scores.size(); ++i) {
      if (close(drawn->samples[p][i], internal) && drawn->scores[drawn->best] - drawn->scores[i] <= kTie) return true;
    }
  }
  return false;
}

// The two JSON objects of joint values have the same names in the same order.
void check_promised(const std::string& ours, const std::string& theirs) {
  REQUIRE(ours.empty() == theirs.empty());
  if (ours.empty()) return;
  const Json a = formats::read_json(ours, "ours"), b = formats::read_json(theirs, "theirs");
  REQUIRE(a.members.size() == b.members.size());
  for (std::size_t i = 0; i < a.members.size(); ++i) CHECK(a.members[i].first == b.members[i].first);
}

struct Tally {
  int cases = 0, values = 0, ties = 0;
};

void check_case(const Json& json, Profile profile, const std::vector<Recorded>& histories, Tally& tally) {
  INFO(formats::write_json(json));
  Recorded recorded = histories[static_cast<std::size_t>(at(json, "history").integer)];
  Study& study = recorded.study;
  const Json& options = at(json, "options");
  const auto flag = [&](const char* name, bool otherwise) {
    const Json* found = options.find(name);
    return found ? found->boolean : otherwise;
  };
  const auto seed = static_cast<std::uint32_t>(at(json, "seed").integer);
  TpeOptions tpe(profile);
  tpe.multivariate = flag("multivariate", tpe.multivariate);
  tpe.constant_liar = flag("constant_liar", tpe.constant_liar);
  tpe.group = flag("group", false);
  tpe.constraints = flag("constraints", false);
  if (const Json* count = options.find("n_startup_trials"))
    tpe.startup_trials = static_cast<std::size_t>(count->integer);
  if (const Json* count = options.find("n_ei_candidates")) tpe.candidates = static_cast<std::size_t>(count->integer);
  TpeSampler tpe_sampler(tpe, seed);
  RandomSampler random_sampler(profile, seed);
  const bool random = at(json, "sampler").text == "random";
  Sampler& sampler = random ? static_cast<Sampler&>(random_sampler) : tpe_sampler;

  const std::vector<Json>& answers = at(json, "answers").items;
  for (std::size_t round = 0; round < answers.size(); ++round) {
    Trial trial;
    trial.number = static_cast<std::int64_t>(study.trials.size());
    trial.state = State::running;
    if (const Json& fixed = at(json, "fixed"); round == 0 && fixed.kind == Json::Kind::object) {
      trial.system_attributes.push_back({"fixed_params", fixed});
    }
    study.trials.push_back(trial);
    Ask ask(sampler, study, trial);
    for (std::size_t p = 0; p < recorded.asked.size(); ++p) {
      const auto& [name, range] = recorded.asked[p];
      const agents::Value ours = ask.suggest(name, range);
      const std::optional<double> x = internal_value(range, ours);
      const std::optional<double> y = internal_value(range, value_of_json(answers[round].items[p]));
      REQUIRE(x);
      REQUIRE(y);
      if (!close(*x, *y)) {
        INFO(name, " ", *x, " ", *y);
        CHECK(is_tie(tpe_sampler.last_candidates(), name, *y));
        ++tally.ties;
      }
      ++tally.values;
      // What Optuna told its study, so that the next round starts from the same trials.
      trial.params.push_back({name, value_of(range, *y), range});
    }
    std::string promised;
    for (const Attribute& attribute : ask.attributes()) promised += attribute.value.text;
    check_promised(promised, at(json, "promised").items[round].text);
    trial.state = State::complete;
    trial.values = {1.0};
    if (tpe.constraints) {
      trial.system_attributes.push_back({"constraints", array_json({number_json(-1)})});
    }
    study.trials.back() = trial;
  }
  ++tally.cases;
}

// Returns what was compared.
Tally check_suggestions(const std::string& file, Profile profile) {
  std::vector<Recorded> histories;
  const Json studies = read_file(kSamplerGolden + "histories.json"), cases = read_file(file);
  for (const Json& item : at(studies, "histories").items) histories.push_back(read_history(item));
  Tally tally;
  for (const Json& item : at(cases, "cases").items) check_case(item, profile, histories, tally);
  MESSAGE(file << ": " << tally.cases << " cases, " << tally.values << " values, " << tally.ties << " ties");
  return tally;
}

struct Version {
  const char* name;
  Profile profile;
};
constexpr Version kVersions[] = {
    {"3.1.0", Profile::optuna_3_1}, {"4.9.0", Profile::optuna_4_9}, {"5.0.0", Profile::optuna_5_0}};

}  // namespace

TEST_CASE("samplers: the parts alone are NumPy's, SciPy's and Optuna's") {
  const Json parts = read_file(kSamplerGolden + "parts_4.9.0.json");
  RandomState random(42);
  const std::vector<Json>& uniforms = at(parts, "uniforms").items;
  for (std::size_t i = 0; i < uniforms.size(); ++i) {
    CHECK((i < 5 ? random.uniform() : random.uniform(-2, 3)) == uniforms[i].real);
  }
  const std::uint32_t counts[] = {1, 2, 7, 100, 4096};
  for (std::size_t i = 0; i < 5; ++i) CHECK(random.below(counts[i]) == at(parts, "below").items[i].integer);
  std::vector<std::int64_t> order(20);
  std::iota(order.begin(), order.end(), 0);
  random.shuffle(order);
  for (std::size_t i = 0; i < 20; ++i) CHECK(order[i] == at(parts, "shuffled").items[i].integer);

  constexpr double kRounding = 1e-12;  // of logs and error functions of two libraries
  for (const Json& item : at(parts, "log_normal_cdf").items) {
    CHECK(log_normal_cdf(item.items[0].real) == doctest::Approx(item.items[1].real).epsilon(kRounding));
  }
  for (const Json& item : at(parts, "truncated_normal").items) {
    const double q = item.items[0].real, a = item.items[1].real, b = item.items[2].real;
    CAPTURE(q);
    CAPTURE(a);
    CAPTURE(b);
    CHECK(close(truncated_normal_ppf(q, a, b), item.items[3].real));
    CHECK(close(log_normal_mass(a, b), item.items[4].real));
  }
  CHECK(truncated_normal_ppf(0, -1, 2) == -1);
  CHECK(truncated_normal_ppf(1, -1, 2) == 2);

  for (const Json& item : at(parts, "sigmas").items) {
    std::vector<double> observed;
    for (const Json& x : item.items[0].items) observed.push_back(x.real);
    const std::vector<double> sigmas = neighbour_sigmas(observed, -5, 5, false);
    REQUIRE(sigmas.size() == item.items[1].items.size());
    for (std::size_t i = 0; i < sigmas.size(); ++i) CHECK(close(sigmas[i], item.items[1].items[i].real));
  }
  for (const Json& item : at(parts, "weights").items) {
    const std::vector<double> weights = observation_weights(static_cast<std::size_t>(item.items[0].integer));
    REQUIRE(weights.size() == item.items[1].items.size());
    for (std::size_t i = 0; i < weights.size(); ++i) CHECK(close(weights[i], item.items[1].items[i].real));
  }
  for (const Json& item : at(parts, "gammas").items) {
    CHECK(below_count(static_cast<std::size_t>(item.items[0].integer)) == item.items[1].integer);
  }
}

TEST_CASE("samplers: a normal's shares, many at once, are those of one at a time") {
  constexpr double kRounding = 1e-15;  // of 1, as upper_shares promises
  std::vector<double> shares;
  for (int i = 0; i <= 4000; ++i) shares.push_back(0.01 * i);
  const std::vector<double> z = shares;
  upper_shares(shares);
  for (std::size_t i = 0; i < z.size(); ++i) {
    CAPTURE(z[i]);
    CHECK(std::abs(shares[i] - std::exp(log_normal_cdf(-z[i]))) <= kRounding);
  }
}

TEST_CASE("samplers: widths of kernels are those of neighbours sorted by comparing") {
  RandomState random(3);
  std::vector<double> observed = {0.0, -0.0, 3.5, -3.5, 1e-300, -1e-300, 1e12, -1e12};
  for (int i = 0; i < 300; ++i) {
    observed.push_back(random.uniform(-5, 5));
    observed.push_back(std::floor(random.uniform(-5, 5)));
    observed.push_back(1 + 1e-15 * std::floor(random.uniform(0, 9)));
  }
  std::vector<std::size_t> order(observed.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return observed[a] < observed[b]; });
  const std::vector<double> sigmas = neighbour_sigmas(observed, -5, 5, false);
  for (std::size_t j = 1; j + 1 < order.size(); ++j) {
    const double x = observed[order[j]];
    const double gap = std::max(x - observed[order[j - 1]], observed[order[j + 1]] - x);
    CHECK(sigmas[order[j]] == std::clamp(gap, 0.1, 10.0));
  }
}

TEST_CASE("samplers: the density of many kernels is the sum of the formulas of one at a time") {
  constexpr double kRounding = 1e-12;
  const std::string a = "a", b = "b", c = "c";
  const std::vector<agents::Range> ranges = {agents::FloatRange{-5, 5},        agents::FloatRange{1e-5, 1e-1, 0, true},
                                             agents::IntRange{1, 64},          agents::IntRange{1, 9, 1, true},
                                             agents::FloatRange{0, 0.6, 0.05}, agents::IntRange{0, 900000, 3},
                                             agents::Choices{{a, b, c}}};
  for (const Profile profile : {Profile::optuna_3_1, Profile::optuna_4_9, Profile::optuna_5_0}) {
    for (const agents::Range& range : ranges) {
      RandomState random(5);
      std::vector<double> observed;
      for (int i = 0; i < 200; ++i) observed.push_back(*internal_value(range, random_value(random, range, profile)));
      // As of a trial whose range was wider.
      if (!std::holds_alternative<agents::Choices>(range)) observed[7] = observed[70] * 1e3 + 1;
      const ParzenEstimator estimator({{"x", range}}, {observed}, false, profile);
      const Samples samples = estimator.sample(random, 24);
      const std::vector<double> densities = estimator.log_density(samples);

      const std::size_t n = observed.size();
      std::vector<double> weights = observation_weights(n);
      weights.push_back(1);
      const double all = std::accumulate(weights.begin(), weights.end(), 0.0);
      const auto* real = std::get_if<agents::FloatRange>(&range);
      const auto* whole = std::get_if<agents::IntRange>(&range);
      const bool log = real ? real->log : whole && whole->log;
      const double step = real ? real->step : whole ? static_cast<double>(whole->step) : 0;
      const bool stepped = step > 0 && (!log || profile > Profile::optuna_3_1);
      for (std::size_t i = 0; i < densities.size(); ++i) {
        const double x = samples[0][i];
        double sum = 0;
        if (!real && !whole) {
          for (std::size_t k = 0; k <= n; ++k) {
            const double base = 1.0 / static_cast<double>(n + 1);
            const double p = k == n ? 1.0 / 3 : ((observed[k] == x ? 1 : 0) + base) / (3 * base + 1);
            sum += weights[k] / all * p;
          }
        } else {
          const Scale scale = scale_of(range);
          const auto scaled = [&](double value) { return log ? std::log(value) : value; };
          std::vector<double> mu;
          for (const double value : observed) mu.push_back(scaled(value));
          std::vector<double> sigma = neighbour_sigmas(mu, scale.low, scale.high, profile == Profile::optuna_3_1);
          mu.push_back((scale.low + scale.high) / 2);
          sigma.push_back(scale.high - scale.low);
          for (std::size_t k = 0; k <= n; ++k) {
            const auto z = [&](double value) { return (value - mu[k]) / sigma[k]; };
            double p = -log_normal_mass(z(scale.low), z(scale.high));
            if (stepped) {
              p += log_normal_mass(z(scaled(x - step / 2)), z(scaled(x + step / 2)));
            } else {
              p -= 0.5 * z(scaled(x)) * z(scaled(x)) + 0.5 * std::log(2 * std::numbers::pi);
              if (profile > Profile::optuna_3_1) p -= std::log(sigma[k]);
            }
            sum += weights[k] / all * std::exp(p);
          }
        }
        INFO("range ", range.index(), ", step ", step, ", log ", log, ", x ", x);
        CHECK(densities[i] == doctest::Approx(std::log(sum)).epsilon(kRounding));
      }
    }
  }
}

TEST_CASE("samplers: good and bad trials are Optuna's") {
  const Json parts = read_file(kSamplerGolden + "parts_4.9.0.json");
  const Json studies = read_file(kSamplerGolden + "histories.json");
  const auto numbers = [](const std::vector<const Trial*>& trials) {
    std::string text;
    for (const Trial* trial : trials) text += str(trial->number, " ");
    return text;
  };
  const auto golden = [](const Json& list) {
    std::string text;
    for (const Json& item : list.items) text += str(item.integer, " ");
    return text;
  };
  for (const Json& item : at(parts, "splits").items) {
    const auto& history = at(studies, "histories").items[static_cast<std::size_t>(item.items[0].integer)];
    CAPTURE(item.items[0].integer);
    CAPTURE(item.items[1].boolean);
    TpeOptions options(Profile::optuna_4_9);
    options.constant_liar = true;
    options.constraints = item.items[1].boolean;
    const Recorded recorded = read_history(history);
    const Split split = split_trials(recorded.study, -1, options);
    CHECK(numbers(split.below) == golden(item.items[2]));
    CHECK(numbers(split.above) == golden(item.items[3]));
  }
}

TEST_CASE("samplers: suggestions are those recorded from Optuna 3.1.0, 4.9.0 and 5.0.0") {
  int cases = 0;
  for (const auto& [name, profile] : kVersions) {
    CAPTURE(name);
    const Tally tally = check_suggestions(str(kSamplerGolden, "suggestions_", name, ".json"), profile);
    cases += tally.cases;
    CHECK(tally.ties < 10);
  }
  CHECK(cases >= 500);
}

// --- Samplers of their own -------------------------------------------------------------------------------------------

namespace {

const agents::Range kUnit = agents::FloatRange{0, 1};

Study empty_study() {
  Study study;
  study.name = "s";
  study.directions = {Direction::minimize};
  return study;
}

// Asks for a trial's parameters in a study, to which it is added as COMPLETE with its attributes.
NamedValues next_trial(Sampler& sampler, Study& study, const SearchSpace& asked, State state = State::complete) {
  Trial trial;
  trial.number = static_cast<std::int64_t>(study.trials.size());
  trial.state = State::running;
  Ask ask(sampler, study, trial);
  NamedValues values;
  for (const auto& [name, range] : asked) values.emplace_back(name, ask.suggest(name, range));
  trial = ask.trial();
  for (Attribute& attribute : ask.attributes()) trial.system_attributes.push_back(std::move(attribute));
  trial.state = state;
  if (state == State::complete) trial.values = {0};
  study.trials.push_back(std::move(trial));
  return values;
}

}  // namespace

TEST_CASE("ask: a set value, fixed_params, the only value, the joint one, an independent one, in this order") {
  struct Fake : Sampler, Proposals {
    std::vector<Parameter> relative() override {
      ++joint_draws;
      return {{"joint", 0.25, kUnit}, {"fixed", 0.25, kUnit}, {"wide", 5.0, agents::FloatRange{0, 9}}};
    }
    agents::Value sample(const std::string&, const agents::Range&) override { return 0.75; }
    struct Forward : Proposals {
      explicit Forward(Fake& to) : fake(to) {}
      std::vector<Parameter> relative() override { return fake.relative(); }
      agents::Value sample(const std::string& name, const agents::Range& range) override {
        return fake.sample(name, range);
      }
      Fake& fake;
    };
    std::unique_ptr<Proposals> begin(const Study&, const Trial&) override { return std::make_unique<Forward>(*this); }
    int joint_draws = 0;
  } sampler;
  const Study study = empty_study();
  Trial trial;
  trial.params = {{"set", 0.125, kUnit}};
  trial.system_attributes = {
      {"fixed_params",
       formats::read_json(R"({"fixed": 0.5, "beyond": 7, "count": 3.0, "choice": 1, "text": "a"})", "test")}};
  Ask ask(sampler, study, trial);
  CHECK(ask.suggest("set", kUnit) == agents::Value(0.125));
  CHECK(ask.suggest("fixed", kUnit) == agents::Value(0.5));
  CHECK(ask.suggest("beyond", kUnit) == agents::Value(7.0));
  CHECK(ask.suggest("count", agents::IntRange{0, 9}) == agents::Value(std::int64_t{3}));
  CHECK(ask.suggest("choice", agents::Choices{{std::string("x"), true}}) == agents::Value(true));
  CHECK(ask.suggest("one", agents::IntRange{4, 5, 3}) == agents::Value(std::int64_t{4}));
  CHECK(sampler.joint_draws == 0);
  CHECK(ask.suggest("joint", kUnit) == agents::Value(0.25));
  CHECK(ask.suggest("wide", kUnit) == agents::Value(0.75));  // outside what is asked for
  CHECK(ask.suggest("else", kUnit) == agents::Value(0.75));
  CHECK(ask.suggest("joint", kUnit) == agents::Value(0.25));
  CHECK(sampler.joint_draws == 1);
  CHECK(ask.trial().params.size() == 9);
  const Caught wrong = caught([&] { ask.suggest("text", kUnit); });
  CHECK(wrong.fault == Fault::incompatible);
  CHECK(contains(wrong.text, "fixed_params has text = a"));
}

TEST_CASE("grid: every point once, in Optuna's order and with its marks") {
  const Json parts = read_file(kSamplerGolden + "parts_4.9.0.json");
  const std::int64_t three = 3, one = 1, two = 2;
  const Grid grid = {{"x", {three, one, two}}, {"b", {std::monostate{}, std::string("a")}}, {"a", {0.5, 0.1}}};
  const SearchSpace asked = {
      {"x", agents::IntRange{0, 5}}, {"b", agents::Choices{{std::monostate{}, std::string("a")}}}, {"a", kUnit}};
  GridSampler sampler(grid, 5);
  Study study = empty_study();
  for (const Json& golden : at(parts, "grid").items) {
    const NamedValues values = next_trial(sampler, study, asked);
    for (std::size_t p = 0; p < 3; ++p) CHECK(values[p].second == value_of_json(golden.items[p]));
    CHECK(shown(attributes_json(study.trials.back().system_attributes)) == shown(golden.items[3]));
  }
  REQUIRE(study.trials.size() == 12);
  CHECK(sampler.exhausted(study));
  CHECK(contains(caught([&] { next_trial(sampler, study, asked); }).text, "all 12 points of the grid are tried"));

  // Two are free, but for those that run.
  study.trials[3].state = State::running;
  study.trials[7].system_attributes.clear();
  CHECK_FALSE(sampler.exhausted(study));
  next_trial(sampler, study, asked, State::running);
  CHECK(sampler.exhausted(study));  // all are tried or under way
  CHECK(find(study.trials.back().system_attributes, "grid_id")->integer == 7);
  next_trial(sampler, study, asked);
  const std::int64_t again = find(study.trials.back().system_attributes, "grid_id")->integer;
  CHECK((again == 3 || again == 7));

  CHECK(contains(caught([&] {
                   next_trial(sampler, study, {{"y", kUnit}});
                 }).text,
                 "no parameter y, expected one of a, b, x"));
  CHECK(contains(caught([] { grid_of({{"lr", kUnit}}); }).text, "the range of lr is continuous"));
  CHECK(contains(caught([] { GridSampler(grid_of({{"n", agents::IntRange{0, 2'000'000}}}), 1); }).text, "more than"));
  CHECK(grid_of({{"d", agents::FloatRange{0, 0.3, 0.1}}, {"n", agents::IntRange{1, 7, 3}}})[0].second.size() == 4);
}

TEST_CASE("quasi-random: any 2^k first points fall into all intervals of 1 / 2^k, another way for each seed") {
  constexpr std::size_t kDimensions = 40, kPoints = 256;
  std::vector<double> first;
  for (const std::uint32_t seed : {1U, 2U}) {
    const Sobol sobol(kDimensions, seed);
    std::vector<std::vector<int>> hits(kDimensions, std::vector<int>(kPoints));
    std::vector<int> squares(kPoints);  // of the first two dimensions
    for (std::uint64_t i = 0; i < kPoints; ++i) {
      const std::vector<double> point = sobol.point(i);
      for (std::size_t d = 0; d < kDimensions; ++d) ++hits[d][static_cast<std::size_t>(point[d] * kPoints)];
      ++squares[static_cast<std::size_t>(point[0] * 16) * 16 + static_cast<std::size_t>(point[1] * 16)];
      if (i == 0) first.push_back(point[0]);
    }
    for (const auto& dimension : hits) CHECK(*std::max_element(dimension.begin(), dimension.end()) == 1);
    CHECK(*std::max_element(squares.begin(), squares.end()) == 1);
  }
  CHECK(first[0] != first[1]);
}

TEST_CASE("quasi-random: trial i gets point i, values fit their ranges") {
  SamplerOptions options;
  options.space = {{"x", agents::FloatRange{1e-5, 1e-1, 0, true}},
                   {"n", agents::IntRange{1, 9, 2}},
                   {"w", agents::IntRange{16, 512, 1, true}},
                   {"c", agents::Choices{{std::string("a"), std::string("b"), true}}},
                   {"d", agents::FloatRange{0, 0.6, 0.05}},
                   {"one", agents::IntRange{3, 3}}};
  const auto a = make_sampler("quasi-random", options, 7), b = make_sampler("quasi-random", options, 7);
  Study study = empty_study();
  std::vector<int> counts(3);
  for (int i = 0; i < 90; ++i) {
    const NamedValues values = next_trial(*a, study, options.space);
    for (std::size_t p = 0; p < values.size(); ++p) {
      const auto internal = internal_value(options.space[p].second, values[p].second);
      REQUIRE(internal);
      CHECK(contains(options.space[p].second, *internal));
      if (p == 3) ++counts[static_cast<std::size_t>(*internal)];
    }
    if (i == 60) {
      study.trials.pop_back();
      CHECK(next_trial(*b, study, options.space) == values);
    }
  }
  for (const int count : counts) CHECK(std::abs(count - 30) <= 3);
}

TEST_CASE("make_sampler: names and faults") {
  for (const std::string& name : sampler_names()) {
    SamplerOptions options;
    options.space = {{"n", agents::IntRange{1, 3}}};
    Study study = empty_study();
    CHECK(next_trial(*make_sampler(name, options, 1), study, options.space).size() == 1);
  }
  const Caught unknown = caught([] { make_sampler("cmaes", {}, 1); });
  CHECK(unknown.fault == Fault::usage);
  CHECK(contains(unknown.text, "no sampler 'cmaes', expected one of tpe, random, quasi-random, grid"));
  CHECK(contains(caught([] { make_sampler("grid", {}, 1); }).text, "has no parameters, expected a search space"));
  CHECK(contains(caught([] { make_sampler("quasi-random", {}, 1); }).text, "expected a search space"));
  Study study = empty_study();
  study.directions = {Direction::not_set};
  CHECK(caught([&] { next_trial(*make_sampler("tpe", {}, 1), study, {{"x", kUnit}}); }).fault == Fault::incompatible);
  study.directions = {Direction::minimize, Direction::minimize};
  CHECK(contains(caught([&] {
                   next_trial(*make_sampler("tpe", {}, 1), study, {{"x", kUnit}});
                 }).text,
                 "one objective"));
}

TEST_SUITE("interop") {
  TEST_CASE("samplers: suggestions are those of each Optuna that is installed") {
    for (const auto& [name, profile] : kVersions) {
      const std::string python = str(RISTRETTO_SOURCE "/.venv-optuna/", name, "/bin/python");
      if (!fs::exists(python)) {
        MESSAGE("skipped: there is no " << python);
        continue;
      }
      const Scratch scratch;
      REQUIRE(std::system(str(python, " " RISTRETTO_SOURCE "/tests/interop/optuna_suggestions.py suggest ",
                              kSamplerGolden, " 30 ", scratch.path.string())
                              .c_str()) == 0);
      const Tally tally = check_suggestions((scratch.path / str("suggestions_", name, ".json")).string(), profile);
      CHECK(tally.cases >= 25);
    }
  }
}

TEST_SUITE("slow") {
  // tests/interop/optuna_suggestions.py has the same problems.
  double sphere(Ask & ask, int dimensions) {
    double sum = 0;
    for (int i = 0; i < dimensions; ++i) {
      const double x = std::get<double>(ask.suggest(str("x", i), agents::FloatRange{-5, 5})) - 1;
      sum += x * x;
    }
    return sum;
  }

  double branin(Ask & ask) {
    const double x = std::get<double>(ask.suggest("x", agents::FloatRange{-5, 10}));
    const double y = std::get<double>(ask.suggest("y", agents::FloatRange{0, 15}));
    constexpr double pi = std::numbers::pi;
    const double hollow = y - 5.1 / (4 * pi * pi) * x * x + 5 / pi * x - 6;
    return hollow * hollow + 10 * (1 - 1 / (8 * pi)) * std::cos(x) + 10 - 0.397887357729738;
  }

  double mixed(Ask & ask) {
    const double rate = std::log10(std::get<double>(ask.suggest("rate", agents::FloatRange{1e-5, 1e-1, 0, true}))) + 3;
    const auto layers = static_cast<double>(std::get<std::int64_t>(ask.suggest("layers", agents::IntRange{1, 8}))) - 3;
    const double drop = std::get<double>(ask.suggest("drop", agents::FloatRange{0, 0.6, 0.05})) - 0.2;
    const std::string a = "a", b = "b", c = "c";
    const std::string kind = std::get<std::string>(ask.suggest("kind", agents::Choices{{a, b, c}}));
    return rate * rate + 0.1 * layers * layers + drop * drop + (kind == a ? 0.3 : kind == b ? 0.0 : 0.6);
  }

  double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return (values[(values.size() - 1) / 2] + values[values.size() / 2]) / 2;
  }

  TEST_CASE("tpe: the median regret is inside the bootstrap 95 % interval of Optuna's") {
    const std::vector<std::pair<std::string, std::function<double(Ask&)>>> problems = {
        {"sphere2", [](Ask& ask) { return sphere(ask, 2); }},
        {"sphere3", [](Ask& ask) { return sphere(ask, 3); }},
        {"sphere5", [](Ask& ask) { return sphere(ask, 5); }},
        {"branin", branin},
        {"mixed", mixed}};
    for (const auto& [version, profile] : kVersions) {
      if (profile < Profile::optuna_4_9) continue;
      const Json recorded = read_file(str(kSamplerGolden, "regret_", version, ".json"));
      for (std::size_t i = 0; i < problems.size(); ++i) {
        const Json& golden = at(recorded, "problems").items[i];
        REQUIRE(at(golden, "problem").text == problems[i].first);
        std::vector<double> theirs, ours;
        for (const Json& best : at(golden, "best").items) theirs.push_back(best.real);
        std::size_t equal_seeds = 0;
        for (std::uint32_t seed = 0; seed < theirs.size(); ++seed) {
          TpeSampler sampler(TpeOptions(profile), seed);
          Study study = empty_study();
          double best = kInfinity;
          for (int number = 0; number < 100; ++number) {
            Trial trial;
            trial.number = number;
            trial.state = State::running;
            Ask ask(sampler, study, trial);
            const double value = problems[i].second(ask);
            trial = ask.trial();
            trial.state = State::complete;
            trial.values = {value};
            study.trials.push_back(std::move(trial));
            best = std::min(best, value);
          }
          ours.push_back(best);
          equal_seeds += std::abs(best - theirs[seed]) <= 1e-6 * std::abs(theirs[seed]) ? 1 : 0;
        }
        RandomState random(1);
        std::vector<double> medians;
        for (int draw = 0; draw < 2000; ++draw) {
          std::vector<double> sample;
          for (std::size_t k = 0; k < theirs.size(); ++k) {
            sample.push_back(theirs[random.below(static_cast<std::uint32_t>(theirs.size()))]);
          }
          medians.push_back(median(sample));
        }
        std::sort(medians.begin(), medians.end());
        MESSAGE(std::string(version) << " " << problems[i].first << ": median " << median(ours) << ", Optuna's "
                                     << median(theirs) << " [" << medians[50] << ", " << medians[1949] << "], "
                                     << equal_seeds << " seeds equal");
        CHECK(median(ours) >= medians[50]);
        CHECK(median(ours) <= medians[1949]);
      }
    }
  }
}
