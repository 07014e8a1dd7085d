// Files that are either wholly there or not at all.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace ristretto {

// The whole file. Throws Error(failed) that names the file and the system's reason; Error(incompatible) where it is
// larger than `limit_bytes`.
std::string read_file(const std::filesystem::path& path, std::size_t limit_bytes = std::size_t{1} << 34);

// Writes beside `path`, fsyncs, renames over it and fsyncs the directory. Throws Error(failed) and leaves no trace.
void write_file_atomically(const std::filesystem::path& path, std::string_view bytes);

// fsync of a file or directory; throws Error(failed).
void sync_path(const std::filesystem::path& path);

}  // namespace ristretto
