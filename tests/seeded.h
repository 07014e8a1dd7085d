// LibTorch's default generator begins anywhere in each process. Where a test includes this it begins at the same place:
// one run in some hundred draws an input beside a ReLU's kink, where gradients are compared that rounding decides.
#pragma once

#include <ATen/Context.h>

namespace ristretto::tests {

inline const bool kSeeded = [] {
  at::manual_seed(1);
  return true;
}();

}  // namespace ristretto::tests
