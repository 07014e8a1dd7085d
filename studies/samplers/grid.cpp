#include "studies/samplers/grid.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

#include "platform/error.h"
#include "platform/text.h"
#include "studies/distribution.h"

namespace ristretto::studies {

using formats::Json;

namespace {

// Holds the values of the grid, in its order.
bool same_values(const Json& list, const std::vector<agents::Value>& values) {
  if (list.items.size() != values.size()) return false;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!internal_value(agents::Choices{{values[i]}}, value_of_json(list.items[i]))) return false;
  }
  return true;
}

std::optional<std::size_t> grid_id(const Trial& trial, const Grid& grid, std::size_t points) {
  const Json* id = find(trial.system_attributes, "grid_id");
  const Json* space = find(trial.system_attributes, "search_space");
  if (!id || id->kind != Json::Kind::integer || id->integer < 0 || id->integer >= static_cast<std::int64_t>(points) ||
      !space || space->members.size() != grid.size()) {
    return std::nullopt;
  }
  for (const auto& [name, values] : grid) {
    const Json* list = space->find(name);
    if (!list || !same_values(*list, values)) return std::nullopt;
  }
  return static_cast<std::size_t>(id->integer);
}

Json json_of_grid(const Grid& grid) {
  Json json;
  json.kind = Json::Kind::object;
  for (const auto& [name, values] : grid) {
    Json list;
    list.kind = Json::Kind::array;
    for (const agents::Value& value : values) list.items.push_back(json_of(value));
    json.members.emplace_back(name, std::move(list));
  }
  return json;
}

}  // namespace

class GridProposals : public Proposals {
 public:
  // Without an id the trial's values are all given.
  GridProposals(const GridSampler& sampler, std::optional<std::size_t> id) : sampler_(sampler), id_(id) {}

  agents::Value sample(const std::string& name, const agents::Range& range) override {
    if (!id_) throw Error(Fault::usage, str("fixed_params lacks ", name, ", expected all parameters of the grid"));
    for (std::size_t p = 0; p < sampler_.grid_.size(); ++p) {
      if (sampler_.grid_[p].first != name) continue;
      const agents::Value value = sampler_.value_at(*id_, p);
      const std::optional<double> internal = internal_value(range, value);
      if (internal && contains(range, *internal)) return value_of(range, *internal);
      throw Error(Fault::usage,
                  str("the grid has ", name, " = ", agents::text_of(value), ", which is not in its range"));
    }
    std::vector<std::string> names;
    for (const auto& item : sampler_.grid_) names.push_back(item.first);
    throw Error(Fault::usage, str("the grid has no parameter ", name, ", expected one of ", join(names, ", ")));
  }

  std::vector<Attribute> attributes() const override {
    if (!id_) return {};
    return {{"search_space", sampler_.space_}, {"grid_id", json_of(static_cast<std::int64_t>(*id_))}};
  }

 private:
  const GridSampler& sampler_;
  std::optional<std::size_t> id_;
};

Grid grid_of(const SearchSpace& space) {
  Grid grid;
  for (const auto& [name, range] : space) {
    std::vector<agents::Value> values;
    if (const auto* categorical = std::get_if<agents::Choices>(&range)) {
      values = categorical->choices;
    } else if (const std::optional<agents::Value> only = single_value(range)) {
      values = {*only};
    } else if (const auto* integer = std::get_if<agents::IntRange>(&range)) {
      const std::int64_t count = (integer->high - integer->low) / integer->step + 1;
      for (std::int64_t k = 0; k < count && values.size() <= GridSampler::kMostPoints; ++k) {
        values.emplace_back(integer->low + k * integer->step);
      }
    } else {
      const auto& real = std::get<agents::FloatRange>(range);
      if (real.step <= 0) {
        throw Error(Fault::usage,
                    str("the range of ", name, " is continuous, expected one with a step: it has no grid"));
      }
      const double count = std::round((real.high - real.low) / real.step) + 1;
      for (double k = 0; k < count && values.size() <= GridSampler::kMostPoints; ++k) {
        values.emplace_back(std::min(real.low + k * real.step, real.high));
      }
    }
    grid.emplace_back(name, std::move(values));
  }
  return grid;
}

GridSampler::GridSampler(Grid grid, std::uint32_t seed) : grid_(std::move(grid)), random_(seed) {
  std::sort(grid_.begin(), grid_.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  if (grid_.empty()) throw Error(Fault::usage, "the sampler grid has no parameters, expected a search space");
  std::size_t points = 1;
  for (const auto& [name, values] : grid_) {
    if (values.empty()) throw Error(Fault::usage, str("the grid has no values of ", name));
    if (values.size() > kMostPoints / points) {
      throw Error(Fault::usage, str("the grid has more than ", kMostPoints, " points"), "use larger steps");
    }
    points *= values.size();
  }
  space_ = json_of_grid(grid_);
  order_.resize(points);
  std::iota(order_.begin(), order_.end(), 0U);
  random_.shuffle(order_);
}

agents::Value GridSampler::value_at(std::size_t id, std::size_t parameter) const {
  std::size_t place = order_[id];
  for (std::size_t p = grid_.size(); --p > parameter;) place /= grid_[p].second.size();
  const auto& values = grid_[parameter].second;
  return values[place % values.size()];
}

// WAITING: nobody has it; RUNNING; COMPLETE: a finished trial has it.
std::vector<State> GridSampler::states(const Study& study) const {
  std::vector<State> states(order_.size(), State::waiting);
  for (const Trial& trial : study.trials) {
    const std::optional<std::size_t> id = grid_id(trial, grid_, order_.size());
    if (!id || trial.state == State::waiting) continue;
    if (trial.state != State::running) states[*id] = State::complete;
    if (states[*id] == State::waiting) states[*id] = State::running;
  }
  return states;
}

bool GridSampler::exhausted(const Study& study) const {
  const std::vector<State> all = states(study);
  return std::find(all.begin(), all.end(), State::waiting) == all.end();
}

std::unique_ptr<Proposals> GridSampler::begin(const Study& study, const Trial& trial) {
  if (const std::optional<std::size_t> id = grid_id(trial, grid_, order_.size())) {
    return std::make_unique<GridProposals>(*this, id);  // a trial that is tried again
  }
  if (find(trial.system_attributes, "fixed_params")) return std::make_unique<GridProposals>(*this, std::nullopt);
  if (trial.number < static_cast<std::int64_t>(order_.size())) {
    return std::make_unique<GridProposals>(*this, static_cast<std::size_t>(trial.number));
  }
  const std::vector<State> all = states(study);
  for (const State wanted : {State::waiting, State::running}) {
    std::vector<std::size_t> ids;
    for (std::size_t id = 0; id < all.size(); ++id) {
      if (all[id] == wanted) ids.push_back(id);
    }
    if (ids.empty()) continue;
    return std::make_unique<GridProposals>(*this, ids[random_.below(static_cast<std::uint32_t>(ids.size()))]);
  }
  throw Error(Fault::usage, str("all ", order_.size(), " points of the grid are tried"));
}

}  // namespace ristretto::studies
