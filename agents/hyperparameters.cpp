#include "agents/hyperparameters.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <type_traits>

#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::agents {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// "a number with 0 < gamma < 1", "a whole number with ppo_epochs >= 1", "true or false", "linear or exponential".
std::string expected(const Row& row) {
  if (std::holds_alternative<bool Hyperparameters::*>(row.member)) return "true or false";
  if (std::holds_alternative<std::string Hyperparameters::*>(row.member)) {
    std::vector<std::string> names;
    for (const Value& choice : std::get<Choices>(row.range).choices) names.push_back(text_of(choice));
    return join(names, " or ");
  }
  const bool whole = std::holds_alternative<std::int64_t Hyperparameters::*>(row.member);
  const Bounds& bounds = row.bounds;
  const bool below = bounds.low > -kInfinity, above = bounds.high < kInfinity;
  std::string text = whole ? "a whole number" : "a number";
  if (below && above) {
    return str(text, " with ", bounds.low, bounds.low_excluded ? " < " : " <= ", row.name,
               bounds.high_excluded ? " < " : " <= ", bounds.high);
  }
  if (below) return str(text, bounds.low_excluded ? " above " : " of at least ", bounds.low);
  return text;
}

[[noreturn]] void refuse(const Row& row, const std::string& found) {
  throw Error(Fault::usage, str(row.name, " is ", found.empty() ? "empty" : found, ", expected ", expected(row)));
}

bool within(const Bounds& bounds, double value) {
  if (!std::isfinite(value)) return false;
  return (bounds.low_excluded ? value > bounds.low : value >= bounds.low) &&
         (bounds.high_excluded ? value < bounds.high : value <= bounds.high);
}

// Integers that a double holds exactly, so that the conversion below is defined and changes nothing.
constexpr double kLargestWhole = 9007199254740992.0;  // 2^53

std::optional<std::int64_t> whole(const Value& value) {
  if (const auto* integer = std::get_if<std::int64_t>(&value)) return *integer;
  const auto* real = std::get_if<double>(&value);
  if (!real || std::trunc(*real) != *real || std::abs(*real) > kLargestWhole) return std::nullopt;
  return static_cast<std::int64_t>(*real);
}

std::optional<double> number(const Value& value) {
  if (const auto* real = std::get_if<double>(&value)) return *real;
  if (const auto* integer = std::get_if<std::int64_t>(&value)) return static_cast<double>(*integer);
  return std::nullopt;
}

bool one_of(const Range& range, const std::string& text) {
  const std::vector<Value>& choices = std::get<Choices>(range).choices;
  return std::find(choices.begin(), choices.end(), Value(text)) != choices.end();
}

Row ft_only(Row row) {
  row.ft_only = true;
  return row;
}
Row context_only(Row row) {
  row.context_only = true;
  return row;
}
Row resumable(Row row) {
  row.resumable = true;
  return row;
}
Row unread(Row row) {
  row.unread = true;
  return row;
}

Row swept(Range range, Row row) {
  row.swept = std::move(range);
  return row;
}

std::vector<Row> make_table() {
  using H = Hyperparameters;
  const Status used = Status::used, untested = Status::untested, inert = Status::inert;
  const Choices either{{false, true}};
  const Bounds positive{0, kInfinity, true}, not_negative{0, kInfinity}, count{1, kInfinity}, share{0, 1};
  const Bounds proper_share{0, 1, false, true};
  const Bounds exponent{-60, 60};  // 2^x stays an ordinary float
  const auto whole_numbers = [](std::initializer_list<int> numbers) {
    Choices choices;
    for (const int n : numbers) choices.choices.emplace_back(std::int64_t{n});
    return choices;
  };
  // name, member, range, bounds, status in a study of generation cappuccino, help
  return {
      swept(FloatRange{1e-5, 3e-3, 0, true}, {"learning_rate", &H::learning_rate, FloatRange{1e-6, 1e-3, 0, true},
                                              positive, used, "of Adam, at the start"}),
      swept(whole_numbers({1024, 2048, 4096, 8192, 16384}),
            {"batch_size", &H::batch_size, whole_numbers({2048, 4096, 8192, 65536, 98304, 131072}), count, used,
             "samples of one minibatch"}),
      swept(FloatRange{0.95, 0.995, 0.005}, {"gamma", &H::gamma, FloatRange{0.88, 0.99, 0.01}, Bounds{0, 1, true, true},
                                             used, "discount of a bar; 1/(1-gamma) bars are looked ahead"}),
      swept(FloatRange{0.9, 0.99, 0.01}, {"gae_lambda", &H::gae_lambda, FloatRange{0.9, 0.99, 0.01}, share, untested,
                                          "of the generalised advantage estimate"}),
      swept(FloatRange{0.1, 0.4, 0.05}, {"clip_range", &H::clip_range, FloatRange{0.1, 0.4, 0.05},
                                         Bounds{0, 1, true, true}, untested, "how far PPO's ratio may leave 1"}),
      swept(FloatRange{1e-6, 1e-2, 0, true}, {"entropy_coef", &H::entropy_coef, FloatRange{1e-5, 1e-2, 0, true},
                                              not_negative, untested, "weight of the entropy in the loss"}),
      swept(FloatRange{0.25, 1, 0.05}, {"value_loss_coef", &H::value_loss_coef, FloatRange{0.25, 1, 0.05}, not_negative,
                                        untested, "weight of the critic's loss"}),
      swept(FloatRange{0.3, 2, 0.1}, {"max_grad_norm", &H::max_grad_norm, FloatRange{0.3, 2, 0.1}, positive, untested,
                                      "the gradient's norm is cut to it"}),
      swept(IntRange{3, 10},
            {"ppo_epochs", &H::ppo_epochs, IntRange{4, 16}, count, untested, "passes over each rollout"}),
      {"kl_target", &H::kl_target, FloatRange{0.005, 0.03, 0, true}, not_negative, untested,
       "an update stops above 1.5 times it; 0: never"},
      {"adam_epsilon", &H::adam_epsilon, FloatRange{1e-9, 1e-5, 0, true}, positive, untested, "epsilon of Adam"},
      {"use_lr_schedule",
       &H::use_lr_schedule,
       either,
       {},
       untested,
       "lower the learning rate over the run; false: constant"},
      {"lr_schedule_type",
       &H::lr_schedule_type,
       Choices{{std::string("linear"), std::string("exponential")}},
       {},
       untested,
       "linear or exponential"},
      {"lr_schedule_factor", &H::lr_schedule_factor, FloatRange{0.5, 0.95, 0.05}, share, untested,
       "the learning rate's share at the end"},
      swept(FloatRange{-0.5, 0.5, 0.25}, {"log_std_init", &H::log_std_init, FloatRange{-0.5, 0.5, 0.25}, Bounds{-10, 3},
                                          untested, "logarithm of the policy's first standard deviation"}),
      swept(IntRange{32, 256, 1, true}, {"base_target_step", &H::base_target_step, IntRange{256, 1024}, count, used,
                                         "horizon: steps of each portfolio between updates"}),
      resumable({"base_break_step", &H::base_break_step, IntRange{30000, 200000, 5000}, count, used,
                 "environment steps of the run; --steps and --time-budget override it"}),
      {"minibatches", &H::minibatches, IntRange{1, 32, 1, true}, count, untested, "of one rollout"},

      {"encoder",
       &H::encoder,
       Choices{{std::string("auto"), std::string("mlp"), std::string("ft_transformer"), std::string("market_context")}},
       {},
       used,
       "the network, whatever use_ft_encoder says; auto: as that says"},
      {"use_ft_encoder", &H::use_ft_encoder, either, {}, used, "the network is an FT-Transformer, otherwise an MLP"},
      context_only({"market_tokens",
                    &H::market_tokens,
                    Choices{{std::string("asset"), std::string("feature")}},
                    {},
                    used,
                    "one token an asset and lag, or one a feature of them"}),
      swept(IntRange{64, 1024, 64},
            {"net_dimension", &H::net_dimension, IntRange{512, 4096, 256}, count, used, "width of the hidden layers"}),
      ft_only(swept(whole_numbers({16, 32, 64}), {"ft_d_token", &H::ft_d_token, whole_numbers({16, 32, 64, 96}), count,
                                                  used, "width of a token; a multiple of ft_n_heads"})),
      ft_only(
          swept(IntRange{1, 3}, {"ft_n_blocks", &H::ft_n_blocks, IntRange{1, 3}, count, used, "transformer blocks"})),
      ft_only(swept(whole_numbers({2, 4, 8}), {"ft_n_heads", &H::ft_n_heads, whole_numbers({2, 4, 8}), count, used,
                                               "attention heads of a block"})),
      ft_only({"ft_key_bias",
               &H::ft_key_bias,
               either,
               {},
               used,
               "a learnable bias of each token's key: of networks that convert gave new tokens"}),
      unread(ft_only({"ft_dropout", &H::ft_dropout, FloatRange{0, 0.3, 0.05}, Bounds{0, 0}, inert,
                      "always 0: in PPO the ratio must be 1 on the first minibatch"})),
      ft_only({"ft_use_pretrained", &H::ft_use_pretrained, either, {}, used, "start from pre-trained encoder weights"}),
      ft_only({"ft_freeze_encoder", &H::ft_freeze_encoder, either, {}, used, "leave the pre-trained encoder as it is"}),

      swept(IntRange{1, 5}, {"lookback", &H::lookback, IntRange{1, 5}, count, used, "bars that are observed"}),
      {"norm_cash_exp", &H::norm_cash_exp, IntRange{-16, -10}, exponent, used, "cash is observed times 2^x"},
      {"norm_stocks_exp", &H::norm_stocks_exp, IntRange{-10, -5}, exponent, used, "holdings are observed times 2^x"},
      {"norm_tech_exp", &H::norm_tech_exp, IntRange{-18, -12}, exponent, used,
       "the market's features are observed times 2^x"},
      {"norm_reward_exp", &H::norm_reward_exp, IntRange{-13, -7}, exponent, used, "the reward is times 2^x"},
      {"norm_action", &H::norm_action, IntRange{1000, 25000, 1000}, positive, used,
       "the largest order is initial capital / norm_action"},
      swept(FloatRange{0, 1, 0.1}, {"time_decay_floor", &H::time_decay_floor, FloatRange{0, 0.5, 0.05}, share, used,
                                    "the reward's weight at an episode's end; 1: no decay"}),
      {"min_cash_reserve", &H::min_cash_reserve, FloatRange{0.05, 0.3, 0.05}, proper_share, used,
       "share of the initial capital that is not spent"},
      swept(FloatRange{0, 0.1, 0.01}, {"concentration_penalty", &H::concentration_penalty, FloatRange{0, 0.1, 0.01},
                                       not_negative, used, "of one asset above 40 %, and of too few assets"}),
      {"max_drawdown_penalty", &H::max_drawdown_penalty, FloatRange{0, 0.1, 0.01}, not_negative, inert,
       "of a deepening drawdown"},
      {"volatility_penalty", &H::volatility_penalty, FloatRange{0, 0.05, 0.01}, not_negative, inert,
       "of a return far from the mean of the last 24"},
      {"trailing_stop_pct", &H::trailing_stop_pct, FloatRange{0, 0.3, 0.05}, proper_share, used,
       "a holding this far under its peak is sold; 0: never"},
      {"max_position_fraction", &H::max_position_fraction, FloatRange{0.1, 1, 0.1}, share, used,
       "the largest share of the account in one asset; 0: no limit"},

      resumable(unread({"worker_num", &H::worker_num, IntRange{2, 16}, not_negative, inert,
                        "of the existing trainer; does nothing here"})),
      resumable(unread({"thread_num", &H::thread_num, IntRange{4, 15}, not_negative, inert,
                        "of the existing trainer; does nothing here"})),
      resumable(unread({"eval_time_gap", &H::eval_time_gap, IntRange{30, 120, 30}, not_negative, inert,
                        "of the existing trainer; does nothing here"})),
  };
}

}  // namespace

std::string text_of(const Value& value) {
  return std::visit(
      [](const auto& held) -> std::string {
        if constexpr (std::is_same_v<std::decay_t<decltype(held)>, std::monostate>) {
          return "None";
        } else {
          return str(held);
        }
      },
      value);
}

const char* name_of(Status status) {
  switch (status) {
    case Status::used:
      return "used";
    case Status::untested:
      return "untested";
    case Status::inert:
      break;
  }
  return "inert";
}

const std::vector<Row>& table() {
  static const std::vector<Row> rows = make_table();
  return rows;
}

const Row* find_row(const std::string& name) {
  for (const Row& row : table()) {
    if (name == row.name) return &row;
  }
  return nullptr;
}

std::string network_of(const Hyperparameters& values) {
  if (values.encoder != "auto") return values.encoder;
  return values.use_ft_encoder ? "ft_transformer" : "mlp";
}

bool has_attention(const Hyperparameters& values) { return network_of(values) != "mlp"; }

bool reads(const Hyperparameters& values, const Row& row) {
  if (row.context_only) return network_of(values) == "market_context";
  return !row.ft_only || has_attention(values);
}

Value get(const Hyperparameters& values, const Row& row) {
  return std::visit([&](auto member) -> Value { return values.*member; }, row.member);
}

void set(Hyperparameters& values, const Row& row, const Value& value) {
  if (const auto* real = std::get_if<double Hyperparameters::*>(&row.member)) {
    const std::optional<double> found = number(value);
    if (!found || !within(row.bounds, *found)) refuse(row, text_of(value));
    values.*(*real) = *found;
  } else if (const auto* integer = std::get_if<std::int64_t Hyperparameters::*>(&row.member)) {
    const std::optional<std::int64_t> found = whole(value);
    if (!found || !within(row.bounds, static_cast<double>(*found))) refuse(row, text_of(value));
    values.*(*integer) = *found;
  } else if (const auto* boolean = std::get_if<bool Hyperparameters::*>(&row.member)) {
    const bool* found = std::get_if<bool>(&value);
    if (!found) refuse(row, text_of(value));
    values.*(*boolean) = *found;
  } else {
    const std::string* found = std::get_if<std::string>(&value);
    if (!found || !one_of(row.range, *found)) refuse(row, text_of(value));
    values.*std::get<std::string Hyperparameters::*>(row.member) = *found;
  }
}

Value parse_value(const Row& row, const std::string& text) {
  Value value = text;
  if (std::holds_alternative<bool Hyperparameters::*>(row.member)) {
    if (text == "true" || text == "True" || text == "1") value = true;
    if (text == "false" || text == "False" || text == "0") value = false;
  } else if (!std::holds_alternative<std::string Hyperparameters::*>(row.member)) {
    if (const auto integer = parse_number<std::int64_t>(text)) {
      value = *integer;
    } else if (const auto real = parse_number<double>(text)) {
      value = *real;
    }
  }
  Hyperparameters scratch;
  set(scratch, row, value);
  return get(scratch, row);
}

void check(const Hyperparameters& values) {
  Hyperparameters scratch;
  for (const Row& row : table()) set(scratch, row, get(values, row));
  if (values.use_lr_schedule && values.lr_schedule_type == "exponential" && values.lr_schedule_factor == 0) {
    throw Error(Fault::usage,
                "lr_schedule_factor is 0 with lr_schedule_type exponential, expected a share above 0: an exponential "
                "decay never reaches 0",
                "give --lr-schedule-factor 0.05, or --lr-schedule-type linear");
  }
  if (!has_attention(values)) return;
  if (values.ft_d_token % values.ft_n_heads != 0) {
    throw Error(Fault::usage, str("ft_d_token is ", values.ft_d_token, ", expected a multiple of ft_n_heads (",
                                  values.ft_n_heads, "): each head takes an equal part of a token"));
  }
  if (values.ft_key_bias && network_of(values) != "ft_transformer") {
    throw Error(Fault::usage, str("ft_key_bias is true, and the encoder is ", network_of(values)),
                "only an ft_transformer has it: give --ft-key-bias false");
  }
  if (values.ft_freeze_encoder && !values.ft_use_pretrained) {
    throw Error(Fault::usage,
                "ft_freeze_encoder is true and ft_use_pretrained is false: a random encoder would be frozen",
                "add --ft-use-pretrained true, or leave --ft-freeze-encoder out");
  }
}

bool Hyperparameters::operator==(const Hyperparameters& other) const {
  return std::all_of(table().begin(), table().end(),
                     [&](const Row& row) { return get(*this, row) == get(other, row); });
}

void require_resumable(const Hyperparameters& old_values, const Hyperparameters& new_values) {
  std::vector<std::string> differences;
  for (const Row& row : table()) {
    const Value before = get(old_values, row), now = get(new_values, row);
    if (row.resumable || before == now) continue;
    differences.push_back(str(row.name, " was ", text_of(before), " and is ", text_of(now)));
  }
  if (differences.empty()) return;
  throw Error(Fault::incompatible,
              str("the checkpoint was made with other hyperparameters, expected the same: ", join(differences, ", ")),
              "resume with the old values, or start a new run in another directory");
}

}  // namespace ristretto::agents
