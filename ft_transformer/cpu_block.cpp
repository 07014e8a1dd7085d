#include "ft_transformer/cpu_block.h"

#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <ATen/record_function.h>
#include <c10/core/DispatchKeySet.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <array>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "ft_transformer/attention_kernel.h"
#include "ft_transformer/cpu_attention.h"
#include "ft_transformer/norm_kernel.h"
#include "ft_transformer/relu_kernel.h"
#include "platform/instruction_sets.h"

namespace ristretto::ft_transformer {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// The layers in the order of their weights; each has a weight and a bias.
enum Layer { kQuery, kKey, kValue, kOut, kLinear1, kLinear2, kNorm1, kNorm2, kLayers };
constexpr std::array<const char*, kLayers> kNames{
    "attention.W_q",       "attention.W_k",       "attention.W_v", "attention.W_out",
    "feedforward.linear1", "feedforward.linear2", "norm1",         "norm2"};

// Rows of tokens at once: [1536, 32] is 192 KiB, the feedforward's hidden layer 768. With half or twice as many an
// update is 2 to 4 % slower on a second cache of 2 MiB.
constexpr std::int64_t kRows = 1536;

struct Layers {
  std::vector<at::Tensor> tensors;  // weight and bias of each
  const at::Tensor& weight(Layer of) const { return tensors[2 * of]; }
  const at::Tensor& bias(Layer of) const { return tensors[2 * of + 1]; }
};

const float* from(const at::Tensor& x) { return x.const_data_ptr<float>(); }
float* to(const at::Tensor& x) { return x.mutable_data_ptr<float>(); }

NormRows norm_of(const Layers& layers, Layer norm, std::int64_t rows) {
  return {rows, layers.weight(norm).size(0), from(layers.weight(norm)), from(layers.bias(norm))};
}

// What the backward pass needs, of a piece's sequences or of all.
struct Kept {
  at::Tensor q, k, v, attended, sum, hidden;  // [R, d], hidden of the feedforward's width
  at::Tensor log_sum_exp;                     // [B, heads, T]
  at::Tensor statistics;                      // [4, R]: mean and scale of both norms, each by itself

  static Kept room(std::int64_t sequences, const AttentionSizes& sizes, std::int64_t hidden, const at::Tensor& like) {
    const std::int64_t rows = sequences * sizes.queries, d = sizes.heads * sizes.channels;
    const auto empty = [&](at::IntArrayRef shape) { return at::empty(shape, like.options()); };
    return {empty({rows, d}),
            empty({rows, d}),
            empty({rows, d}),
            empty({rows, d}),
            empty({rows, d}),
            empty({rows, hidden}),
            empty({sequences, sizes.heads, sizes.queries}),
            empty({4, rows})};
  }
  Kept narrow(std::int64_t sequence, std::int64_t count) const {
    const std::int64_t tokens = log_sum_exp.size(2), row = sequence * tokens, rows = count * tokens;
    const auto part = [&](const at::Tensor& x) { return x.narrow(0, row, rows); };
    return {part(q),
            part(k),
            part(v),
            part(attended),
            part(sum),
            part(hidden),
            log_sum_exp.narrow(0, sequence, count),
            statistics.narrow(1, row, rows)};
  }
  NormStatistics norm(Layer of) const {
    float* const numbers = to(statistics);
    const std::int64_t first = of == kNorm1 ? 0 : 2, stride = statistics.stride(0);
    return {numbers + first * stride, numbers + (first + 1) * stride};
  }
};

// x [R, d] -> out [R, d]: the block of `sequences` sequences, on this thread.
void forward(const Layers& layers, const AttentionSizes& sizes, const at::Tensor& x, const Kept& kept,
             const at::Tensor& out) {
  const std::int64_t rows = x.size(0), d = x.size(1), hidden = kept.hidden.size(1);
  const at::Tensor normal = at::empty_like(x);
  RISTRETTO_WIDEST(decltype(&baseline::norm), norm)
  (norm_of(layers, kNorm1, rows), from(x), to(normal), kept.norm(kNorm1));
  for (const auto& [layer, y] : {std::pair{kQuery, &kept.q}, {kKey, &kept.k}, {kValue, &kept.v}}) {
    at::Tensor into = *y;
    at::addmm_out(into, layers.bias(layer), normal, layers.weight(layer).t());
  }
  std::vector<float> scratch(static_cast<std::size_t>(attention_scratch(sizes)));
  RISTRETTO_WIDEST(decltype(&baseline::attention), attention)
  (sizes, {from(kept.q), from(kept.k), from(kept.v), to(kept.attended), to(kept.log_sum_exp)}, 0,
   kept.log_sum_exp.size(0) * sizes.heads, scratch.data());
  const at::Tensor joined = at::mm(kept.attended, layers.weight(kOut).t());
  const auto add_rows = RISTRETTO_WIDEST(decltype(&baseline::add_rows), add_rows);
  add_rows(from(x), from(joined), from(layers.bias(kOut)), to(kept.sum), rows, d);
  RISTRETTO_WIDEST(decltype(&baseline::norm), norm)
  (norm_of(layers, kNorm2, rows), from(kept.sum), to(normal), kept.norm(kNorm2));
  at::Tensor wide = kept.hidden;
  at::mm_out(wide, normal, layers.weight(kLinear1).t());
  RISTRETTO_WIDEST(decltype(&baseline::add_bias_relu), add_bias_relu)
  (to(wide), from(layers.bias(kLinear1)), hidden, 0, rows);
  const at::Tensor narrow = at::mm(wide, layers.weight(kLinear2).t());
  add_rows(from(kept.sum), from(narrow), from(layers.bias(kLinear2)), to(out), rows, d);
}

// The gradient of the block's weights and of x from that of its output, of the sequences that `kept` is of.
void backward(const Layers& layers, const AttentionSizes& sizes, const at::Tensor& x, const Kept& kept,
              const at::Tensor& of_out, const Layers& gradients, const at::Tensor& of_x) {
  const std::int64_t rows = x.size(0), d = x.size(1), hidden = kept.hidden.size(1);
  const auto sum_rows = RISTRETTO_WIDEST(decltype(&baseline::sum_rows), sum_rows);
  const auto norm_again = RISTRETTO_WIDEST(decltype(&baseline::norm_again), norm_again);
  const auto norm_back = RISTRETTO_WIDEST(decltype(&baseline::norm_back), norm_back);
  // y = input W^T + b
  const auto of_layer = [&](Layer layer, const at::Tensor& of_y, const at::Tensor& input) {
    at::Tensor into = gradients.weight(layer);
    at::mm_out(into, of_y.t(), input);
  };
  const at::Tensor normal = at::empty_like(x), of_sum = at::empty_like(x);

  sum_rows(from(of_out), to(gradients.bias(kLinear2)), rows, d);
  of_layer(kLinear2, of_out, kept.hidden);
  const at::Tensor of_hidden = at::mm(of_out, layers.weight(kLinear2));
  RISTRETTO_WIDEST(decltype(&baseline::relu_back), relu_back)
  (from(kept.hidden), from(of_hidden), to(of_hidden), to(gradients.bias(kLinear1)), rows, hidden, 0, hidden);
  norm_again(norm_of(layers, kNorm2, rows), from(kept.sum), kept.norm(kNorm2), to(normal));
  of_layer(kLinear1, of_hidden, normal);
  at::Tensor of_normal = at::mm(of_hidden, layers.weight(kLinear1));
  norm_back(norm_of(layers, kNorm2, rows), from(kept.sum), kept.norm(kNorm2), from(of_normal), from(of_out), to(of_sum),
            to(gradients.weight(kNorm2)), to(gradients.bias(kNorm2)));

  sum_rows(from(of_sum), to(gradients.bias(kOut)), rows, d);
  of_layer(kOut, of_sum, kept.attended);
  const at::Tensor of_attended = at::mm(of_sum, layers.weight(kOut));
  const at::Tensor of_q = at::empty_like(x), of_k = at::empty_like(x), of_v = at::empty_like(x);
  std::vector<float> scratch(static_cast<std::size_t>(attention_back_scratch(sizes)));
  RISTRETTO_WIDEST(decltype(&baseline::attention_back), attention_back)
  (sizes,
   {from(kept.q), from(kept.k), from(kept.v), from(kept.attended), from(kept.log_sum_exp), from(of_attended), to(of_q),
    to(of_k), to(of_v)},
   0, kept.log_sum_exp.size(0) * sizes.heads, scratch.data());
  norm_again(norm_of(layers, kNorm1, rows), from(x), kept.norm(kNorm1), to(normal));
  for (const auto& [layer, of_y] : {std::pair{kQuery, &of_q}, {kKey, &of_k}, {kValue, &of_v}}) {
    sum_rows(from(*of_y), to(gradients.bias(layer)), rows, d);
    of_layer(layer, *of_y, normal);
    if (layer == kQuery) {
      at::mm_out(of_normal, *of_y, layers.weight(layer));
    } else {
      of_normal.addmm_(*of_y, layers.weight(layer));
    }
  }
  norm_back(norm_of(layers, kNorm1, rows), from(x), kept.norm(kNorm1), from(of_normal), from(of_sum), to(of_x),
            to(gradients.weight(kNorm1)), to(gradients.bias(kNorm1)));
}

// `run`(piece, first sequence, sequences) for all, in pieces that do not depend on the threads.
template <class Run>
void for_pieces(std::int64_t sequences, std::int64_t piece, const Run& run) {
  const std::thread::id caller = std::this_thread::get_id();
  at::parallel_for(0, (sequences + piece - 1) / piece, 1, [&](std::int64_t begin, std::int64_t end) {
    // Of this thread.
    const at::AutoDispatchBelowADInplaceOrView no_graph;
    const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
    std::optional<at::DisableRecordFunctionGuard> unrecorded;  // a profile counts the caller's time
    if (std::this_thread::get_id() != caller) unrecorded.emplace();
    for (std::int64_t i = begin; i < end; ++i) run(i, i * piece, std::min(piece, sequences - i * piece));
  });
}

std::int64_t piece_of(std::int64_t tokens) { return std::max<std::int64_t>(1, kRows / tokens); }

AttentionSizes sizes_of(const at::Tensor& x, std::int64_t heads) {
  return {x.size(1), x.size(1), heads, x.size(2) / heads};
}

struct Block : torch::autograd::Function<Block> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& given, const at::TensorList& weights,
                            std::int64_t heads, bool keeps) {
    const at::Tensor x = given.contiguous();
    const Layers layers{weights.vec()};
    const AttentionSizes sizes = sizes_of(x, heads);
    const std::int64_t tokens = sizes.queries, d = x.size(2), hidden = layers.bias(kLinear1).size(0);
    const at::Tensor out = at::empty_like(x), rows = x.view({-1, d}), out_rows = out.view({-1, d});
    Kept all;
    if (keeps) all = Kept::room(x.size(0), sizes, hidden, x);
    for_pieces(x.size(0), piece_of(tokens), [&](std::int64_t, std::int64_t first, std::int64_t count) {
      const Kept kept = keeps ? all.narrow(first, count) : Kept::room(count, sizes, hidden, x);
      ft_transformer::forward(layers, sizes, rows.narrow(0, first * tokens, count * tokens), kept,
                              out_rows.narrow(0, first * tokens, count * tokens));
    });
    if (!keeps) return out;
    context->saved_data["heads"] = heads;
    variable_list saved{x, all.q, all.k, all.v, all.attended, all.sum, all.hidden, all.log_sum_exp, all.statistics};
    saved.insert(saved.end(), weights.begin(), weights.end());
    context->save_for_backward(std::move(saved));
    return out;
  }

  static variable_list backward(AutogradContext* context, const variable_list& out_gradients) {
    RECORD_USER_SCOPE("encoder");
    TORCH_CHECK(!at::GradMode::is_enabled(), "a block on a CPU has no second derivatives");
    variable_list saved = context->get_saved_variables();
    const at::Tensor x = saved[0];
    const Kept all{saved[1], saved[2], saved[3], saved[4], saved[5], saved[6], saved[7], saved[8]};
    const Layers layers{{saved.begin() + 9, saved.end()}};
    const AttentionSizes sizes = sizes_of(x, context->saved_data["heads"].toInt());
    const std::int64_t tokens = sizes.queries, d = x.size(2), piece = piece_of(tokens);
    const std::int64_t pieces = (x.size(0) + piece - 1) / piece;
    const at::Tensor of_out = out_gradients[0].contiguous(), of_x = at::empty_like(x);
    const at::Tensor rows = x.view({-1, d}), of_out_rows = of_out.view({-1, d}), of_x_rows = of_x.view({-1, d});
    std::int64_t size = 0;
    for (const at::Tensor& weight : layers.tensors) size += weight.numel();
    const at::Tensor parts = at::zeros({pieces, size}, x.options());  // of each piece the weights' gradients
    const auto split = [&](const at::Tensor& flat) {
      Layers of;
      std::int64_t begin = 0;
      for (const at::Tensor& weight : layers.tensors) {
        of.tensors.push_back(flat.narrow(0, begin, weight.numel()).view(weight.sizes()));
        begin += weight.numel();
      }
      return of;
    };
    for_pieces(x.size(0), piece, [&](std::int64_t i, std::int64_t first, std::int64_t count) {
      const auto part = [&](const at::Tensor& all_rows) { return all_rows.narrow(0, first * tokens, count * tokens); };
      ft_transformer::backward(layers, sizes, part(rows), all.narrow(first, count), part(of_out_rows), split(parts[i]),
                               part(of_x_rows));
    });
    variable_list gradients{of_x};
    for (const at::Tensor& gradient : split(parts.sum(0)).tensors) gradients.push_back(gradient);
    gradients.resize(gradients.size() + 2);  // none of the other arguments
    return gradients;
  }
};

}  // namespace

bool fits_cpu_block(const at::Tensor& x, std::int64_t heads) {
  return fits_cpu_attention(x, heads) && x.size(2) % kNormLanes == 0 && !at::autocast::is_autocast_enabled(at::kCPU);
}

at::Tensor cpu_block(const Weights& weights, const std::string& path, const at::Tensor& x, std::int64_t heads) {
  std::vector<at::Tensor> tensors;
  for (const char* layer : kNames) {
    for (const char* part : {".weight", ".bias"}) {
      tensors.push_back(weights.at(path + layer + part));
      TORCH_INTERNAL_ASSERT(tensors.back().is_contiguous());
    }
  }
  const bool keeps = at::GradMode::is_enabled() &&
                     (x.requires_grad() || std::any_of(tensors.begin(), tensors.end(), [](const at::Tensor& weight) {
                        return weight.requires_grad();
                      }));
  return Block::apply(x, at::TensorList(tensors), heads, keeps);
}

}  // namespace ristretto::ft_transformer
