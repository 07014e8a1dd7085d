// A deployment with a version in service and another one, made once a test program; each case works on a copy.
#pragma once

#include <doctest/doctest.h>

#include <cstdlib>

#include "platform/atomic_file.h"
#include "program_fixture.h"
#include "release/versions.h"

namespace ristretto::train {

// Version 1 in service, version 2 trained but not served, and the first one's files as a staged candidate.
inline const std::filesystem::path& prepared() {
  static const TemporaryDirectory directory;
  static const bool once = [] {
    auto first = small_retrain("model_0");
    first.insert(first.end(), {"--holdout-from", "2023-03-01"});  // the study does not say what it has seen
    REQUIRE(finish(start(first, directory.path)) == 0);
    auto second = first;
    second.insert(second.end(), {"--seed", "5", "--no-promote"});
    const int code = finish(start(second, directory.path));
    REQUIRE((code == 0 || code == 3));
    // As a staged candidate, that any promotion publishes.
    const std::string staged = "cp -r '" + (directory.path / "deployments/model_0").string() + "/.' '" +
                               (directory.path / "candidate").string() + "' && chmod -R u+w '" +
                               (directory.path / "candidate").string() + "'";
    std::filesystem::create_directories(directory.path / "candidate");
    REQUIRE(std::system(staged.c_str()) == 0);
    return true;
  }();
  (void)once;
  return directory.path;
}

struct Copy {
  TemporaryDirectory directory;
  explicit Copy(const std::filesystem::path& of = prepared()) {
    const std::string command = "cp -a '" + of.string() + "/.' '" + directory.path.string() + "'";
    REQUIRE(std::system(command.c_str()) == 0);
  }
  std::filesystem::path operator/(const std::string& name) const { return directory.path / name; }
  release::VersionStore store() const { return release::VersionStore(directory.path / "deployments"); }
  std::string errors() const { return read_file(directory.path / "err"); }
};

}  // namespace ristretto::train
