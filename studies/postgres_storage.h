// The PostgreSQL storage, for postgres*.cpp alone: postgres.cpp connects and checks, postgres_read.cpp reads,
// postgres_write.cpp writes.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <pqxx/pqxx>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "platform/text.h"
#include "studies/optuna_tables.h"

namespace ristretto::studies {

// A field's value; another one is Error(incompatible) that names the place where(). The texts live as long as the
// result.
[[noreturn]] void damaged(const std::string& where, const pqxx::field& field, const char* expected);
template <class Where>
std::string_view text(const pqxx::field& field, const Where& where) {
  if (field.is_null()) damaged(where(), field, "a text");
  return {field.c_str(), static_cast<std::size_t>(field.size())};
}
template <class Where>
std::int64_t integer(const pqxx::field& field, const Where& where) {
  const auto value = parse_number<std::int64_t>(field.c_str());
  if (!value) damaged(where(), field, "an integer");
  return *value;
}
template <class Where>
double number(const pqxx::field& field, const Where& where) {
  const auto value = parse_number<double>(field.c_str());
  if (!value) damaged(where(), field, "a number");
  return *value;
}
// Of a column that cannot be anything else.
inline std::int64_t integer(const pqxx::field& field) {
  return integer(field, [] { return std::string("an id or a count"); });
}

// A value as a statement's parameter: its text, or NULL.
struct Bound {
  std::optional<std::string> value;
  const char* c_str() const { return value ? value->c_str() : nullptr; }
};
// Throws Error(usage) for a text that PostgreSQL cannot hold, one with the character NUL.
Bound bound(const std::string& value);
inline Bound bound(const char* value) { return {value}; }
inline Bound bound(std::int64_t value) { return {str(value)}; }
inline Bound bound(double value) { return {str(value)}; }
template <class T>
Bound bound(const std::optional<T>& value) {
  return value ? bound(*value) : Bound{};
}

class PostgresStorage final : public WritableStorage {
 public:
  // wanted: the tables to make where there are none, or nullptr.
  PostgresStorage(const std::string& url, bool writable, const StorageOptions& options, const NewStorage* wanted);

  const StorageInfo& info() const override { return info_; }
  std::vector<std::string> study_names() override;
  Study read_study(const std::string& name) override;
  void refresh(Study& study) override;

  void together(const std::function<void()>& work) override;
  std::int64_t create_study(const std::string& name, const std::vector<Direction>& directions,
                            IfExists if_exists) override;
  void set_study_attribute(std::int64_t study_id, Scope scope, const std::string& key,
                           const formats::Json& value) override;
  Trial create_trial(std::int64_t study_id) override;
  Trial add_trial(std::int64_t study_id, const Trial& content) override;
  std::optional<Trial> claim_waiting(std::int64_t study_id) override;
  void set_param(std::int64_t trial_id, const std::string& name, const agents::Value& value,
                 const agents::Range& distribution) override;
  bool report(std::int64_t trial_id, std::int64_t step, double value) override;
  void set_trial_attribute(std::int64_t trial_id, Scope scope, const std::string& key,
                           const formats::Json& value) override;
  State finish(std::int64_t trial_id, State state, const std::vector<double>& values) override;
  bool beat(std::int64_t trial_id) override;
  std::vector<std::int64_t> fail_stale(std::int64_t study_id, std::int64_t grace_seconds) override;

 private:
  using Deadline = std::chrono::steady_clock::time_point;

  // postgres.cpp
  void connect();
  void check(bool writable, const StorageOptions& options);
  // Inside a catch: throws what the exception means, or returns where the transaction is worth another try.
  void judge(Deadline deadline, const char* aim);

  // postgres_read.cpp, each inside a transaction; where_ names the study.
  std::vector<std::string> all_names();
  Study find_study(const std::string& name);
  // Sets where_; the study's number of objectives. Error(usage) where there is no such study. `lock`: " FOR NO KEY
  // UPDATE" keeps others from adding trials until the end of the transaction.
  std::size_t enter_study(std::int64_t study_id, const char* lock = "");
  void read_directions(Study& study);
  std::vector<Attribute> read_study_attributes(const Study& study, Scope scope);
  // What a refresh changes: attributes; the trials that were unfinished, then those that are newer than the last one,
  // which is all of them for a new study.
  struct News {
    std::vector<Attribute> user_attributes, system_attributes;
    std::vector<Trial> trials;
  };
  News read_news(const Study& study);
  static void apply(News news, Study& study);
  Trial read_head(const pqxx::row& row) const;
  std::string place_of(const Trial& trial) const;
  std::optional<Instant> datetime(const pqxx::field& field, const std::string& where) const;
  // The rows of these trials, which are ascending by id and have none yet.
  void read_contents(const std::vector<Trial*>& trials, std::size_t objectives);
  template <class Row>
  void for_each(const std::vector<Trial*>& trials, const char* columns, const char* table, const char* order, Row row);
  void read_values(const std::vector<Trial*>& trials, std::size_t objectives);
  void read_params(const std::vector<Trial*>& trials);
  void read_reports(const std::vector<Trial*>& trials);
  void read_trial_attributes(const std::vector<Trial*>& trials, Scope scope);
  template <class Where>
  const agents::Range& decoded(std::string_view distribution_json, const Where& where);

  // postgres_write.cpp, each inside a transaction
  struct Head {
    std::int64_t study_id, number;
    State state;
  };
  Head require_unfinished(std::int64_t trial_id);
  void insert_param(std::int64_t study_id, std::int64_t trial_id, const std::string& where, const Parameter& parameter);
  bool insert_report(std::int64_t trial_id, std::int64_t step, double value);
  void insert_values(std::int64_t trial_id, const std::vector<double>& values);
  std::vector<double> last_report(std::int64_t trial_id);
  void upsert(const char* owner, std::int64_t id, Scope scope, const std::string& key, const formats::Json& value);

  // Runs one statement, with $1, $2 ... for the values.
  template <class... Values>
  pqxx::result rows(const std::string& sql, const Values&... values) {
    if constexpr (sizeof...(values) == 0) {
      return transaction_->exec(sql);
    } else {
      return transaction_->exec_params(sql, bound(values).c_str()...);
    }
  }
  template <class... Values>
  std::int64_t execute(const std::string& sql, const Values&... values) {
    return static_cast<std::int64_t>(rows(sql, values...).affected_rows());
  }

  // The whole of `work` in one transaction; again after a deadlock, and with a new connection after the loss of the old
  // one.
  template <class Transaction, class Work>
  auto transact(const char* aim, Work work) {
    if (together_) return work();
    const Deadline deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(busy_timeout_ms_);
    for (;;) {
      try {
        if (!connection_) connect();
        Transaction transaction(*connection_);
        transaction_ = &transaction;
        auto result = work();
        transaction.commit();
        transaction_ = nullptr;
        return result;
      } catch (...) {
        transaction_ = nullptr;
        judge(deadline, aim);
      }
      wait_a_little();
    }
  }
  template <class Work>
  auto reading(Work work) {
    return transact<pqxx::transaction<pqxx::isolation_level::repeatable_read>>("read", work);
  }
  template <class Work>
  auto writing(Work work) {
    return transact<pqxx::work>("write", work);
  }

  std::string connection_string_;
  std::unique_ptr<pqxx::connection> connection_;
  std::unique_ptr<pqxx::quiet_errorhandler> quiet_;  // of connection_, which would print notices
  pqxx::transaction_base* transaction_ = nullptr;
  StorageInfo info_;
  int busy_timeout_ms_;
  bool together_ = false;  // inside together(): its transaction is the one
  bool typed_values_ = false, typed_reports_ = false;
  std::string where_;  // of the study that is being read
  // By their texts: most rows of a name have the same.
  std::map<std::string, agents::Range, std::less<>> decoded_;
  // A study's first distribution of a name, which never changes.
  std::map<std::pair<std::int64_t, std::string>, agents::Range> first_distribution_;
  // datetime_start as we wrote it, by id, of the trials that we claimed: another one is another process's.
  std::unordered_map<std::int64_t, Instant> claims_;
};

}  // namespace ristretto::studies
