// What inspect() finds out, step by step; for inspect*.cpp alone.
#pragma once

#include "formats/sb3.h"
#include "platform/error.h"
#include "release/inspect.h"

namespace ristretto::release {

class Inspector {
 public:
  Inspector(const std::filesystem::path& path, const InspectOptions& options);
  Inspection run();

 private:
  using Kind = Finding::Kind;

  void add(Kind kind, const std::string& text, const std::string& hint = {});
  void fault(const std::string& text, const std::string& hint = {}) { add(Kind::fault, text, hint); }
  void unserved(const std::string& text, const std::string& hint) { add(Kind::unserved, text, hint); }
  bool is_mlp() const { return found_.architecture->network == agents::Network::mlp; }

  // Runs `read`; its Error becomes a fault.
  template <class Read>
  bool reading(Read read) {
    try {
      read();
      return true;
    } catch (const Error& error) {
      fault(error.what(), error.hint());
      return false;
    }
  }

  // inspect.cpp: the files, and the trial
  void read_surroundings();
  std::optional<std::filesystem::path> weights_file();
  void read_weights(const std::filesystem::path& file);
  std::int64_t known_heads() const;
  void describe_sb3(const formats::Sb3Policy& policy);
  void complete_trial();
  void compare_parameters(const agents::Architecture& a);
  // What release::load refuses, its consumer refuses or serves as something else.
  void load_as_served();
  void decide();

  // inspect_layout.cpp: the layout that it was trained on, against today's
  void explain_layout();
  void explain_lookback(std::int64_t lookback);
  // Lists of assets that somebody gives: they do not change what the weights were trained on.
  void correct_assets();
  void explain_order();
  void compare_with_today();
  // Why today's trader does not serve what runs.
  void explain_difference();

  const InspectOptions& options_;
  std::filesystem::path directory_;
  Inspection found_;
  Json metadata_;
  bool had_trial_ = false;
  std::string order_from_;
};

}  // namespace ristretto::release
