#include "optuna_files.h"
#include "studies/storage.h"

using namespace ristretto;
using namespace ristretto::studies;

TEST_SUITE("interop") {
  TEST_CASE("study: best trials and distributions of random studies are those of the installed Optuna") {
    const std::string python = RISTRETTO_SOURCE "/.venv-interop/bin/python";
    if (!fs::exists(python)) {
      MESSAGE("skipped: there is no " << python << "; scripts/setup --interop makes it");
      return;
    }
    const Scratch scratch;
    const std::string database = (scratch.path / "random.db").string(), answers = (scratch.path / "answers").string();
    REQUIRE(std::system(
                str(python, " " RISTRETTO_SOURCE "/tests/interop/write_studies.py ", database, " ", answers).c_str()) ==
            0);
    const auto storage = open_storage("sqlite:///" + database);
    std::size_t studies = 0, with_best = 0, params = 0;
    for (const std::string& line : split(bytes_of(answers), '\n')) {
      if (line.empty()) continue;
      const std::vector<std::string> fields = split(line, '\t');
      REQUIRE(fields.size() == 3);
      const Study study = storage->read_study(fields[0]);
      INFO(study.name);
      if (study.directions.size() == 1) {
        const Trial* best = best_trial(study);
        CHECK((best ? str(best->number) : "-") == fields[1]);
        with_best += best ? 1 : 0;
      }
      std::vector<std::string> front;
      for (const Trial* trial : pareto_front(study)) front.push_back(str(trial->number));
      CHECK(join(front, ",") == fields[2]);
      // Each parameter was given its distribution's `high`.
      for (const Trial& trial : study.trials) {
        for (const Parameter& parameter : trial.params) {
          if (const auto* real = std::get_if<agents::FloatRange>(&parameter.distribution)) {
            CHECK(parameter.value == agents::Value(real->high));
          } else {
            CHECK(parameter.value == agents::Value(std::get<agents::IntRange>(parameter.distribution).high));
          }
          ++params;
        }
      }
      ++studies;
    }
    CHECK(studies == 12);
    CHECK(with_best >= 4);
    CHECK(params > 100);
  }
}
