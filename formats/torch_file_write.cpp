#include <algorithm>
#include <map>
#include <set>

#include "formats/archive.h"
#include "formats/torch_file.h"
#include "formats/torch_storages.h"
#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::formats {
namespace {

constexpr int kAlignment = 64;

// data.pkl as Python's pickler writes a state_dict at protocol 2, memo included.
class StateDictPickle {
 public:
  std::string write(const NamedArrays& arrays) {
    out_ = "\x80\x02";
    ordered_dict();
    if (!arrays.empty()) out_ += '(';
    for (std::size_t i = 0; i < arrays.size(); ++i) {
      text(arrays[i].first);
      tensor(arrays[i].second, std::to_string(i));
    }
    if (!arrays.empty()) out_ += 'u';
    return std::move(out_) + '.';
  }

 private:
  template <class T>
  void raw(T number) {
    out_.append(reinterpret_cast<const char*>(&number), sizeof number);
  }

  void remember(char short_code, char long_code, std::size_t index) {
    if (index < 256) {
      out_ += short_code;
      out_ += static_cast<char>(index);
    } else {
      out_ += long_code;
      raw(static_cast<std::uint32_t>(index));
    }
  }
  void put() { remember('q', 'r', next_++); }

  // Strings and classes that come again are named by their place in the memo.
  bool known(const std::string& opcodes) {
    const auto [found, is_new] = memo_.try_emplace(opcodes, next_);
    if (!is_new) remember('h', 'j', found->second);
    return !is_new;
  }

  void global(const char* module, const char* name) {
    const std::string opcodes = str('c', module, '\n', name, '\n');
    if (known(opcodes)) return;
    out_ += opcodes;
    put();
  }

  void text(const std::string& value) {
    out_ += 'X';
    raw(static_cast<std::uint32_t>(value.size()));
    out_ += value;
    put();
  }

  void common_text(const std::string& value) {
    if (!known(value)) text(value);
  }

  void integer(std::int64_t value) {
    if (value < 256) {
      out_ += 'K';
      raw(static_cast<std::uint8_t>(value));
    } else if (value < 65536) {
      out_ += 'M';
      raw(static_cast<std::uint16_t>(value));
    } else if (value <= INT32_MAX) {
      out_ += 'J';
      raw(static_cast<std::int32_t>(value));
    } else {
      out_ += "\x8A\x08";
      raw(value);
    }
  }

  void tuple(const std::vector<std::int64_t>& values) {
    if (values.empty()) {
      out_ += ')';
      return;
    }
    if (values.size() > 3) out_ += '(';
    for (const std::int64_t value : values) integer(value);
    out_ += values.size() > 3 ? 't' : "\x85\x86\x87"[values.size() - 1];
    put();
  }

  void ordered_dict() {
    global("collections", "OrderedDict");
    out_ += ")R";
    put();
  }

  void tensor(const Array& array, const std::string& key) {
    const auto storage = std::find_if(kTorchStorages.begin(), kTorchStorages.end(),
                                      [&](const auto& s) { return s.second == array.dtype; });
    if (storage == kTorchStorages.end()) throw Error(Fault::usage, str("a .pth cannot hold ", name_of(array.dtype)));
    std::vector<std::int64_t> strides(array.shape.size(), 1);
    for (std::size_t d = strides.size(); d-- > 1;) {
      strides[d - 1] = strides[d] * std::max<std::int64_t>(array.shape[d], 1);
    }
    global("torch._utils", "_rebuild_tensor_v2");
    out_ += "((";
    common_text("storage");
    global("torch", storage->first + std::string_view("torch ").size());
    text(key);
    common_text("cpu");
    integer(array.count());
    out_ += 't';
    put();
    out_ += 'Q';
    integer(0);
    tuple(array.shape);
    tuple(strides);
    out_ += '\x89';
    ordered_dict();
    out_ += 't';
    put();
    out_ += 'R';
    put();
  }

  std::string out_;
  std::size_t next_ = 0;
  std::map<std::string, std::size_t> memo_;
};

}  // namespace

std::string write_torch_bytes(const NamedArrays& arrays, const std::string& prefix) {
  std::set<std::string> names;
  for (const auto& [name, array] : arrays) {
    if (!names.insert(name).second) throw Error(Fault::usage, str("the name \"", name, "\" comes twice"));
  }
  std::vector<std::pair<std::string, std::string>> members{{prefix + "/data.pkl", StateDictPickle().write(arrays)},
                                                           {prefix + "/byteorder", "little"}};
  for (std::size_t i = 0; i < arrays.size(); ++i) {
    const std::vector<std::byte>& bytes = arrays[i].second.bytes;
    members.emplace_back(str(prefix, "/data/", i),
                         std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
  }
  members.emplace_back(prefix + "/version", "3\n");
  return write_archive(members, kAlignment);
}

}  // namespace ristretto::formats
