#include "ft_transformer/product.h"

#include <ATen/Parallel.h>
#include <ATen/cpu/Utils.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cstdint>

#include "ft_transformer/linear.h"
#include "ft_transformer/product_kernel.h"
#include "platform/instruction_sets.h"

namespace ristretto::ft_transformer {
namespace {

// Below, packing is dearer than what tiles give: rows of each thread, columns, and numbers to sum over.
constexpr std::int64_t kFewRows = 128, kFewColumns = 128, kFewNumbers = 128;

std::int64_t threads() { return at::in_parallel_region() ? 1 : at::get_num_threads(); }

struct Rest {
  bool add = false;             // to what is there
  const float* bias = nullptr;  // [n], which is added too; or null
  bool relu = false;            // and of the sum max(0, .)
};

#if defined(__x86_64__)
std::int64_t ratio_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

constexpr std::int64_t kRows = 128;  // of one thread at once: packed, 384 KiB that stay in its second cache

bool has_tiles() {
  static const bool has = has_amx_bf16() && at::cpu::init_amx();  // the second asks the system for their registers
  return has;
}

// x [lines, depth], of which one axis must lie side by side.
amx::Factor factor_of(const at::Tensor& x) {
  const bool across = x.stride(1) != 1;
  return {x.const_data_ptr<float>(), x.size(0), x.size(1), x.stride(across ? 1 : 0), across};
}

at::Tensor with_a_dense_axis(const at::Tensor& x) { return x.stride(0) == 1 || x.stride(1) == 1 ? x : x.contiguous(); }

at::Tensor packed_room(std::int64_t lines, std::int64_t depth) {
  return at::empty({amx::packed_size(lines, std::min(depth, amx::kDepth))}, at::kBFloat16);
}
std::uint16_t* numbers_of(const at::Tensor& room) { return static_cast<std::uint16_t*>(room.mutable_data_ptr()); }

// c [m, n] = a b.
void multiply(const at::Tensor& c, const at::Tensor& of_a, const at::Tensor& of_b, const Rest& rest) {
  TORCH_INTERNAL_ASSERT(c.stride(1) == 1 && c.scalar_type() == at::kFloat);
  TORCH_CHECK(of_a.size(1) == of_b.size(0) && c.size(0) == of_a.size(0) && c.size(1) == of_b.size(1), "a product of ",
              of_a.sizes(), " and ", of_b.sizes(), " into ", c.sizes());
  const at::Tensor dense_a = with_a_dense_axis(of_a), dense_b = with_a_dense_axis(of_b);
  const amx::Factor a = factor_of(dense_a), b = factor_of(dense_b.t());
  const std::int64_t panels = ratio_up(b.lines, amx::kPanel);
  // Blocks of rows in whole panels, as many for each thread.
  const std::int64_t share = ratio_up(a.lines, threads());
  const std::int64_t rows = ratio_up(ratio_up(share, ratio_up(share, kRows)), amx::kPanel) * amx::kPanel;
  const std::int64_t blocks = ratio_up(a.lines, rows);
  const at::Tensor right = packed_room(b.lines, b.depth);
  std::uint16_t* const packed_b = numbers_of(right);
  float* const to = c.mutable_data_ptr<float>();
  for (std::int64_t from = 0; from < a.depth; from += amx::kDepth) {
    const std::int64_t depth = std::min(amx::kDepth, a.depth - from);
    const bool is_last = from + depth == a.depth;
    at::parallel_for(0, panels, 1, [&](std::int64_t begin, std::int64_t end) {
      amx::pack_right(b, begin * amx::kPanel, std::min(end * amx::kPanel, b.lines), from,
                      packed_b + amx::packed_size(begin * amx::kPanel, depth));
    });
    at::parallel_for(0, blocks, 1, [&](std::int64_t begin, std::int64_t end) {
      const at::Tensor left = packed_room(rows, depth);
      for (std::int64_t block = begin; block < end; ++block) {
        const std::int64_t first = block * rows, last = std::min(first + rows, a.lines);
        amx::pack_left(a, first, last, from, numbers_of(left));
        amx::multiply({.rows = last - first,
                       .columns = b.lines,
                       .depth = depth,
                       .left = numbers_of(left),
                       .right = packed_b,
                       .to = to + first * c.stride(0),
                       .stride = c.stride(0),
                       .add = rest.add || from > 0,
                       .bias = is_last ? rest.bias : nullptr,
                       .relu = is_last && rest.relu});
      }
    });
  }
}
#else
bool has_tiles() { return false; }
void multiply(const at::Tensor&, const at::Tensor&, const at::Tensor&, const Rest&) {}
#endif

bool on_tiles(const at::Tensor& a, const at::Tensor& b) {
  const auto fits = [](const at::Tensor& x) { return x.is_cpu() && x.scalar_type() == at::kFloat; };
  return fits(a) && fits(b) && ft_transformer::on_tiles(a.size(0), a.size(1), b.size(1));
}

}  // namespace

bool on_tiles(std::int64_t rows, std::int64_t depth, std::int64_t columns) {
  return rows >= kFewRows * threads() && columns >= kFewColumns && depth >= kFewNumbers && has_tiles();
}

at::Tensor product(const at::Tensor& a, const at::Tensor& b) {
  if (!on_tiles(a, b)) return at::mm(a, b);
  const at::Tensor c = at::empty({a.size(0), b.size(1)}, a.options());
  multiply(c, a, b, {});
  return c;
}

void add_product_(const at::Tensor& c, const at::Tensor& a, const at::Tensor& b) {
  on_tiles(a, b) && c.stride(1) == 1 ? multiply(c, a, b, {.add = true}) : static_cast<void>(c.addmm_(a, b));
}

at::Tensor affine(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, bool relu) {
  if (on_tiles(x, weight.t())) {
    TORCH_INTERNAL_ASSERT(bias.is_contiguous() && bias.scalar_type() == at::kFloat);
    TORCH_CHECK(bias.numel() == weight.size(0), "a bias of ", bias.sizes(), " for a weight of ", weight.sizes());
    const at::Tensor y = at::empty({x.size(0), weight.size(0)}, x.options());
    multiply(y, x, weight.t(), {.bias = bias.const_data_ptr<float>(), .relu = relu});
    return y;
  }
  if (relu && fits_relu_kernel(x)) {
    const at::Tensor y = at::mm(x, weight.t());
    add_bias_relu_(y, bias);
    return y;
  }
  const at::Tensor y = at::addmm(bias, x, weight.t());
  return relu ? y.relu_() : y;
}

}  // namespace ristretto::ft_transformer
