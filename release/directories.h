// Whole directories made durable, moved and exchanged atomically (algorithms.md 4). All throw Error(failed) that names
// the path and the system's reason.
#pragma once

#include <cstdint>
#include <filesystem>

namespace ristretto::release {

// Makes a directory and those above it, and syncs the two above a new one: a link through them is durable then.
void make_directories(const std::filesystem::path& directory);
// fsync of every file and directory below, then of the directory itself.
void sync_tree(const std::filesystem::path& directory);
// Throws Error(failed) where a part of it belongs to another user, who alone may change its mode.
void require_own(const std::filesystem::path& directory);
// Files 0444, directories 0555.
void make_read_only(const std::filesystem::path& directory);
// Removes a directory and all in it, read-only or not; nothing where it is absent.
void remove_tree(const std::filesystem::path& directory);
// Of all files below; 0 where there is no such directory.
std::int64_t bytes_below(const std::filesystem::path& directory);
// Removes a file, absent or not, of a directory that is read-only afterwards.
void remove_from_read_only(const std::filesystem::path& file);
// Files and their modes; directories that can be written, whatever those of `from` are. Throws Error(failed).
void copy_tree(const std::filesystem::path& from, const std::filesystem::path& to);
// Renames, or where `from` is on another file system copies and then removes; hard links stay links. `to` must not
// exist.
void move_tree(const std::filesystem::path& from, const std::filesystem::path& to);

// Renames to a name that must be free (RENAME_NOREPLACE). Where the file system does not know the flag it is looked up
// first, which is as good while the lock on `to` is held. Throws Error(refused) where `to` exists.
void rename_new(const std::filesystem::path& from, const std::filesystem::path& to);
// The two names change places in one step (RENAME_EXCHANGE); there is no other way to do that, so a file system that
// does not know it is an error.
void exchange(const std::filesystem::path& a, const std::filesystem::path& b);
// rename(2): replaces a link or file at `to`.
void rename_over(const std::filesystem::path& from, const std::filesystem::path& to);

}  // namespace ristretto::release
