#include "release/gates.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "platform/error.h"
#include "platform/text.h"
#include "release/deployment.h"

namespace ristretto::release {
namespace {

// Runs what throws where the gate refuses; it returns the value to show.
GateResult attempt(const char* name, const std::string& threshold, const std::function<std::string()>& body) {
  GateResult gate{name, false, "", threshold, ""};
  try {
    gate.value = body();
    gate.passed = true;
  } catch (const Error& error) {
    gate.reason = error.what();
  } catch (const std::filesystem::filesystem_error& error) {
    gate.reason = error.what();
  }
  return gate;
}

GateResult judge(const char* name, bool passed, const std::string& value, const std::string& threshold,
                 const std::string& reason) {
  return {name, passed, value, threshold, passed ? "" : reason};
}

// Nothing where the served weights have other names or shapes, or do not load or are not finite: what is broken keeps
// nobody from its place.
std::optional<double> distance_from_served(const Model& model, const std::filesystem::path& served) {
  try {
    const Model other = load(served);
    model.actor.require_same_shapes(other.actor, served.string());
    const double distance = ft_transformer::relative_distance(model.actor, other.actor);
    return std::isfinite(distance) ? std::optional(distance) : std::nullopt;
  } catch (const Error&) {
    return std::nullopt;
  }
}

}  // namespace

std::vector<GateResult> integrity_gates(const IntegrityInputs& inputs, const Thresholds& thresholds) {
  std::vector<GateResult> gates;
  const std::filesystem::path& directory = inputs.directory;
  gates.push_back(attempt("complete", "every file as the manifest lists it", [&] {
    const auto manifest = read_manifest(directory);
    if (!manifest) throw Error(Fault::incompatible, directory.string() + " has no manifest");
    require_files(directory, *manifest);
    for (const char* file : {"actor.pth", "act_target.pth", "actor.safetensors", "policy.pt", "best_trial"}) {
      if (!manifest->at("files").contains(file)) {
        throw Error(Fault::incompatible, str(directory.string(), " has no ", file));
      }
    }
    return str(manifest->at("files").size(), " files");
  }));

  std::optional<Model> model;
  gates.push_back(attempt("loads", "as its consumer loads it", [&] {
    model = load(directory);
    return str(agents::name_of(model->architecture.network), " of ", model->architecture.observation, " columns");
  }));
  const auto of_model = [&](const char* name, const std::string& threshold, const std::function<std::string()>& body) {
    gates.push_back(attempt(name, threshold, [&] {
      if (!model) throw Error(Fault::incompatible, "no evidence: it does not load");
      return body();
    }));
  };
  of_model("finite", "every weight", [&] {
    if (const auto weight = non_finite_weight(model->actor)) {
      throw Error(Fault::incompatible, *weight + " holds NaN or infinity");
    }
    return str(model->actor.parameters(), " numbers");
  });
  of_model("probe", str("deviation at most ", kProbeTolerance), [&] { return six_digits(run_probe(*model)); });

  const auto at_least = [&](const char* name, double value, const std::string& what, double minimum,
                            const std::string& reason) {
    const std::string found = (value == std::floor(value) ? str(value) : six_digits(value)) + what;
    gates.push_back(judge(name, value >= minimum, found, str("at least ", minimum), reason));
  };
  const char* const idle =
      "it hardly trades on the unseen bars: trained too little, or its largest order is below the smallest allowed";
  at_least("orders", static_cast<double>(inputs.orders), " orders", thresholds.orders_minimum, idle);
  at_least("turnover", inputs.turnover, " of the account", thresholds.turnover_minimum, idle);
  at_least("trading_bars", inputs.trading_bars, " of the bars", thresholds.trading_bars_minimum, idle);
  const bool counted = inputs.environment_steps == inputs.claimed_steps;
  gates.push_back(
      judge("steps", counted && static_cast<double>(inputs.environment_steps) >= thresholds.steps_minimum,
            str(inputs.environment_steps, " in the environment, ", inputs.claimed_steps, " claimed"),
            str("as many as claimed, at least ", thresholds.steps_minimum),
            counted ? "too few to have learned" : "the environment did not take the steps that are claimed"));
  at_least("optimizer_steps", static_cast<double>(inputs.optimizer_steps), "", thresholds.optimizer_steps_minimum,
           "too few to have learned");
  at_least("weights_changed", inputs.relative_weight_change, "", thresholds.weight_change_minimum,
           "the weights are those that training began with");
  std::optional<double> distance;
  of_model("differs_from_served", str("at least ", thresholds.served_distance_minimum), [&]() -> std::string {
    if (!inputs.served) return "nothing is served";
    distance = distance_from_served(*model, *inputs.served);
    if (!distance) return "not comparable: other shapes, or weights that are broken";
    if (!(*distance >= thresholds.served_distance_minimum)) {
      throw Error(Fault::refused, str("these are the weights of ", inputs.served->string(), ", which is served"));
    }
    return six_digits(*distance);
  });
  if (distance) gates.back().value = six_digits(*distance);
  of_model("layout", "that of the environment it is served in", [&] {
    if (!model->layout) throw Error(Fault::incompatible, "its layout is not known");
    const std::string other = env::difference(*model->layout, inputs.environment_layout);
    if (!other.empty()) throw Error(Fault::incompatible, "its layout is not the environment's: " + other);
    return hash_of(*model->layout);
  });
  return gates;
}

bool all_passed(const std::vector<GateResult>& gates) {
  return std::all_of(gates.begin(), gates.end(), [](const GateResult& gate) { return gate.passed; });
}

std::string refusals(const std::vector<GateResult>& gates) {
  std::vector<std::string> out;
  for (const GateResult& gate : gates) {
    if (gate.passed) continue;
    const std::string found = gate.value.empty() ? "" : str(gate.value, ", expected ", gate.threshold, ": ");
    out.push_back(str(gate.name, ": ", found, gate.reason));
  }
  return join(out, "; ");
}

Json json_of(const std::vector<GateResult>& gates) {
  Json out = Json::array();
  for (const GateResult& gate : gates) {
    out.push_back({{"name", gate.name},
                   {"passed", gate.passed},
                   {"verdict", gate.passed        ? "passed"
                               : gate.no_evidence ? "no_evidence"
                                                  : "refused"},
                   {"value", gate.value},
                   {"threshold", gate.threshold},
                   {"reason", gate.reason}});
    if (!gate.numbers.is_null()) out.back()["numbers"] = gate.numbers;
  }
  return out;
}

Served served_state(const std::optional<std::filesystem::path>& directory) {
  if (!directory) return Served::empty;
  try {
    verify(*directory);
    const auto manifest = read_manifest(std::filesystem::canonical(*directory));
    return text_field(manifest.value(), "status") == "proven" ? Served::proven : Served::unproven;
  } catch (const Error& error) {
    if (error.fault() != Fault::incompatible) throw;  // a file that cannot be read just now is no damage
    return Served::damaged;
  }
}

Verdict decide(Served served, bool passed_integrity, std::optional<double> candidate_value,
               std::optional<double> champion_value, bool passed_evidence) {
  const auto refuse = [](const std::string& reason) { return Verdict{false, "refused", reason}; };
  if (!passed_integrity) return refuse("it fails integrity");
  if (passed_evidence) return {true, "proven", "it passed every gate of evidence"};
  if (served == Served::empty) return {true, "unproven", "the first version, nothing to compare with"};
  if (served == Served::damaged) return {true, "unproven", "what is served fails integrity"};
  if (served == Served::proven)
    return refuse("what is served is proven, and a proven version gives way to evidence only");
  if (!candidate_value || !champion_value || !std::isfinite(*candidate_value) || !std::isfinite(*champion_value)) {
    return refuse("no evidence: the two cannot be compared on the same unseen bars");
  }
  const std::string compared =
      str(six_digits(*candidate_value), " against ", six_digits(*champion_value), " on the same unseen bars");
  if (!(*candidate_value > *champion_value)) return refuse("not better: " + compared);
  return {true, "better, unproven", "better: " + compared};
}

}  // namespace ristretto::release
