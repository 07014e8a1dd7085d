// What the rows of Optuna's tables mean and what may be written into them, whatever the database (study.md,
// "Revisions", "Tables", "Value forms"): for sqlite*.cpp and postgres*.cpp.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "studies/storage.h"

namespace ristretto::studies {

inline constexpr std::int64_t kSchemaVersion = 12;  // version_info.schema_version of every revision

struct Table {
  const char* name;
  std::vector<const char*> columns;
};
// Those that are read, with the columns that all revisions have.
const std::vector<Table>& required_tables();

// Throws Error(incompatible) for a revision that is not read, or another schema version.
void require_readable(const StorageInfo& info, std::int64_t schema_version);
// Throws Error(incompatible) for one that is read, but not written.
void require_writable(const StorageInfo& info);
// Throws Error(usage) where the revision of a new storage is none that is written.
void require_writable(const NewStorage& wanted);
// Whether it is the newest revision, with an index on trials(study_id).
bool is_newest(const NewStorage& wanted);
// The version that goes into version_info.
std::string library_version_of(const NewStorage& wanted);
[[noreturn]] void no_table(const StorageInfo& info, const char* table);

// Whether the file's datetimes are in local time.
bool is_local(const StorageInfo& info, const StorageOptions& options);
// In the precision of the tables, so that what is returned is what will be read.
Instant as_stored(Instant instant);
// The texts of both datetimes of a new trial, which are completed where its state needs them and dropped where not.
struct Stamps {
  std::optional<std::string> started, completed;
};
Stamps stamp(Trial& trial, bool local);

// A number and its type, as two columns hold them.
struct Typed {
  std::optional<double> value;
  const char* type;
};
Typed typed(double value);
// The number that a type without a value stands for; nothing for FINITE and for what is no type.
std::optional<double> number_of_type(std::string_view type);

bool is_finished(State state);
void require_directions(const std::string& name, const std::vector<Direction>& directions);
// Of an attribute's value: finite numbers alone.
void require_strict(const std::string& key, const formats::Json& value);
void require_step(std::int64_t step);
// That a trial of this state may have these values: a COMPLETE one as many as objectives, a PRUNED one at most one, no
// NaN.
void require_values(State state, const std::vector<double>& values, std::size_t objectives);
// As far as the arguments of finish() say.
void require_end(State state, const std::vector<double>& values);

[[noreturn]] void unknown_study(const StorageInfo& info, const std::string& name,
                                const std::vector<std::string>& known);
[[noreturn]] void study_exists(const StorageInfo& info, const std::string& name);
[[noreturn]] void other_directions(const std::string& where, const std::vector<Direction>& found,
                                   const std::vector<Direction>& expected);

// A few milliseconds, never the same, so that processes that were turned away together do not come back together.
void wait_a_little();

}  // namespace ristretto::studies
