// Timing of cases that take turns, and one line of JSON a case.
#pragma once

#include <c10/core/Device.h>

#include <functional>
#include <string>
#include <vector>

namespace ristretto::bench {

struct Options {
  std::string bench;
  c10::Device device{c10::kCPU};
  int threads = 1;
  double seconds = 2;  // of timed runs, a case
  std::string only;    // part of the name of the cases to run; empty: all
  std::string out;     // of `export`
  std::string data;    // directory of the bars
};
// Throws Error(usage).
Options parse_options(int argc, char** argv);

// What does not compute what it should is not timed: throws Error(failed).
void require(bool same, const std::string& what);

struct Case {
  std::string name;
  std::string unit;           // what an item is
  double items = 1;           // of one run
  std::function<void()> run;  // leaves nothing waiting but on the device
  double flops = 0;           // of an item's matrix products; 0: not told
};

// Whether the case of that name is to be run: it need not be prepared otherwise.
bool wanted(const Options& options, const std::string& name);

// Runs each case once untimed, then all in turn until each has had options.seconds and kSamples samples, so that
// what else the machine does falls on all of them. Prints {bench, case, unit, items_per_second (median), spread
// (interquartile range / median), samples, threads, device}, and
// flops_per_second where a case tells its flops.
void measure(const Options& options, const std::vector<Case>& cases);

}  // namespace ristretto::bench
