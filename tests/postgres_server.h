// A PostgreSQL server of the tests' own: started from Debian's package in a temporary directory at the first use, and
// stopped with the test. The system's cluster, if there is one, is not touched.
#pragma once

#include <arpa/inet.h>
#include <pwd.h>

#include <pqxx/pqxx>

#include "storage_workers.h"

namespace ristretto::studies {

class PostgresServer {
 public:
  // The one of this process, nullptr and a message where PostgreSQL is not installed.
  static PostgresServer* get() {
    static const std::string programs = installed_programs();
    if (programs.empty()) {
      MESSAGE("skipped: there is no PostgreSQL server in /usr/lib/postgresql; scripts/setup --interop installs it");
      return nullptr;
    }
    static PostgresServer server(programs);
    return &server;
  }

  // A new, empty database: its URL, by the socket.
  std::string new_database() {
    const std::string name = str("d", ++databases_);
    ask(socket_url("postgres"), "CREATE DATABASE " + name);
    return socket_url(name);
  }
  std::string socket_url(const std::string& database) const {
    return str("postgresql+psycopg2://optuna@/", database, "?host=", scratch_.path.string());
  }
  // By TCP, where the server asks for the password, which is kPassword.
  std::string network_url(const std::string& database, const std::string& password) const {
    return str("postgresql://optuna:", password, "@127.0.0.1:", port_, "/", database);
  }
  static constexpr const char* kPassword = "s3cret:word/";

  // libpq's, of a URL by the socket.
  std::string plain_url(const std::string& url) const {
    const std::size_t begin = url.find("@/") + 2;
    return str("host=", scratch_.path.string(), " user=optuna dbname=", url.substr(begin, url.find('?') - begin));
  }
  // The first field of the first row, "" where there is none.
  std::string ask(const std::string& url, const std::string& sql) const {
    pqxx::connection connection(plain_url(url));
    const pqxx::quiet_errorhandler quiet(connection);
    pqxx::nontransaction transaction(connection);
    const pqxx::result result = transaction.exec(sql);
    return result.empty() ? "" : result[0][0].c_str();
  }

  int run(const std::string& program, std::vector<std::string> arguments, const std::string& out = "/dev/null") const {
    arguments.insert(arguments.begin(), programs_ + program);
    return Process(arguments, {}, out).wait();
  }
  void start() {
    server_.emplace(as_owner({"postgres", "-D", data_, "-k", scratch_.path.string(), "-c", "listen_addresses=127.0.0.1",
                              "-p", str(port_), "-c", "fsync=off", "-c", "synchronous_commit=off", "-c",
                              "max_connections=60", "-c", "shared_buffers=16MB"}));
    for (int i = 0; i < 300; ++i) {
      if (run("pg_isready", {"-q", "-h", scratch_.path.string(), "-p", str(port_)}) == 0) return;
      sleep_ms(100);
    }
    FAIL("PostgreSQL does not start: " << bytes_of(scratch_.path / "log"));
  }
  void stop() {
    server_->kill(SIGINT);
    server_.reset();
  }

 private:
  explicit PostgresServer(const std::string& programs)
      : scratch_(fs::exists("/dev/shm") ? "/dev/shm" : fs::temp_directory_path()), programs_(programs) {
    if (geteuid() == 0) {
      const passwd* nobody = getpwnam("nobody");
      REQUIRE(nobody != nullptr);
      REQUIRE(chown(scratch_.path.c_str(), nobody->pw_uid, nobody->pw_gid) == 0);
    }
    const int probe = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    REQUIRE(bind(probe, reinterpret_cast<sockaddr*>(&address), size) == 0);
    REQUIRE(getsockname(probe, reinterpret_cast<sockaddr*>(&address), &size) == 0);
    port_ = ntohs(address.sin_port);
    close(probe);
    REQUIRE(as_owner({"initdb", "-D", data_, "-U", "optuna", "--auth-local=trust", "--auth-host=scram-sha-256", "-E",
                      "UTF8", "--locale=C", "--no-sync"})
                .wait() == 0);
    setenv("PGPORT", str(port_).c_str(), 1);  // of the socket, for URLs without a port; also Python's
    start();
    ask(socket_url("postgres"), str("ALTER USER optuna PASSWORD '", kPassword, "'"));
  }
  ~PostgresServer() {
    if (server_) stop();
  }

  static std::string installed_programs() {
    std::string newest;
    std::error_code none;
    for (const auto& version : fs::directory_iterator("/usr/lib/postgresql", none)) {
      const std::string programs = (version.path() / "bin/").string();
      if (fs::exists(programs + "initdb") && programs > newest) newest = programs;
    }
    return newest;
  }
  // The server refuses to run as root. It ends with the thread that starts it, however that ends.
  Process as_owner(std::vector<std::string> command) const {
    command[0] = programs_ + command[0];
    std::vector<std::string> whole = {"/usr/bin/setpriv", "--pdeathsig", "INT"};
    if (geteuid() == 0) whole.insert(whole.end(), {"--reuid", "nobody", "--regid", "nogroup", "--clear-groups"});
    whole.insert(whole.end(), command.begin(), command.end());
    return Process(whole, {}, (scratch_.path / "log").string(), true);
  }

  Scratch scratch_;
  std::string programs_, data_ = (scratch_.path / "data").string();
  int port_ = 0, databases_ = 0;
  std::optional<Process> server_;
};

}  // namespace ristretto::studies
