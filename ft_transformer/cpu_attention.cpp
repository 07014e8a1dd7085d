#include "ft_transformer/cpu_attention.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <vector>

#include "ft_transformer/attention_kernel.h"
#include "platform/instruction_sets.h"

namespace ristretto::ft_transformer {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

AttentionSizes sizes_of(const at::Tensor& q, const at::Tensor& k, std::int64_t heads) {
  return {q.size(1), k.size(1), heads, q.size(2) / heads};
}

// `run` for all heads of all sequences, each thread with `scratch` numbers of its own.
template <class Run>
void for_heads(std::int64_t count, const AttentionSizes& sizes, std::int64_t scratch, const Run& run) {
  constexpr std::int64_t kFewScores = 50'000;  // tens of microseconds
  const std::int64_t few = std::max<std::int64_t>(1, kFewScores / (sizes.queries * sizes.keys));
  at::parallel_for(0, count, few, [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> memory(scratch);
    run(begin, end, memory.data());
  });
}

struct Attention : torch::autograd::Function<Attention> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& queries, const at::Tensor& keys,
                            const at::Tensor& values, std::int64_t heads) {
    const at::Tensor q = queries.contiguous(), k = keys.contiguous(), v = values.contiguous();
    const AttentionSizes sizes = sizes_of(q, k, heads);
    const at::Tensor out = at::empty(q.sizes(), q.options());
    const at::Tensor log_sum_exp = at::empty({q.size(0), heads, q.size(1)}, q.options());
    const AttentionForward of{q.const_data_ptr<float>(), k.const_data_ptr<float>(), v.const_data_ptr<float>(),
                              out.mutable_data_ptr<float>(), log_sum_exp.mutable_data_ptr<float>()};
    for_heads(q.size(0) * heads, sizes, attention_scratch(sizes),
              [&](std::int64_t begin, std::int64_t end, float* scratch) {
                RISTRETTO_WIDEST(decltype(&baseline::attention), attention)(sizes, of, begin, end, scratch);
              });
    context->saved_data["heads"] = heads;
    context->save_for_backward({q, k, v, out, log_sum_exp});
    return out;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &q = saved[0], &k = saved[1], &v = saved[2], &out = saved[3], &log_sum_exp = saved[4];
    const std::int64_t heads = context->saved_data["heads"].toInt();
    const AttentionSizes sizes = sizes_of(q, k, heads);
    const at::Tensor of_out = gradients[0].contiguous();
    const at::Tensor of_q = at::empty_like(q), of_k = at::empty_like(k), of_v = at::empty_like(v);
    const AttentionBackward of{
        q.const_data_ptr<float>(),      k.const_data_ptr<float>(),           v.const_data_ptr<float>(),
        out.const_data_ptr<float>(),    log_sum_exp.const_data_ptr<float>(), of_out.const_data_ptr<float>(),
        of_q.mutable_data_ptr<float>(), of_k.mutable_data_ptr<float>(),      of_v.mutable_data_ptr<float>()};
    for_heads(q.size(0) * heads, sizes, attention_back_scratch(sizes),
              [&](std::int64_t begin, std::int64_t end, float* scratch) {
                RISTRETTO_WIDEST(decltype(&baseline::attention_back), attention_back)(sizes, of, begin, end, scratch);
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
