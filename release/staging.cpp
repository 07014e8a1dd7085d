#include <ATen/core/grad_mode.h>
#include <ATen/ops/isfinite.h>

#include <algorithm>

#include "formats/safetensors.h"
#include "formats/torch_file.h"
#include "platform/atomic_file.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/text.h"
#include "release/deployment.h"
#include "release/sha256.h"
#include "release/torchscript.h"

namespace ristretto::release {
namespace {

using agents::Network;
using ft_transformer::Weights;
namespace fs = std::filesystem;

// Fields that the release writes itself; a section of the caller's may only add to `environment`.
constexpr const char* kReserved[] = {"schema_version", "name",   "version", "status", "created",      "parent", "gates",
                                     "files",          "layout", "action",  "probe",  "architecture", "adopted"};

void require(bool good, const std::string& message) {
  if (!good) throw Error(Fault::usage, "a deployment cannot be written: " + message);
}

void check(const Content& content) {
  const agents::Architecture& architecture = content.architecture;
  require(architecture.activation == agents::Activation::relu &&
              architecture.distribution == agents::Distribution::tanh_gaussian && !architecture.encoder.published,
          "the network is not one that files of actor.pth describe (ReLU, tanh-Gaussian, flattened tokens)");
  require(content.layout.size() == architecture.observation,
          str("the layout names ", content.layout.size(), " columns, the network reads ", architecture.observation));
  require(content.layout.assets_count() == architecture.actions && content.rules.assets == architecture.actions,
          str("the network answers ", architecture.actions, " actions, the layout has ", content.layout.assets_count(),
              " assets and the environment ", content.rules.assets));
  require(content.rules.lookback == content.layout.lookback,
          str("the environment's lookback is ", content.rules.lookback, ", the layout's ", content.layout.lookback));
  const at::Tensor& probe = content.probe_states;
  require(
      probe.defined() && probe.dim() == 2 && probe.size(0) >= kMinimumProbeRows &&
          probe.size(1) == architecture.observation && at::isfinite(probe).all().item<bool>(),
      str("the probe needs at least ", kMinimumProbeRows, " finite states of ", architecture.observation, " columns"));
  for (const char* name : kReserved) {
    require(!content.manifest_sections.contains(name), str("the manifest's '", name, "' is not a caller's to give"));
  }
  content.actor.require_same_shapes(agents::actor_template(architecture), "actor.pth");
  if (content.critic.size() > 0) {
    content.critic.require_same_shapes(agents::critic_template(architecture), "critic.pth");
  }
  for (const auto* weights : {&content.actor, &content.critic}) {
    if (const auto name = non_finite_weight(*weights)) {
      throw Error(Fault::incompatible,
                  str(weights == &content.actor ? "the actor's " : "the critic's ", *name, " holds NaN or infinity"));
    }
  }
}

// Whatever was sampled: the existing consumer builds network and observation from these.
Trial trial_of(const Content& content) {
  Trial trial{content.trial_number, content.parameters, content.user_attributes, content.trial_value};
  const agents::Architecture& architecture = content.architecture;
  trial.parameters["net_dimension"] = architecture.width;
  trial.parameters["lookback"] = content.layout.lookback;
  trial.parameters["norm_cash_exp"] = content.layout.scales.cash_exp;
  trial.parameters["norm_stocks_exp"] = content.layout.scales.stocks_exp;
  trial.parameters["norm_tech_exp"] = content.layout.scales.tech_exp;
  trial.parameters["use_ft_encoder"] = architecture.network == Network::ft_transformer;
  if (architecture.network == Network::ft_transformer) {
    trial.parameters["ft_d_token"] = architecture.encoder.d_token;
    trial.parameters["ft_n_blocks"] = architecture.encoder.blocks;
    trial.parameters["ft_n_heads"] = architecture.encoder.heads;
    trial.parameters["ft_dropout"] = 0.0;  // the existing consumer never calls eval()
  }
  if (architecture.network == Network::market_context) {
    const ft_transformer::MarketContextShape& context = architecture.context;
    trial.parameters["encoder"] = agents::name_of(architecture.network);
    trial.parameters["market_tokens"] = context.tokens == ft_transformer::MarketTokens::asset ? "asset" : "feature";
    trial.parameters["ft_d_token"] = context.d_token;
    trial.parameters["ft_n_blocks"] = context.blocks;
    trial.parameters["ft_n_heads"] = context.heads;
  }
  return trial;
}

// Where the file system has no hard links, a second file with the same bytes.
void write_twice(const fs::path& path, const fs::path& link, const std::string& bytes) {
  write_file_atomically(path, bytes);
  fs::remove(link);
  std::error_code error;
  fs::create_hard_link(path, link, error);
  if (error) write_file_atomically(link, bytes);
}

std::map<std::string, std::string> safetensors_metadata(const Content& content) {
  std::map<std::string, std::string> fields{{"format", "pt"},
                                            {"schema_version", str(kSchemaVersion)},
                                            {"layout_hash", hash_of(content.layout)},
                                            {"assets", join(content.layout.assets, ",")},
                                            {"study", content.study_name},
                                            {"trial_number", str(content.trial_number)}};
  const Json architecture = section_of(content.architecture);
  for (const auto& [name, value] : architecture.items()) {
    fields[name] = value.is_string() ? value.get<std::string>() : line_of(value);
  }
  return fields;
}

Json rows_of(const at::Tensor& matrix) {
  const at::Tensor values = matrix.to(at::kCPU, at::kDouble).contiguous();
  const double* at = values.const_data_ptr<double>();
  Json rows = Json::array();
  for (std::int64_t i = 0; i < values.size(0); ++i, at += values.size(1)) {
    rows.push_back(std::vector<double>(at, at + values.size(1)));
  }
  return rows;
}

std::string actor_file(const Weights& actor) {
  return formats::write_torch_bytes(ft_transformer::arrays_of(actor.to(at::kCPU, at::kFloat)), "actor");
}

}  // namespace

std::string actor_hash(const Weights& actor) { return sha256(actor_file(actor)); }

void stage(const Content& content, const fs::path& directory) {
  check(content);
  const at::NoGradGuard no_gradients;
  const bool with_critic = content.architecture.network == Network::mlp && content.critic.size() > 0;
  fs::create_directories(directory);
  fs::remove(directory / kManifest);
  for (const auto& entry : fs::directory_iterator(directory)) {  // of a run that was killed while it wrote here
    if (entry.path().filename().string().starts_with(".tmp-")) fs::remove(entry.path());
  }

  const Weights actor = content.actor.to(at::kCPU, at::kFloat);
  const auto arrays = ft_transformer::arrays_of(actor);
  write_twice(directory / "actor.pth", directory / "act_target.pth", actor_file(actor));
  if (with_critic) {
    write_twice(
        directory / "critic.pth", directory / "cri_target.pth",
        formats::write_torch_bytes(ft_transformer::arrays_of(content.critic.to(at::kCPU, at::kFloat)), "critic"));
  } else {
    fs::remove(directory / "critic.pth");
    fs::remove(directory / "cri_target.pth");
  }
  write_file_atomically(directory / "actor.safetensors",
                        formats::write_safetensors(arrays, safetensors_metadata(content)));
  write_torchscript(directory / "policy.pt", actor, content.architecture);
  write_file_atomically(directory / "best_trial", trial_bytes(trial_of(content)));
  const Json metadata{
      {"trial_number", content.trial_number}, {"study", content.study_name}, {"sharpe", content.trial_value}};
  write_file_atomically(directory / "metadata.json", line_of(metadata) + "\n");

  // What the files say, not what was in memory.
  const at::Tensor input = content.probe_states.to(at::kCPU, at::kFloat);
  const at::Tensor output = predict(load(directory), input);
  Json manifest{{"schema_version", kSchemaVersion},
                {"name", nullptr},
                {"version", nullptr},
                {"status", nullptr},
                {"created", iso_utc(now_seconds())},
                {"parent", nullptr},
                {"files", files_of(directory)},
                {"architecture", section_of(content.architecture)},
                {"layout", section_of(content.layout)},
                {"action", action_section(content.layout)},
                {"environment", section_of(content.rules)},
                {"probe", {{"input", rows_of(input)}, {"output", rows_of(output)}, {"tolerance", kProbeTolerance}}}};
  for (const auto& [name, section] : content.manifest_sections.items()) {
    if (name != "environment") {
      manifest[name] = section;
      continue;
    }
    for (const auto& [field, value] : section.items()) {
      require(!manifest[name].contains(field) || manifest[name][field] == value,
              str("the environment's '", field, "' is ", line_of(manifest[name].value(field, Json())),
                  " in its rules and ", line_of(value), " in the section given"));
      manifest[name][field] = value;
    }
  }
  write_manifest(directory / kManifest, manifest);
  verify(directory);
}

std::int64_t staged_bytes(const agents::Architecture& architecture) {
  constexpr std::int64_t kFloatBytes = 4, kForms = 3;                 // actor.pth, actor.safetensors, policy.pt
  constexpr std::int64_t kSmallBytes = 1 << 20, kColumnBytes = 1024;  // headers, trial; names and probe in the manifest
  std::int64_t numbers = kForms * agents::actor_template(architecture).parameters();
  if (architecture.network == Network::mlp) numbers += agents::critic_template(architecture).parameters();
  return kFloatBytes * numbers + kSmallBytes + kColumnBytes * architecture.observation;
}

}  // namespace ristretto::release
