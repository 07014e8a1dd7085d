// Weights: ordered name -> tensor; the names are those of the files (deployments.md).
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <utility>
#include <vector>

#include "formats/array.h"

namespace ristretto::ft_transformer {

class Weights {
 public:
  using Entry = std::pair<std::string, at::Tensor>;

  void add(std::string name, at::Tensor tensor);        // at the end; the name must be new
  const at::Tensor& at(const std::string& name) const;  // throws Error(incompatible) naming the missing weight
  at::Tensor& at(const std::string& name);
  bool contains(const std::string& name) const;
  std::size_t size() const { return entries_.size(); }
  auto begin() const { return entries_.begin(); }
  auto end() const { return entries_.end(); }
  std::vector<at::Tensor> tensors() const;  // in order
  std::int64_t parameters() const;          // number of numbers

  // Copies that share nothing with these, detached and with gradients off; `to` on `device` as `type`.
  Weights to(at::Device device, at::ScalarType type) const;
  Weights clone() const;
  void require_grad(bool on);  // of every tensor; they must be leaves
  // Throws Error(incompatible) where names, order or shapes differ, naming the first difference; `origin` names the
  // file.
  void require_same_shapes(const Weights& expected, const std::string& origin) const;

 private:
  std::vector<Entry> entries_;
};

// |w - w'| / |w'| over all numbers, in float64. The names are the same; shapes too.
double relative_distance(const Weights& now, const Weights& before);

// From and to arrays of files; CPU, contiguous, copies. tensor_of throws Error(incompatible) for text.
Weights weights_of(const formats::NamedArrays& arrays);
formats::NamedArrays arrays_of(const Weights& weights);
at::Tensor tensor_of(const formats::Array& array);
formats::Array array_of(const at::Tensor& tensor);

// Initial values, in place. `generator` is one of the CPU, wherever `weight` [out, in] is, so that they are equal on
// all devices. Orthogonal: rows (or columns, if those are fewer) orthogonal and of length `gain` (Saxe et al. 2014).
// Xavier: U(-b, b), b = gain sqrt(6 / (in + out)) (Glorot and Bengio 2010).
void orthogonal_(const at::Tensor& weight, double gain, at::Generator generator);
void xavier_uniform_(const at::Tensor& weight, double gain, at::Generator generator);
void uniform_(const at::Tensor& weight, double bound, at::Generator generator);  // U(-bound, bound)

}  // namespace ristretto::ft_transformer
