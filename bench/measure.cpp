#include "bench/measure.h"

#include <ATen/DeviceAccelerator.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <thread>

#include "formats/json_text.h"
#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::bench {
namespace {

constexpr double kSampleSeconds = 0.05;  // a sample repeats what is shorter than this
constexpr std::size_t kSamples = 5;      // the fewest, whatever --seconds says

double seconds_of(const Case& one, int calls, const c10::Device& device) {
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < calls; ++i) one.run();
  if (!device.is_cpu()) at::accelerator::synchronizeDevice(device.index());
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

double quantile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  const double place = share * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const std::size_t above = std::min(below + 1, values.size() - 1);
  return values[below] + (values[above] - values[below]) * (place - std::floor(place));
}

formats::Json text(std::string value) {
  formats::Json json;
  json.kind = formats::Json::Kind::text;
  json.text = std::move(value);
  return json;
}

formats::Json number(double value) {
  formats::Json json;
  json.kind = formats::Json::Kind::real;
  json.real = value;
  return json;
}

void print(const Options& options, const Case& one, const std::vector<double>& samples) {
  const double median = quantile(samples, 0.5);
  formats::Json line, list;
  line.kind = formats::Json::Kind::object;
  list.kind = formats::Json::Kind::array;
  for (const double sample : samples) list.items.push_back(number(sample));
  line.members = {{"bench", text(options.bench)},
                  {"case", text(one.name)},
                  {"unit", text(one.unit)},
                  {"items_per_second", number(median)},
                  {"spread", number((quantile(samples, 0.75) - quantile(samples, 0.25)) / median)},
                  {"threads", number(options.threads)},
                  {"device", text(options.device.str())},
                  {"samples", list}};
  if (one.flops > 0) line.members.emplace_back("flops_per_second", number(one.flops * median));
  std::puts(formats::write_json(line).c_str());
  std::fflush(stdout);
}

}  // namespace

Options parse_options(int argc, char** argv) {
  const std::string usage =
      "usage: bench NAME [--device cpu|cuda] [--threads N] [--seconds S] [--case PART] [--data DIRECTORY] [--out FILE]";
  Options options;
  options.data = RISTRETTO_SOURCE "/data/crypto_1h";
  options.threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (name.rfind("--", 0) != 0) {
      if (!options.bench.empty()) throw Error(Fault::usage, str("a second name, '", name, "', was given"), usage);
      options.bench = name;
      continue;
    }
    if (i + 1 >= argc) throw Error(Fault::usage, str(name, " has no value"), usage);
    const std::string value = argv[++i];
    if (name == "--device" && (value == "cpu" || value == "cuda")) {
      options.device = value == "cpu" ? c10::Device(c10::kCPU) : c10::Device(c10::kCUDA, 0);
    } else if (name == "--threads" && parse_number<int>(value).value_or(0) > 0) {
      options.threads = *parse_number<int>(value);
    } else if (name == "--seconds" && parse_number<double>(value).value_or(-1) >= 0) {
      options.seconds = *parse_number<double>(value);
    } else if (name == "--case") {
      options.only = value;
    } else if (name == "--data") {
      options.data = value;
    } else if (name == "--out") {
      options.out = value;
    } else {
      throw Error(Fault::usage, str(name, " ", value, " is not understood"), usage);
    }
  }
  if (options.bench.empty()) throw Error(Fault::usage, "no bench was named", usage);
  return options;
}

void require(bool same, const std::string& what) {
  if (!same) throw Error(Fault::failed, str("not timed: ", what));
}

bool wanted(const Options& options, const std::string& name) { return name.find(options.only) != std::string::npos; }

void measure(const Options& options, const std::vector<Case>& cases) {
  std::vector<int> calls;
  for (const Case& one : cases) {
    seconds_of(one, 1, options.device);
    calls.push_back(static_cast<int>(std::ceil(kSampleSeconds / seconds_of(one, 1, options.device))));
  }
  std::vector<std::vector<double>> samples(cases.size());
  std::vector<double> spent(cases.size());
  for (bool more = true; more;) {
    more = false;
    for (std::size_t i = 0; i < cases.size(); ++i) {
      if (samples[i].size() >= kSamples && spent[i] >= options.seconds) continue;
      const double seconds = seconds_of(cases[i], calls[i], options.device);
      spent[i] += seconds;
      samples[i].push_back(cases[i].items * calls[i] / seconds);
      more = true;
    }
  }
  for (std::size_t i = 0; i < cases.size(); ++i) print(options, cases[i], samples[i]);
}

}  // namespace ristretto::bench
