#include "platform/log.h"

#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <mutex>

#include "platform/clock.h"
#include "platform/error.h"

namespace ristretto::log {
namespace {

std::atomic<Level> threshold{Level::info};
std::atomic<Format> line_format{Format::text};
std::mutex output;
std::string progress_line;  // guarded by output

std::string json_escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      char buffer[8];
      std::snprintf(buffer, sizeof buffer, "\\u%04x", static_cast<unsigned>(c));
      out += buffer;
    } else {
      out += c;
    }
  }
  return out;
}

void write(Level level, const char* room, const std::string& text) {
  if (level < threshold.load()) return;
  static constexpr const char* kNames[] = {"DEBUG", "INFO", "WARNING", "ERROR"};
  const char* name = kNames[static_cast<int>(level)];
  const std::string now = utc_text(now_utc());
  const std::string line = line_format.load() == Format::json
                               ? "{\"time\": \"" + now + "\", \"logger\": \"ristretto." + room + "\", \"level\": \"" +
                                     name + "\", \"text\": \"" + json_escaped(text) + "\"}"
                               : now + " - ristretto." + room + " - " + name + " - " + text;
  const std::lock_guard lock(output);
  const bool redraw = !progress_line.empty();
  std::fprintf(stderr, "%s%s\n%s", redraw ? "\r\x1b[K" : "", line.c_str(), redraw ? progress_line.c_str() : "");
  std::fflush(stderr);
}

}  // namespace

void configure(Level level, Format format) {
  threshold = level;
  line_format = format;
}

Level parse_level(const std::string& name) {
  if (name == "debug") return Level::debug;
  if (name == "info") return Level::info;
  if (name == "warning") return Level::warning;
  if (name == "error") return Level::error;
  if (name == "off") return Level::off;
  throw Error(Fault::usage, "--log-level is '" + name + "', expected debug, info, warning, error or off");
}

void debug(const char* room, const std::string& text) { write(Level::debug, room, text); }
void info(const char* room, const std::string& text) { write(Level::info, room, text); }
void warning(const char* room, const std::string& text) { write(Level::warning, room, text); }
void error(const char* room, const std::string& text) { write(Level::error, room, text); }

bool stderr_is_terminal() {
  static const bool terminal = isatty(STDERR_FILENO) == 1;
  return terminal;
}

void progress(const std::string& line) {
  if (!stderr_is_terminal()) return;
  const std::lock_guard lock(output);
  if (line.empty() && progress_line.empty()) return;
  progress_line = line;
  std::fprintf(stderr, "\r\x1b[K%s", line.c_str());
  std::fflush(stderr);
}

}  // namespace ristretto::log
