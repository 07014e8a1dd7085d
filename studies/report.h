// What a study has found, as one HTML file for people: no scripts, nothing loaded from elsewhere, light and dark.
#pragma once

#include <filesystem>
#include <string>

#include "studies/study.h"

namespace ristretto::studies {

// The best trial, values over time, the importance of the parameters and how values depend on them, intermediate values
// and the best trials as a table. What a study has nothing for is left out; one without a COMPLETE trial, a direction
// or with several objectives says so in a sentence. The file's text.
std::string html_of(const Study& study);

// Throws Error(failed) where the file cannot be written.
void write_report(const std::filesystem::path& path, const Study& study);

}  // namespace ristretto::studies
