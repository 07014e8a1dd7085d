#include "agents/named_tensors.h"

#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::agents {
namespace {

std::string text_of(at::IntArrayRef shape) {
  std::string out;
  for (const std::int64_t size : shape) out += str(out.empty() ? "" : ", ", size);
  return str('[', out, ']');
}

}  // namespace

const at::Tensor& saved(const NamedTensors& state, const std::string& name, at::IntArrayRef shape,
                        const std::string& owner) {
  for (const auto& [key, tensor] : state) {
    if (key != name) continue;
    if (tensor.sizes() == shape) return tensor;
    throw Error(Fault::incompatible, str("\"", name, "\" of the saved ", owner, " has shape ", text_of(tensor.sizes()),
                                         ", expected ", text_of(shape)));
  }
  throw Error(Fault::incompatible, str("the saved ", owner, " lacks \"", name, "\""));
}

}  // namespace ristretto::agents
