// THE table of hyperparameters: a struct with defaults, and one row a field. Command line, study, validation,
// manifest and --help are loops over the rows; a default or a range is written once. Free of torch.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace ristretto::agents {

// A parameter's external value (a categorical's choice, not its index).
using Value = std::variant<std::monostate, bool, std::int64_t, double, std::string>;
// As it is shown and read: None, true, 3, 0.1, text.
std::string text_of(const Value& value);

// Where values may come from; the three kinds of Optuna (study.md, "Distributions").
struct FloatRange {
  double low, high;
  double step = 0;  // 0: continuous
  bool log = false;
};
struct IntRange {
  std::int64_t low, high;
  std::int64_t step = 1;
  bool log = false;
};
struct Choices {
  std::vector<Value> choices;
};
using Range = std::variant<FloatRange, IntRange, Choices>;

struct Hyperparameters {
  // The learner.
  double learning_rate = 1e-3;
  std::int64_t batch_size = 2048;  // samples of one minibatch
  // Positions are built over 30 bars and pay over the next 24 to 48: on planted signals 0.98 and 0.98 reach 91-99 % of
  // the best threshold policy where 0.97 and 0.95 reach 83-89 % (tests/test_trading_signals.cpp).
  double gamma = 0.98;
  double gae_lambda = 0.98;
  double clip_range = 0.2;
  double entropy_coef = 0;
  double value_loss_coef = 0.5;
  double max_grad_norm = 0.5;
  std::int64_t ppo_epochs = 5;
  double kl_target = 0;  // 0: no early stop
  double adam_epsilon = 1e-5;
  bool use_lr_schedule = true;
  std::string lr_schedule_type = "linear";
  double lr_schedule_factor = 0;  // the learning rate's share at the end
  double log_std_init = 0.5;
  std::int64_t base_target_step = 64;      // horizon: steps of each portfolio between updates
  std::int64_t base_break_step = 2000000;  // environment steps
  std::int64_t minibatches = 4;            // of one rollout
  // The network.
  std::string encoder = "auto";  // see network_of()
  bool use_ft_encoder = false;
  std::string market_tokens = "asset";
  std::int64_t net_dimension = 256;  // W
  std::int64_t ft_d_token = 32;
  std::int64_t ft_n_blocks = 2;
  std::int64_t ft_n_heads = 4;
  bool ft_key_bias = false;
  double ft_dropout = 0;
  bool ft_use_pretrained = false;
  bool ft_freeze_encoder = false;
  // The environment.
  std::int64_t lookback = 1;
  std::int64_t norm_cash_exp = -11;
  std::int64_t norm_stocks_exp = -8;
  std::int64_t norm_tech_exp = -14;
  std::int64_t norm_reward_exp = -9;
  double norm_action = 100;
  double time_decay_floor = 1;  // 1: no decay of the reward over the episode
  double min_cash_reserve = 0;
  double concentration_penalty = 0;
  double max_drawdown_penalty = 0;
  double volatility_penalty = 0;
  double trailing_stop_pct = 0;
  double max_position_fraction = 0.30;
  // Of the existing trainer only; they do nothing here.
  std::int64_t worker_num = 0;
  std::int64_t thread_num = 0;
  std::int64_t eval_time_gap = 0;

  bool operator==(const Hyperparameters& other) const;
};

// What a study's value of this row means (study.md, last section).
enum class Status {
  used,      // reached the agent: taken over
  untested,  // was sampled without effect on the study's value: our default stays, --use-untested takes it
  inert,     // does nothing (max_drawdown_penalty, volatility_penalty: unless --activate-inert)
};
const char* name_of(Status status);

// What `set` and `check` accept of a number: low < or <= value < or <= high. Wider than the range that a sweep samples.
struct Bounds {
  double low, high;
  bool low_excluded = false, high_excluded = false;
};

struct Row {
  using Member = std::variant<double Hyperparameters::*, std::int64_t Hyperparameters::*, bool Hyperparameters::*,
                              std::string Hyperparameters::*>;
  const char* name;  // the study's and the command line's (there with dashes)
  Member member;
  Range range;           // what existing studies sampled; values outside it are accepted within bounds
  Bounds bounds;         // of numbers; a text must be one of the range's choices
  Status in_cappuccino;  // in a study of that generation
  const char* help;
  bool ft_only = false;             // read by networks with attention only: for an MLP an option of it is an error
  bool context_only = false;        // likewise, by market_context only
  bool resumable = false;           // may change between a checkpoint and its resume
  bool unread = false;              // nothing in this program reads it: inert in every generation of studies
  std::optional<Range> swept = {};  // where `sweep` looks unless it is told otherwise; none: it keeps the value
};

const std::vector<Row>& table();
// "mlp", "ft_transformer" or "market_context": `encoder`, or where that is auto what use_ft_encoder says, as existing
// studies do.
std::string network_of(const Hyperparameters& values);
bool has_attention(const Hyperparameters& values);  // of ft_d_token, ft_n_blocks, ft_n_heads
// Whether the network that `values` choose reads the row.
bool reads(const Hyperparameters& values, const Row& row);
// nullptr where there is none.
const Row* find_row(const std::string& name);
Value get(const Hyperparameters& values, const Row& row);
// Throws Error(usage) naming row, value and what is expected (type, and validity such as 0 < gamma < 1).
void set(Hyperparameters& values, const Row& row, const Value& value);
// "0.97", "true", "3e-4" as the row's type; throws Error(usage).
Value parse_value(const Row& row, const std::string& text);
// Relations between rows (ft_d_token % ft_n_heads == 0 ...). Throws Error(usage).
void check(const Hyperparameters& values);

// Throws Error(incompatible) naming every row that differs and may not.
void require_resumable(const Hyperparameters& old_values, const Hyperparameters& new_values);

}  // namespace ristretto::agents
