#include <ATen/Context.h>
#include <c10/util/Logging.h>  // before doctest, whose CHECK it would replace
#include <doctest/doctest.h>

#include "env/signature.h"

namespace ristretto::env {

TEST_SUITE("gpu") {
  TEST_CASE("gpu: the environment behaves there as on the CPU, bit by bit") {
    if (!at::hasCUDA()) {
      MESSAGE("skipped: LibTorch sees no GPU");
      return;
    }
    for (const at::ScalarType type : {at::kDouble, at::kFloat}) {
      CHECK(signature({at::kCUDA, 0}, type) == signature(at::kCPU, type));
    }
  }
}

}  // namespace ristretto::env
