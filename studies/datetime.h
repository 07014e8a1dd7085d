// The date texts of an Optuna file (study.md, "Datetimes").
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "platform/clock.h"

namespace ristretto::studies {

// "2026-11-21 07:16:24.045797" and its kin: 'T' for the space, any number of decimals or none, a bare date, a zone. A
// text without a zone is UTC or, with `local`, in this process's time zone. Nothing where it is no date.
std::optional<Instant> parse_datetime(std::string_view text, bool local);

// "2026-11-21 07:16:24.045797", the only form that all of Optuna reads: six digits, rounded down, no zone.
std::string datetime_text(Instant instant, bool local);

}  // namespace ristretto::studies
