#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/options.h"
#include "cli/output.h"
#include "formats/npz.h"
#include "ft_transformer/weights.h"
#include "platform/atomic_file.h"
#include "platform/error.h"
#include "platform/text.h"
#include "release/deployment.h"

namespace ristretto::cli {

int predict(const Arguments& arguments) {
  Options options("predict PATH --states FILE --out FILE",
                  "A model's actions for given states: the deterministic policy, as it is served. PATH is a "
                  "deployment, a version, a\n.pth or .safetensors file.");
  options.positional("PATH", true);
  options.value("states", "FILE", "npz with states [N, S]");
  options.value("out", "FILE", "npz with actions [N, A], in [-1, 1]");
  if (!options.parse(arguments)) return 0;
  const auto states_file = options.find("states"), out = options.find("out");
  if (!states_file || !out)
    throw Error(Fault::usage, "ristretto predict needs --states FILE and --out FILE",
                "--states states.npz --out actions.npz");
  const release::Model model = release::load(existing_model(options.get("PATH")));
  const formats::NamedArrays arrays = formats::read_npz(*states_file);
  const formats::Array* states = formats::find(arrays, "states");
  if (states == nullptr)
    throw Error(Fault::incompatible, str(*states_file, " has no array 'states'"), "expected states [N, S]");
  const at::Tensor actions = release::predict(model, ft_transformer::tensor_of(*states).to(at::kFloat));
  write_file_atomically(*out, formats::write_npz({{"actions", ft_transformer::array_of(actions)}}));
  if (options.json()) {
    const nlohmann::ordered_json document = {
        {"model", model.path.string()}, {"states", actions.size(0)}, {"actions", actions.size(1)}, {"out", *out}};
    print(document);
  } else {
    std::printf("%s: actions of %lld states x %lld assets\n", out->c_str(), static_cast<long long>(actions.size(0)),
                static_cast<long long>(actions.size(1)));
  }
  return 0;
}

}  // namespace ristretto::cli
