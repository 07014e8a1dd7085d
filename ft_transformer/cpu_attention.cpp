#include "ft_transformer/cpu_attention.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include <vector>

#include "ft_transformer/attention_kernel.h"

namespace ristretto::ft_transformer {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct Kernels {
  decltype(&baseline::attention) forward = baseline::attention;
  decltype(&baseline::attention_back) backward = baseline::attention_back;
};

const Kernels& kernels() {
  static const Kernels here = [] {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
      return Kernels{avx512::attention, avx512::attention_back};
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
      return Kernels{avx2::attention, avx2::attention_back};
    }
#endif
    return Kernels{};
  }();
  return here;
}

AttentionSizes sizes_of(const at::Tensor& q, const at::Tensor& k, std::int64_t heads) {
  return {q.size(1), k.size(1), heads, q.size(2) / heads};
}

// `run` for all heads of all sequences, each thread with memory of its own.
template <class Run>
void for_heads(std::int64_t count, const AttentionSizes& sizes, const Run& run) {
  constexpr std::int64_t kFew = 4;  // heads: tens of microseconds
  at::parallel_for(0, count, kFew, [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> scratch(attention_scratch(sizes));
    run(begin, end, scratch.data());
  });
}

struct Attention : torch::autograd::Function<Attention> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& queries, const at::Tensor& keys,
                            const at::Tensor& values, std::int64_t heads) {
    const at::Tensor q = queries.contiguous(), k = keys.contiguous(), v = values.contiguous();
    const AttentionSizes sizes = sizes_of(q, k, heads);
    const at::Tensor out = at::empty(q.sizes(), q.options());
    const at::Tensor log_sum = at::empty({q.size(0), heads, q.size(1)}, q.options());
    AttentionForward of{q.const_data_ptr<float>(), k.const_data_ptr<float>(), v.const_data_ptr<float>(),
                        out.mutable_data_ptr<float>(), log_sum.mutable_data_ptr<float>(), nullptr};
    for_heads(q.size(0) * heads, sizes, [&](std::int64_t begin, std::int64_t end, float* scratch) {
      AttentionForward mine = of;
      mine.scratch = scratch;
      kernels().forward(sizes, mine, begin, end);
    });
    context->saved_data["heads"] = heads;
    context->save_for_backward({q, k, v, out, log_sum});
    return out;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &q = saved[0], &k = saved[1], &v = saved[2], &out = saved[3], &log_sum = saved[4];
    const std::int64_t heads = context->saved_data["heads"].toInt();
    const AttentionSizes sizes = sizes_of(q, k, heads);
    const at::Tensor of_out = gradients[0].contiguous();
    const at::Tensor of_q = at::empty_like(q), of_k = at::empty_like(k), of_v = at::empty_like(v);
    const AttentionBackward of{q.const_data_ptr<float>(),      k.const_data_ptr<float>(),
                               v.const_data_ptr<float>(),      out.const_data_ptr<float>(),
                               log_sum.const_data_ptr<float>(), of_out.const_data_ptr<float>(),
                               of_q.mutable_data_ptr<float>(), of_k.mutable_data_ptr<float>(),
                               of_v.mutable_data_ptr<float>(), nullptr};
    for_heads(q.size(0) * heads, sizes, [&](std::int64_t begin, std::int64_t end, float* scratch) {
      AttentionBackward mine = of;
      mine.scratch = scratch;
      kernels().backward(sizes, mine, begin, end);
    });
    return {of_q, of_k, of_v, at::Tensor()};
  }
};

}  // namespace

bool fits_cpu_attention(const at::Tensor& q, std::int64_t heads) {
  return q.is_cpu() && q.scalar_type() == at::kFloat && has_attention_kernel(q.size(2) / heads);
}

at::Tensor cpu_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, std::int64_t heads) {
  return Attention::apply(q, k, v, heads);
}

}  // namespace ristretto::ft_transformer
