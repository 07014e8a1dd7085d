#include "agents/checkpoint.h"

#include <system_error>

#include "formats/safetensors.h"
#include "ft_transformer/weights.h"
#include "platform/atomic_file.h"
#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::agents {
namespace {

namespace fs = std::filesystem;

const std::string kPrevious = "previous.safetensors";
const std::string kVersionField = "checkpoint_version";

Checkpoint read(const fs::path& file) {
  const formats::Safetensors content = formats::read_safetensors(read_file(file), file.string());
  Checkpoint out;
  out.fields = content.metadata;
  const auto version = out.fields.find(kVersionField);
  if (version == out.fields.end() || version->second != str(kCheckpointVersion)) {
    throw Error(Fault::incompatible,
                str(file.string(), ": ", kVersionField, " is \"", version == out.fields.end() ? "" : version->second,
                    "\", expected \"", kCheckpointVersion, "\""));
  }
  out.fields.erase(version);
  for (const auto& [name, array] : content.arrays) out.tensors.emplace_back(name, ft_transformer::tensor_of(array));
  return out;
}

// The newest becomes the previous one too, at no moment is there none.
void keep_previous(const fs::path& newest, const fs::path& previous) {
  const fs::path beside = previous.string() + ".new";
  std::error_code error;
  fs::remove(beside, error);
  fs::create_hard_link(newest, beside, error);
  if (error) {
    // Some file systems have no links.
    write_file_atomically(previous, read_file(newest));
    return;
  }
  fs::rename(beside, previous, error);
  if (error) {
    throw Error(Fault::failed,
                str("cannot rename ", beside.string(), " to ", previous.string(), ": ", error.message()));
  }
}

}  // namespace

void write_checkpoint(const fs::path& directory, const Checkpoint& checkpoint) {
  std::error_code error;
  fs::create_directories(directory, error);
  if (error) throw Error(Fault::failed, str("cannot create ", directory.string(), ": ", error.message()));
  formats::NamedArrays arrays;
  for (const auto& [name, tensor] : checkpoint.tensors) arrays.emplace_back(name, ft_transformer::array_of(tensor));
  std::map<std::string, std::string> fields = checkpoint.fields;
  fields[kVersionField] = str(kCheckpointVersion);
  const std::string bytes = formats::write_safetensors(arrays, fields);
  if (fs::exists(directory / kCheckpointFile)) keep_previous(directory / kCheckpointFile, directory / kPrevious);
  write_file_atomically(directory / kCheckpointFile, bytes);
}

Checkpoint read_checkpoint(const fs::path& directory) {
  const fs::path newest = directory / kCheckpointFile, previous = directory / kPrevious;
  if (!fs::exists(newest)) {
    throw Error(Fault::incompatible, str(directory.string(), " holds no ", kCheckpointFile),
                "give the directory of a training");
  }
  try {
    return read(newest);
  } catch (const Error& damage) {
    if (damage.fault() != Fault::incompatible) throw;
    std::string hint;
    try {
      if (fs::exists(previous)) {
        read(previous);
        hint = str(previous.string(), " is whole: rename it to ", kCheckpointFile, " to go on from there");
      }
    } catch (const Error&) {
      // The previous one is damaged as well: nothing to hint at.
    }
    throw Error(Fault::incompatible, damage.what(), hint);
  }
}

void add_prefixed(NamedTensors& out, const std::string& prefix, const NamedTensors& tensors) {
  for (const auto& [name, tensor] : tensors) out.emplace_back(prefix + name, tensor);
}

NamedTensors with_prefix(const NamedTensors& all, const std::string& prefix) {
  NamedTensors out;
  for (const auto& [name, tensor] : all) {
    if (name.starts_with(prefix)) out.emplace_back(name.substr(prefix.size()), tensor);
  }
  return out;
}

}  // namespace ristretto::agents
