#include "ft_transformer/weights.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/diagonal.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linalg_qr.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/sign.h>

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstring>

#include "platform/error.h"
#include "platform/text.h"

namespace ristretto::ft_transformer {
namespace {

std::string text_of(at::IntArrayRef sizes) {
  std::vector<std::string> parts;
  for (const std::int64_t size : sizes) parts.push_back(str(size));
  return str("[", join(parts, ", "), "]");
}

std::vector<std::string> names_of(const Weights& weights) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : weights) names.push_back(name);
  return names;
}

struct TypePair {
  formats::DType dtype;
  at::ScalarType type;
};
constexpr TypePair kTypes[] = {
    {formats::DType::boolean, at::kBool},  {formats::DType::uint8, at::kByte},
    {formats::DType::int8, at::kChar},     {formats::DType::int16, at::kShort},
    {formats::DType::int32, at::kInt},     {formats::DType::int64, at::kLong},
    {formats::DType::float16, at::kHalf},  {formats::DType::bfloat16, at::kBFloat16},
    {formats::DType::float32, at::kFloat}, {formats::DType::float64, at::kDouble},
};

}  // namespace

void Weights::add(std::string name, at::Tensor tensor) {
  assert(!contains(name));
  entries_.emplace_back(std::move(name), std::move(tensor));
}

const at::Tensor& Weights::at(const std::string& name) const {
  for (const Entry& entry : entries_) {
    if (entry.first == name) return entry.second;
  }
  const std::string nearest = nearest_name(name, names_of(*this));
  throw Error(Fault::incompatible, str("The weight '", name, "' is missing among ", entries_.size(), " weights."),
              nearest.empty() ? "" : str("the nearest name is '", nearest, "'"));
}

at::Tensor& Weights::at(const std::string& name) {
  return const_cast<at::Tensor&>(static_cast<const Weights&>(*this).at(name));
}

bool Weights::contains(const std::string& name) const {
  return std::any_of(entries_.begin(), entries_.end(), [&](const Entry& entry) { return entry.first == name; });
}

std::vector<at::Tensor> Weights::tensors() const {
  std::vector<at::Tensor> tensors;
  for (const Entry& entry : entries_) tensors.push_back(entry.second);
  return tensors;
}

std::int64_t Weights::parameters() const {
  std::int64_t count = 0;
  for (const Entry& entry : entries_) count += entry.second.numel();
  return count;
}

Weights Weights::to(at::Device device, at::ScalarType type) const {
  Weights copy;
  for (const auto& [name, tensor] : entries_) {
    copy.add(name, tensor.detach().to(device, type, /*non_blocking=*/false, /*copy=*/true));
  }
  return copy;
}

Weights Weights::clone() const {
  Weights copy;
  for (const auto& [name, tensor] : entries_) copy.add(name, tensor.detach().clone());
  return copy;
}

void Weights::require_grad(bool on) {
  for (Entry& entry : entries_) entry.second.requires_grad_(on);
}

void Weights::require_same_shapes(const Weights& expected, const std::string& origin) const {
  const std::vector<std::string> names = names_of(*this);
  for (const auto& [name, tensor] : expected) {
    if (contains(name)) continue;
    const std::string nearest = nearest_name(name, names);
    throw Error(Fault::incompatible, str(origin, ": the weight '", name, "' is missing."),
                nearest.empty() ? "it holds no weights" : str("the nearest name in it is '", nearest, "'"));
  }
  for (const std::string& name : names) {
    if (expected.contains(name)) continue;
    throw Error(Fault::incompatible, str(origin, ": the weight '", name, "' is not one of this architecture's."),
                str("the nearest name expected is '", nearest_name(name, names_of(expected)), "'"));
  }
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    const auto& [name, tensor] = expected.entries_[i];
    if (names[i] != name) {
      throw Error(Fault::incompatible,
                  str(origin, ": weight ", i, " is '", names[i], "', expected '", name, "' there."),
                  "the names are right and their order is not");
    }
    const at::IntArrayRef found = entries_[i].second.sizes();
    if (found != tensor.sizes()) {
      throw Error(
          Fault::incompatible,
          str(origin, ": the weight '", name, "' is ", text_of(found), ", expected ", text_of(tensor.sizes()), "."),
          "it belongs to a network of another size");
    }
  }
}

double relative_distance(const Weights& now, const Weights& before) {
  double change = 0, size = 0;
  for (const auto& [name, tensor] : now) {
    const at::Tensor old = before.at(name).detach().to(at::kCPU, at::kDouble);
    change += (tensor.detach().to(at::kCPU, at::kDouble) - old).square().sum().item<double>();
    size += old.square().sum().item<double>();
  }
  return std::sqrt(change / std::max(size, 1e-300));
}

Weights weights_of(const formats::NamedArrays& arrays) {
  Weights weights;
  for (const auto& [name, array] : arrays) weights.add(name, tensor_of(array));
  return weights;
}

formats::NamedArrays arrays_of(const Weights& weights) {
  formats::NamedArrays arrays;
  for (const auto& [name, tensor] : weights) arrays.emplace_back(name, array_of(tensor));
  return arrays;
}

at::Tensor tensor_of(const formats::Array& array) {
  const auto* pair = std::find_if(std::begin(kTypes), std::end(kTypes),
                                  [&](const TypePair& candidate) { return candidate.dtype == array.dtype; });
  if (pair == std::end(kTypes)) {
    throw Error(Fault::incompatible,
                str("An array of ", formats::name_of(array.dtype), " cannot be a tensor; expected numbers."));
  }
  at::Tensor tensor = at::empty(array.shape, pair->type);
  assert(tensor.nbytes() == array.bytes.size());
  if (!array.bytes.empty()) std::memcpy(tensor.mutable_data_ptr(), array.bytes.data(), array.bytes.size());
  return tensor;
}

formats::Array array_of(const at::Tensor& tensor) {
  const at::Tensor plain = tensor.detach().to(at::kCPU).contiguous();
  const auto* pair = std::find_if(std::begin(kTypes), std::end(kTypes),
                                  [&](const TypePair& candidate) { return candidate.type == plain.scalar_type(); });
  assert(pair != std::end(kTypes));
  formats::Array array;
  array.dtype = pair->dtype;
  array.shape = plain.sizes().vec();
  const auto* first = static_cast<const std::byte*>(plain.const_data_ptr());
  array.bytes.assign(first, first + plain.nbytes());
  return array;
}

void orthogonal_(const at::Tensor& weight, double gain, at::Generator generator) {
  assert(weight.dim() == 2);
  const at::NoGradGuard no_grad;
  const bool wide = weight.size(0) < weight.size(1);
  // QR of a tall matrix in double: its columns are orthogonal to rounding in float, however large the layer is.
  const at::Tensor normal =
      at::randn({std::max(weight.size(0), weight.size(1)), std::min(weight.size(0), weight.size(1))}, generator,
                at::TensorOptions().dtype(at::kDouble));
  const auto [q, r] = at::linalg_qr(normal);
  const at::Tensor uniform = q * at::sign(at::diagonal(r));  // makes the distribution uniform (Mezzadri 2007)
  weight.copy_((wide ? uniform.t() : uniform) * gain);
}

void xavier_uniform_(const at::Tensor& weight, double gain, at::Generator generator) {
  assert(weight.dim() == 2);
  uniform_(weight, gain * std::sqrt(6.0 / static_cast<double>(weight.size(0) + weight.size(1))), generator);
}

void uniform_(const at::Tensor& weight, double bound, at::Generator generator) {
  const at::NoGradGuard no_grad;
  weight.copy_(at::empty(weight.sizes(), weight.options().device(at::kCPU)).uniform_(-bound, bound, generator));
}

}  // namespace ristretto::ft_transformer
