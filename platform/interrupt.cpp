#include "platform/interrupt.h"

#include <unistd.h>

#include <csignal>

namespace ristretto {
namespace {

volatile std::sig_atomic_t requested = 0;

void on_signal(int signal) {
  if (requested != 0 && signal == SIGINT) _exit(interrupt_exit_code(SIGINT));
  requested = signal;
}

}  // namespace

void install_interrupt_handlers() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

int interrupt_requested() { return requested; }
int interrupt_exit_code(int signal) { return 128 + signal; }

}  // namespace ristretto
