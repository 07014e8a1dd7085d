// What the system says of files, in this project's words.
#pragma once

#include <exception>
#include <string>

namespace ristretto {

// One sentence of any exception; those of std::filesystem with path and reason.
std::string message_of(const std::exception& error);
// What to do about an errno of a file; "" where there is nothing to say.
std::string hint_of(int system_error);

}  // namespace ristretto
