// The frame of every page that is written for people: one file, no scripts, light and dark, from a phone's width up.
#pragma once

#include <string>

namespace ristretto::evaluation {

// A whole document. body: HTML; title: text. Classes for it: "scroll" around what may be wider than the screen;
// table.stack, whose rows become blocks on a phone, each cell named by its data-label; tr.refused; "wide" and "narrow"
// around two forms of one thing, of which the screen's width chooses.
std::string page(const std::string& title, const std::string& body);

// <td data-label="label">text</td>, escaped.
std::string labelled_cell(const std::string& label, const std::string& text);

}  // namespace ristretto::evaluation
