// Counts the operations that make the host wait for the device (performance.md, rule 4), on the CPU, where they cost
// nothing but are recorded all the same. `.cpu()` and data_ptr leave no trace.
#pragma once

#include <ATen/record_function.h>

#include <algorithm>
#include <memory>
#include <string_view>

namespace ristretto::tests {

// Of this thread, from construction on.
class HostReads {
 public:
  HostReads() {
    count_now() = 0;
    handle_ = at::addThreadLocalCallback(at::RecordFunctionCallback(&begin, &end).scopes({at::RecordScope::FUNCTION}));
  }
  ~HostReads() { at::removeCallback(handle_); }
  HostReads(const HostReads&) = delete;
  HostReads& operator=(const HostReads&) = delete;
  int count() const { return count_now(); }

 private:
  struct Inside : at::ObserverContext {};

  static std::unique_ptr<at::ObserverContext> begin(const at::RecordFunction& function) {
    // Their CPU kernels read scalars that are on the host; those of a GPU do not.
    constexpr std::string_view kCpuOnly[] = {"aten::_fused_adam_", "aten::_fused_adamw_", "aten::var"};
    constexpr std::string_view kReads[] = {"aten::_local_scalar_dense", "aten::nonzero",  "aten::equal",
                                           "aten::is_nonzero",          "aten::_unique2", "aten::masked_select"};
    const auto is_one_of = [&](const auto& names) {
      return std::find(std::begin(names), std::end(names), function.name()) != std::end(names);
    };
    if (is_one_of(kCpuOnly)) {
      ++inside_cpu_only();
      return std::make_unique<Inside>();
    }
    if (!inside_cpu_only() && is_one_of(kReads)) ++count_now();
    return nullptr;
  }
  static void end(const at::RecordFunction&, at::ObserverContext* context) {
    if (context) --inside_cpu_only();
  }
  static int& count_now() {
    static thread_local int count = 0;
    return count;
  }
  static int& inside_cpu_only() {
    static thread_local int depth = 0;
    return depth;
  }
  at::CallbackHandle handle_;
};

}  // namespace ristretto::tests
