#include "formats/safetensors.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <set>

#include "formats/json_text.h"
#include "formats/utf8.h"
#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::formats {
namespace {

constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;
constexpr std::string_view kMetadataKey = "__metadata__";

constexpr std::array<std::pair<const char*, DType>, 10> kDTypes{{{"BOOL", DType::boolean},
                                                                 {"U8", DType::uint8},
                                                                 {"I8", DType::int8},
                                                                 {"I16", DType::int16},
                                                                 {"I32", DType::int32},
                                                                 {"I64", DType::int64},
                                                                 {"F16", DType::float16},
                                                                 {"BF16", DType::bfloat16},
                                                                 {"F32", DType::float32},
                                                                 {"F64", DType::float64}}};

struct Entry {
  std::string name;
  Array array;  // without its bytes
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

[[noreturn]] void refuse(const char* type, const std::string& origin, const std::string& what) {
  throw Error(Fault::incompatible, str(type, ": ", origin, ": ", what));
}

std::vector<std::int64_t> whole_numbers(const Json* list, const std::string& origin, const std::string& where) {
  if (list == nullptr || list->kind != Json::Kind::array) {
    refuse("InvalidHeaderDeserialization", origin, str(where, " is missing or is no list"));
  }
  std::vector<std::int64_t> out;
  for (const Json& item : list->items) {
    if (item.kind != Json::Kind::integer || item.integer < 0) {
      refuse("InvalidHeaderDeserialization", origin,
             str(where, " holds ", write_json(item), ", expected whole numbers"));
    }
    out.push_back(item.integer);
  }
  return out;
}

Entry read_entry(const std::string& name, const Json& info, const std::string& origin) {
  const std::string where = str("tensor \"", name, "\"");
  const Json* dtype = info.find("dtype");
  if (dtype == nullptr || dtype->kind != Json::Kind::text) {
    refuse("InvalidHeaderDeserialization", origin, str(where, " has no dtype"));
  }
  const auto known =
      std::find_if(kDTypes.begin(), kDTypes.end(), [&](const auto& d) { return d.first == dtype->text; });
  if (known == kDTypes.end()) {
    refuse("InvalidHeaderDeserialization", origin, str(where, " has the unsupported dtype \"", dtype->text, "\""));
  }
  Entry entry{name, Array{known->second, whole_numbers(info.find("shape"), origin, str(where, ", shape")), {}, 0}};
  const auto offsets = whole_numbers(info.find("data_offsets"), origin, str(where, ", data_offsets"));
  if (offsets.size() != 2) refuse("InvalidHeaderDeserialization", origin, str(where, ": data_offsets are not a pair"));
  entry.begin = static_cast<std::uint64_t>(offsets[0]);
  entry.end = static_cast<std::uint64_t>(offsets[1]);
  return entry;
}

std::uint64_t byte_count(const Entry& entry, const std::string& origin) {
  std::int64_t bytes = static_cast<std::int64_t>(size_of(entry.array.dtype));
  bool overflow = false;
  for (const std::int64_t size : entry.array.shape) overflow = __builtin_mul_overflow(bytes, size, &bytes) || overflow;
  if (overflow) refuse("ValidationOverflow", origin, str("tensor \"", entry.name, "\": its size overflows 64 bits"));
  return static_cast<std::uint64_t>(bytes);
}

Json parse_header(std::string_view header, const std::string& origin) {
  if (!is_utf8(header)) refuse("InvalidHeader", origin, "the header is not UTF-8");
  Json json;
  try {
    json = read_json(header, origin, {.allow_nan = false, .refuse_duplicates = true});
  } catch (const Error& error) {
    throw Error(Fault::incompatible, str("InvalidHeaderDeserialization: ", error.what()));
  }
  if (json.kind != Json::Kind::object) refuse("InvalidHeaderDeserialization", origin, "the header is no JSON object");
  return json;
}

Json text_json(const std::string& text) {
  Json json;
  json.kind = Json::Kind::text;
  json.text = text;
  return json;
}

Json list_json(const std::vector<std::int64_t>& numbers) {
  Json json;
  json.kind = Json::Kind::array;
  for (const std::int64_t number : numbers) {
    Json& item = json.items.emplace_back();
    item.kind = Json::Kind::integer;
    item.integer = number;
  }
  return json;
}

}  // namespace

Safetensors read_safetensors(std::string_view bytes, const std::string& origin) {
  if (bytes.size() < 8)
    refuse("HeaderTooSmall", origin, str("the file has ", bytes.size(), " bytes, expected at least 8"));
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  if (length > kMaxHeaderBytes) {
    refuse("HeaderTooLarge", origin, str("a header of ", length, " bytes, expected at most ", kMaxHeaderBytes));
  }
  if (length > bytes.size() - 8) {
    refuse("InvalidHeaderLength", origin, str("a header of ", length, " bytes in a file of ", bytes.size()));
  }
  const Json header = parse_header(bytes.substr(8, length), origin);
  const std::string_view data = bytes.substr(8 + length);

  Safetensors out;
  std::vector<Entry> entries;
  for (const auto& [name, info] : header.members) {
    if (info.kind != Json::Kind::object) {
      refuse("InvalidHeaderDeserialization", origin, str("\"", name, "\" is no JSON object"));
    }
    if (name != kMetadataKey) {
      entries.push_back(read_entry(name, info, origin));
      continue;
    }
    for (const auto& [key, value] : info.members) {
      if (value.kind != Json::Kind::text) {
        refuse("InvalidHeaderDeserialization", origin, str("__metadata__: \"", key, "\" is no text"));
      }
      out.metadata[key] = value.text;
    }
  }
  std::stable_sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });

  // All of the header is checked before anything of the size that it names is allocated.
  std::uint64_t behind = 0;
  for (const Entry& entry : entries) {
    if (entry.begin != behind || entry.end < entry.begin) {
      refuse("InvalidOffset", origin,
             str("tensor \"", entry.name, "\" lies at ", entry.begin, " to ", entry.end, ", expected from ", behind));
    }
    behind = entry.end;
    const std::uint64_t expected = byte_count(entry, origin);
    if (entry.end - entry.begin != expected) {
      refuse("TensorInvalidInfo", origin,
             str("tensor \"", entry.name, "\" has ", entry.end - entry.begin, " bytes, its shape and dtype need ",
                 expected));
    }
  }
  if (behind != data.size()) {
    refuse("MetadataIncompleteBuffer", origin,
           str("the file holds ", data.size(), " bytes of data, its header ", behind));
  }
  for (Entry& entry : entries) {
    const auto* begin = reinterpret_cast<const std::byte*>(data.data());
    entry.array.bytes.assign(begin + entry.begin, begin + entry.end);
    out.arrays.emplace_back(std::move(entry.name), std::move(entry.array));
  }
  return out;
}

std::string write_safetensors(const NamedArrays& arrays, const std::map<std::string, std::string>& metadata) {
  std::vector<const std::pair<std::string, Array>*> sorted;
  std::set<std::string> names;
  for (const auto& entry : arrays) {
    if (entry.second.dtype == DType::text) {
      throw Error(Fault::usage, str("\"", entry.first, "\" holds text, which safetensors cannot"));
    }
    if (entry.first == kMetadataKey || !names.insert(entry.first).second) {
      throw Error(Fault::usage, str("the tensor name \"", entry.first, "\" is reserved or comes twice"));
    }
    sorted.push_back(&entry);
  }
  std::sort(sorted.begin(), sorted.end(), [](const auto* a, const auto* b) {
    const std::size_t align_a = size_of(a->second.dtype);
    const std::size_t align_b = size_of(b->second.dtype);
    return align_a != align_b ? align_a > align_b : a->first < b->first;
  });

  Json header;
  header.kind = Json::Kind::object;
  if (!metadata.empty()) {
    Json& values = header.members.emplace_back(kMetadataKey, Json{}).second;
    values.kind = Json::Kind::object;
    for (const auto& [key, value] : metadata) values.members.emplace_back(key, text_json(value));
  }
  std::int64_t offset = 0;
  for (const auto* entry : sorted) {
    const Array& array = entry->second;
    const std::int64_t end = offset + static_cast<std::int64_t>(array.bytes.size());
    Json& info = header.members.emplace_back(entry->first, Json{}).second;
    info.kind = Json::Kind::object;
    const auto dtype =
        std::find_if(kDTypes.begin(), kDTypes.end(), [&](const auto& d) { return d.second == array.dtype; });
    info.members.emplace_back("dtype", text_json(dtype->first));
    info.members.emplace_back("shape", list_json(array.shape));
    info.members.emplace_back("data_offsets", list_json({offset, end}));
    offset = end;
  }
  std::string text = write_json(header, true);
  text.append((8 - text.size() % 8) % 8, ' ');

  std::string out(8, '\0');
  const std::uint64_t length = text.size();
  std::memcpy(out.data(), &length, 8);
  out.reserve(8 + text.size() + static_cast<std::size_t>(offset));
  out += text;
  for (const auto* entry : sorted) {
    out.append(reinterpret_cast<const char*>(entry->second.bytes.data()), entry->second.bytes.size());
  }
  return out;
}

}  // namespace ristretto::formats
