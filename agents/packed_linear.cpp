#include "agents/packed_linear.h"

#include <ATen/core/List.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <optional>
#include <string_view>

#include "ft_transformer/product.h"

namespace ristretto::agents {
namespace {

constexpr std::int64_t kFewColumns = 16;        // in or out: below, the product is no work
constexpr std::int64_t kFewWeights = 1L << 16;  // weights: below, packing is dearer than what it gives
constexpr std::int64_t kManyWeights =
    1L << 18;                              // of them, few rows pay too: below, the call is dearer than the product
constexpr std::int64_t kManyRows = 512;    // always pay, and what the packed order is chosen for
constexpr std::int64_t kRowsInAll = 2048;  // rows: the same

using Pack = at::Tensor(const at::Tensor&, std::optional<std::int64_t>);
using Linear = at::Tensor(const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&, std::string_view,
                          c10::List<std::optional<at::Scalar>>, std::optional<std::string_view>);

// What torch.compile calls for linear layers on CPUs. LibTorch declares them in no header; one that was built without
// oneDNN, or where they take other arguments, has none for us.
struct Operators {
  std::optional<c10::TypedOperatorHandle<Pack>> pack;
  std::optional<c10::TypedOperatorHandle<Linear>> linear;
  bool bf16 = false;  // not on processors without the instructions for it

  Operators() {
    const auto find = [](const char* name, const char* schema) {
      std::optional<c10::OperatorHandle> found = c10::Dispatcher::singleton().findSchema({name, ""});
      if (found && (c10::toString(found->schema()) != schema || !found->hasKernelForDispatchKey(c10::DispatchKey::CPU)))
        found.reset();
      return found;
    };
    const auto packing = find("mkldnn::_reorder_linear_weight",
                              "mkldnn::_reorder_linear_weight(Tensor self, int? batch_size=None) -> Tensor Y");
    const auto product = find("mkldnn::_linear_pointwise",
                              "mkldnn::_linear_pointwise(Tensor X, Tensor W, Tensor? B, str attr, Scalar?[] scalars, "
                              "str? algorithm) -> Tensor Y");
    if (!packing || !product) return;
    pack = packing->typed<Pack>();
    linear = product->typed<Linear>();
    try {
      pack->call(at::zeros({kFewColumns, kFewColumns}, at::kBFloat16), kManyRows);
      bf16 = true;
    } catch (const c10::Error&) {
    }
  }
};

const Operators& operators() {
  static const Operators found;
  return found;
}

// Whether MKL, where LibTorch has it, runs the best kernels that it has: on other makers' processors it does not.
bool mkl_is_at_home() {
#if defined(__x86_64__)
  return __builtin_cpu_is("intel");
#else
  return false;
#endif
}

at::Tensor plain(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, bool relu) {
  if (bias.defined()) return ft_transformer::affine(x, weight, bias, relu);
  const at::Tensor y = ft_transformer::product(x, weight.t());
  return relu ? y.relu_() : y;
}

}  // namespace

PackedLinear::PackedLinear(const at::Tensor& weight, const at::Tensor& bias, std::int64_t rows)
    : weight_(weight), bias_(bias) {
  const bool bf16 = weight.scalar_type() == at::kBFloat16;
  const bool pays = rows == kWithoutEnd || (rows >= kRowsInAll && (bf16 || !mkl_is_at_home()));
  const bool type = weight.scalar_type() == at::kFloat || (bf16 && operators().bf16);
  packs_ = weight.is_cpu() && type && std::min(weight.size(0), weight.size(1)) >= kFewColumns &&
           weight.numel() >= kFewWeights && pays && operators().pack;
}

at::Tensor PackedLinear::operator()(const at::Tensor& x, bool relu) const {
  const bool pays = x.size(0) >= kManyRows || weight_.numel() >= kManyWeights;
  const bool tiles = weight_.scalar_type() == at::kFloat &&
                     ft_transformer::on_tiles(x.size(0), weight_.size(1), weight_.size(0));  // faster still
  if (!packs_ || !pays || tiles) return plain(x, weight_, bias_, relu);
  if (!packed_.defined()) packed_ = operators().pack->call(weight_.contiguous(), kManyRows);
  const std::optional<at::Tensor> bias = bias_.defined() ? std::optional(bias_) : std::nullopt;
  return operators().linear->call(x, packed_, bias, relu ? "relu" : "none", c10::List<std::optional<at::Scalar>>(), "");
}

}  // namespace ristretto::agents
