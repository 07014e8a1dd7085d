#include "train/pretrain.h"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/options.h"
#include "cli/output.h"
#include "platform/atomic_file.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/interrupt.h"
#include "platform/text.h"
#include "train/resolve.h"

namespace ristretto::cli {

int pretrain(const Arguments& arguments) {
  Options options("pretrain --out FILE",
                  "Teaches the encoder of market_context to fill in hidden features of the bars before the hold-out, "
                  "and writes\nits weights, which train, retrain and sweep start from with --pretrained FILE.");
  options.value("out", "FILE", "the encoder's weights, .safetensors");
  options.value("epochs", "N", "at most [100]");
  options.value("patience", "N", "ends after so many epochs without a better validation [5]");
  options.settings({"bars", "assets", "features", "serving", "holdout_from", "time_budget", "device", "threads", "seed",
                    "learning_rate", "lookback", "market_tokens", "ft_d_token", "ft_n_blocks", "ft_n_heads"});
  if (!options.parse(arguments)) return 0;
  install_interrupt_handlers();
  const std::string file = options.get("out");
  if (file.empty()) throw Error(Fault::usage, "ristretto pretrain needs --out FILE", "--out encoder.safetensors");
  require_writable(file);
  train::PretrainOptions how;
  how.epochs = positive_number(options, "epochs", how.epochs);
  how.patience = positive_number(options, "patience", how.patience);
  std::vector<train::Given> given{{"encoder", "market_context", "pretrain"}};
  const std::vector<train::Given> layers = options.given();
  given.insert(given.end(), layers.begin(), layers.end());
  const train::Resolved resolved = train::resolve(std::nullopt, std::nullopt, given);
  train::prepare_machine(resolved.settings);
  const train::Data data = train::load_data(resolved.settings);
  const train::PretrainResult result = train::pretrain(resolved.settings, data, how, file);
  if (options.json()) {
    const nlohmann::ordered_json document = {{"file", file},
                                             {"epochs", result.epochs},
                                             {"best_epoch", result.best_epoch},
                                             {"first_loss", result.first_loss},
                                             {"best_loss", result.best_loss},
                                             {"seconds", result.seconds},
                                             {"ended", result.ended}};
    print(document);
  } else {
    std::printf("%s: error of hidden features %s after %lld epochs, %s before (1: always answering the mean); %s, %s\n",
                file.c_str(), fixed(result.best_loss, 4).c_str(), static_cast<long long>(result.best_epoch),
                fixed(result.first_loss, 4).c_str(), result.ended.c_str(), duration_text(result.seconds).c_str());
  }
  return result.signal != 0 ? interrupt_exit_code(result.signal) : 0;
}

}  // namespace ristretto::cli
