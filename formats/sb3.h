// Policies that Stable-Baselines3 saved: a .zip of JSON and of torch.save's files.
#pragma once

#include <string>
#include <string_view>

#include "formats/array.h"
#include "formats/json_text.h"

namespace ristretto::formats {

struct Sb3Policy {
  NamedArrays weights;  // policy.pth: log_std, mlp_extractor.policy_net.0.weight, action_net.weight ...
  // `data`: the algorithm's settings. Its ":serialized:" pickles stay the base64 text that they are, never read.
  Json settings;
  std::string version;  // _stable_baselines3_version; "" where the file does not say
};

// Whether the bytes are such a file: a zip archive with a member policy.pth. False for anything else, damaged or not.
bool is_sb3(std::string_view bytes);
// Throws Error(incompatible): no zip archive, no policy.pth or `data`, members that cannot be read.
Sb3Policy read_sb3_bytes(std::string_view bytes, const std::string& origin);

}  // namespace ristretto::formats
