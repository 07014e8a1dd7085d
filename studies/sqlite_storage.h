// The SQLite storage, for sqlite*.cpp alone: sqlite.cpp opens and checks, sqlite_read.cpp reads, sqlite_write.cpp
// writes.
#pragma once

#include <SQLiteCpp/SQLiteCpp.h>

#include <chrono>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "studies/optuna_tables.h"

namespace ristretto::studies {

// A column's value; another type is Error(incompatible) that names the place where(). The texts live until the next
// row.
[[noreturn]] void damaged(const std::string& where, const SQLite::Column& column, const char* expected);
template <class Where>
std::int64_t integer(const SQLite::Column& column, const Where& where) {
  if (!column.isInteger()) damaged(where(), column, "an integer");
  return column.getInt64();
}
template <class Where>
double number(const SQLite::Column& column, const Where& where) {
  if (!column.isFloat() && !column.isInteger()) damaged(where(), column, "a number");
  return column.getDouble();
}
template <class Where>
std::string_view text(const SQLite::Column& column, const Where& where) {
  if (!column.isText()) damaged(where(), column, "a text");
  const char* begin = column.getText();
  return {begin, static_cast<std::size_t>(column.size())};
}

// SQLite's error as ours. `aim` is what the file was opened for: "read", "write".
[[noreturn]] void refuse(const std::string& path, const SQLite::Exception& error, const char* aim);
bool is_busy(const SQLite::Exception& error);

class SqliteStorage final : public WritableStorage {
 public:
  SqliteStorage(const std::string& path, bool writable, const StorageOptions& options);

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
  // sqlite.cpp
  bool has_column(const std::string& table, const std::string& column);
  bool has_table(const std::string& table);
  void require_table(const char* table);
  void check_revision();
  void check_writable();
  void check_columns();

  // sqlite_read.cpp, each inside a transaction; where_ names the study.
  std::vector<std::string> all_names();
  Study find_study(const std::string& name);
  // Sets where_; the study's number of objectives. Error(usage) where there is no such study.
  std::size_t enter_study(std::int64_t study_id);
  void read_directions(Study& study);
  void read_study_attributes(const Study& study, Scope scope, std::vector<Attribute>& attributes);
  void read_news(Study& study);
  Trial read_head(SQLite::Statement& query) const;
  std::string place_of(const Trial& trial) const;
  std::optional<Instant> datetime(const SQLite::Column& column, const Trial& trial) const;
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

  // sqlite_write.cpp, each inside a transaction
  template <class... Values>
  int execute(const std::string& sql, const Values&... values);
  struct Head {
    std::int64_t study_id, number;
    State state;
  };
  Head require_unfinished(std::int64_t trial_id);
  Trial read_trial(std::int64_t trial_id, std::size_t objectives);
  void insert_param(std::int64_t study_id, std::int64_t trial_id, const std::string& where, const Parameter& parameter);
  bool insert_report(std::int64_t trial_id, std::int64_t step, double value);
  void insert_values(std::int64_t trial_id, const std::vector<double>& values);
  std::vector<double> last_report(std::int64_t trial_id);
  void upsert(const char* owner, std::int64_t id, Scope scope, const std::string& key, const formats::Json& value);

  template <class Work>
  auto reading(Work work) {
    if (together_) return work();
    try {
      SQLite::Transaction transaction(database_, SQLite::TransactionBehavior::DEFERRED);
      return work();
    } catch (const SQLite::Exception& error) {
      refuse(info_.path, error, "read");
    }
  }

  // The whole of `work` in one transaction that has the lock from its start; again while another process holds it.
  template <class Work>
  auto writing(Work work) {
    if (together_) return work();
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(busy_timeout_ms_);
    for (;;) {
      try {
        SQLite::Transaction transaction(database_, SQLite::TransactionBehavior::IMMEDIATE);
        auto result = work();
        transaction.commit();
        return result;
      } catch (const SQLite::Exception& error) {
        if (!is_busy(error) || std::chrono::steady_clock::now() >= deadline) refuse(info_.path, error, "write");
      }
      wait_a_little();
    }
  }

  SQLite::Database database_;
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
  std::unordered_map<std::int64_t, std::string> claims_;
};

}  // namespace ristretto::studies
