// An inspection as lines for people and as a document.
#include <algorithm>

#include "platform/text.h"
#include "release/inspect.h"

namespace ristretto::release {
namespace {

constexpr std::size_t kNamesShown = 6;

const char* name_of(Finding::Kind kind) {
  switch (kind) {
    case Finding::Kind::note:
      return "note";
    case Finding::Kind::corrected:
      return "corrected";
    case Finding::Kind::unserved:
      return "not served";
    case Finding::Kind::fault:
      return "fault";
  }
  return "";
}

std::string some_of(const std::vector<std::string>& names) {
  const std::vector<std::string> first(names.begin(), names.begin() + std::min(names.size(), kNamesShown));
  return str(names.size(), " (", join(first, " "), names.size() > kNamesShown ? " ...)" : ")");
}

std::string set_of(const env::Layout& layout) {
  for (const std::string& name : env::feature_set_names()) {
    if (env::feature_set(name) == layout.features) return name;
  }
  return join(layout.features, " ");
}

std::string verdict_of(const Inspection& inspection) {
  if (inspection.served_by == "cappuccino") return "served by today's paper trader and by evaluate";
  if (inspection.served_by == "ristretto") return "served by its manifest (--serving ristretto)";
  const bool runs = std::none_of(inspection.findings.begin(), inspection.findings.end(),
                                 [](const Finding& f) { return f.kind == Finding::Kind::fault; });
  return runs ? "not served by today's environment; it runs (--generate-command)" : "does not run";
}

}  // namespace

std::vector<std::string> lines_of(const Inspection& inspection) {
  std::vector<std::string> out{str(inspection.path.string(), ": ", verdict_of(inspection))};
  const auto add = [&](const std::string& name, const std::string& text) {
    std::string line = "  " + name;
    line.resize(std::max<std::size_t>(line.size() + 1, 14), ' ');
    out.push_back(line + text);
  };
  if (const auto& a = inspection.architecture) {
    std::string network = str(inspection.kind, ", ", agents::name_of(a->network), " ", a->observation, " -> ", a->width,
                              " -> ", a->actions);
    if (a->network == agents::Network::ft_transformer) {
      network += str(", tokens of ", a->encoder.d_token, ", ", a->encoder.blocks, " blocks, ",
                     a->encoder.heads == 0 ? std::string("unknown") : str(a->encoder.heads), " heads");
    }
    if (a->network == agents::Network::market_context) {
      const auto& context = a->context;
      network +=
          str(", one token ", context.tokens == ft_transformer::MarketTokens::asset ? "an asset and lag" : "a feature",
              " of ", context.d_token, ", ", context.blocks, " blocks, ", context.heads,
              " heads; weights shared by all assets: any number of them is served, each of ", context.features,
              " features, lookback ", context.lookback);
    }
    add("network", network);
    std::vector<std::string> fits;
    for (const LayoutFit& fit : inspection.fits) fits.push_back(text_of(fit));
    add("fits", fits.empty() ? str(a->observation, " values fit nothing that is known") : join(fits, "; "));
  }
  if (const auto& layout = inspection.layout) {
    add("layout", str(set_of(*layout), ", lookback ", layout->lookback, ", scales 2^", layout->scales.cash_exp, " 2^",
                      layout->scales.stocks_exp, " 2^", layout->scales.tech_exp, ", by ", inspection.layout_from));
    add("assets", join(layout->assets, " "));
  }
  if (const auto& trial = inspection.trial) {
    add("trial", str(trial->number, trial->value ? str(" (value ", *trial->value, ")") : std::string(), ", from ",
                     inspection.trial_from));
    std::vector<std::string> parameters;
    for (const auto& [name, value] : trial->parameters.items()) parameters.push_back(str(name, "=", line_of(value)));
    add("parameters", join(parameters, " "));
  }
  if (const auto& manifest = inspection.manifest) {
    add("manifest", str(text_field(*manifest, "name"), " ", text_field(*manifest, "version"), " ",
                        text_field(*manifest, "status")));
    const auto conversion = manifest->find("conversion");
    if (conversion != manifest->end() && conversion->is_object() && conversion->contains("from")) {
      const Json proof = conversion->value("proof", Json());
      const bool identical = proof.is_object() && proof.value("identical", Json()) == Json(true);
      add("converted", str(text_field(*conversion, "kind"), ", from ", text_field(conversion->at("from"), "path"),
                           identical ? ", trades the same as it did" : ", does not trade the same"));
    }
  }
  const Difference& d = inspection.difference;
  if (!d.missing.empty()) add("lacks", some_of(d.missing));
  if (!d.unknown.empty()) add("has more", some_of(d.unknown));
  if (!d.moved.empty()) add("order", str(some_of(d.moved), " stand in other columns"));
  for (const Finding& finding : inspection.findings) {
    add(name_of(finding.kind), finding.text);
    if (!finding.hint.empty()) add("", "hint: " + finding.hint);
  }
  return out;
}

Json json_of(const Inspection& inspection) {
  Json out = {{"path", inspection.path.string()},
              {"kind", inspection.kind},
              {"servable", inspection.servable()},
              {"served_by", inspection.servable() ? Json(inspection.served_by) : Json()},
              {"architecture", nullptr},
              {"fits", Json::array()},
              {"layout", nullptr},
              {"trial", nullptr},
              {"manifest", nullptr}};
  if (inspection.architecture) {
    out["architecture"] = section_of(*inspection.architecture);
    if (inspection.architecture->distribution == agents::Distribution::gaussian) {
      out["architecture"]["distribution"] = "gaussian";
    }
  }
  for (const LayoutFit& fit : inspection.fits) {
    out["fits"].push_back({{"features", fit.features.empty() ? Json() : Json(fit.features)},
                           {"feature_count", fit.feature_count},
                           {"assets", fit.assets},
                           {"lookback", fit.lookback}});
  }
  if (inspection.layout) {
    out["layout"] = section_of(*inspection.layout);
    out["layout"]["from"] = inspection.layout_from;
  }
  if (const auto& trial = inspection.trial) {
    out["trial"] = {{"number", trial->number},
                    {"value", trial->value ? Json(*trial->value) : Json()},
                    {"params", trial->parameters},
                    {"user_attrs", trial->user_attributes},
                    {"from", inspection.trial_from}};
  }
  if (const auto& manifest = inspection.manifest) {
    out["manifest"] = {{"name", text_field(*manifest, "name")},
                       {"version", text_field(*manifest, "version")},
                       {"status", text_field(*manifest, "status")}};
  }
  out["difference"] = {{"missing", inspection.difference.missing},
                       {"unknown", inspection.difference.unknown},
                       {"moved", inspection.difference.moved}};
  out["findings"] = Json::array();
  for (const Finding& finding : inspection.findings) {
    out["findings"].push_back({{"kind", name_of(finding.kind)}, {"text", finding.text}, {"hint", finding.hint}});
  }
  return out;
}

}  // namespace ristretto::release
