#include "release/gates.h"

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

}  // namespace

std::vector<GateResult> integrity_gates(const IntegrityInputs& inputs) {
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
  of_model("probe", str("deviation at most ", kProbeTolerance), [&] { return str(run_probe(*model)); });

  gates.push_back(judge("trades", inputs.backtest_orders > 0, str(inputs.backtest_orders, " orders"), "at least 1",
                        "it placed no order on the unseen bars: its largest order may be below the smallest allowed"));
  const bool counted = inputs.environment_steps > 0 && inputs.environment_steps == inputs.claimed_steps;
  gates.push_back(
      judge("steps", counted && inputs.optimizer_steps > 0,
            str(inputs.environment_steps, " in the environment, ", inputs.claimed_steps, " claimed, ",
                inputs.optimizer_steps, " of the optimizer"),
            "as many as claimed, and at least one of each",
            counted ? "the optimizer took no step" : "the environment did not take the steps that are claimed"));
  gates.push_back(judge("weights_changed", inputs.relative_weight_change >= kMinimumWeightChange,
                        str(inputs.relative_weight_change), str("at least ", kMinimumWeightChange),
                        "the weights are those that training began with"));
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
    if (!gate.passed) out.push_back(str(gate.name, ": ", gate.reason));
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
  const std::string compared = str(*candidate_value, " against ", *champion_value, " on the same unseen bars");
  if (!(*candidate_value > *champion_value)) return refuse("not better: " + compared);
  return {true, "better, unproven", "better: " + compared};
}

}  // namespace ristretto::release
