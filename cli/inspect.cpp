#include "release/inspect.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "cli/commands.h"
#include "cli/options.h"
#include "cli/output.h"
#include "platform/atomic_file.h"
#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::cli {
namespace {

// As one word of a shell.
std::string quoted(const std::string& word) {
  const bool plain_word = !word.empty() && std::all_of(word.begin(), word.end(), [](unsigned char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("-_./,:=+@%").find(static_cast<char>(c)) != std::string_view::npos;
  });
  return plain_word ? word : "'" + join(split(word, '\''), "'\\''") + "'";
}

// This program by its own path: it need not stand on the PATH of who pastes the command.
std::string program() {
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  return error ? "ristretto" : self.string();
}

}  // namespace

int inspect(const Arguments& arguments) {
  Options options(
      "inspect PATH",
      "What a model is and needs, whether today's environment serves it, and if not, why. PATH is a "
      "deployment, a .pth,\n.safetensors, .npz or Stable-Baselines3 .zip file, or a directory of many. Exit "
      "code 4 where one is not served.");
  options.positional("PATH", true);
  options.value("storage", "URL", "where a missing best_trial is looked for");
  options.value("study-name", "NAME", "its study; default: the one that metadata.json names, or the only one");
  options.value("trial", "N", "its number there");
  options.value("assets", "LIST",
                "what you take its assets for, comma-separated: corrected where it was trained on others");
  options.value("out", "FILE", "writes the trial as a best_trial");
  options.flag("generate-command", "print only the command that runs the model on bars, in its own layout");
  options.settings({"bars"});
  if (!options.parse(arguments)) return 0;
  train::Settings settings;
  for (const train::Given& given : options.given()) settings.apply(given);

  release::InspectOptions how;
  how.storage = options.get("storage");
  how.study_name = options.get("study-name");
  if (const auto text = options.find("trial")) {
    how.trial = parse_number<std::int64_t>(*text);
    if (!how.trial) throw Error(Fault::usage, str("--trial is '", *text, "', expected a number"));
  }
  if (const auto list = options.find("assets")) how.assets = split(*list, ',');
  const std::string path = existing_model(options.get("PATH")).string();
  std::vector<release::Inspection> found;
  for (const auto& model : release::models_under(path)) found.push_back(release::inspect(model, how));

  if ((options.has("generate-command") || options.has("out")) && found.size() != 1) {
    throw Error(Fault::usage, str(path, " holds ", found.size(), " models, expected one for a command or a trial"));
  }
  if (const auto out = options.find("out")) {
    if (!found[0].trial) throw Error(Fault::incompatible, str(path, " gives no trial to write"));
    write_file_atomically(*out, release::trial_bytes(*found[0].trial));
  }
  if (options.has("generate-command")) {
    std::vector<std::string> lookup;
    for (const char* name : {"storage", "study-name", "trial"}) {
      if (const auto value = options.find(name)) lookup.insert(lookup.end(), {str("--", name), *value});
    }
    std::vector<std::string> lines;
    for (const auto& command : release::commands_of(found[0], settings.run.bars, lookup)) {
      std::vector<std::string> words{quoted(program())};
      for (const std::string& word : command) words.push_back(quoted(word));
      lines.push_back(join(words, " "));
    }
    // Writing a missing best_trial ends with 4, for without it nothing serves the model.
    if (options.json()) {
      print(Document{{"command", join(lines, "; ")}});
    } else {
      std::printf("%s\n", join(lines, "; ").c_str());
    }
    return 0;
  }

  const bool all = std::all_of(found.begin(), found.end(), [](const auto& one) { return one.servable(); });
  if (options.json()) {
    Document document = Document::array();
    for (const auto& one : found) document.push_back(release::json_of(one));
    print(found.size() == 1 && std::filesystem::equivalent(path, found[0].path) ? document[0] : document);
  } else {
    for (const auto& one : found) {
      for (const std::string& line : release::lines_of(one)) std::printf("%s\n", plain(line).c_str());
    }
    if (found.size() > 1) {
      std::printf("%zu models, %td of them served by today's environment\n", found.size(),
                  std::count_if(found.begin(), found.end(), [](const auto& one) { return one.servable(); }));
    }
  }
  return all ? 0 : static_cast<int>(Fault::incompatible);
}

}  // namespace ristretto::cli
