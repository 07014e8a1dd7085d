#include "release/convert.h"

#include <cstdio>

#include "cli/commands.h"
#include "cli/options.h"
#include "cli/output.h"
#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::cli {

int convert(const Arguments& arguments) {
  Options options(
      "convert PATH --to LAYOUT --out DIR",
      "Carries a model over to another observation layout by the names of its columns, and proves over bars that it "
      "still\ntrades the same. PATH is a deployment, a version, a .pth or .safetensors file; it is not changed.");
  options.positional("PATH", true);
  options.value("to", "LAYOUT", "a feature set (alpaca-11, alpaca-14, alpaca-14b), or a deployment whose layout it is");
  options.value("out", "DIR", "the new deployment's directory");
  options.value("trained-assets", "LIST",
                "the order of assets that it was trained in, where no manifest says it; default: what inspect finds");
  options.flag("allow-inexact", "write it also where it does not trade the same");
  options.flag("dry-run", "convert and prove, and write nothing");
  options.settings({"bars", "lookback", "assets"});
  if (!options.parse(arguments)) return 0;
  train::Settings settings;
  for (const train::Given& given : options.given()) settings.apply(given);

  release::ConvertRequest request;
  request.source = existing_model(options.get("PATH"));
  const auto to = options.find("to"), out = options.find("out");
  if (!to)
    throw Error(Fault::usage, "ristretto convert needs --to LAYOUT", "alpaca-14 is what today's trader observes");
  if (!out) throw Error(Fault::usage, "ristretto convert needs --out DIR", "--out deployments/NAME-14");
  request.to = *to;
  request.out = *out;
  if (settings.sources.count("lookback") > 0) request.lookback = static_cast<int>(settings.hyperparameters.lookback);
  if (settings.sources.count("assets") > 0) request.assets = split(settings.run.assets, ',');
  if (const auto trained = options.find("trained-assets")) request.trained = split(*trained, ',');
  request.bars = settings.run.bars;
  request.allow_inexact = options.has("allow-inexact");
  request.dry_run = options.has("dry-run");
  request.command = recorded_command("convert", arguments);
  const release::Conversion conversion = release::convert(request);

  if (options.json()) {
    Document document = conversion.document;
    document["out"] = request.dry_run ? Document() : Document(request.out.string());
    print(document);
    return 0;
  }
  const release::Mapping& mapping = conversion.mapping;
  std::printf("%s: %lld values -> %lld, %s\n", plain(request.source.string()).c_str(),
              static_cast<long long>(mapping.from.size()), static_cast<long long>(mapping.to.size()),
              release::name_of(conversion.kind));
  std::printf("  new      %zu columns\n", mapping.added_names().size());
  if (!conversion.frozen.empty()) std::printf("  gone     %zu constant columns\n", conversion.frozen.size());
  if (!conversion.dropped.empty()) std::printf("  gone     %zu columns that it read\n", conversion.dropped.size());
  std::printf("  proof    %s\n", release::text_of(conversion.proof).c_str());
  for (const std::string& note : conversion.notes) std::printf("  note     %s\n", plain(note).c_str());
  if (request.dry_run) {
    std::printf("dry run: nothing was written\n");
  } else {
    std::printf("written: %s\n", plain(request.out.string()).c_str());
  }
  return 0;
}

}  // namespace ristretto::cli
