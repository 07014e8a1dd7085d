// A deployment that any whole candidate beats, over few bars; made once a test program, each case works on a copy.
#pragma once

#include <ATen/ops/from_blob.h>
#include <doctest/doctest.h>

#include <algorithm>

#include "platform/text.h"
#include "prepared_fixture.h"
#include "release/deployment.h"
#include "release/directories.h"

namespace ristretto::train {

// The newest `rows` bars of each asset.
inline void write_last_bars(const std::filesystem::path& to, std::size_t rows) {
  std::filesystem::create_directories(to);
  for (const auto& entry : std::filesystem::directory_iterator(kSource + "/data/crypto_1h")) {
    if (entry.path().extension() != ".csv") continue;
    std::vector<std::string> lines = split(read_file(entry.path()), '\n');
    while (!lines.empty() && lines.back().empty()) lines.pop_back();
    lines.erase(lines.begin() + 1, lines.end() - static_cast<std::ptrdiff_t>(rows));
    write_file_atomically(to / entry.path().filename(), join(lines, "\n") + "\n");
  }
}

// What it was staged from, with all weights multiplied.
inline release::Content content_of(const release::Model& model, double factor) {
  release::Content content;
  content.architecture = model.architecture;
  content.layout = model.layout.value();
  content.rules = model.rules.value();
  content.parameters = model.trial.value().parameters;
  content.actor = model.actor.clone();
  for (const auto& [weight, tensor] : content.actor) {
    if (weight.ends_with(".weight")) tensor.mul_(factor);
  }
  const auto rows = model.manifest->at("probe").at("input").get<std::vector<std::vector<float>>>();
  std::vector<float> states;
  for (const auto& row : rows) states.insert(states.end(), row.begin(), row.end());
  content.probe_states =
      at::from_blob(states.data(), {static_cast<std::int64_t>(rows.size()), model.architecture.observation}).clone();
  return content;
}

// Puts a model in service that turns its positions over at nearly every bar, which costs it a large part of its money.
inline void serve_a_bad_one(const std::filesystem::path& directory, const std::string& name) {
  release::VersionStore store(directory / "deployments");
  release::stage(content_of(release::load(directory / "deployments" / name), 30), directory / "bad");
  const std::optional<std::string> served = store.served(name);
  const std::string id = store.publish(name, directory / "bad", {served, "unproven", release::Json::array()});
  store.serve(name, id, served, "for a test");
}

// bars/: the newest bars. Of model_0 version 1 is a retrain's and version 2, which is served, a bad one; candidate/
// is nearly version 1, and no version yet.
inline const std::filesystem::path& beatable() {
  static const TemporaryDirectory directory;
  static const bool once = [] {
    const std::filesystem::path& place = directory.path;
    write_last_bars(place / "bars", 3400);
    auto first = small_retrain("model_0");
    *(std::find(first.begin(), first.end(), "--bars") + 1) = "bars";
    REQUIRE(finish(start(first, place)) == 0);
    const release::Model model = release::load(place / "deployments/model_0");
    release::Content candidate = content_of(model, 1.001);
    for (const char* section : {"study", "hyperparameters", "training", "data"}) {
      candidate.manifest_sections[section] = model.manifest->at(section);
    }
    std::filesystem::create_directories(place / "candidate");
    release::copy_tree(place / "deployments/model_0/training", place / "candidate/training");
    release::stage(candidate, place / "candidate");
    serve_a_bad_one(place, "model_0");
    return true;
  }();
  (void)once;
  return directory.path;
}

}  // namespace ristretto::train
