// The program as users run it, in a directory of its own.
#pragma once

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include "temporary_directory.h"

namespace ristretto::train {

inline const std::string kSource = RISTRETTO_SOURCE;

// A network and a run of seconds; everything else as in the real job.
inline std::vector<std::string> small_retrain(const std::string& name) {
  return {"retrain",
          name,
          "--storage",
          kSource + "/data/studies/example.db",
          "--study-name",
          "cappuccino_maxgpu",
          "--bars",
          kSource + "/data/crypto_1h",
          "--net-dimension",
          "16",
          "--portfolios",
          "64",
          "--base-target-step",
          "32",
          "--batch-size",
          "1024",
          "--steps",
          "8192",
          "--learning-rate",
          "1e-3",
          "--device",
          "cpu",
          "--quiet"};
}

// The same training without a deployment.
inline std::vector<std::string> small_train(const std::string& run) {
  std::vector<std::string> arguments = small_retrain(run);
  arguments[0] = "train";
  arguments.insert(arguments.begin() + 1, "--run");
  return arguments;
}

inline pid_t start(const std::vector<std::string>& arguments, const std::filesystem::path& directory,
                   const std::string& out = "out", const std::string& err = "err") {
  const pid_t child = fork();
  if (child != 0) return child;
  if (chdir(directory.c_str()) != 0) _exit(120);
  const int output = open(out.c_str(), O_CREAT | O_WRONLY | O_TRUNC, 0644);
  const int errors = open(err.c_str(), O_CREAT | O_WRONLY | O_TRUNC, 0644);
  dup2(output, STDOUT_FILENO);
  dup2(errors, STDERR_FILENO);
  std::vector<char*> argv{const_cast<char*>(RISTRETTO_PROGRAM)};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  execv(RISTRETTO_PROGRAM, argv.data());
  _exit(121);
}

inline int finish(pid_t child) {
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

}  // namespace ristretto::train
