// The commands: each parses its arguments, calls the rooms above and prints. The exit code is its value.
#pragma once

#include <string>
#include <vector>

namespace ristretto::cli {

using Arguments = std::vector<std::string>;  // behind the command's name

int retrain(const Arguments& arguments);
int train_run(const Arguments& arguments);
int pretrain(const Arguments& arguments);
int sweep(const Arguments& arguments);
int study(const Arguments& arguments);
int data(const Arguments& arguments);
int replay(const Arguments& arguments);
int predict(const Arguments& arguments);
int inspect(const Arguments& arguments);
int convert(const Arguments& arguments);
int evaluate(const Arguments& arguments);
int promote(const Arguments& arguments);
int nightly(const Arguments& arguments);
int prune(const Arguments& arguments);
int rollback(const Arguments& arguments);
int history(const Arguments& arguments);
int list(const Arguments& arguments);
int config(const Arguments& arguments);
int doctor(const Arguments& arguments);
int signature(const Arguments& arguments);
int completion(const Arguments& arguments);

struct Command {
  const char* name;
  const char* summary;
  int (*run)(const Arguments&);
  bool computes = false;  // on all cores, perhaps for minutes
};
const std::vector<Command>& commands();

}  // namespace ristretto::cli
