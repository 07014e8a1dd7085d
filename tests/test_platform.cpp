#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <filesystem>
#include <limits>
#include <thread>

#include "platform/atomic_file.h"
#include "platform/clock.h"
#include "platform/error.h"
#include "platform/lock.h"
#include "platform/process.h"
#include "platform/text.h"
#include "temporary_directory.h"

namespace ristretto {
TEST_CASE("text: numbers are shortest and read back equal") {
  CHECK(str("a", 1, 'b', 0.1, true, std::string("c")) == "a1b0.1truec");
  CHECK(str(1e-5) == "1e-05");
  CHECK(str(-std::numeric_limits<double>::infinity()) == "-inf");
  CHECK(parse_number<double>("1e3") == 1000.0);
  CHECK_FALSE(parse_number<double>("1e3x"));
  CHECK_FALSE(parse_number<std::int64_t>(""));
  CHECK_FALSE(parse_number<std::int64_t>("1.5"));
  CHECK(fixed(2.345, 1) == "2.3");
  CHECK(fixed(std::nan(""), 1) == "nan");
  CHECK(with_thousands(-1234567) == "-1,234,567");
  CHECK(with_thousands(123) == "123");
  CHECK(split("a,b,,c", ',') == std::vector<std::string>{"a", "b", "", "c"});
  CHECK(join({"a", "b"}, ", ") == "a, b");
}

TEST_CASE("text: the nearest name has the fewest edits") {
  CHECK(nearest_name("learing_rate", {"gamma", "learning_rate", "clip_range"}) == "learning_rate");
  CHECK(nearest_name("x", {}).empty());
}

TEST_CASE("clock: dates are read with and without zones, and written in UTC") {
  CHECK(parse_utc("1970-01-02") == 86400);
  CHECK(parse_utc("20210404") == 1617494400);
  CHECK(parse_utc("2021-04-04T20:00:00Z") == 1617566400);
  CHECK(parse_utc("2021-04-04 22:00:00+02:00") == 1617566400);
  CHECK(parse_utc("2021-04-04T20:00:00.5") == 1617566400);
  for (const char* bad : {"", "2021", "2021-13-01", "2021-02-29", "2021-04-04T25:00", "2021-04-04X",
                          "2021-04-04T20:00:00+", "2021-04-04T20:00:00Zx"}) {
    CAPTURE(bad);
    CHECK_FALSE(parse_utc(bad));
  }
  CHECK(iso_utc(1617566400) == "2021-04-04T20:00:00Z");
}

TEST_CASE("clock: durations are read and written") {
  CHECK(parse_duration("90") == 90);
  CHECK(parse_duration("3m") == 180);
  CHECK(parse_duration("1.5h") == 5400);
  CHECK(parse_duration("6m30s") == 390);
  CHECK(parse_duration("1h 2m") == 3720);  // as duration_text() says it
  CHECK(parse_duration(" 2h1m ") == 7260);
  for (const char* bad : {"", " ", "m", "-3m", "0", "0m0s", "3x", "nan", "inf", "6m30", "1 h 2", "1..2s", "1 30m",
                          "1 2h", "2h 1 0m", "1 . 5h"}) {
    CAPTURE(bad);
    CHECK_FALSE(parse_duration(bad));
  }
  CHECK(duration_text(7.21) == "7.2s");
  CHECK(duration_text(75) == "1m 15s");
  CHECK(duration_text(3725) == "1h 2m");
  CHECK(duration_text(93784) == "1d 2h");
}

TEST_CASE("atomic_file: a file is whole or as before") {
  const TemporaryDirectory directory;
  const auto path = directory.path / "file";
  write_file_atomically(path, "one");
  write_file_atomically(path, std::string("two\0three", 9));
  CHECK(read_file(path) == std::string("two\0three", 9));
  CHECK(std::distance(std::filesystem::directory_iterator(directory.path), {}) == 1);
  CHECK_THROWS_AS(read_file(directory.path / "none"), Error);
  CHECK_THROWS_AS(read_file(directory.path), Error);
  CHECK_THROWS_AS(read_file(path, 3), Error);
  CHECK_THROWS_AS(write_file_atomically(directory.path / "no" / "file", "x"), Error);
}

TEST_CASE("atomic_file: whether a file can be written is known before, and nothing is made") {
  const TemporaryDirectory directory;
  CHECK_NOTHROW(require_writable(directory.path / "file"));
  CHECK_NOTHROW(require_writable("file"));
  CHECK(std::filesystem::is_empty(directory.path));
  CHECK_THROWS_WITH_AS(require_writable(directory.path), doctest::Contains("Is a directory"), Error);
  CHECK_THROWS_WITH_AS(require_writable(directory.path / "no" / "file"), doctest::Contains("No such file"), Error);
}

TEST_CASE("atomic_file: a line that finds no room is taken back, and said") {
  const TemporaryDirectory directory;
  const auto path = directory.path / "lines";
  append_line(path, "one");
  const pid_t child = fork();
  if (child == 0) {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{10, 10};  // room for the second line, and for 2 bytes of the third
    setrlimit(RLIMIT_FSIZE, &limit);
    try {
      append_line(path, "two");
      append_line(path, "three");
    } catch (const Error& error) {
      const bool said = std::string(error.what()).find("cannot be appended to: File too large") != std::string::npos;
      _exit(error.fault() == Fault::failed && said ? 0 : 1);
    }
    _exit(2);
  }
  int status = 0;
  waitpid(child, &status, 0);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  CHECK(read_file(path) == "one\ntwo\n");
  append_line(path, "three");
  CHECK(read_file(path) == "one\ntwo\nthree\n");
}

TEST_CASE("process: numbers that a float has no full precision for count as 0, in threads that begin later too") {
  setenv("OMP_WAIT_POLICY", "passive", 0);  // else the process would start again
  const auto halved = [] {
    volatile float least = std::numeric_limits<float>::min();
    return least * 0.5f;
  };
  CHECK(halved() != 0);
  float here = 1, later = 1;
  std::thread([&] {  // a setting of its own, which the other tests do not see
    prepare_to_compute(nullptr);
    here = halved();
    std::thread([&] { later = halved(); }).join();
  })
      .join();
#if defined(__SSE2__)
  CHECK(here == 0);
  CHECK(later == 0);
#endif
  CHECK(halved() != 0);
}

TEST_CASE("lock: one process at a time, and the lock goes with its process") {
  const TemporaryDirectory directory;
  const auto path = directory.path / "lock";
  int ready[2];
  REQUIRE(pipe(ready) == 0);
  const pid_t child = fork();
  if (child == 0) {
    const FileLock lock(path, "the test's child");
    [[maybe_unused]] const ssize_t told = write(ready[1], "x", 1);
    sleep(60);
    _exit(0);
  }
  char byte;
  REQUIRE(read(ready[0], &byte, 1) == 1);
  try {
    const FileLock second(path, "the test");
    FAIL("the lock was given twice");
  } catch (const Error& error) {
    CHECK(error.fault() == Fault::busy);
    CHECK(std::string(error.what()).find("the test's child") != std::string::npos);
  }
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  const FileLock third(path, "the test", 5);
}

}  // namespace ristretto
