#include "formats/npz.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>

#include "formats/archive.h"
#include "platform/atomic_file.h"
#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::formats {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr std::size_t kMaxHeaderBytes = std::size_t{1} << 16;
constexpr std::size_t kMaxDims = 64;                       // NumPy's own limit
constexpr std::int64_t kMaxBytes = std::int64_t{1} << 36;  // of one array

constexpr std::array<std::pair<std::string_view, DType>, 9> kDTypes{{{"b1", DType::boolean},
                                                                     {"u1", DType::uint8},
                                                                     {"i1", DType::int8},
                                                                     {"i2", DType::int16},
                                                                     {"i4", DType::int32},
                                                                     {"i8", DType::int64},
                                                                     {"f2", DType::float16},
                                                                     {"f4", DType::float32},
                                                                     {"f8", DType::float64}}};

// An .npy file's header: a Python dictionary of 'descr' (text), 'fortran_order' (True or False) and 'shape' (a tuple of
// whole numbers).
class Header {
 public:
  Header(std::string_view text, const std::string& origin) : text_(text), origin_(origin) { read(); }

  std::string descr;
  bool fortran_order = false;
  std::vector<std::int64_t> shape;

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(Fault::incompatible, str(origin_, ": the npy header cannot be read at byte ", at_, ": ", what));
  }

  char peek() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
    return at_ < text_.size() ? text_[at_] : '\0';
  }

  bool take(std::string_view word) {
    if (peek() == '\0' || text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }

  void need(std::string_view word) {
    if (!take(word)) fail(str("expected ", word));
  }

  std::string quoted() {
    const char quote = peek();
    if (quote != '\'' && quote != '"') fail("expected a quoted text");
    const std::size_t end = text_.find(quote, at_ + 1);
    if (end == std::string_view::npos) fail("a text without end");
    std::string out(text_.substr(at_ + 1, end - at_ - 1));
    at_ = end + 1;
    return out;
  }

  void read_shape() {
    need("(");
    while (!take(")")) {
      std::int64_t size = 0;
      const auto [end, error] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), size);
      if (error != std::errc{} || size < 0) fail("expected a whole number");
      at_ = static_cast<std::size_t>(end - text_.data());
      take("L");  // as Python 2 wrote it
      shape.push_back(size);
      if (shape.size() > kMaxDims) fail(str("more than ", kMaxDims, " dimensions"));
      if (!take(",") && peek() != ')') fail("expected ',' or ')'");
    }
  }

  void read() {
    bool has_descr = false;
    bool has_order = false;
    bool has_shape = false;
    need("{");
    while (!take("}")) {
      const std::string key = quoted();
      need(":");
      if (key == "descr" && !has_descr) {
        has_descr = true;
        if (peek() == '[') {
          throw Error(Fault::incompatible, str(origin_, ": an npy array of records, expected numbers or text"));
        }
        descr = quoted();
      } else if (key == "fortran_order" && !has_order) {
        has_order = true;
        fortran_order = take("True");
        if (!fortran_order) need("False");
      } else if (key == "shape" && !has_shape) {
        has_shape = true;
        read_shape();
      } else {
        fail(str("the key '", key, "' is unknown or comes twice"));
      }
      if (!take(",") && peek() != '}') fail("expected ',' or '}'");
    }
    if (!has_descr || !has_order || !has_shape) fail("descr, fortran_order and shape are expected");
    if (peek() != '\0') fail("text behind the header");
  }

  std::string_view text_;
  const std::string& origin_;
  std::size_t at_ = 0;
};

// What the bytes before the data say: an array without its bytes, and how many there must be.
struct Layout {
  Array array;
  bool fortran_order = false;
  std::size_t data_at = 0;
  std::size_t element_bytes = 0;
  std::size_t data_bytes = 0;
};

Layout read_layout(std::string_view bytes, const std::string& origin) {
  if (bytes.size() < 10 || bytes.substr(0, kMagic.size()) != kMagic) {
    throw Error(Fault::incompatible, str(origin, ": not an npy file"));
  }
  const auto byte = [&](std::size_t i) { return static_cast<std::size_t>(static_cast<unsigned char>(bytes[i])); };
  const std::size_t major = byte(6);
  if (major < 1 || major > 3) {
    throw Error(Fault::incompatible, str(origin, ": npy version ", major, ", expected 1, 2 or 3"));
  }
  std::size_t begin = 10;
  std::size_t length = byte(8) | byte(9) << 8;
  if (major > 1) {
    if (bytes.size() < 12) throw Error(Fault::incompatible, str(origin, ": the npy file is cut in its header"));
    begin = 12;
    length |= byte(10) << 16 | byte(11) << 24;
  }
  if (length > kMaxHeaderBytes || length > bytes.size() - begin) {
    throw Error(Fault::incompatible, str(origin, ": an npy header of ", length, " bytes, where ", bytes.size() - begin,
                                         " follow and at most ", kMaxHeaderBytes, " are expected"));
  }
  Header header(bytes.substr(begin, length), origin);

  Layout out;
  out.array.shape = std::move(header.shape);
  out.fortran_order = header.fortran_order;
  out.data_at = begin + length;
  const std::string_view descr = header.descr;
  const std::string_view type = descr.substr(std::min<std::size_t>(1, descr.size()));
  if (!type.empty() && descr[0] == '>' && type != "u1" && type != "i1" && type != "b1") {
    throw Error(Fault::incompatible, str(origin, ": the array is big-endian (", descr, "), expected little-endian"),
                "write it again with array.astype(array.dtype.newbyteorder('<'))");
  }
  if (!type.empty() && type[0] == 'O') {
    throw Error(Fault::incompatible, str(origin, ": an array of Python objects, which are never read"));
  }
  const auto known = std::find_if(kDTypes.begin(), kDTypes.end(), [&](const auto& d) { return d.first == type; });
  const bool is_text = !type.empty() && type[0] == 'U';
  const std::uint32_t width = is_text ? parse_number<std::uint32_t>(type.substr(1)).value_or(0) : 0;
  if (descr.empty() || std::string_view("<|=>").find(descr[0]) == std::string_view::npos ||
      (is_text ? width == 0 : known == kDTypes.end())) {
    throw Error(Fault::incompatible, str(origin, ": the npy type '", descr, "' is not supported"));
  }
  out.array.dtype = is_text ? DType::text : known->second;
  out.array.text_width = width;
  out.element_bytes = is_text ? std::size_t{width} * 4 : size_of(known->second);
  auto total = static_cast<std::int64_t>(out.element_bytes);  // a size of 0 somewhere must not hide an overflow
  for (const std::int64_t size : out.array.shape) {
    if (__builtin_mul_overflow(total, std::max<std::int64_t>(size, 1), &total) || total > kMaxBytes) {
      throw Error(Fault::incompatible, str(origin, ": the npy header claims more than ", kMaxBytes, " bytes"));
    }
  }
  out.data_bytes = static_cast<std::size_t>(out.array.count()) * out.element_bytes;
  return out;
}

// Fortran order (first index fastest) to row-major.
std::vector<std::byte> turned(const Layout& layout, const std::vector<std::byte>& bytes) {
  const std::vector<std::int64_t>& shape = layout.array.shape;
  std::vector<std::byte> out(bytes.size());
  std::vector<std::int64_t> stride(shape.size(), 1);  // in the file, in elements
  for (std::size_t d = 1; d < shape.size(); ++d) stride[d] = stride[d - 1] * shape[d - 1];
  std::vector<std::int64_t> index(shape.size(), 0);
  std::int64_t from = 0;
  const std::size_t width = layout.element_bytes;
  for (std::size_t to = 0; to < out.size(); to += width) {
    std::memcpy(out.data() + to, bytes.data() + static_cast<std::size_t>(from) * width, width);
    for (std::size_t d = shape.size(); d-- > 0;) {
      from += stride[d];
      if (++index[d] < shape[d]) break;
      from -= stride[d] * shape[d];
      index[d] = 0;
    }
  }
  return out;
}

std::string descr_of(const Array& array) {
  if (array.dtype == DType::text) return str("<U", array.text_width);
  const auto known =
      std::find_if(kDTypes.begin(), kDTypes.end(), [&](const auto& d) { return d.second == array.dtype; });
  if (known == kDTypes.end()) throw Error(Fault::usage, str("NumPy has no ", name_of(array.dtype)));
  return str(size_of(array.dtype) == 1 ? '|' : '<', known->first);
}

}  // namespace

Array read_npy(std::string_view bytes, const std::string& origin) {
  Layout layout = read_layout(bytes, origin);
  const std::string_view data = bytes.substr(layout.data_at);
  if (data.size() != layout.data_bytes) {
    throw Error(Fault::incompatible, str(origin, ": the npy file holds ", data.size(),
                                         " bytes of data, its header claims ", layout.data_bytes));
  }
  const auto* begin = reinterpret_cast<const std::byte*>(data.data());
  layout.array.bytes.assign(begin, begin + data.size());
  if (layout.fortran_order && layout.array.shape.size() > 1) layout.array.bytes = turned(layout, layout.array.bytes);
  return std::move(layout.array);
}

std::string write_npy(const Array& array) {
  std::string shape;
  for (const std::int64_t size : array.shape) shape += str(shape.empty() ? "" : ", ", size);
  if (array.shape.size() == 1) shape += ',';
  std::string header = str("{'descr': '", descr_of(array), "', 'fortran_order': False, 'shape': (", shape, "), }");
  const std::size_t unpadded = kMagic.size() + 4 + header.size() + 1;
  header.append((64 - unpadded % 64) % 64, ' ');
  header += '\n';
  std::string out(kMagic);
  out += {'\1', '\0', static_cast<char>(header.size() & 0xFF), static_cast<char>(header.size() >> 8)};
  out += header;
  out.append(reinterpret_cast<const char*>(array.bytes.data()), array.bytes.size());
  return out;
}

NamedArrays read_npz_bytes(std::string_view bytes, const std::string& origin) {
  const Archive archive(bytes, origin);
  NamedArrays out;
  for (const ArchiveMember& member : archive.members()) {
    std::string_view name = member.name;
    if (name.size() < 4 || name.substr(name.size() - 4) != ".npy") {
      throw Error(Fault::incompatible, str(origin, ": the member ", name, " is no .npy"));
    }
    name.remove_suffix(4);
    const std::string where = str(origin, ", array ", name);
    // The header alone first, so that a small file cannot make us inflate more than it declares.
    const Layout layout = read_layout(archive.read_head(member.name, kMaxHeaderBytes + 12), where);
    out.emplace_back(name, read_npy(archive.read(member.name, layout.data_at + layout.data_bytes), where));
  }
  return out;
}

NamedArrays read_npz(const std::filesystem::path& path) { return read_npz_bytes(read_file(path), path.string()); }

std::string write_npz(const NamedArrays& arrays) {
  std::vector<std::pair<std::string, std::string>> members;
  for (const auto& [name, array] : arrays) members.emplace_back(name + ".npy", write_npy(array));
  return write_archive(members);
}

}  // namespace ristretto::formats
