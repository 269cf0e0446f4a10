// Raw logprobs of the rows that ask for them, by one CTA per row: the chosen token's, its rank, and
// the best ones.
#include "ops/cuda/common/launch.cuh"
#include "ops/cuda/sample_tokens_row.cuh"

namespace donar::ops::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kMaxListed = 1024;
// Below every number's rank.
constexpr u64 kAll = u64{0x007fffffu} << 32;
// Of a term of the denominator: with less than 2^19 tokens the sum fits 64 bits, and what is cut
// off stays below 1e-8 of it.
constexpr float kTermUnit = 35184372088832.0f;  // 2^45

struct Shared {
  u64 scratch[kThreads / 32];
  u64 ranks[kThreads];
  u64 listed[kMaxListed];
  u64 bound;
  int num_listed;
};

__device__ float logprob_of(float logit, double denominator) {
  return static_cast<float>(static_cast<double>(logit) - denominator);
}

// Grid (rows).
__global__ void __launch_bounds__(kThreads) row_logprobs(SampleTokensParams p) {
  pdl_launch_dependents();
  pdl_wait();
  __shared__ Shared s;
  const int index = static_cast<int>(blockIdx.x), thread = static_cast<int>(threadIdx.x);
  const SampleRow row = p.rows[index];
  if (row.kind == SampleKind::kSkip || row.num_logprobs < 0) return;
  RowLogits raw;
  raw.logits = p.logits + static_cast<int64_t>(index) * p.vocab_size;
  raw.vectors = p.vocab_size % 4 == 0;
  if (p.needs.rules && row.kind == SampleKind::kDraw) {
    for (int i = thread; i < row.num_bias; i += kThreads) {
      const int token = p.bias[row.bias_begin + i].token;
      if (token >= 0 && token < p.num_tokens) raw.logits[token] = p.raw_bias[row.bias_begin + i];
    }
    __syncthreads();
  }
  const int chosen = row.kind == SampleKind::kDraw ? p.ids[index] : row.target;
  const float chosen_logit = raw.logits[chosen];
  const int num_best = min(row.num_logprobs, kMaxSampleLogprobs);

  // The best logit of all columns; the rank, and every thread's best token, among the tokens.
  float max_logit = kBanned;
  for (int i = p.num_tokens + thread; i < p.vocab_size; i += kThreads)
    max_logit = fmaxf(max_logit, raw.logits[i]);  // a NaN loses
  float best_logit = NAN;
  int best_id = 0;
  uint32_t at_least_chosen = 0;
  for_tokens<kThreads, 4>(raw, 0, p.num_tokens, [&](int id, float logit, bool) {
    at_least_chosen += logit >= chosen_logit ? 1 : 0;
    if (!(logit <= best_logit) && logit == logit) {  // as in scan_rows
      best_logit = logit;
      best_id = id;
    }
  });
  max_logit = fmaxf(max_logit, best_logit);
  const u64 best = best_logit == best_logit ? ranked(order_key(best_logit), best_id) : 0;
  const u64 max_key = block_reduce<kThreads>(order_key(max_logit), s.scratch, MaxOf{});
  max_logit = key_logit(static_cast<uint32_t>(max_key));
  const u64 rank = block_reduce<kThreads>(at_least_chosen, s.scratch, SumOf{});

  // At least num_best tokens are as good as the num_best-th of the threads' best ones, and hardly
  // more.
  s.ranks[thread] = best;
  if (thread == 0) {
    s.bound = kAll;
    s.num_listed = 0;
  }
  __syncthreads();
  if (num_best > 0 && best != 0) {
    int better = 0;
    for (int i = 0; i < kThreads; ++i) better += s.ranks[i] > best ? 1 : 0;
    if (better == num_best - 1) s.bound = best;
  }
  __syncthreads();
  const u64 bound = s.bound;
  const float bound_logit = num_best > 0 ? key_logit(ranked_key(bound)) : NAN;
  u64 sum = 0;
  for (int i = p.num_tokens + thread; i < p.vocab_size; i += kThreads)
    sum += scaled_exp(__fsub_rn(max_logit, raw.logits[i]), kTermUnit);
  for_tokens<kThreads, 4>(raw, 0, p.num_tokens, [&](int id, float logit, bool) {
    sum += scaled_exp(__fsub_rn(max_logit, logit), kTermUnit);
    if (!(logit >= bound_logit)) return;
    const u64 own = ranked(order_key(logit), id);
    if (own < bound) return;
    const int place = atomicAdd(&s.num_listed, 1);
    if (place < kMaxListed) s.listed[place] = own;
  });
  sum = block_reduce<kThreads>(sum, s.scratch, SumOf{});  // and the list is complete
  double denominator = max_logit;
  if (fabsf(max_logit) < INFINITY)
    denominator += log(static_cast<double>(sum) / static_cast<double>(kTermUnit));

  SampleLogprobs& out = p.logprobs[row.logprobs_index];
  const auto write_best = [&](int place, u64 own) {
    out.best_tokens[place] = ranked_id(own);
    out.best_logprobs[place] = logprob_of(key_logit(ranked_key(own)), denominator);
  };
  int num_found = min(num_best, s.num_listed);
  if (s.num_listed <= kMaxListed) {
    for (int i = thread; i < s.num_listed; i += kThreads) {
      const u64 own = s.listed[i];
      int place = 0;
      for (int j = 0; j < s.num_listed; ++j) place += s.listed[j] > own ? 1 : 0;
      if (place < num_best) write_best(place, own);
    }
  } else {  // a row whose best tokens all belong to a few threads: one after the other
    u64 last = ~u64{0};
    for (int place = 0; place < num_found; ++place) {
      u64 next = 0;
      for_tokens<kThreads, 4>(raw, 0, p.num_tokens, [&](int id, float logit, bool) {
        const u64 own = ranked(order_key(logit), id);
        if (own < last && ranked_key(own) != 0) next = max(next, own);
      });
      last = block_reduce<kThreads>(next, s.scratch, MaxOf{});
      if (thread == 0) write_best(place, last);
    }
  }
  if (thread == 0) {
    out.token = chosen;
    out.logprob = logprob_of(chosen_logit, denominator);
    out.rank = max(static_cast<int>(rank), 1);
    out.num_best = num_found;
  }
}

}  // namespace

void launch_logprobs(const SampleTokensParams& params, const CudaExec& exec) {
  launch(row_logprobs, dim3(static_cast<unsigned>(params.num_rows)), dim3(kThreads), 0, exec,
         params);
}

}  // namespace donar::ops::cuda
