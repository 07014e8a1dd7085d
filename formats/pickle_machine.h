// The machine that a pickle is a program for: stack, marks, memo, limits, and calls that call nothing
// (algorithms.md 5.3). A part of pickle.cpp, which holds the opcodes.
#pragma once

#include <algorithm>
#include <charconv>
#include <cstring>
#include <unordered_map>

#include "formats/pickle.h"
#include "formats/utf8.h"
#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::formats {

inline constexpr std::size_t kMaxStack = 1'000'000;
inline constexpr std::size_t kMaxMemo = 1'000'000;
inline constexpr std::size_t kMaxValues = 1'000'000;
inline constexpr std::size_t kMaxMarks = 256;
inline constexpr int kMaxNesting = 64;
inline constexpr std::size_t kMaxGlobalName = 1024;  // of a module, and of what it holds
// Bytes of texts that are copied from the memo, beyond the input's own: a few bytes of it can name a text again.
inline constexpr std::size_t kMaxCopies = std::size_t{1} << 20;

// A value per opcode that makes one, on a stack; containers may be filled after they went into the memo, so depth and
// cycles are known only at the end. Until then no link is followed.
class PickleMachine {
 public:
  PickleMachine(std::string_view bytes, const std::string& origin, const std::vector<std::string>* callables)
      : bytes_(bytes), origin_(origin), callables_(callables), copies_left_(bytes.size() + kMaxCopies) {}

  // What is not part of the result may be a cycle, or too deep for recursive destruction.
  ~PickleMachine() {
    for (const PicklePointer& value : made_) {
      if (heights_.count(value.get()) != 0 && finished_) continue;
      std::vector<PicklePointer> items = std::move(value->items);
      auto entries = std::move(value->entries);
      const PicklePointer state = std::move(value->state);
    }
  }
  PickleMachine(const PickleMachine&) = delete;
  PickleMachine& operator=(const PickleMachine&) = delete;

  PicklePointer run() {
    while (!stopped_) step(static_cast<unsigned char>(take(1)[0]));
    PicklePointer result = pop();
    if (!stack_.empty() || !marks_.empty()) fail("values are left on the stack");
    height(*result, 0);
    finished_ = true;
    return result;
  }

  std::size_t at() const { return at_; }

 private:
  using Kind = PickleValue::Kind;

  [[noreturn]] void fail(const std::string& what) const {
    throw Error(Fault::incompatible, str(origin_, ": the pickle cannot be read at byte ", at_, ": ", what));
  }

  // Reading.
  std::string_view take(std::uint64_t count) {
    if (count > bytes_.size() - at_) fail(str(count, " bytes are expected, ", bytes_.size() - at_, " are left"));
    const std::string_view out = bytes_.substr(at_, count);
    at_ += count;
    return out;
  }

  template <class T>
  T number() {
    T value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }

  std::string_view line() {
    const std::size_t end = bytes_.find('\n', at_);
    if (end == std::string_view::npos) fail("a line without end");
    const std::string_view out = bytes_.substr(at_, end - at_);
    at_ = end + 1;
    return out;
  }

  template <class T>
  T line_number() {
    const auto value = parse_number<T>(line());
    if (!value) fail("expected a number");
    return *value;
  }

  // The stack.
  void charge(std::size_t values) {
    charged_ += values;
    if (charged_ > kMaxValues) fail(str("more than ", kMaxValues, " values"));
  }

  void charge_copy(std::size_t bytes) {
    if (bytes > copies_left_) fail("texts are repeated to far more than the file");
    copies_left_ -= bytes;
  }

  PicklePointer make(Kind kind) {
    charge(1);
    auto value = std::make_shared<PickleValue>();
    value->kind = kind;
    made_.push_back(value);
    return value;
  }

  void push(PicklePointer value) {
    if (stack_.size() >= kMaxStack) fail(str("more than ", kMaxStack, " values on the stack"));
    stack_.push_back(std::move(value));
  }

  void push_integer(std::int64_t integer) {
    const PicklePointer value = make(Kind::integer);
    value->integer = integer;
    value->real = static_cast<double>(integer);
    push(value);
  }

  void push_boolean(bool boolean) {
    const PicklePointer value = make(Kind::boolean);
    value->boolean = boolean;
    push(value);
  }

  void push_real(double real) {
    const PicklePointer value = make(Kind::real);
    value->real = real;
    push(value);
  }

  void push_bytes(std::string_view bytes) {
    const PicklePointer value = make(Kind::bytes);
    value->text = bytes;
    push(value);
  }

  void push_text(std::string_view text) {
    if (!is_utf8(text)) fail("a text that is not UTF-8");
    const PicklePointer value = make(Kind::text);
    value->text = text;
    push(value);
  }

  // Two's complement, little-endian.
  void push_long(std::string_view digits) {
    const bool negative = !digits.empty() && (digits.back() & 0x80) != 0;
    if (digits.size() <= 8) {
      std::int64_t value = negative ? -1 : 0;
      std::memcpy(&value, digits.data(), digits.size());
      push_integer(value);
      return;
    }
    double real = negative ? -1 : 0;
    for (std::size_t i = digits.size(); i-- > 0;) real = real * 256 + static_cast<unsigned char>(digits[i]);
    push_real(real);
    stack_.back()->text = digits;
  }

  void push_global(std::string_view module, std::string_view name) {
    if (std::max(module.size(), name.size()) > kMaxGlobalName) {
      fail(str("a global's name of ", std::max(module.size(), name.size()), " bytes, expected at most ",
               kMaxGlobalName));
    }
    charge_copy(module.size() + name.size());
    const PicklePointer value = make(Kind::global);
    value->text = str(module, ' ', name);
    push(value);
  }

  PicklePointer& top() {
    const std::size_t floor = marks_.empty() ? 0 : marks_.back();
    if (stack_.size() <= floor) fail("the stack is empty");
    return stack_.back();
  }

  PicklePointer pop() {
    PicklePointer value = top();
    stack_.pop_back();
    return value;
  }

  std::vector<PicklePointer> pop_to_mark() {
    if (marks_.empty()) fail("there is no mark");
    std::vector<PicklePointer> out(stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back()), stack_.end());
    stack_.resize(marks_.back());
    marks_.pop_back();
    return out;
  }

  void push_tuple(std::vector<PicklePointer> items) {
    const PicklePointer value = make(Kind::tuple);
    value->items = std::move(items);
    push(value);
  }

  void push_tuple_of(std::size_t count) {
    std::vector<PicklePointer> items(count);
    for (std::size_t i = count; i-- > 0;) items[i] = pop();
    push_tuple(std::move(items));
  }

  void put(std::uint64_t index) {
    memo_[index] = top();
    if (memo_.size() > kMaxMemo) fail(str("more than ", kMaxMemo, " memo entries"));
  }

  void get(std::uint64_t index) {
    const auto found = memo_.find(index);
    if (found == memo_.end()) fail(str("the memo has no entry ", index));
    push(found->second);
  }

  // Containers.
  void set_items(PickleValue& target, const std::vector<PicklePointer>& values) {
    if (target.kind != Kind::dict && target.kind != Kind::object) fail("items are set in what is no dictionary");
    if (values.size() % 2 != 0) fail("a key without a value");
    for (std::size_t i = 0; i < values.size(); i += 2) target.entries.emplace_back(values[i], values[i + 1]);
  }

  void append(PickleValue& target, const std::vector<PicklePointer>& values) {
    if (target.kind == Kind::object && target.state == nullptr) target.state = make(Kind::list);
    PickleValue& list = target.kind == Kind::object ? *target.state : target;
    if (list.kind != Kind::list) fail("values are appended to what is no list");
    list.items.insert(list.items.end(), values.begin(), values.end());
  }

  // Calls: nothing is ever called.
  PicklePointer object_of(const PicklePointer& of, const PickleValue& arguments) {
    const PicklePointer value = make(Kind::object);
    charge(arguments.items.size());
    value->items.push_back(of);
    value->items.insert(value->items.end(), arguments.items.begin(), arguments.items.end());
    return value;
  }

  PicklePointer call(const PicklePointer& function, const PickleValue& arguments) {
    if (function->kind != Kind::global && function->kind != Kind::persistent) fail("a call of what is no function");
    if (arguments.kind != Kind::tuple) fail("a call whose arguments are no tuple");
    const std::string& name = function->text;
    if (callables_ != nullptr && std::find(callables_->begin(), callables_->end(), name) == callables_->end()) {
      throw Error(
          Fault::incompatible,
          str(origin_, ": the pickle calls \"", name.empty() ? "a persistent object" : name,
              "\", which no file of weights needs; nothing was run"),
          "do not open this file with Python; save the weights again with torch.save(module.state_dict(), path)");
    }
    const auto& items = arguments.items;
    if (name == "collections OrderedDict" && items.size() <= 1) return ordered_dict(items);
    if (is_set(name) && items.size() <= 1) {
      const PicklePointer value = make(Kind::set);
      if (!items.empty()) {
        charge(items[0]->items.size());
        value->items = items[0]->items;
      }
      return value;
    }
    if (name == "_codecs encode" && !items.empty() && items[0]->kind == Kind::text) return latin1(items[0]->text);
    return object_of(function, arguments);
  }

  static bool is_set(std::string_view name) {
    const std::string_view class_name = name.substr(std::min(name.find(' '), name.size()));
    return (name.substr(0, 9) == "builtins " || name.substr(0, 12) == "__builtin__ ") &&
           (class_name == " set" || class_name == " frozenset");
  }

  PicklePointer ordered_dict(const std::vector<PicklePointer>& arguments) {
    const PicklePointer value = make(Kind::dict);
    if (arguments.empty()) return value;
    charge(arguments[0]->items.size());
    for (const PicklePointer& pair : arguments[0]->items) {  // as Python 2 wrote it
      if (pair->items.size() != 2) fail("an OrderedDict of what are no pairs");
      value->entries.emplace_back(pair->items[0], pair->items[1]);
    }
    return value;
  }

  PicklePointer latin1(const std::string& text) {
    charge_copy(text.size());
    const PicklePointer value = make(Kind::bytes);
    for (std::size_t at = 0; at < text.size();) {
      const char32_t point = *next_point(text, at);
      if (point > 0xFF) fail("bytes beyond Latin-1");
      value->text += static_cast<char>(point);
    }
    return value;
  }

  void new_object(const PicklePointer& of, const PickleValue& arguments) {
    if (of->kind != Kind::global && of->kind != Kind::persistent) fail("an object of what is no class");
    if (arguments.kind != Kind::tuple) fail("an object whose arguments are no tuple");
    push(object_of(of, arguments));
  }

  void build(PickleValue& target, const PicklePointer& state) {
    if (target.kind == Kind::dict) {
      target.state = state;
      return;
    }
    if (target.kind != Kind::object) fail("a state for what is no object");
    const auto add = [&](const PickleValue& dictionary) {
      charge(dictionary.entries.size());
      target.entries.insert(target.entries.end(), dictionary.entries.begin(), dictionary.entries.end());
    };
    const auto is_fields = [](const PickleValue& value) {
      return value.kind == Kind::dict || value.kind == Kind::none;
    };
    if (state->kind == Kind::dict) {
      add(*state);
    } else if (state->kind == Kind::tuple && state->items.size() == 2 && is_fields(*state->items[0]) &&
               is_fields(*state->items[1])) {  // of __dict__ and __slots__
      add(*state->items[0]);
      add(*state->items[1]);
    } else {
      target.state = state;
    }
  }

  // Protocol 0's texts: \uXXXX and \UXXXXXXXX within Latin-1.
  void push_raw_unicode(std::string_view text) {
    const PicklePointer value = make(Kind::text);
    for (std::size_t at = 0; at < text.size();) {
      const std::string_view rest = text.substr(at);
      const std::size_t digits = rest.substr(0, 2) == "\\u" ? 4 : rest.substr(0, 2) == "\\U" ? 8 : 0;
      auto point = std::uint32_t{static_cast<unsigned char>(rest[0])};
      if (digits > 0) {
        const std::string_view hex = rest.substr(2, digits);
        const auto [end, error] = std::from_chars(hex.data(), hex.data() + hex.size(), point, 16);
        const bool is_point = point <= 0x10FFFF && (point < 0xD800 || point >= 0xE000);
        if (hex.size() != digits || error != std::errc{} || end != hex.data() + digits || !is_point) {
          fail("a wrong escape in a text");
        }
        at += 1 + digits;
      }
      append_utf8(value->text, point);
      ++at;
    }
    push(value);
  }

  void push_quoted(std::string_view text) {
    if (text.size() < 2 || text.front() != text.back() || text.find('\\') != std::string_view::npos) {
      fail("a protocol-0 string that is not quoted, or has escapes");
    }
    push_string(text.substr(1, text.size() - 2));
  }

  // Python 2's str is text or bytes.
  void push_string(std::string_view string) { is_utf8(string) ? push_text(string) : push_bytes(string); }

  void push_persistent(const PicklePointer& id) {
    const PicklePointer value = make(Kind::persistent);
    value->items = {id};
    push(value);
  }

  // The longest way down from `value`, itself included.
  int height(const PickleValue& value, int depth) {
    const auto [found, is_new] = heights_.try_emplace(&value, 0);
    if (!is_new && found->second == 0) fail("a value contains itself");
    if (depth + std::max(found->second, 1) > kMaxNesting) fail(str("nested deeper than ", kMaxNesting));
    if (!is_new) return found->second;
    int below = 0;
    const auto look = [&](const PicklePointer& child) {
      if (child != nullptr) below = std::max(below, height(*child, depth + 1));
    };
    for (const PicklePointer& item : value.items) look(item);
    for (const auto& [key, item] : value.entries) {
      look(key);
      look(item);
    }
    look(value.state);
    return heights_[&value] = below + 1;
  }

  void step(unsigned char opcode);

  std::string_view bytes_;
  const std::string& origin_;
  const std::vector<std::string>* callables_;
  std::size_t at_ = 0;
  bool stopped_ = false;
  bool finished_ = false;
  std::size_t charged_ = 0;
  std::size_t copies_left_;
  std::vector<PicklePointer> made_;
  std::vector<PicklePointer> stack_;
  std::vector<std::size_t> marks_;
  std::unordered_map<std::uint64_t, PicklePointer> memo_;
  std::unordered_map<const PickleValue*, int> heights_;  // 0 while it is being computed
};

}  // namespace ristretto::formats
