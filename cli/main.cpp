#include <c10/util/Exception.h>
#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>
#include <filesystem>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "env/large_blocks.h"
#include "platform/error.h"
#include "platform/file_fault.h"
#include "platform/log.h"
#include "platform/process.h"
#include "platform/text.h"
#include "train/memory_budget.h"

namespace {

using namespace ristretto;

constexpr const char* kSmaller =
    "give smaller sizes: --net-dimension, --portfolios, --base-target-step, --ft-d-token, or a smaller --memory-budget";

void print_usage(std::FILE* to) {
  std::string text =
      "usage: ristretto COMMAND [options]\n\nRetrains trading agents and puts only better ones in service.\n\n";
  for (const cli::Command& command : cli::commands()) {
    std::string name = command.name;
    name.resize(12, ' ');
    text += str("  ", name, command.summary, "\n");
  }
  text +=
      "\nristretto COMMAND --help shows a command's options. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a gate "
      "refused,\n"
      "4 damaged or incompatible, 5 busy, 130 and 143 interrupted and saved.\n";
  std::fputs(text.c_str(), to);
}

int run(const std::vector<std::string>& arguments) {
  if (arguments.empty()) {
    print_usage(stderr);
    return static_cast<int>(Fault::usage);
  }
  const std::string& name = arguments[0];
  if (name == "help" && arguments.size() > 1) return run({arguments[1], "--help"});
  if (name == "--help" || name == "-h" || name == "help") {
    print_usage(stdout);
    return 0;
  }
  if (name == "--version" || name == "-V") {
    std::printf("ristretto %s (LibTorch %s)\n", RISTRETTO_VERSION, RISTRETTO_LIBTORCH_VERSION);
    return 0;
  }
  std::vector<std::string> names;
  for (const cli::Command& command : cli::commands()) {
    if (name == command.name) return command.run({arguments.begin() + 1, arguments.end()});
    names.emplace_back(command.name);
  }
  throw Error(Fault::usage, str("there is no command '", name, "'"),
              str("did you mean '", nearest_name(name, names), "'? ristretto --help lists them all"));
}

bool computes(int argc, char** argv) {
  const auto& all = cli::commands();
  return argc > 1 && std::any_of(all.begin(), all.end(), [&](const cli::Command& command) {
           return command.computes && std::strcmp(command.name, argv[1]) == 0;
         });
}

int fail(const std::string& message, const std::string& hint, Fault fault) {
  log::progress("");
  std::fprintf(stderr, "ristretto: %s\n", message.c_str());
  if (!hint.empty()) std::fprintf(stderr, "hint: %s\n", hint.c_str());
  return static_cast<int>(fault);
}

}  // namespace

int main(int argc, char** argv) {
  // A closed standard stream's number would go to the first file opened, and our output into that file.
  for (int fd = 0; fd <= 2; ++fd) {
    if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0) return 1;
  }
  if (computes(argc, argv)) {
    prepare_to_compute(argv);
    env::keep_large_blocks();
  }
  std::signal(SIGPIPE, SIG_IGN);  // a reader that has seen enough must not end a run
  try {
    const int code = run({argv + 1, argv + argc});
    if (std::fflush(stdout) != 0 && errno != EPIPE) {
      return fail(str("the output could not be written: ", std::strerror(errno)), "", Fault::failed);
    }
    return code;
  } catch (const Error& error) {
    return fail(error.what(), error.hint(), error.fault());
  } catch (const std::filesystem::filesystem_error& error) {
    return fail(message_of(error), hint_of(error.code().value()), Fault::failed);
  } catch (const c10::Error& error) {
    if (const auto text = train::out_of_memory(error)) return fail(*text, kSmaller, Fault::failed);
    return fail(str("an internal error of ristretto: ", error.what_without_backtrace()),
                "please report it with the command", Fault::failed);
  } catch (const std::exception& error) {
    if (const auto text = train::out_of_memory(error)) return fail(*text, kSmaller, Fault::failed);
    return fail(str("an internal error of ristretto: ", error.what()), "please report it with the command",
                Fault::failed);
  }
}
