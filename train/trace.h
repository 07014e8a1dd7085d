// Where the time of a run goes, operator by operator: shares by part of the program, and a Chrome trace. LibTorch tells
// of each operator's begin and end (ATen/record_function.h); the program names its parts by RECORD_USER_SCOPE, and an
// operator of the backward pass belongs to the part in which its forward one ran.
//
// On a GPU these are the times of the host, which queues work and waits for it ("waiting"); the kernels' own are shown
// by rocprof or nsys.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace ristretto::train {

// Records from its construction to its end, on all threads; one at a time. Tens of nanoseconds an operator.
class Trace {
 public:
  Trace();
  ~Trace();
  Trace(const Trace&) = delete;
  Trace& operator=(const Trace&) = delete;

  // Seconds of each part, all threads' together, largest first, each without the parts inside it: "environment",
  // "observations", "encoder", "trunk", "loss", "optimiser", "set-up", "validation", "checkpoint", "waiting" for the
  // device; "other" is the rest.
  std::vector<std::pair<std::string, double>> seconds() const;
  // The same as lines of text.
  std::string table() const;
  // The first events, as chrome://tracing and ui.perfetto.dev open them, written atomically. Throws Error(failed).
  void write(const std::filesystem::path& file) const;

 private:
  struct Recorder;
  static Recorder* recorder_;  // what the callbacks, which are plain functions, write to
  std::unique_ptr<Recorder> own_;
};

}  // namespace ristretto::train
