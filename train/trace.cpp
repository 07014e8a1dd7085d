#include "train/trace.h"

#include <ATen/record_function.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <mutex>
#include <string_view>

#include "platform/atomic_file.h"
#include "platform/text.h"

namespace ristretto::train {
namespace {

constexpr std::size_t kMostEvents = 300'000;  // about 30 MB of JSON
constexpr const char* kOther = "other";
constexpr const char* kWaiting = "waiting";

std::int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// Operators that read the device's memory from the host, and so wait for all that was queued before. Copies do so only
// where they go to the host: those stand in scopes of that name.
bool waits(std::string_view name) {
  return name == "aten::_local_scalar_dense" || name == "aten::nonzero" || name == "aten::masked_select";
}

struct Open {
  const std::string* part;
  std::int64_t begin, inside;  // inside: nanoseconds of what it called
};
thread_local std::vector<Open> stack;

}  // namespace

struct Trace::Recorder {
  struct Event {
    std::string name;
    const std::string* part;
    std::uint64_t thread;
    std::int64_t begin, end;
  };

  std::mutex mutex;
  std::map<std::string, std::int64_t, std::less<>> parts;  // nanoseconds
  // By thread and autograd's sequence number, which each thread counts for itself.
  std::map<std::pair<std::uint64_t, std::int64_t>, const std::string*> part_of_forward;
  std::vector<Event> events;
  const std::int64_t since = now_ns();
  at::CallbackHandle handle = at::INVALID_CALLBACK_HANDLE;

  const std::string* part(std::string_view name) {
    const auto found = parts.find(name);
    return &(found != parts.end() ? found : parts.emplace(std::string(name), 0).first)->first;
  }

  void begin(const at::RecordFunction& call) {
    const std::lock_guard lock(mutex);
    const std::string* in = stack.empty() ? part(kOther) : stack.back().part;
    if (call.scope() == at::RecordScope::USER_SCOPE) {
      in = part(call.name());
    } else if (call.scope() == at::RecordScope::BACKWARD_FUNCTION) {
      const auto forward = part_of_forward.find({call.forwardThreadId(), call.seqNr()});
      if (forward != part_of_forward.end()) {
        in = forward->second;
        part_of_forward.erase(forward);
      }
    } else {
      if (call.seqNr() >= 0) part_of_forward[{at::RecordFunction::currentThreadId(), call.seqNr()}] = in;
      if (waits(call.name())) in = part(kWaiting);
    }
    stack.push_back({in, now_ns(), 0});
  }

  void end(const at::RecordFunction& call) {
    const std::int64_t now = now_ns();
    if (stack.empty()) return;  // of a call that began before we did
    const Open open = stack.back();
    stack.pop_back();
    const std::int64_t took = now - open.begin;
    if (!stack.empty()) stack.back().inside += took;
    const std::lock_guard lock(mutex);
    parts.find(*open.part)->second += took - open.inside;
    if (events.size() < kMostEvents) {
      events.push_back({call.name(), open.part, at::RecordFunction::currentThreadId(), open.begin, now});
    }
  }
};

Trace::Recorder* Trace::recorder_ = nullptr;

Trace::Trace() : own_(std::make_unique<Recorder>()) {
  recorder_ = own_.get();
  stack.clear();
  own_->handle = at::addGlobalCallback(
      at::RecordFunctionCallback(
          [](const at::RecordFunction& call) -> std::unique_ptr<at::ObserverContext> {
            recorder_->begin(call);
            return nullptr;
          },
          [](const at::RecordFunction& call, at::ObserverContext*) { recorder_->end(call); })
          .scopes({at::RecordScope::FUNCTION, at::RecordScope::BACKWARD_FUNCTION, at::RecordScope::USER_SCOPE}));
}

Trace::~Trace() {
  at::removeCallback(own_->handle);
  recorder_ = nullptr;
}

std::vector<std::pair<std::string, double>> Trace::seconds() const {
  const std::lock_guard lock(own_->mutex);
  std::vector<std::pair<std::string, double>> out;
  double inside = 0;
  double other = 0;
  for (const auto& [name, nanoseconds] : own_->parts) {
    const double spent = 1e-9 * static_cast<double>(nanoseconds);
    inside += spent;
    if (name == kOther) {
      other = spent;
    } else {
      out.emplace_back(name, spent);
    }
  }
  const double total = 1e-9 * static_cast<double>(now_ns() - own_->since);
  out.emplace_back(kOther, other + std::max(0.0, total - inside));
  std::stable_sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
  return out;
}

std::string Trace::table() const {
  const auto parts = seconds();
  double total = 0;
  for (const auto& [name, spent] : parts) total += spent;
  std::string out;
  for (const auto& [name, spent] : parts) {
    out += str(padded_right(name, 14), padded_left(fixed(spent, 2), 10), " s",
               padded_left(fixed(100 * spent / total, 1), 7), " %\n");
  }
  return out;
}

void Trace::write(const std::filesystem::path& file) const {
  const std::lock_guard lock(own_->mutex);
  std::string out = "{\"displayTimeUnit\": \"ms\", \"traceEvents\": [\n";
  const auto microseconds = [&](std::int64_t nanoseconds) { return fixed(1e-3 * static_cast<double>(nanoseconds), 3); };
  for (std::size_t i = 0; i < own_->events.size(); ++i) {
    const Recorder::Event& event = own_->events[i];
    out += str(i == 0 ? "" : ",\n", "{\"name\": \"", event.name, "\", \"cat\": \"", *event.part,
               "\", \"ph\": \"X\", \"pid\": 1, \"tid\": ", event.thread,
               ", \"ts\": ", microseconds(event.begin - own_->since),
               ", \"dur\": ", microseconds(event.end - event.begin), "}");
  }
  write_file_atomically(file, out + "\n]}\n");
}

}  // namespace ristretto::train
