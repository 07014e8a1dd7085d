#include "studies/postgres.h"

#include <algorithm>
#include <set>

#include "studies/datetime.h"
#include "studies/postgres_schema.h"
#include "studies/postgres_storage.h"

namespace ristretto::studies {
namespace {

constexpr const char* kExpected = "postgresql://user:password@host:port/dbname";

// "%41" is "A"; in a query '+' is a space. Nothing where '%' stands before no two hexadecimal digits.
std::optional<std::string> decoded_percent(std::string_view text, bool plus = false) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      plain += plus && text[i] == '+' ? ' ' : text[i];
      continue;
    }
    int code = 0;
    const std::string_view digits = text.substr(i + 1, 2);
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), code, 16);
    if (digits.size() != 2 || error != std::errc{} || end != digits.data() + 2) return std::nullopt;
    plain += static_cast<char>(code);
    i += 2;
  }
  return plain;
}

std::string one_line(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](char c) { return c == '\n' || c == '\t'; }, ' ');
  text.erase(text.find_last_not_of(' ') + 1);
  return text;
}

// libpq's message as a part of a sentence.
std::string reason(const std::exception& error) { return str("(", one_line(error.what()), ")"); }

}  // namespace

bool is_postgres(const std::string& url) {
  return url.substr(0, url.find("://")).substr(0, url.find('+')) == "postgresql" &&
         url.find("://") != std::string::npos;
}

std::string connection_string(const std::string& url, bool writable, const StorageOptions& options) {
  const auto refuse = [&](const char* what) -> std::string {
    throw Error(Fault::usage, str("the storage '", without_password(url), "' ", what, ", expected ", kExpected),
                "write @ : / ? # % of a name or password as %40 %3A %2F %3F %23 %25");
  };
  std::string_view rest = std::string_view(url).substr(url.find("://") + 3);
  std::string text;
  const auto add_decoded = [&](std::string_view key, const std::string& value) {
    text += str(key, "='");
    for (const char c : value) {
      if (c == '\0') refuse("holds the character NUL");
      if (c == '\'' || c == '\\') text += '\\';
      text += c;
    }
    text += "' ";
  };
  const auto add = [&](std::string_view key, std::string_view value, bool plus = false) {
    const std::optional<std::string> plain = decoded_percent(value, plus);
    if (!plain) refuse("has a % before no two hexadecimal digits");
    add_decoded(key, *plain);
  };
  add_decoded("application_name", "ristretto");
  add_decoded("client_encoding", "UTF8");
  // A server that is gone is noticed within a minute.
  add_decoded("connect_timeout", "10");
  add_decoded("tcp_user_timeout", "30000");
  add_decoded("keepalives_idle", "20");
  add_decoded("keepalives_interval", "5");
  add_decoded("keepalives_count", "4");

  // A user's name ends at the first ':' or, without a password, at the last '@' before the path.
  const std::size_t colon = rest.find_first_of(":/?");
  std::size_t at =
      colon != std::string_view::npos && rest[colon] == ':' ? rest.find('@', colon) : std::string_view::npos;
  if (at != std::string_view::npos) {
    add("user", rest.substr(0, colon));
    add("password", rest.substr(colon + 1, at - colon - 1));
  } else if (at = rest.substr(0, colon).rfind('@'); at != std::string_view::npos) {
    add("user", rest.substr(0, at));
  }
  if (at != std::string_view::npos) rest.remove_prefix(at + 1);
  const std::size_t question = rest.find('?');
  const std::string_view query = question == std::string_view::npos ? "" : rest.substr(question + 1);
  rest = rest.substr(0, question);
  const std::size_t slash = rest.find('/');
  if (slash != std::string_view::npos && slash + 1 < rest.size())
    add_decoded("dbname", std::string(rest.substr(slash + 1)));
  std::string_view host = rest.substr(0, slash);
  if (host.find('@') != std::string_view::npos) refuse("has a second '@' before its host");
  std::string_view port;
  if (!host.empty() && host[0] == '[') {  // IPv6
    const std::size_t bracket = host.find(']');
    if (bracket == std::string_view::npos) refuse("has a host with '[' and no ']'");
    port = host.substr(bracket + 1);
    host = host.substr(1, bracket - 1);
    if (!port.empty() && port[0] != ':') refuse("has a host with text behind ']'");
  } else if (const std::size_t end = host.find(':'); end != std::string_view::npos) {
    port = host.substr(end);
    host = host.substr(0, end);
  }
  if (!host.empty()) add("host", host);
  if (port.size() > 1) {
    if (!parse_number<std::uint16_t>(port.substr(1))) refuse("has a port that is no number up to 65535");
    add("port", port.substr(1));
  }
  // What reading and writing rely on, wherever the server's settings differ.
  std::string session =
      str("-c datestyle=ISO,YMD -c extra_float_digits=3 -c client_min_messages=warning -c lock_timeout=",
          options.busy_timeout_ms, writable ? "" : " -c default_transaction_read_only=on");
  for (const std::string& pair : split(query, '&')) {
    if (pair.empty()) continue;
    const std::size_t equals = pair.find('=');
    if (equals == std::string::npos) refuse("has an option without '='");
    const std::string_view value = std::string_view(pair).substr(equals + 1);
    if (pair.substr(0, equals) == "options") {
      session += str(" ", decoded_percent(value, true).value_or(""));
    } else {
      add(std::string_view(pair).substr(0, equals), value, true);
    }
  }
  add_decoded("options", session);
  return text;
}

void damaged(const std::string& where, const pqxx::field& field, const char* expected) {
  throw Error(Fault::incompatible,
              str(where, " is ", field.is_null() ? "NULL" : str("'", field.c_str(), "'"), ", expected ", expected));
}

Bound bound(const std::string& value) {
  if (value.find('\0') != std::string::npos) {
    throw Error(Fault::usage, "a name or text holds the character NUL, which PostgreSQL cannot store");
  }
  return {value};
}

PostgresStorage::PostgresStorage(const std::string& url, bool writable, const StorageOptions& options,
                                 const NewStorage* wanted)
    : connection_string_(connection_string(url, writable, options)), busy_timeout_ms_(options.busy_timeout_ms) {
  info_.url = info_.path = without_password(url);
  try {
    connect();
  } catch (const std::exception& error) {
    throw Error(Fault::failed, str("cannot connect to ", info_.path, " ", reason(error)),
                "check the URL, and that the server runs and has this user and database");
  }
  if (wanted) {
    writing([&] {
      create_schema(*transaction_, *wanted);
      return true;
    });
  }
  reading([&] {
    check(writable, options);
    return true;
  });
}

void PostgresStorage::connect() {
  connection_ = std::make_unique<pqxx::connection>(connection_string_);
  quiet_ = std::make_unique<pqxx::quiet_errorhandler>(*connection_);
}

void PostgresStorage::check(bool writable, const StorageOptions& options) {
  std::map<std::string, std::set<std::string>> columns;
  const pqxx::result found = rows(
      "SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid WHERE a.attnum > 0 AND "
      "NOT "
      "a.attisdropped AND c.relkind IN ('r', 'p') AND pg_table_is_visible(c.oid) AND c.relnamespace <> "
      "'pg_catalog'::regnamespace");
  for (const auto& row : found) columns[row[0].c_str()].insert(row[1].c_str());
  const auto require_table = [&](const char* table) {
    if (columns.count(table) > 0) return;
    if (columns.count("studies") == 0) {
      throw Error(Fault::incompatible,
                  str(info_.path, " is a database without the table 'studies', expected Optuna's"));
    }
    no_table(info_, table);
  };
  require_table("alembic_version");
  require_table("version_info");
  const pqxx::result revision = rows("SELECT version_num FROM alembic_version");
  if (revision.empty()) {
    throw Error(Fault::incompatible, str(info_.path, " names no schema revision, expected one in alembic_version"),
                str("optuna storage upgrade --storage ", info_.url));
  }
  info_.revision = text(revision[0][0], [&] { return str(info_.path, ": the schema revision"); });
  const pqxx::result version = rows("SELECT schema_version, library_version FROM version_info");
  if (version.empty()) {
    throw Error(Fault::incompatible, str(info_.path, ": version_info is empty, expected Optuna's version"));
  }
  info_.library_version = text(version[0][1], [&] { return str(info_.path, ": the library version"); });
  require_readable(info_, integer(version[0][0], [&] { return str(info_.path, ": version_info.schema_version"); }));
  for (const Table& table : required_tables()) {
    require_table(table.name);
    for (const char* column : table.columns) {
      if (columns[table.name].count(column) > 0) continue;
      throw Error(Fault::incompatible, str(info_.path, ": the table '", table.name, "' has no column '", column, "'"));
    }
  }
  if (writable) {
    require_writable(info_);
    require_table("trial_heartbeats");
    const pqxx::result may = rows(
        "SELECT has_table_privilege('trials', 'INSERT') AND has_table_privilege('trials', 'UPDATE') AND NOT "
        "pg_is_in_recovery()");
    if (std::string_view(may[0][0].c_str()) != "t") {
      throw Error(Fault::failed, str(info_.path, " may not be written by this user"),
                  "check the user's privileges, and that the server is no standby");
    }
  }
  typed_values_ = columns["trial_values"].count("value_type") > 0;
  typed_reports_ = columns["trial_intermediate_values"].count("intermediate_value_type") > 0;
  info_.local_datetimes = is_local(info_, options);
}

void PostgresStorage::judge(Deadline deadline, const char* aim) {
  const bool late = std::chrono::steady_clock::now() >= deadline;
  const auto disconnect = [&] {
    quiet_.reset();
    connection_.reset();
  };
  const auto lost = [&](const std::exception& error) {
    disconnect();
    if (!late) return;
    throw Error(Fault::busy,
                str("the connection to ", info_.path, " was lost ", reason(error), ", expected to ", aim, " it"),
                "try again when the server is back");
  };
  try {
    throw;
  } catch (const pqxx::in_doubt_error& error) {
    disconnect();
    throw Error(Fault::busy,
                str("the connection to ", info_.path, " was lost at the end of a write, which may or may not be done"),
                "read again what is there before it is repeated");
  } catch (const pqxx::broken_connection& error) {
    lost(error);
  } catch (const pqxx::transaction_rollback& error) {  // deadlocks
    if (late) {
      throw Error(Fault::busy,
                  str(info_.path, " stayed in use by other processes ", reason(error), ", expected to ", aim, " it"),
                  "try again later");
    }
  } catch (const pqxx::sql_error& error) {
    const std::string& code = error.sqlstate();
    // 57P01 to 57P03: the server shuts down, crashed, or starts up.
    if (!connection_ || !connection_->is_open() || code.compare(0, 4, "57P0") == 0) return lost(error);
    if (code == "55P03") {
      if (!late) return;
      throw Error(Fault::busy, str(info_.path, " stayed locked by another process, expected to ", aim, " it"),
                  "try again later");
    }
    // 22: values that its types cannot hold
    throw Error(code.compare(0, 2, "22") == 0 ? Fault::usage : Fault::failed,
                str(info_.path, ": PostgreSQL says '", one_line(error.what()), "', expected to ", aim, " it"));
  } catch (const pqxx::failure& error) {
    throw Error(Fault::failed, str(info_.path, ": libpqxx says '", one_line(error.what()), "'"));
  }
}

std::unique_ptr<Storage> open_postgres(const std::string& url, const StorageOptions& options) {
  return std::make_unique<PostgresStorage>(url, false, options, nullptr);
}

std::unique_ptr<WritableStorage> open_postgres_for_writing(const std::string& url, const StorageOptions& options) {
  return std::make_unique<PostgresStorage>(url, true, options, nullptr);
}

std::unique_ptr<WritableStorage> create_postgres(const std::string& url, const NewStorage& wanted,
                                                 const StorageOptions& options) {
  require_writable(wanted);
  return std::make_unique<PostgresStorage>(url, true, options, &wanted);
}

}  // namespace ristretto::studies
