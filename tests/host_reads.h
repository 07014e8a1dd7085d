// Counts the operations that make the host wait for the device (performance.md, rule 4), on the CPU, where they cost
// nothing but are recorded all the same. `.cpu()` and data_ptr leave no trace.
#pragma once

#include <ATen/record_function.h>

#include <cstring>
#include <memory>

namespace ristretto::tests {

// Of this thread, from construction on.
class HostReads {
 public:
  HostReads() {
    counter() = 0;
    handle_ = at::addThreadLocalCallback(
        at::RecordFunctionCallback([](const at::RecordFunction& function) -> std::unique_ptr<at::ObserverContext> {
          for (const char* name : {"aten::_local_scalar_dense", "aten::nonzero", "aten::equal", "aten::is_nonzero",
                                   "aten::_unique2", "aten::masked_select"}) {
            if (std::strcmp(function.name(), name) == 0) ++counter();
          }
          return nullptr;
        }).scopes({at::RecordScope::FUNCTION}));
  }
  ~HostReads() { at::removeCallback(handle_); }
  HostReads(const HostReads&) = delete;
  HostReads& operator=(const HostReads&) = delete;
  int count() const { return counter(); }

 private:
  static int& counter() {
    static thread_local int count = 0;
    return count;
  }
  at::CallbackHandle handle_;
};

}  // namespace ristretto::tests
