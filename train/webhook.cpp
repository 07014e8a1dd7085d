#include "train/webhook.h"

#include <httplib.h>

#include <chrono>
#include <thread>

#include "platform/atomic_file.h"
#include "platform/error.h"
#include "platform/interrupt.h"
#include "platform/text.h"

namespace ristretto::train {
namespace {

constexpr int kTries = 3;
constexpr std::chrono::seconds kPatience{10}, kPause{5};
constexpr std::size_t kDiscordLimit = 2000;  // characters of a message

// The first `most` bytes of UTF-8 text, no character cut in two.
std::string beginning(const std::string& text, std::size_t most) {
  if (text.size() <= most) return text;
  while (most > 0 && (static_cast<unsigned char>(text[most]) & 0xC0) == 0x80) --most;
  return text.substr(0, most);
}

}  // namespace

Webhook read_webhook(const std::filesystem::path& file) {
  std::string url = read_file(file);
  url = url.substr(0, url.find_first_of("\r\n"));
  const std::size_t scheme = url.starts_with("https://") ? 8 : url.starts_with("http://") ? 7 : 0;
  const std::size_t end = url.find_first_of("/?", scheme);
  if (scheme == 0 || end == scheme || scheme == url.size() || url.find_first_of(" @") < end) {
    throw Error(Fault::usage, str("the first line of --webhook's file '", file.string(),
                                  "' is no address such as https://host/path"));
  }
  const std::size_t colon = url.find(':', scheme);
  if (colon < end) {
    const auto port = parse_number<int>(std::string_view(url).substr(colon + 1, end - colon - 1));
    if (!port || *port < 1 || *port > 65535) {
      throw Error(Fault::usage, str("the address in --webhook's file '", file.string(), "' has no port that there is"));
    }
  }
  Webhook webhook{url.substr(0, end), end == std::string::npos ? "" : url.substr(end)};
  if (!webhook.path.starts_with('/')) webhook.path.insert(0, "/");
  return webhook;
}

std::string tell(const Webhook& webhook, const std::string& text, const release::Json& document) {
  const release::Json message = {{"text", text}, {"content", beginning(text, kDiscordLimit)}, {"night", document}};
  const std::string body = message.dump(-1, ' ', false, release::Json::error_handler_t::replace);
  std::string reason;
  for (int attempt = 0; attempt < kTries && interrupt_requested() == 0; ++attempt) {
    if (attempt > 0) std::this_thread::sleep_for(kPause);
    httplib::Client client(webhook.origin);  // of a port that read_webhook has seen
    client.set_connection_timeout(kPatience);
    client.set_read_timeout(kPatience);
    client.set_write_timeout(kPatience);
    const httplib::Result result = client.Post(webhook.path, body, "application/json");
    if (result && result->status / 100 == 2) return "";
    reason = result ? str("it answered ", result->status) : httplib::to_string(result.error());
    const bool later = result && (result->status == 408 || result->status == 429);
    if (result && result->status / 100 == 4 && !later) break;  // the same message again would be refused again
  }
  return reason.empty() ? "interrupted" : reason;
}

}  // namespace ristretto::train
