// The one exception of this project: a fault of the user's input, files or machine. Bugs of ours are assertions.
#pragma once

#include <stdexcept>
#include <string>

namespace ristretto {

// What kind of fault; the value is the program's exit code.
enum class Fault {
  failed = 1,        // the work could not be done
  usage = 2,         // wrong option, setting or configuration
  refused = 3,       // a gate refused
  incompatible = 4,  // a model or file is damaged or does not fit
  busy = 5,          // another process holds the lock, or time ran out
};

// message: one sentence that names the file or option, the value found and what was expected.
// hint: what to do about it; printed on a line of its own behind "hint: ". May be empty.
class Error : public std::runtime_error {
 public:
  Error(Fault fault, const std::string& message, std::string hint = {})
      : std::runtime_error(message), fault_(fault), hint_(std::move(hint)) {}
  Fault fault() const { return fault_; }
  const std::string& hint() const { return hint_; }

 private:
  Fault fault_;
  std::string hint_;
};

}  // namespace ristretto
