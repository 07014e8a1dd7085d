// One reader of formats/ under libFuzzer: RISTRETTO_FUZZ_READER(bytes, origin) may throw Error and nothing else.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "formats/npz.h"
#include "formats/pickle.h"
#include "formats/safetensors.h"
#include "formats/sb3.h"
#include "formats/torch_file.h"
#include "platform/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    ristretto::formats::RISTRETTO_FUZZ_READER(std::string_view(reinterpret_cast<const char*>(data), size), "file");
  } catch (const ristretto::Error&) {
    // what a reader does with a file that it refuses
  }
  return 0;
}
