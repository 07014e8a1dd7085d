#include "platform/process.h"

#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <initializer_list>
#include <thread>

#if defined(__GLIBC__)
#include <malloc.h>
#endif
#if defined(__linux__)
#include <sched.h>
#endif
#if defined(__SSE2__)
#include <pmmintrin.h>
#endif

namespace ristretto {

void prepare_to_compute(char** argv) {
#if defined(__SSE2__)
  // Threads begin with what their maker has.
  _MM_SET_FLUSH_ZERO_MODE(_MM_FLUSH_ZERO_ON);
  _MM_SET_DENORMALS_ZERO_MODE(_MM_DENORMALS_ZERO_ON);
#endif
#if defined(__GLIBC__)
  mallopt(M_MMAP_THRESHOLD, INT_MAX);
  mallopt(M_TRIM_THRESHOLD, INT_MAX);
#endif
  // OpenMP reads its policy before main, so the program starts again. Not where threads are bound to processors: this
  // one is already bound to its own, and would hand that on to all of them.
  for (const char* chosen : {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_PROC_BIND", "GOMP_CPU_AFFINITY"}) {
    if (std::getenv(chosen) != nullptr) return;
  }
  setenv("OMP_WAIT_POLICY", "passive", 1);
  // Of GNU's OpenMP 30 us, which bridge what lies between two operations. Its default of 3 ms makes a thread use up its
  // share of a processor by waiting: beside one busy process of another session `convert` of an
  // FT-Transformer took 297 s, with 30 us it takes 31, alone 13. None at all costs small minibatches a third.
  setenv("GOMP_SPINCOUNT", "3000", 1);
  execv("/proc/self/exe", argv);  // where that fails the program goes on as it is
}

int usable_cores() {
  int cores = static_cast<int>(std::thread::hardware_concurrency());
#if defined(__linux__)
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) cores = CPU_COUNT(&set);
  std::ifstream file("/sys/fs/cgroup/cpu.max");
  double quota = 0, period = 0;
  if (file >> quota >> period && period > 0) cores = std::min(cores, static_cast<int>(std::ceil(quota / period)));
#endif
  return std::max(cores, 1);
}

}  // namespace ristretto
