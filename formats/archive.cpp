#include "formats/archive.h"

#include <zip.h>

#include <algorithm>
#include <memory>
#include <set>

#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::formats {
namespace {

constexpr std::size_t kReadBytes = std::size_t{1} << 20;
constexpr std::uint64_t kMaxMembers = 100'000;
// Deflate cannot do better: 258 bytes for 2 bits.
constexpr std::uint64_t kMaxInflation = 1032;
// The size of a local header without name and extra fields, and of one extra field's own header.
constexpr std::uint64_t kLocalHeaderBytes = 30;
constexpr std::uint64_t kExtraHeaderBytes = 4;
constexpr zip_uint16_t kPaddingField = 0x4246;  // "FB", as PyTorch pads
constexpr zip_uint16_t kFirstDosDate = 0x21;    // 1980-01-01

std::string reason(zip_error_t& error) {
  std::string text = zip_error_strerror(&error);
  zip_error_fini(&error);
  return text;
}

struct CloseFile {
  void operator()(zip_file_t* file) const { zip_fclose(file); }
};

// Our own bytes into memory: what goes wrong here is memory, or a bug.
[[noreturn]] void fail_writing(const char* what) { throw Error(Fault::failed, str("zip archive in memory: ", what)); }

}  // namespace

Archive::Archive(std::string_view bytes, std::string origin) : origin_(std::move(origin)) {
  if (bytes.empty()) {  // libzip takes no bytes for an archive without members
    throw Error(Fault::incompatible, str(origin_, ": not a complete zip archive: the file is empty"));
  }
  zip_error_t error;
  zip_error_init(&error);
  zip_source_t* source = zip_source_buffer_create(bytes.data(), bytes.size(), 0, &error);
  if (source == nullptr) throw Error(Fault::failed, str(origin_, ": ", reason(error)));
  zip_t* zip = zip_open_from_source(source, ZIP_RDONLY, &error);
  if (zip == nullptr) {
    zip_source_free(source);
    throw Error(Fault::incompatible, str(origin_, ": not a complete zip archive: ", reason(error)),
                "the file is cut or of another kind; copy it again");
  }
  zip_error_fini(&error);
  std::unique_ptr<zip_t, decltype(&zip_discard)> guard(zip, &zip_discard);

  const auto count = static_cast<std::uint64_t>(zip_get_num_entries(zip, 0));
  if (count > kMaxMembers) {
    throw Error(Fault::incompatible,
                str(origin_, ": ", count, " members in the archive, expected at most ", kMaxMembers));
  }
  std::set<std::string> names;
  for (std::uint64_t i = 0; i < count; ++i) {
    zip_stat_t stat;
    constexpr zip_uint64_t kNeeded = ZIP_STAT_NAME | ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE | ZIP_STAT_COMP_METHOD;
    if (zip_stat_index(zip, i, ZIP_FL_ENC_RAW, &stat) != 0 || (stat.valid & kNeeded) != kNeeded) {
      throw Error(Fault::incompatible, str(origin_, ": member ", i, " of the archive cannot be read"));
    }
    const std::string name = stat.name;
    if (!names.insert(name).second) {
      throw Error(Fault::incompatible, str(origin_, ": the member ", name, " comes twice in the archive"));
    }
    const bool stored = stat.comp_method == ZIP_CM_STORE;
    if (stat.comp_size > bytes.size() || (stored && stat.size != stat.comp_size) ||
        stat.size / kMaxInflation > stat.comp_size) {
      throw Error(Fault::incompatible, str(origin_, ": the member ", name, " claims ", stat.size, " bytes, packed as ",
                                           stat.comp_size, ", in a file of ", bytes.size()));
    }
    members_.push_back({name, stat.size, stored});
  }
  zip_ = guard.release();
}

Archive::~Archive() { zip_discard(static_cast<zip_t*>(zip_)); }

std::string Archive::read(const std::string& name, std::uint64_t limit_bytes) const {
  const std::size_t index = locate(name);
  if (members_[index].size > limit_bytes) {
    throw Error(Fault::incompatible,
                str(origin_, ": ", name, " has ", members_[index].size, " bytes, expected at most ", limit_bytes));
  }
  return read_head(name, members_[index].size);
}

std::string Archive::read_head(const std::string& name, std::uint64_t count) const {
  auto* zip = static_cast<zip_t*>(zip_);
  const std::size_t index = locate(name);
  const std::uint64_t wanted = std::min(count, members_[index].size);
  const auto refuse = [&](const std::string& what) {
    throw Error(Fault::incompatible, str(origin_, ": the member ", name, " cannot be read: ", what));
  };
  const std::unique_ptr<zip_file_t, CloseFile> file(zip_fopen_index(zip, index, 0));
  if (file == nullptr) refuse(zip_strerror(zip));
  const auto read_some = [&](char* to, std::uint64_t at_most) {
    const zip_int64_t got = zip_fread(file.get(), to, at_most);
    if (got < 0) refuse(zip_file_strerror(file.get()));
    return static_cast<std::uint64_t>(got);
  };
  std::string out;
  while (out.size() < wanted) {  // grows with what is really there, whatever the directory claims
    const std::size_t before = out.size();
    out.resize(before + std::min<std::uint64_t>(kReadBytes, wanted - before));
    const std::uint64_t got = read_some(out.data() + before, out.size() - before);
    out.resize(before + got);
    if (got == 0) refuse(str("it ends after ", before, " of ", wanted, " bytes"));
  }
  zip_stat_t stat;
  const bool has_crc = zip_stat_index(zip, index, 0, &stat) == 0 && (stat.valid & ZIP_STAT_CRC) != 0 && stat.crc != 0;
  // The checksum is compared at the read behind the last byte; PyTorch may leave it 0.
  if (wanted == members_[index].size && has_crc) {
    char behind;
    if (read_some(&behind, 1) != 0) refuse("it is longer than its header says");
  }
  return out;
}

std::size_t Archive::locate(const std::string& name) const {
  const zip_int64_t index = zip_name_locate(static_cast<zip_t*>(zip_), name.c_str(), ZIP_FL_ENC_RAW);
  if (index < 0) throw Error(Fault::incompatible, str(origin_, ": has no member ", name));
  return static_cast<std::size_t>(index);
}

std::string write_archive(const std::vector<std::pair<std::string, std::string>>& members, int alignment) {
  zip_source_t* target = zip_source_buffer_create(nullptr, 0, 0, nullptr);
  zip_t* zip = target == nullptr ? nullptr : zip_open_from_source(target, ZIP_TRUNCATE, nullptr);
  if (zip == nullptr) fail_writing("cannot be created");
  std::unique_ptr<zip_t, decltype(&zip_discard)> guard(zip, &zip_discard);
  zip_source_keep(target);
  const std::unique_ptr<zip_source_t, decltype(&zip_source_free)> kept(target, &zip_source_free);

  std::uint64_t offset = 0;
  for (const auto& [name, bytes] : members) {
    zip_source_t* source = zip_source_buffer(zip, bytes.data(), bytes.size(), 0);
    const zip_int64_t index = source == nullptr ? -1 : zip_file_add(zip, name.c_str(), source, ZIP_FL_ENC_UTF_8);
    if (index < 0) {
      zip_source_free(source);
      fail_writing(zip_strerror(zip));
    }
    const auto at = static_cast<zip_uint64_t>(index);
    bool ok = zip_set_file_compression(zip, at, ZIP_CM_STORE, 0) == 0 &&
              zip_file_set_dostime(zip, at, 0, kFirstDosDate, 0) == 0;
    offset += kLocalHeaderBytes + name.size();
    if (const auto step = static_cast<std::uint64_t>(alignment); step > 1) {
      const std::uint64_t padding = (step - (offset + kExtraHeaderBytes) % step) % step;
      const std::string filler(padding, 'Z');
      ok =
          ok && zip_file_extra_field_set(zip, at, kPaddingField, 0, reinterpret_cast<const zip_uint8_t*>(filler.data()),
                                         static_cast<zip_uint16_t>(padding), ZIP_FL_LOCAL) == 0;
      offset += kExtraHeaderBytes + padding;
    }
    if (!ok) fail_writing(zip_strerror(zip));
    offset += bytes.size();
  }
  if (zip_close(zip) != 0) fail_writing(zip_strerror(zip));
  guard.release();

  zip_stat_t stat;
  if (zip_source_open(target) != 0 || zip_source_stat(target, &stat) != 0) fail_writing("cannot be read back");
  std::string out(stat.size, '\0');
  const zip_int64_t got = zip_source_read(target, out.data(), out.size());
  zip_source_close(target);
  if (got != static_cast<zip_int64_t>(out.size())) fail_writing("cannot be read back");
  return out;
}

}  // namespace ristretto::formats
