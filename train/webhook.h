// Tells somebody's chat or server what a night came to.
#pragma once

#include <filesystem>
#include <string>

#include "release/manifest.h"

namespace ristretto::train {

// Where a night is told. The address is a secret, like a password: it is read from a file, and neither logged nor kept.
struct Webhook {
  std::string origin;  // https://host:port
  std::string path;    // /services/T0/B0/secret
};
// The first line of `file`, http:// or https://. Throws Error(usage) for anything else.
Webhook read_webhook(const std::filesystem::path& file);

// POSTs {"text": text, "content": text cut to what Discord takes, "night": document} as JSON: Slack and Mattermost show
// the first, Discord the second. Three tries, ten seconds each. What went wrong, without the address; empty
// once it was taken (2xx).
std::string tell(const Webhook& webhook, const std::string& text, const release::Json& document);

}  // namespace ristretto::train
