#include "platform/process.h"

#include <unistd.h>

#include <climits>
#include <cstdlib>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace ristretto {

void prepare_to_compute(char** argv) {
#if defined(__GLIBC__)
  mallopt(M_MMAP_THRESHOLD, INT_MAX);
  mallopt(M_TRIM_THRESHOLD, INT_MAX);
#endif
  constexpr const char* kPrepared = "RISTRETTO_PREPARED";
  if (std::getenv(kPrepared) != nullptr) {
    unsetenv(kPrepared);  // a RISTRETTO_ variable is a setting to the program
    return;
  }
  if (std::getenv("GOMP_SPINCOUNT") == nullptr) setenv("OMP_WAIT_POLICY", "passive", 0);
  setenv("THP_MEM_ALLOC_ENABLE", "1", 0);  // LibTorch's
  setenv(kPrepared, "1", 1);
  execv("/proc/self/exe", argv);
  unsetenv(kPrepared);
}

}  // namespace ristretto
