#include "cli/commands.h"

namespace ristretto::cli {

const std::vector<Command>& commands() {
  static const std::vector<Command> all = {
      {"retrain", "trains a model anew on today's bars, judges it and serves it", retrain, true},
      {"nightly", "retrains every deployment that is due, judges, promotes, reports", nightly, true},
      {"train", "the same training without a deployment; --resume goes on", train_run, true},
      {"pretrain", "teaches market_context's encoder to fill in hidden features of the bars", pretrain, true},
      {"sweep", "searches hyperparameters: trials of a study, several at once", sweep, true},
      {"study", "what an Optuna study holds: best trials, importance of parameters, a report", study},
      {"evaluate", "backtest of a model on bars, with a report", evaluate, true},
      {"inspect", "what a model file or deployment is, whether it can be served, and why not", inspect},
      {"convert", "carries a model over to another observation layout, by feature names, and proves it", convert, true},
      {"predict", "a model's actions for given states", predict, true},
      {"promote", "judges a version, a run or a study's trial against what is served, and serves it if better", promote,
       true},
      {"list", "what is deployed, with versions and status", list},
      {"history", "what happened to a deployment", history},
      {"rollback", "puts an earlier version back in service", rollback},
      {"prune", "removes old versions", prune},
      {"data", "data check and data features: the bars and what is computed of them", data},
      {"replay", "runs a recorded episode again and compares", replay},
      {"config", "every setting in force and where it came from", config},
      {"doctor", "what is wrong with this machine and its deployments", doctor},
      {"signature", "one number over the environment's behaviour", signature},
      {"completion", "a script that completes commands and options in bash", completion},
  };
  return all;
}

}  // namespace ristretto::cli
