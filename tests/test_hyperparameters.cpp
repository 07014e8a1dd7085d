#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <set>

#include "agents/hyperparameters.h"
#include "platform/error.h"

using namespace ristretto;
using namespace ristretto::agents;

namespace {

// The number of fields of an aggregate: the most initialisers that it takes.
struct Anything {
  template <class T>
  operator T() const;
};
template <class T, class... Fields>
constexpr std::size_t fields_of() {
  if constexpr (requires { T{Fields{}..., Anything{}}; }) {
    return fields_of<T, Fields..., Anything>();
  } else {
    return sizeof...(Fields);
  }
}

const Row& row_of(const char* name) {
  const Row* row = find_row(name);
  REQUIRE(row != nullptr);
  return *row;
}

// A valid value other than `value`; only ft_dropout has none.
Value another(const Row& row) {
  const Value value = get({}, row);
  if (const bool* flag = std::get_if<bool>(&value)) return !*flag;
  if (const auto* integer = std::get_if<std::int64_t>(&value)) return *integer + 1;
  if (const double* number = std::get_if<double>(&value)) return *number != 0 ? *number / 2 : 0.5;
  const std::vector<Value>& choices = std::get<Choices>(row.range).choices;
  return choices.front() == value ? choices.back() : choices.front();
}

std::string message_of(const Row& row, const Value& value) {
  Hyperparameters values;
  try {
    set(values, row, value);
  } catch (const Error& error) {
    CHECK(error.fault() == Fault::usage);
    CHECK(values == Hyperparameters{});
    return error.what();
  }
  return "accepted";
}

Fault fault_of(const Hyperparameters& values) {
  try {
    check(values);
  } catch (const Error& error) {
    return error.fault();
  }
  return Fault::failed;
}

}  // namespace

TEST_CASE("hyperparameters: every field of the struct has one row, and every row a name of its own") {
  CHECK(table().size() == fields_of<Hyperparameters>());
  std::set<std::string> names;
  for (const Row& row : table()) {
    names.insert(row.name);
    CHECK(find_row(row.name) == &row);
    CHECK(std::string(row.help).size() > 0);
  }
  CHECK(names.size() == table().size());
  CHECK(find_row("no_such_row") == nullptr);
}

TEST_CASE("hyperparameters: no two rows share a member, so each change of a row changes equality") {
  const Hyperparameters defaults;
  for (const Row& row : table()) {
    if (std::string(row.name) == "ft_dropout") continue;  // has one valid value
    Hyperparameters changed;
    INFO(row.name);
    set(changed, row, another(row));
    CHECK(get(changed, row) != get(defaults, row));
    CHECK_FALSE(changed == defaults);
  }
}

TEST_CASE("hyperparameters: the defaults are valid") {
  check({});
  Hyperparameters negative_zero;
  negative_zero.entropy_coef = -0.0;
  CHECK(negative_zero == Hyperparameters{});
}

TEST_CASE(
    "hyperparameters: numbers outside their bounds, and values of another type, name row, value and expectation") {
  CHECK(message_of(row_of("gamma"), 1.0) == "gamma is 1, expected a number with 0 < gamma < 1");
  CHECK(message_of(row_of("gamma"), 0.0) == "gamma is 0, expected a number with 0 < gamma < 1");
  CHECK(message_of(row_of("gae_lambda"), 1.0) == "accepted");
  CHECK(message_of(row_of("gae_lambda"), 1.5) == "gae_lambda is 1.5, expected a number with 0 <= gae_lambda <= 1");
  CHECK(message_of(row_of("learning_rate"), 0.0) == "learning_rate is 0, expected a number above 0");
  CHECK(message_of(row_of("ppo_epochs"), std::int64_t{0}) == "ppo_epochs is 0, expected a whole number of at least 1");
  CHECK(message_of(row_of("ppo_epochs"), 2.5) == "ppo_epochs is 2.5, expected a whole number of at least 1");
  CHECK(message_of(row_of("ft_dropout"), 0.1) == "ft_dropout is 0.1, expected a number with 0 <= ft_dropout <= 0");
  CHECK(message_of(row_of("gamma"), true) == "gamma is true, expected a number with 0 < gamma < 1");
  CHECK(message_of(row_of("gamma"), Value{}) == "gamma is None, expected a number with 0 < gamma < 1");
  CHECK(message_of(row_of("use_lr_schedule"), std::int64_t{1}) == "use_lr_schedule is 1, expected true or false");
  CHECK(message_of(row_of("lr_schedule_type"), "cosine") ==
        "lr_schedule_type is cosine, expected linear or exponential");
  const double infinity = std::numeric_limits<double>::infinity();
  CHECK(message_of(row_of("kl_target"), infinity) == "kl_target is inf, expected a number of at least 0");
  CHECK(message_of(row_of("log_std_init"), std::nan("")) != "accepted");
  CHECK(message_of(row_of("batch_size"), infinity) != "accepted");
  CHECK(message_of(row_of("batch_size"), 1e300) != "accepted");
}

TEST_CASE("hyperparameters: an integer stored as a whole double, and a double given as an integer, are accepted") {
  Hyperparameters values;
  set(values, row_of("norm_cash_exp"), -12.0);
  set(values, row_of("norm_action"), std::int64_t{19000});
  CHECK(values.norm_cash_exp == -12);
  CHECK(values.norm_action == 19000.0);
}

TEST_CASE("hyperparameters: text is read as the row's type") {
  CHECK(parse_value(row_of("gamma"), "0.97") == Value(0.97));
  CHECK(parse_value(row_of("learning_rate"), "3e-4") == Value(3e-4));
  CHECK(parse_value(row_of("norm_action"), "100") == Value(100.0));
  CHECK(parse_value(row_of("base_break_step"), "2e6") == Value(std::int64_t{2000000}));
  CHECK(parse_value(row_of("norm_cash_exp"), "-12") == Value(std::int64_t{-12}));
  CHECK(parse_value(row_of("use_ft_encoder"), "true") == Value(true));
  CHECK(parse_value(row_of("use_ft_encoder"), "False") == Value(false));
  CHECK(parse_value(row_of("lr_schedule_type"), "exponential") == Value("exponential"));
  for (const char* text : {"", "0.9.7", "0.97 ", "x", "1,000"})
    CHECK_THROWS_AS(parse_value(row_of("gamma"), text), Error);
  CHECK_THROWS_AS(parse_value(row_of("use_ft_encoder"), "yes!"), Error);
  for (const Row& row : table()) {
    INFO(row.name);
    CHECK(parse_value(row, text_of(get({}, row))) == get({}, row));
  }
}

TEST_CASE("hyperparameters: values are shown as None, true, 3, 0.1 and text") {
  CHECK(text_of(Value{}) == "None");
  CHECK(text_of(true) == "true");
  CHECK(text_of(std::int64_t{3}) == "3");
  CHECK(text_of(0.1) == "0.1");
  CHECK(text_of("linear") == "linear");
}

TEST_CASE("hyperparameters: check refuses rows that contradict each other") {
  Hyperparameters values;
  values.ft_d_token = 30;
  check(values);  // an MLP does not read it
  values.use_ft_encoder = true;
  CHECK(fault_of(values) == Fault::usage);
  values.ft_d_token = 32;
  check(values);
  values.ft_freeze_encoder = true;
  CHECK(fault_of(values) == Fault::usage);
  values.ft_use_pretrained = true;
  check(values);
  values.lr_schedule_type = "exponential";
  CHECK(fault_of(values) == Fault::usage);
  values.lr_schedule_factor = 0.05;
  check(values);
  values.gamma = 1;  // set around the row
  CHECK(fault_of(values) == Fault::usage);
}

TEST_CASE("hyperparameters: a resume may change the length of the run, and names every other difference") {
  Hyperparameters before, now;
  now.base_break_step = 1;
  now.worker_num = 3;
  require_resumable(before, now);
  now.gamma = 0.95;
  now.ft_n_blocks = 3;
  try {
    require_resumable(before, now);
    FAIL("accepted");
  } catch (const Error& error) {
    CHECK(error.fault() == Fault::incompatible);
    CHECK(std::string(error.what()) ==
          "the checkpoint was made with other hyperparameters, expected the same: gamma was 0.98 and is 0.95, "
          "ft_n_blocks was 2 and is 3");
  }
}
