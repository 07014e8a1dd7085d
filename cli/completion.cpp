#include <cstdio>

#include "cli/commands.h"
#include "cli/options.h"
#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::cli {

int completion(const Arguments& arguments) {
  Options options("completion bash",
                  "Prints a script that completes commands and options. In ~/.bashrc: source <(ristretto completion "
                  "bash)");
  options.positional("bash", true);
  if (!options.parse(arguments)) return 0;
  if (options.get("bash") != "bash") {
    throw Error(Fault::usage, str("ristretto completion is for '", options.get("bash"), "', expected bash"));
  }
  std::string names, cases;
  for (const Command& command : commands()) {
    const Declared declared = declared_by(command.run);
    names += str(command.name, " ");
    cases += str("    ", command.name, ")\n      options=\"", join(declared.options, " "), "\"\n      choices=\"",
                 join(declared.choices, " "), "\"\n      ;;\n");
  }
  std::printf(
      "# Completion of ristretto's commands and options, written by: ristretto completion bash\n"
      "_ristretto() {\n"
      "  local word=${COMP_WORDS[COMP_CWORD]} options= choices=\n"
      "  COMPREPLY=()\n"
      "  if ((COMP_CWORD == 1)); then\n"
      "    COMPREPLY=($(compgen -W \"%s--help --version\" -- \"$word\"))\n"
      "    return\n"
      "  fi\n"
      "  case ${COMP_WORDS[1]} in\n%s"
      "  esac\n"
      "  if [[ $word == -* ]]; then\n"
      "    COMPREPLY=($(compgen -W \"$options\" -- \"$word\"))\n"
      "  elif ((COMP_CWORD == 2)); then\n"
      "    COMPREPLY=($(compgen -W \"$choices\" -- \"$word\"))\n"
      "  fi\n"
      "}\n"
      "complete -o bashdefault -o default -F _ristretto ristretto\n",
      names.c_str(), cases.c_str());
  return 0;
}

}  // namespace ristretto::cli
