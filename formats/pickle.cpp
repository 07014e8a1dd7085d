#include "formats/pickle.h"

#include <algorithm>
#include <bit>

#include "formats/pickle_machine.h"
#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::formats {

// A table: one opcode a line, with its name.
// clang-format off
void PickleMachine::step(unsigned char opcode) {
  switch (opcode) {
    // Framing.
    case 0x80:                                                                                // PROTO
      if (const int protocol = number<std::uint8_t>(); protocol > 5)
        fail(str("protocol ", protocol, ", expected 0 to 5"));
      break;
    case 0x95: number<std::uint64_t>(); break;                                                // FRAME
    case '.': stopped_ = true; break;                                                         // STOP

    // Numbers.
    case 'N': push(make(Kind::none)); break;                                                  // NONE
    case 0x88: push_boolean(true); break;                                                     // NEWTRUE
    case 0x89: push_boolean(false); break;                                                    // NEWFALSE
    case 'J': push_integer(number<std::int32_t>()); break;                                    // BININT
    case 'K': push_integer(number<std::uint8_t>()); break;                                    // BININT1
    case 'M': push_integer(number<std::uint16_t>()); break;                                   // BININT2
    case 0x8A: push_long(take(number<std::uint8_t>())); break;                                // LONG1
    case 0x8B: push_long(take(number<std::uint32_t>())); break;                               // LONG4
    case 'G': push_real(std::bit_cast<double>(__builtin_bswap64(number<std::uint64_t>()))); break;  // BINFLOAT
    case 'F': push_real(line_number<double>()); break;                                        // FLOAT
    case 'I': {                                                                               // INT
      const std::string_view text = line();
      if (text == "00" || text == "01") {
        push_boolean(text == "01");
        break;
      }
      const auto value = parse_number<std::int64_t>(text);
      if (!value) fail("expected a number");
      push_integer(*value);
      break;
    }
    case 'L': {                                                                               // LONG
      std::string_view text = line();
      if (!text.empty() && text.back() == 'L') text.remove_suffix(1);
      const auto whole = parse_number<std::int64_t>(text);
      const auto real = parse_number<double>(text);
      if (!real) fail("expected a number");
      whole ? push_integer(*whole) : push_real(*real);
      break;
    }

    // Texts and bytes.
    case 'X': push_text(take(number<std::uint32_t>())); break;                                // BINUNICODE
    case 0x8C: push_text(take(number<std::uint8_t>())); break;                                // SHORT_BINUNICODE
    case 0x8D: push_text(take(number<std::uint64_t>())); break;                               // BINUNICODE8
    case 'V': push_raw_unicode(line()); break;                                                // UNICODE
    case 'B': push_bytes(take(number<std::uint32_t>())); break;                               // BINBYTES
    case 'C': push_bytes(take(number<std::uint8_t>())); break;                                // SHORT_BINBYTES
    case 0x8E:                                                                                // BINBYTES8
    case 0x96: push_bytes(take(number<std::uint64_t>())); break;                              // BYTEARRAY8
    case 'T': push_string(take(number<std::uint32_t>())); break;                              // BINSTRING
    case 'U': push_string(take(number<std::uint8_t>())); break;                               // SHORT_BINSTRING
    case 'S': push_quoted(line()); break;                                                     // STRING

    // Containers.
    case ')': push(make(Kind::tuple)); break;                                                 // EMPTY_TUPLE
    case 0x85: push_tuple_of(1); break;                                                       // TUPLE1
    case 0x86: push_tuple_of(2); break;                                                       // TUPLE2
    case 0x87: push_tuple_of(3); break;                                                       // TUPLE3
    case 't': push_tuple(pop_to_mark()); break;                                               // TUPLE
    case ']': push(make(Kind::list)); break;                                                  // EMPTY_LIST
    case '}': push(make(Kind::dict)); break;                                                  // EMPTY_DICT
    case 0x8F: push(make(Kind::set)); break;                                                  // EMPTY_SET
    case 'l': {                                                                               // LIST
      const PicklePointer list = make(Kind::list);
      list->items = pop_to_mark();
      push(list);
      break;
    }
    case 'd': {                                                                               // DICT
      const PicklePointer dict = make(Kind::dict);
      set_items(*dict, pop_to_mark());
      push(dict);
      break;
    }
    case 'a': {                                                                               // APPEND
      const PicklePointer item = pop();
      append(*top(), {item});
      break;
    }
    case 'e': {                                                                               // APPENDS
      const auto items = pop_to_mark();
      append(*top(), items);
      break;
    }
    case 's': {                                                                               // SETITEM
      const PicklePointer item = pop();
      const PicklePointer key = pop();
      set_items(*top(), {key, item});
      break;
    }
    case 'u': {                                                                               // SETITEMS
      const auto items = pop_to_mark();
      set_items(*top(), items);
      break;
    }
    case 0x90: {                                                                              // ADDITEMS
      const auto items = pop_to_mark();
      if (top()->kind != Kind::set) fail("values are added to what is no set");
      top()->items.insert(top()->items.end(), items.begin(), items.end());
      break;
    }
    case 0x91: {                                                                              // FROZENSET
      const PicklePointer set = make(Kind::set);
      set->items = pop_to_mark();
      push(set);
      break;
    }

    // The stack and the memo.
    case '(':                                                                                 // MARK
      if (marks_.size() >= kMaxMarks) fail(str("more than ", kMaxMarks, " marks"));
      marks_.push_back(stack_.size());
      break;
    case '0':                                                                                 // POP; of a mark too
      if (!marks_.empty() && stack_.size() == marks_.back()) {
        marks_.pop_back();
      } else {
        pop();
      }
      break;
    case '1': pop_to_mark(); break;                                                           // POP_MARK
    case '2': push(top()); break;                                                             // DUP
    case 'q': put(number<std::uint8_t>()); break;                                             // BINPUT
    case 'r': put(number<std::uint32_t>()); break;                                            // LONG_BINPUT
    case 'p': put(line_number<std::uint64_t>()); break;                                       // PUT
    case 0x94: put(memo_.size()); break;                                                      // MEMOIZE
    case 'h': get(number<std::uint8_t>()); break;                                             // BINGET
    case 'j': get(number<std::uint32_t>()); break;                                            // LONG_BINGET
    case 'g': get(line_number<std::uint64_t>()); break;                                       // GET

    // Classes, functions and their calls.
    case 'c': {                                                                               // GLOBAL
      const std::string_view module = line();
      push_global(module, line());
      break;
    }
    case 0x93: {                                                                              // STACK_GLOBAL
      const PicklePointer name = pop();
      const PicklePointer module = pop();
      if (name->kind != Kind::text || module->kind != Kind::text) fail("a global whose name is no text");
      push_global(module->text, name->text);
      break;
    }
    case 'R': {                                                                               // REDUCE
      const PicklePointer arguments = pop();
      const PicklePointer function = pop();
      push(call(function, *arguments));
      break;
    }
    case 'i': {                                                                               // INST
      const std::string_view module = line();
      const std::string_view name = line();
      push_tuple(pop_to_mark());
      const PicklePointer arguments = pop();
      push_global(module, name);
      push(call(pop(), *arguments));
      break;
    }
    case 'o': {                                                                               // OBJ
      auto items = pop_to_mark();
      if (items.empty()) fail("an object without a class");
      const PicklePointer function = items[0];
      items.erase(items.begin());
      push_tuple(std::move(items));
      push(call(function, *pop()));
      break;
    }
    case 0x81: {                                                                              // NEWOBJ
      const PicklePointer arguments = pop();
      new_object(pop(), *arguments);
      break;
    }
    case 0x92: {                                                                              // NEWOBJ_EX
      pop();      // its keyword arguments
      const PicklePointer arguments = pop();
      new_object(pop(), *arguments);
      break;
    }
    case 'b': {                                                                               // BUILD
      const PicklePointer state = pop();
      build(*top(), state);
      break;
    }
    case 'Q': push_persistent(pop()); break;                                                  // BINPERSID
    case 'P':                                                                                 // PERSID
      push_string(line());
      push_persistent(pop());
      break;
    default:
      fail(str("the opcode ", int{opcode}, " is unknown"));
  }
}
// clang-format on

namespace {

using Kind = PickleValue::Kind;

class Writer {
 public:
  std::string document(const PickleValue& value) {
    out_ = "\x80\x02";
    write(value);
    return std::move(out_) + '.';
  }

 private:
  template <class T>
  void raw(T number) {
    out_.append(reinterpret_cast<const char*>(&number), sizeof number);
  }

  void write_text(const std::string& text) {
    out_ += 'X';
    raw(static_cast<std::uint32_t>(text.size()));
    out_ += text;
  }

  void write_entries(const PickleValue& value) {
    out_ += "}(";
    for (const auto& [key, item] : value.entries) {
      write(*key);
      write(*item);
    }
    out_ += 'u';
  }

  void write(const PickleValue& value) {
    switch (value.kind) {
      case Kind::none:
        out_ += 'N';
        break;
      case Kind::boolean:
        out_ += value.boolean ? '\x88' : '\x89';
        break;
      case Kind::integer:
        if (value.integer == static_cast<std::int32_t>(value.integer)) {
          out_ += 'J';
          raw(static_cast<std::int32_t>(value.integer));
        } else {
          out_ += "\x8A\x08";
          raw(value.integer);
        }
        break;
      case Kind::real:
        out_ += 'G';
        raw(__builtin_bswap64(std::bit_cast<std::uint64_t>(value.real)));
        break;
      case Kind::text:
        write_text(value.text);
        break;
      case Kind::tuple:
      case Kind::list:
        out_ += value.kind == Kind::tuple ? "(" : "](";
        for (const PicklePointer& item : value.items) write(*item);
        out_ += value.kind == Kind::tuple ? 't' : 'e';
        break;
      case Kind::dict:
        write_entries(value);
        break;
      case Kind::object:
        out_ += "ctypes\nSimpleNamespace\n)R";
        write_entries(value);
        out_ += 'b';
        break;
      default:
        throw Error(Fault::usage, "only plain data can be written as a pickle");
    }
  }

  std::string out_;
};

}  // namespace

PicklePointer PickleValue::find(std::string_view key) const {
  const auto found = std::find_if(entries.rbegin(), entries.rend(), [&](const auto& entry) {
    return entry.first->kind == Kind::text && entry.first->text == key;
  });
  return found == entries.rend() ? nullptr : found->second;
}

PicklePointer read_pickle(std::string_view bytes, const std::string& origin, std::size_t* used,
                          const std::vector<std::string>* callables) {
  PickleMachine machine(bytes, origin, callables);
  PicklePointer value = machine.run();
  if (used != nullptr) *used = machine.at();
  return value;
}

std::string write_pickle(const PickleValue& value) { return Writer().document(value); }

}  // namespace ristretto::formats
