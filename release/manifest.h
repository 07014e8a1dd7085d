// manifest.json: what a version is, so that any consumer can check that it has opened what was judged (deployments.md).
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "agents/hyperparameters.h"
#include "agents/policy.h"
#include "env/layout.h"
#include "env/step.h"

namespace ristretto::release {

using Json = nlohmann::ordered_json;

inline constexpr int kSchemaVersion = 1;
inline constexpr const char* kManifest = "manifest.json";
inline constexpr const char* kTrainingDirectory = "training";

// None is null.
Json json_of(const agents::Value& value);

// Sections of the manifest. `action` names its columns by the layout's assets.
Json section_of(const agents::Architecture& architecture);
Json section_of(const env::Layout& layout);  // with one scale a column, the exponents, and the hash of names and scales
Json section_of(const env::Rules& rules);
Json action_section(const env::Layout& layout);

// And back. Throw Error(incompatible) naming `origin` and the field.
agents::Architecture architecture_of(const Json& section, const std::string& origin);
env::Layout layout_of(const Json& section, const std::string& origin);  // its names and hash must be those of its parts
env::Rules rules_of(const Json& section, const std::string& origin);

// Of the ordered names and scales; 16 hexadecimal digits.
std::string hash_of(const env::Layout& layout);

// {path inside the directory: {sha256, bytes}} of every file in it but manifest.json, by name. Throws
// Error(incompatible) for what is neither file nor directory.
Json files_of(const std::filesystem::path& directory);
// Of the files' names and hashes: what a version's id ends with; 12 hexadecimal digits.
std::string content_hash(const Json& files);

// Where the manifest of a directory is: in it, or beside it as DIRECTORY.manifest.json where it was adopted.
std::optional<std::filesystem::path> manifest_path(const std::filesystem::path& directory);
// Nothing where there is none. Throws Error(incompatible): no JSON object, or another schema_version.
std::optional<Json> read_manifest(const std::filesystem::path& directory);
void write_manifest(const std::filesystem::path& path, const Json& manifest);
// One line without a newline at its end; bytes that are no UTF-8 are replaced.
std::string line_of(const Json& value);
// A text field at the top, "" where it is null or absent.
std::string text_field(const Json& manifest, const char* name);
// What a JSON pointer such as "/data/holdout_from" leads to, where it is a text; as a time in seconds since 1970, UTC,
// where it is one.
std::optional<std::string> text_at(const Json& manifest, const std::string& pointer);
std::optional<std::int64_t> time_at(const Json& manifest, const std::string& pointer);

// Re-hashes every file that the manifest lists; files under training/ may have been removed, others may not, and none
// may have been added. Throws Error(incompatible) naming the first difference.
void require_files(const std::filesystem::path& directory, const Json& manifest);

}  // namespace ristretto::release
