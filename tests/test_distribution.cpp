#include "optuna_files.h"
#include "studies/distribution.h"

using namespace ristretto;
using namespace ristretto::studies;

TEST_CASE("distribution: today's, legacy and abbreviated forms, high on the last grid point") {
  const auto read = [](const char* text) { return formats::write_json(range_json(read_distribution(text, "here"))); };
  const std::string real = R"({"name": "FloatDistribution", "attributes": {"step": )";
  const std::string whole = R"({"name": "IntDistribution", "attributes": {"log": )";
  CHECK(read(R"({"name": "UniformDistribution", "attributes": {"low": 0, "high": 2}})") ==
        real + R"(null, "low": 0.0, "high": 2.0, "log": false}})");
  CHECK(read(R"({"name": "LogUniformDistribution", "attributes": {"low": 1e-6, "high": 2}})") ==
        real + R"(null, "low": 1e-06, "high": 2.0, "log": true}})");
  CHECK(read(R"({"name": "DiscreteUniformDistribution", "attributes": {"low": 0.88, "high": 0.995, "q": 0.01}})") ==
        real + R"(0.01, "low": 0.88, "high": 0.99, "log": false}})");
  CHECK(read(R"({"type": "float", "low": 0.1, "high": 0.7, "step": 0.2})") ==
        real + R"(0.2, "low": 0.1, "high": 0.7, "log": false}})");
  CHECK(read(R"({"type": "float", "low": 0.1, "high": 0.69, "step": 0.2})") ==
        real + R"(0.2, "low": 0.1, "high": 0.5, "log": false}})");
  CHECK(read(R"({"type": "float", "low": -1e-06, "high": 2e-06, "step": 1e-06})") ==
        real + R"(1e-06, "low": -1e-06, "high": 2e-06, "log": false}})");
  CHECK(read(R"({"name": "IntUniformDistribution", "attributes": {"low": -10, "high": 10, "step": 3}})") ==
        whole + R"(false, "step": 3, "low": -10, "high": 8}})");
  CHECK(read(R"({"name": "IntLogUniformDistribution", "attributes": {"low": 1, "high": 9.0, "step": 1}})") ==
        whole + R"(true, "step": 1, "low": 1, "high": 9}})");
  CHECK(read(R"({"type": "int", "low": 1, "high": 9, "log": true})") ==
        whole + R"(true, "step": 1, "low": 1, "high": 9}})");
  CHECK(read(R"({"type": "categorical", "choices": [1, 1.0, "x", null]})") ==
        R"({"name": "CategoricalDistribution", "attributes": {"choices": [1, 1.0, "x", null]}})");
  for (const char* text :
       {R"({"type": "float", "low": 2, "high": 1})", R"({"type": "float", "low": 2})", R"({"type": "gamma"})",
        R"({"type": "float", "low": 0, "high": 1, "log": true})",
        R"({"type": "float", "low": 0, "high": 1, "step": 0})", R"({"type": "int", "low": 0.5, "high": 1})",
        R"({"type": "int", "low": 0, "high": 4, "step": 0})", R"({"type": "int", "low": 0, "high": 4, "log": true})",
        R"({"type": "int", "low": NaN, "high": 4})", R"({"type": "categorical", "choices": []})",
        R"({"type": "categorical", "choices": [[1]]})", R"({"name": "FloatDistribution"})", R"({"low": 0, "high": 1})",
        R"([])", R"(3)", R"({"type": "float", "low)"}) {
    INFO(text);
    CHECK(caught([&] { read_distribution(text, "here"); }).fault == Fault::incompatible);
    CHECK(contains(caught([&] { read_distribution(text, "here"); }).text, "here"));
  }
}
