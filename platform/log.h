// Lines of log on standard error: `2026-07-13 02:00:00,123 - ristretto.train - INFO - text`, UTC, or one JSON object a
// line. Thread-safe. A progress line that stands on a terminal is cleared before a log line and drawn again after it.
#pragma once

#include <string>

namespace ristretto::log {

enum class Level { debug, info, warning, error, off };
enum class Format { text, json };

void configure(Level level, Format format);
// The level by its name (debug info warning error off); throws Error(usage) naming the choices.
Level parse_level(const std::string& name);

// room: the folder that speaks, such as "train".
void debug(const char* room, const std::string& text);
void info(const char* room, const std::string& text);
void warning(const char* room, const std::string& text);
void error(const char* room, const std::string& text);

// Replaces the progress line (no newline in it); "" removes it. Does nothing unless standard error is a terminal.
void progress(const std::string& line);
bool stderr_is_terminal();

}  // namespace ristretto::log
