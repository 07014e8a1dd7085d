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

// Before much is computed for a file: throws Error(failed) where `path` is a directory, or its own cannot be written
// to.
void require_writable(const std::filesystem::path& path);

// Appends `line` (which holds no newline) and a newline, and fsyncs; creates the file if needed. A line that a crash
// cut before it is ended first, so that it costs no other. One writer at a time: where the disk is full, half a line is
// taken back. Throws Error(failed).
void append_line(const std::filesystem::path& path, std::string_view line);

// fsync of a file or directory; throws Error(failed).
void sync_path(const std::filesystem::path& path);

}  // namespace ristretto
