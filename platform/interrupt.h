// SIGINT and SIGTERM as a request to finish what is under way and save. A second SIGINT ends the process at once.
#pragma once

namespace ristretto {

// Installs the handlers; once, by a command that asks interrupt_requested(). The others end at a signal, as programs
// do.
void install_interrupt_handlers();
// SIGINT or SIGTERM once it has come, else 0. Any thread.
int interrupt_requested();
// 130 and 143: the exit codes of the two.
int interrupt_exit_code(int signal);

}  // namespace ristretto
