// Integrity gates: what every version must pass, and which version gives way to which (deployments.md, "Served, proven,
// unproven").
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "env/layout.h"
#include "release/manifest.h"
#include "release/thresholds.h"

namespace ristretto::release {

struct GateResult {
  std::string name;
  bool passed = false;
  std::string value, threshold;
  std::string reason;        // why it refused; "" where it passed
  bool no_evidence = false;  // it refused because there is nothing to judge by
  Json numbers = {};         // behind the value, by name; null where the value says all
};

struct IntegrityInputs {
  std::filesystem::path directory;     // staged or a version
  env::Layout environment_layout;      // of the environment that it will be served in
  std::int64_t orders = 0;             // in the backtest on unseen bars
  double turnover = 0;                 // value that they traded over the account's mean value
  double trading_bars = 0;             // share of the bars with an order
  std::int64_t environment_steps = 0;  // counted by the environment
  std::int64_t claimed_steps = 0;      // counted by the trainer, what the manifest says
  std::int64_t optimizer_steps = 0;
  double relative_weight_change = 0;                 // |w - w0| / |w0| over all of the actor's weights
  std::optional<std::filesystem::path> served = {};  // the version that it would replace
};

// complete, loads, finite, probe, orders, turnover, trading_bars, steps, optimizer_steps, weights_changed,
// differs_from_served, layout; each decides for itself, none throws for what it finds.
std::vector<GateResult> integrity_gates(const IntegrityInputs& inputs, const Thresholds& thresholds = {});
bool all_passed(const std::vector<GateResult>& gates);
// "loads: <reason>; orders: <value>, expected <threshold>: <reason>" of those that refused.
std::string refusals(const std::vector<GateResult>& gates);
Json json_of(const std::vector<GateResult>& gates);

// What is served, as far as it matters to a candidate. damaged: it fails integrity.
enum class Served { empty, damaged, unproven, proven };
// Of a version, published or adopted (a plain directory without a manifest is damaged: adopt it first), by verify() and
// its manifest's status. Throws Error(failed) where it cannot be read just now.
Served served_state(const std::optional<std::filesystem::path>& directory);

struct Verdict {
  bool serve = false;
  std::string status;  // for the manifest: "proven", "unproven", "better, unproven", "refused"
  std::string reason;
};

// For a candidate that passed integrity (or not) and every one of evidence_gates() (or not). The values are point
// estimates of the same figure on the same unseen bars, larger is better; nothing where there is none: between unproven
// versions they decide. The newest never wins for being new.
Verdict decide(Served served, bool passed_integrity, std::optional<double> candidate_value,
               std::optional<double> champion_value, bool passed_evidence = false);

}  // namespace ristretto::release
