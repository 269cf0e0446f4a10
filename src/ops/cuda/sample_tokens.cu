// The passes over whole rows, each row cut into slices for several CTAs: rules and best token
// (scan), the weights of buckets (weigh), the tokens of the buckets that decide (list). All sums
// are of integers, so that neither the slices nor the order of atomics show in a result. The draw
// itself is in sample_tokens_draw.cu.
#include "ops/cuda/common/launch.cuh"
#include "ops/cuda/sample_tokens_atomics.cuh"
#include "ops/cuda/sample_tokens_row.cuh"

namespace donar::ops::cuda {
namespace {

constexpr int kThreads = 256;

struct Slice {
  int begin = 0;
  int end = 0;
  __device__ bool holds(int token) const { return token >= begin && token < end; }
};

__device__ Slice own_slice(const SampleTokensParams& p) {
  const int begin = static_cast<int>(blockIdx.x) * p.slices.tokens;
  return {begin, min(begin + p.slices.tokens, p.num_tokens)};
}

// The row's own mask, within the slice: the list of allowed tokens and the mask that came with the
// row, less the bans.
__device__ void build_mask(const SampleTokensParams& p, const SampleRow& row, int index,
                           Slice slice) {
  uint32_t* own = p.own_masks + static_cast<int64_t>(index) * p.mask_words;
  const uint32_t* given =
      row.mask_row >= 0 ? p.masks + static_cast<int64_t>(row.mask_row) * p.mask_words : nullptr;
  const int end_word = (slice.end + 31) / 32;
  for (int word = slice.begin / 32 + static_cast<int>(threadIdx.x); word < end_word;
       word += kThreads) {
    own[word] = row.num_allowed > 0 ? 0u : given != nullptr ? given[word] : ~0u;
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < row.num_allowed; i += kThreads) {
    const int token = p.allowed[row.allowed_begin + i];
    if (!slice.holds(token)) continue;
    const uint32_t bit = 1u << (token % 32);
    if (given == nullptr || (given[token / 32] & bit) != 0) atomicOr(&own[token / 32], bit);
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < row.num_bans; i += kThreads) {
    const TokenBan ban = p.bans[row.bans_begin + i];
    if (!slice.holds(ban.token)) continue;
    if (ban.after >= 0 && (row.slot < 0 || p.last_tokens[row.slot] != ban.after)) continue;
    atomicAnd(&own[ban.token / 32], ~(1u << (ban.token % 32)));
  }
}

__device__ void add_bias(const SampleTokensParams& p, const SampleRow& row, float* logits,
                         Slice slice) {
  for (int i = static_cast<int>(threadIdx.x); i < row.num_bias; i += kThreads) {
    const TokenBias entry = p.bias[row.bias_begin + i];
    if (!slice.holds(entry.token)) continue;
    const float raw = logits[entry.token];
    p.raw_bias[row.bias_begin + i] = raw;
    if (raw != kBanned) logits[entry.token] = __fadd_rn(raw, entry.bias);
  }
}

__device__ void write_id(const SampleTokensParams& p, const SampleRow& row, int index, int id) {
  p.ids[index] = id;
  if (row.kind == SampleKind::kDraw && row.slot >= 0) p.last_tokens[row.slot] = id;
}

// Grid (slices, rows). kGreedy: no row has rules or is drawn from, and the last slice of a row to
// come gives its id.
template <bool kGreedy>
__global__ void __launch_bounds__(kThreads) scan_rows(SampleTokensParams p) {
  pdl_launch_dependents();
  pdl_wait();
  __shared__ u64 scratch[kThreads / 32];
  const int index = static_cast<int>(blockIdx.y), slice_index = static_cast<int>(blockIdx.x);
  const SampleRow row = p.rows[index];
  if (kGreedy && row.kind == SampleKind::kPromptLogprobs && slice_index == 0 && threadIdx.x == 0)
    write_id(p, row, index, row.target);
  if (row.kind != SampleKind::kDraw) return;

  const Slice slice = own_slice(p);
  const RowLogits values = row_logits(p, row, index, /*after_scan=*/false);
  if constexpr (!kGreedy) {
    if (p.needs.draws && slice_index == 0) {
      u64* buckets = p.buckets + static_cast<int64_t>(index) * kSampleBuckets;
      for (int b = static_cast<int>(threadIdx.x); b < kSampleBuckets; b += kThreads) buckets[b] = 0;
      if (threadIdx.x == 0) p.num_candidates[index] = 0;
    }
    if (p.needs.rules) {
      if (row.num_bans > 0 || row.num_allowed > 0) build_mask(p, row, index, slice);
      add_bias(p, row, values.logits, slice);
      __syncthreads();
    }
  }

  const bool keep_raw = row.num_logprobs >= 0;
  // A thread's ids rise: the first of equal bests stays. NaN until there is a number.
  float best_value = NAN;
  int best_id = 0x7fffffff;
  for_tokens<kThreads, 4>(values, slice.begin, slice.end, [&](int id, float value, bool counted) {
    if (!kGreedy && counted && !keep_raw) values.logits[id] = value;
    if (!(value <= best_value) && value == value) {
      best_value = value;
      best_id = id;
    }
  });
  u64 best = block_reduce<kThreads>(ranked(order_key(best_value), best_id), scratch, MaxOf{});
  if (threadIdx.x >= 32) return;
  u64* slice_best = p.slice_best + static_cast<int64_t>(index) * p.slices.count;
  bool last = false;
  if (threadIdx.x == 0) {
    slice_best[slice_index] = best;
    if constexpr (kGreedy) {
      __threadfence();  // the slice's best is visible before its arrival
      const uint32_t before =
          atomicInc(&p.arrivals[index], static_cast<uint32_t>(p.slices.count) - 1);
      last = before == static_cast<uint32_t>(p.slices.count) - 1;
      __threadfence();
    }
  }
  if constexpr (kGreedy) {
    if (!__shfl_sync(0xffffffffu, last, 0)) return;
    best = 0;
    for (int i = static_cast<int>(threadIdx.x); i < p.slices.count; i += 32) {
      const u64 other = __ldcg(slice_best + i);  // past the L1, which other CTAs do not write
      best = other > best ? other : best;
    }
#pragma unroll
    for (int step = 16; step > 0; step /= 2) {
      const u64 other = __shfl_xor_sync(0xffffffffu, best, step);
      best = other > best ? other : best;
    }
    if (threadIdx.x == 0) write_id(p, row, index, best_id_of(best));
  }
}

// Grid (slices, rows). What each bucket measures: the weight of its tokens, or with top_k how many
// there are.
__global__ void __launch_bounds__(kThreads) weigh_buckets(SampleTokensParams p) {
  pdl_launch_dependents();
  pdl_wait();
  __shared__ u64 scratch[kThreads / 32];
  __shared__ uint32_t low[kSampleBuckets], high[kSampleBuckets];
  const int index = static_cast<int>(blockIdx.y);
  const SampleRow row = p.rows[index];
  if (row.kind != SampleKind::kDraw) return;
  const Draw draw = row_draw<kThreads>(p, row, index, scratch);
  if (!draw.counted()) return;
  for (int b = static_cast<int>(threadIdx.x); b < kSampleBuckets; b += kThreads) {
    low[b] = 0;
    high[b] = 0;
  }
  __syncthreads();
  const WideBins bins(low, high);
  const Slice slice = own_slice(p);
  const RowLogits values = row_logits(p, row, index, /*after_scan=*/true);
  if (draw.listed) {
    for_tokens<kThreads, 4>(values, slice.begin, slice.end, [&](int, float value, bool) {
      const float distance = draw.distance(value);
      if (distance < kMaxDistance) bins.add_one(bucket_of(distance));
    });
  } else {
    for_tokens<kThreads, 2>(values, slice.begin, slice.end, [&](int, float value, bool) {
      const float distance = draw.distance(value);
      if (distance < kMaxDistance) bins.add(bucket_of(distance), weight_of(distance));
    });
  }
  __syncthreads();
  u64* buckets = p.buckets + static_cast<int64_t>(index) * kSampleBuckets;
  for (int b = static_cast<int>(threadIdx.x); b < kSampleBuckets; b += kThreads) {
    const u64 sum = u64{high[b]} << 32 | low[b];
    if (sum != 0) atomicAdd(&buckets[b], sum);
  }
}

// Grid (slices, rows). The tokens of the buckets that decide, in no order; if there are more than
// kMaxCandidates, only their number counts.
__global__ void __launch_bounds__(kThreads) list_candidates(SampleTokensParams p) {
  pdl_launch_dependents();
  pdl_wait();
  __shared__ u64 scratch[kThreads / 32];
  __shared__ u64 before[kSampleBuckets + 1];
  const int index = static_cast<int>(blockIdx.y);
  const SampleRow row = p.rows[index];
  if (row.kind != SampleKind::kDraw) return;
  const Draw draw = row_draw<kThreads>(p, row, index, scratch);
  if (draw.greedy) return;
  const DrawBuckets buckets = draw_buckets<kThreads>(
      p, row, index, draw, random_bits(row.seed, row.position), before, scratch);
  const Slice slice = own_slice(p);
  const RowLogits values = row_logits(p, row, index, /*after_scan=*/true);
  Candidate* candidates = p.candidates + static_cast<int64_t>(index) * kMaxCandidates;
  uint32_t* num_candidates = p.num_candidates + index;
  for_tokens<kThreads, 4>(values, slice.begin, slice.end, [&](int id, float value, bool) {
    if (!buckets.holds(draw, draw.distance(value))) return;
    const uint32_t place = atomicAdd(num_candidates, 1u);
    if (place < kMaxCandidates) candidates[place] = {order_key(value), static_cast<uint32_t>(id)};
  });
}

__global__ void __launch_bounds__(kThreads) count_tokens(TokenCountsParams p) {
  pdl_launch_dependents();
  pdl_wait();
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= p.count) return;
  const int token = p.tokens[i];
  if (token < 0 || token >= p.vocab_size) return;
  auto* place = reinterpret_cast<unsigned short*>(p.counts + token);
  unsigned short seen = *place;
  for (;;) {
    unsigned short next = seen;
    if (!p.is_output) {
      next |= 0x8000u;
    } else if ((seen & 0x7fffu) < 0x7fffu) {
      ++next;
    }
    if (next == seen) return;
    const unsigned short found = atomicCAS(place, seen, next);
    if (found == seen) return;
    seen = found;
  }
}

}  // namespace

void sample_tokens(const SampleTokensParams& params, const CudaExec& exec) {
  const dim3 grid(static_cast<unsigned>(params.slices.count),
                  static_cast<unsigned>(params.num_rows));
  const dim3 block(kThreads);
  if (!params.needs.rules && !params.needs.draws) {
    launch(scan_rows<true>, grid, block, 0, exec, params);
  } else {
    launch(scan_rows<false>, grid, block, 0, exec, params);
    if (params.needs.draws) {
      launch(weigh_buckets, grid, block, 0, exec, params);
      launch(list_candidates, grid, block, 0, exec, params);
    }
    launch_draw(params, exec);
  }
  if (params.needs.logprobs) launch_logprobs(params, exec);
}

void add_token_counts(const TokenCountsParams& params, const CudaExec& exec) {
  const auto blocks = static_cast<unsigned>((params.count + kThreads - 1) / kThreads);
  launch(count_tokens, dim3(blocks), dim3(kThreads), 0, exec, params);
}

}  // namespace donar::ops::cuda
