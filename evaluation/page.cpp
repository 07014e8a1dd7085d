#include "evaluation/page.h"

#include "platform/text.h"

namespace ristretto::evaluation {
namespace {

// Colours are those of Paul Tol's "bright" and "muted" schemes, which stay apart for the colour-blind, lighter on dark.
constexpr const char* kStyle = R"(
:root { color-scheme: light dark; --paper: #fcfcfb; --ink: #1c1c1a; --quiet: #65645f; --rule: #dddcd6; --mark: #f0efe9;
  --agent: #b4451f; --served: #228833; --hold: #2f6690; --btc: #9a7412; --cash: #8a8983;
  --a0: #4477aa; --a1: #66ccee; --a2: #228833; --a3: #ccbb44; --a4: #ee6677; --a5: #aa3377; --a6: #999933; --a7: #882255; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #161615; --ink: #e9e8e3; --quiet: #a3a29b; --rule: #353431; --mark: #23221f;
    --agent: #f08a5d; --served: #5fc27e; --hold: #7fb2dc; --btc: #d8b64a; --cash: #8f8e87;
    --a0: #6699cc; --a1: #7fd8f5; --a2: #4caf6a; --a3: #d8cb62; --a4: #f58a97; --a5: #cc66a0; --a6: #b8b85a; --a7: #b0577f; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.2rem 1.2rem 4rem; max-width: 70rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { margin: 0; font-size: 1.65rem; line-height: 1.25; overflow-wrap: anywhere; }
h2 { margin: 2.4rem 0 .5rem; font-size: 1.05rem; }
p { margin: .3rem 0; color: var(--quiet); max-width: 48rem; }
a { color: var(--hold); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .32rem .5rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--rule); }
th { font-weight: 600; color: var(--quiet); }
th:first-child, td:first-child { text-align: left; padding-left: .4rem; }
.scroll th:first-child, .scroll td:first-child { position: sticky; left: 0; background: var(--paper); }
tr.agent td, .scroll tr.agent td:first-child { font-weight: 650; background: var(--mark); }
tr.agent td:first-child { box-shadow: inset 3px 0 var(--agent); }
tr.free td { color: var(--quiet); }
tr.free.first td { border-top: 2px solid var(--rule); }
table.facts, table.small { width: auto; }
table.facts td { text-align: left; white-space: normal; vertical-align: top; }
table.facts td:first-child { color: var(--quiet); min-width: 9rem; }
table.stack th, table.stack td { text-align: left; white-space: normal; vertical-align: top;
  overflow-wrap: break-word; }
table.stack td:first-child { font-weight: 600; }
table.stack th, table.stack td:nth-child(-n+2) { white-space: nowrap; }
tr.refused td:nth-child(2) { font-weight: 650; color: var(--agent); }
svg { display: block; width: 100%; height: auto; }
svg text { font-size: 11.5px; fill: var(--quiet); }
.left { text-anchor: end; } .middle { text-anchor: middle; }
svg .name { font-size: 12.5px; font-weight: 600; }
.grid { stroke: var(--rule); stroke-width: 1; fill: none; }
.zero { stroke: var(--quiet); stroke-width: 1; fill: none; }
.gap { fill: var(--quiet); opacity: .3; }
.line { fill: none; stroke-width: 1.4; stroke-linejoin: round; } .line.agent { stroke-width: 1.9; }
.area { stroke: none; opacity: .16; } .bar { stroke: none; opacity: .55; }
.line.agent { stroke: var(--agent); } .line.served { stroke: var(--served); } .line.hold { stroke: var(--hold); }
.line.btc { stroke: var(--btc); } .line.cash { stroke: var(--cash); }
.area.agent, .bar.agent, svg .name.agent { fill: var(--agent); } svg .name.served { fill: var(--served); }
svg .name.hold { fill: var(--hold); } svg .name.btc { fill: var(--btc); } svg .name.cash { fill: var(--cash); }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; font-size: .85rem; color: var(--quiet); margin: .3rem 0; }
.legend i { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin-right: .4em; }
.narrow { display: none; } .narrow .line { stroke-width: 1.1; } .narrow .line.agent { stroke-width: 1.5; }
@media (max-width: 44rem) {
  body { padding: 1.4rem .9rem 3rem; }
  h1 { font-size: 1.35rem; }
  .wide { display: none; } .narrow { display: block; }
  table.stack, table.stack tbody, table.stack tr, table.stack td { display: block; width: 100%; }
  table.stack thead { display: none; }
  table.stack tr { padding: .45rem 0; border-bottom: 1px solid var(--rule); }
  table.stack td { border: 0; padding: .05rem .4rem; overflow-wrap: anywhere; }
  table.stack td:empty { display: none; }
  table.stack td[data-label]:not([data-label=""])::before { content: attr(data-label) ": "; color: var(--quiet);
    font-weight: 400; }
}
@media print { body { max-width: none; } h2 { break-after: avoid; } svg { break-inside: avoid; } }
)";

}  // namespace

std::string page(const std::string& title, const std::string& body) {
  return str("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n",
             "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>", escaped(title),
             "</title>\n<style>", kStyle, "</style></head><body>\n<h1>", escaped(title), "</h1>\n", body,
             "</body></html>\n");
}

std::string labelled_cell(const std::string& label, const std::string& text) {
  return str("<td data-label=\"", escaped(label), "\">", escaped(text), "</td>");
}

}  // namespace ristretto::evaluation
