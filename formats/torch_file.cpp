#include "formats/torch_file.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <set>

#include "formats/archive.h"
#include "formats/pickle.h"
#include "formats/torch_storages.h"
#include "platform/atomic_file.h"
#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::formats {
namespace {

using Kind = PickleValue::Kind;

constexpr std::uint64_t kMaxPickleBytes = std::uint64_t{1} << 28;
constexpr std::size_t kMaxTensors = 100'000;
constexpr std::size_t kMaxVisits = 1'000'000;  // one dictionary may be named many times
constexpr std::size_t kMaxName = 4096;         // bytes; each repeats those of the dictionaries around it
// Views may repeat a storage's numbers, and names each other: all tensors together are at most this, and this many
// times the file; so are their names.
constexpr std::uint64_t kMaxBytes = std::uint64_t{1} << 24;
constexpr std::uint64_t kMaxExpansion = 8;

// 0x1950a86a20f9469cfc6c, little-endian.
constexpr std::string_view kLegacyMagic = "\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
constexpr std::int64_t kLegacyProtocol = 1001;
constexpr const char* kSaveHint = "save it again with torch.save(module.state_dict(), path)";

const std::string kRebuildTensor = "torch._utils _rebuild_tensor_v2";
const std::string kRebuildFromType = "torch._tensor _rebuild_from_type_v2";
const std::vector<std::string> kRebuildParameter{"torch._utils _rebuild_parameter",
                                                 "torch._utils _rebuild_parameter_with_state"};
const std::vector<std::string> kPlainObjects{"torch Size", "torch device"};

const std::vector<std::string>& callables() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> out{"collections OrderedDict", "__builtin__ set", "builtins set", kRebuildTensor,
                                 kRebuildFromType};
    out.insert(out.end(), kRebuildParameter.begin(), kRebuildParameter.end());
    out.insert(out.end(), kPlainObjects.begin(), kPlainObjects.end());
    return out;
  }();
  return names;
}

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

[[noreturn]] void refuse(const std::string& origin, const std::string& what, const std::string& hint = {}) {
  throw Error(Fault::incompatible, str(origin, ": ", what), hint);
}

// A run of numbers in the file that tensors are views of.
struct Storage {
  DType dtype = DType::float32;
  std::int64_t count = 0;
  std::string_view bytes;  // at least `count` elements
};
using Storages = std::map<std::string, Storage>;

// The id ('storage', class, key, device, count[, view]) of a persistent value, or nullptr where it is another kind of
// id.
const PickleValue* storage_id(const PickleValue& value) {
  if (value.kind != Kind::persistent || value.items[0]->kind != Kind::tuple) return nullptr;
  const PickleValue& id = *value.items[0];
  const bool is_storage = !id.items.empty() && id.items[0]->kind == Kind::text && id.items[0]->text == "storage";
  return is_storage ? &id : nullptr;
}

// All storages that the pickle names, without their bytes. Each value is looked at once.
void collect_storages(const PickleValue& value, const std::string& origin, std::set<const PickleValue*>& seen,
                      Storages& out) {
  if (!seen.insert(&value).second) return;
  if (const PickleValue* id = storage_id(value)) {
    const auto& items = id->items;
    const bool has_view = items.size() == 6 && items[5]->kind != Kind::none;
    if (items.size() < 5 || items.size() > 6 || has_view || items[1]->kind != Kind::global ||
        items[2]->kind != Kind::text || items[4]->kind != Kind::integer || items[4]->integer < 0) {
      refuse(origin, "a storage's id is not (storage, class, key, device, count)");
    }
    const auto known = std::find_if(kTorchStorages.begin(), kTorchStorages.end(),
                                    [&](const auto& s) { return s.first == items[1]->text; });
    if (known == kTorchStorages.end())
      refuse(origin, str("numbers of the kind \"", items[1]->text, "\" are not supported"));
    const Storage storage{known->second, items[4]->integer, {}};
    const auto [found, is_new] = out.try_emplace(items[2]->text, storage);
    if (!is_new && (found->second.dtype != storage.dtype || found->second.count != storage.count)) {
      refuse(origin, str("the storage ", items[2]->text, " is named with two types or sizes"));
    }
  }
  for (const PicklePointer& item : value.items) collect_storages(*item, origin, seen, out);
  for (const auto& [key, item] : value.entries) {
    collect_storages(*key, origin, seen, out);
    collect_storages(*item, origin, seen, out);
  }
  if (value.state != nullptr) collect_storages(*value.state, origin, seen, out);
}

Storages storages_of(const PickleValue& root, const std::string& origin) {
  std::set<const PickleValue*> seen;
  Storages out;
  collect_storages(root, origin, seen, out);
  return out;
}

// The pickle's inert values to named tensors.
class Walk {
 public:
  Walk(const Storages& storages, const std::string& origin, std::uint64_t file_bytes)
      : storages_(storages),
        origin_(origin),
        bytes_left_(std::max(kMaxBytes, kMaxExpansion * file_bytes)),
        name_bytes_left_(bytes_left_) {}

  NamedArrays run(const PickleValue& root) {
    if (root.kind != Kind::dict && !is_module(root)) {
      refuse(origin_, "the file holds neither a dictionary of tensors nor a module", kSaveHint);
    }
    visit(root, "");
    if (is_module(root) && out_.empty()) refuse(origin_, "the module has no parameters", kSaveHint);
    return std::move(out_);
  }

 private:
  static bool is_module(const PickleValue& value) {
    return value.kind == Kind::object && (value.find("_parameters") != nullptr || value.find("_modules") != nullptr);
  }

  static const std::string& class_of(const PickleValue& object) { return object.items[0]->text; }

  static bool is_tensor(const PickleValue& value) {
    return value.kind == Kind::object && (class_of(value) == kRebuildTensor || class_of(value) == kRebuildFromType ||
                                          contains(kRebuildParameter, class_of(value)));
  }

  void visit(const PickleValue& value, const std::string& name) {
    if (++visits_ > kMaxVisits) refuse(origin_, str("more than ", kMaxVisits, " values"));
    if (is_tensor(value)) {
      emit(value, name);
    } else if (is_module(value)) {
      visit_module(value, name);
    } else if (value.kind == Kind::dict) {
      visit_entries(value, name);
    } else if (value.kind == Kind::list || value.kind == Kind::tuple) {
      for (std::size_t i = 0; i < value.items.size(); ++i) visit(*value.items[i], joined(name, std::to_string(i)));
    } else if (value.kind == Kind::object && !contains(kPlainObjects, class_of(value))) {
      refuse(origin_, str("\"", name, "\" is an object of \"", class_of(value), "\", expected tensors"), kSaveHint);
    } else if (value.kind == Kind::global && value.text.substr(0, 6) != "torch ") {  // torch.float32 and the like
      refuse(origin_, str("\"", name, "\" is \"", value.text, "\", expected tensors"), kSaveHint);
    } else if (value.kind == Kind::persistent) {
      refuse(origin_, str("\"", name, "\" is a bare storage, expected tensors"), kSaveHint);
    }
  }

  void visit_module(const PickleValue& module, const std::string& name) {
    for (const char* part : {"_parameters", "_buffers", "_modules"}) {
      const PicklePointer members = module.find(part);
      if (members == nullptr) continue;
      if (members->kind != Kind::dict) refuse(origin_, str("\"", name, "\": its ", part, " are no dictionary"));
      visit_entries(*members, name);
    }
  }

  void visit_entries(const PickleValue& dictionary, const std::string& name) {
    for (const auto& [key, item] : dictionary.entries) {
      if (key->kind == Kind::text) {
        visit(*item, joined(name, key->text));
      } else if (key->kind == Kind::integer) {
        visit(*item, joined(name, std::to_string(key->integer)));
      } else {
        refuse(origin_, str("\"", name, "\": a key that is neither a text nor a whole number"));
      }
    }
  }

  std::string joined(const std::string& prefix, const std::string& name) const {
    const std::size_t size = prefix.empty() ? name.size() : prefix.size() + 1 + name.size();
    if (size > kMaxName) refuse(origin_, str("a name is longer than ", kMaxName, " bytes"));
    return prefix.empty() ? name : str(prefix, '.', name);
  }

  void emit(const PickleValue& value, const std::string& name) {
    if (out_.size() >= kMaxTensors) refuse(origin_, str("more than ", kMaxTensors, " tensors"));
    if (name.size() > name_bytes_left_) refuse(origin_, "the tensors' names are far larger than the file");
    name_bytes_left_ -= name.size();
    if (!names_.insert(name).second) refuse(origin_, str("the name \"", name, "\" comes twice"));
    const std::vector<PicklePointer> arguments(value.items.begin() + 1, value.items.end());
    out_.emplace_back(name, tensor(class_of(value), arguments, name));
  }

  // What the call `function(arguments)` would give.
  Array tensor(const std::string& function, const std::vector<PicklePointer>& arguments, const std::string& name) {
    if (contains(kRebuildParameter, function) && !arguments.empty() && is_tensor(*arguments[0])) {
      const auto& items = arguments[0]->items;
      return tensor(class_of(*arguments[0]), {items.begin() + 1, items.end()}, name);
    }
    if (function == kRebuildFromType && arguments.size() >= 3 && arguments[0]->kind == Kind::global &&
        arguments[2]->kind == Kind::tuple) {
      return tensor(arguments[0]->text, arguments[2]->items, name);
    }
    if (function != kRebuildTensor || arguments.size() < 4 || storage_id(*arguments[0]) == nullptr) {
      refuse(origin_, str("tensor \"", name, "\": the arguments of \"", function, "\" are not understood"));
    }
    const std::string& key = storage_id(*arguments[0])->items[2]->text;
    return view(storages_.at(key), whole({arguments[1]}, name)[0], whole(items_of(*arguments[2]), name),
                whole(items_of(*arguments[3]), name), name);
  }

  // The items of a tuple, or of torch.Size(tuple).
  static const std::vector<PicklePointer>& items_of(const PickleValue& value) {
    static const std::vector<PicklePointer> kNotATuple{nullptr};
    if (value.kind == Kind::tuple) return value.items;
    const bool is_size = value.kind == Kind::object && class_of(value) == "torch Size" && value.items.size() == 2;
    return is_size && value.items[1]->kind == Kind::tuple ? value.items[1]->items : kNotATuple;
  }

  std::vector<std::int64_t> whole(const std::vector<PicklePointer>& values, const std::string& name) const {
    std::vector<std::int64_t> out;
    for (const PicklePointer& value : values) {
      if (value == nullptr || value->kind != Kind::integer || value->integer < 0) {
        refuse(origin_, str("tensor \"", name, "\": its offset, sizes and strides are not all whole numbers"));
      }
      out.push_back(value->integer);
    }
    return out;
  }

  Array view(const Storage& storage, std::int64_t offset, std::vector<std::int64_t> sizes,
             const std::vector<std::int64_t>& strides, const std::string& name) {
    constexpr std::size_t kMaxDims = 64;
    if (sizes.size() != strides.size() || sizes.size() > kMaxDims) {
      refuse(origin_, str("tensor \"", name, "\" has ", sizes.size(), " sizes and ", strides.size(), " strides"));
    }
    const bool is_empty = std::find(sizes.begin(), sizes.end(), 0) != sizes.end();
    std::int64_t last = offset;
    std::int64_t bytes = static_cast<std::int64_t>(size_of(storage.dtype));
    bool overflow = false;
    for (std::size_t d = 0; d < sizes.size(); ++d) {
      std::int64_t reach = 0;
      overflow = __builtin_mul_overflow(std::max<std::int64_t>(sizes[d], 1) - 1, strides[d], &reach) || overflow;
      overflow = __builtin_add_overflow(last, reach, &last) || overflow;
      overflow = __builtin_mul_overflow(bytes, std::max<std::int64_t>(sizes[d], 1), &bytes) || overflow;
    }
    if (overflow || (is_empty ? offset > storage.count : last >= storage.count)) {
      refuse(origin_, str("tensor \"", name, "\" reaches beyond its storage of ", storage.count, " numbers"));
    }
    Array out{storage.dtype, std::move(sizes), {}, 0};
    if (is_empty) return out;
    if (static_cast<std::uint64_t>(bytes) > bytes_left_) {
      refuse(origin_, str("tensor \"", name, "\": the tensors are far larger than the file"));
    }
    bytes_left_ -= static_cast<std::uint64_t>(bytes);
    out.bytes.resize(static_cast<std::size_t>(bytes));
    copy(storage, offset, strides, out);
    return out;
  }

  static void copy(const Storage& storage, std::int64_t offset, const std::vector<std::int64_t>& strides, Array& out) {
    const std::size_t width = size_of(storage.dtype);
    std::vector<std::int64_t> index(strides.size(), 0);
    // The innermost dimensions that lie as they do in the array are copied at once.
    std::int64_t run = 1;
    std::size_t outer = strides.size();
    while (outer > 0 && (strides[outer - 1] == run || out.shape[outer - 1] == 1)) run *= out.shape[--outer];
    const std::size_t run_bytes = static_cast<std::size_t>(run) * width;
    for (std::size_t to = 0; to < out.bytes.size(); to += run_bytes) {
      std::memcpy(out.bytes.data() + to, storage.bytes.data() + static_cast<std::size_t>(offset) * width, run_bytes);
      for (std::size_t d = outer; d-- > 0;) {
        offset += strides[d];
        if (++index[d] < out.shape[d]) break;
        offset -= strides[d] * out.shape[d];
        index[d] = 0;
      }
    }
  }

  const Storages& storages_;
  const std::string& origin_;
  std::uint64_t bytes_left_, name_bytes_left_;
  std::size_t visits_ = 0;
  std::set<std::string> names_;
  NamedArrays out_;
};

NamedArrays read_zip(std::string_view bytes, const std::string& origin) {
  const Archive archive(bytes, origin);
  constexpr std::string_view kPickle = "/data.pkl";
  std::map<std::string, const ArchiveMember*> members;
  std::optional<std::string> prefix;
  for (const ArchiveMember& member : archive.members()) {
    members[member.name] = &member;
    const std::string_view name = member.name;
    if (name.size() <= kPickle.size() || name.substr(name.size() - kPickle.size()) != kPickle) continue;
    if (prefix) refuse(origin, "two data.pkl in the archive, expected one");
    prefix = name.substr(0, name.size() - kPickle.size() + 1);
  }
  if (!prefix) refuse(origin, "the archive has no data.pkl: it was not written by torch.save", kSaveHint);
  if (members.count(*prefix + "constants.pkl") != 0) {
    refuse(origin, "the file is a TorchScript program, expected weights", kSaveHint);
  }
  const auto read = [&](const std::string& name, std::uint64_t limit) {
    const auto member = members.find(*prefix + name);
    if (member == members.end()) refuse(origin, str("the archive has no ", *prefix, name));
    if (!member->second->stored) refuse(origin, str(*prefix, name, " is compressed, expected a stored member"));
    return archive.read(*prefix + name, limit);
  };
  if (members.count(*prefix + "byteorder") != 0 && read("byteorder", 16) != "little") {
    refuse(origin, "the file was written on a big-endian machine, expected little-endian");
  }
  const PicklePointer root = read_pickle(read("data.pkl", kMaxPickleBytes), origin, nullptr, &callables());
  Storages storages = storages_of(*root, origin);
  std::map<std::string, std::string> records;
  for (auto& [key, storage] : storages) {
    std::string& record = records[key] = read("data/" + key, bytes.size());
    if (static_cast<std::uint64_t>(storage.count) > record.size() / size_of(storage.dtype)) {
      refuse(origin, str("the record ", *prefix, "data/", key, " has ", record.size(), " bytes, too few for ",
                         storage.count, " numbers of type ", name_of(storage.dtype)));
    }
    storage.bytes = record;
  }
  return Walk(storages, origin, bytes.size()).run(*root);
}

NamedArrays read_legacy(std::string_view bytes, const std::string& origin) {
  std::string_view rest = bytes;
  const auto next = [&] {
    std::size_t used = 0;
    PicklePointer value = read_pickle(rest, origin, &used, &callables());
    rest.remove_prefix(used);
    return value;
  };
  if (next()->text != kLegacyMagic) refuse(origin, "a pickle, but not one that torch.save wrote", kSaveHint);
  if (const auto version = next(); version->integer != kLegacyProtocol) {
    refuse(origin, str("the protocol of the file is ", version->integer, ", expected ", kLegacyProtocol));
  }
  const PicklePointer little_endian = next()->find("little_endian");
  if (little_endian == nullptr || !little_endian->boolean) {
    refuse(origin, "the file was written on a big-endian machine, expected little-endian");
  }
  const PicklePointer root = next();
  Storages storages = storages_of(*root, origin);
  const PicklePointer keys = next();
  std::set<std::string> filled;
  for (const PicklePointer& key : keys->items) {
    const auto found = storages.find(key->text);
    if (found == storages.end() || !filled.insert(key->text).second) {
      refuse(origin, str("the storage \"", key->text, "\" comes twice or belongs to no tensor"));
    }
    Storage& storage = found->second;
    std::int64_t count = -1;
    if (rest.size() >= sizeof count) std::memcpy(&count, rest.data(), sizeof count);
    const std::size_t width = size_of(storage.dtype);
    if (count != storage.count || static_cast<std::uint64_t>(count) > (rest.size() - sizeof count) / width) {
      refuse(origin, str("the file is cut or damaged at storage ", key->text));
    }
    storage.bytes = rest.substr(sizeof count, static_cast<std::size_t>(count) * width);
    rest.remove_prefix(sizeof count + storage.bytes.size());
  }
  if (filled.size() != storages.size()) refuse(origin, "a storage is missing");
  return Walk(storages, origin, bytes.size()).run(*root);
}

}  // namespace

NamedArrays read_torch_file(const std::filesystem::path& path) {
  return read_torch_bytes(read_file(path), path.string());
}

NamedArrays read_torch_bytes(std::string_view bytes, const std::string& origin) {
  constexpr std::size_t kTarMagicAt = 257;
  if (bytes.substr(0, 2) == "PK") return read_zip(bytes, origin);
  if (bytes.size() > kTarMagicAt && bytes.substr(kTarMagicAt, 5) == "ustar") {
    refuse(origin, "a tar file, as PyTorch 0.1 wrote it, is not supported", kSaveHint);
  }
  if (bytes.empty() || bytes[0] != '\x80') refuse(origin, "not a file that torch.save wrote");
  return read_legacy(bytes, origin);
}

}  // namespace ristretto::formats
