// Online softmax of the two rows that a thread of an mma tile holds, and what becomes of a unit's
// sums: a division and a store, or a merge over splits by the CTA that arrives last.
//
// A part of the keys in which a row sees none is exactly neutral: its largest logit is minus
// infinity, its weight 0, and fma(0, 0, x) is x. So a row's bits do not depend on which further
// keys and splits its neighbours brought along.
#pragma once

#include "ops/cuda/paged_attention_units.cuh"

namespace donar::ops::cuda {

// Logits are in units of log2.
struct SoftmaxSums {
  float largest = -INFINITY;
  float weights = 0.0f;
};

// Largest logit as an offset of exponents: 0 as long as there is none.
__device__ __forceinline__ float exponent_base(float largest) {
  return largest == -INFINITY ? 0.0f : largest;
}

// The keys that a tile row sees.
struct VisibleKeys {
  int first;
  int last;
  __device__ __forceinline__ bool sees(int key) const { return key >= first && key <= last; }
};

// Of a row past the item's end: those of its last.
__device__ __forceinline__ VisibleKeys visible_keys(const PagedAttentionParams& params,
                                                    const AttentionUnit& unit, int tile_row) {
  const int group = params.q_heads / params.kv_heads;
  const int position = unit.position + min((unit.tile + tile_row) / group, unit.num_rows - 1);
  return {params.window > 0 ? position - params.window + 1 : 0, position};
}

// Takes kPairs * 8 keys of logits s (as mma leaves them: [0, 1] of the thread's first row, [2, 3]
// of its second), turns them into weights, and returns what the sums so far must be multiplied
// with. `weights` counts this thread's columns only.
template <int kPairs>
__device__ __forceinline__ float2 softmax_step(float (&s)[kPairs][4], float scale_log2,
                                               SoftmaxSums (&sums)[2]) {
  float factor[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float largest = -INFINITY;
#pragma unroll
    for (int j = 0; j < kPairs; ++j) largest = fmaxf(largest, fmaxf(s[j][2 * r], s[j][2 * r + 1]));
    largest = fmaxf(largest, __shfl_xor_sync(0xffffffff, largest, 1));
    largest = fmaxf(largest, __shfl_xor_sync(0xffffffff, largest, 2));
    largest = fmaxf(sums[r].largest, __fmul_rn(largest, scale_log2));
    const float base = exponent_base(largest);
    factor[r] = exp2_approximate(__fsub_rn(sums[r].largest, base));
    float sum = 0.0f;
#pragma unroll
    for (int j = 0; j < kPairs; ++j) {
#pragma unroll
      for (int i = 2 * r; i < 2 * r + 2; ++i) {
        s[j][i] = exp2_approximate(__fmaf_rn(s[j][i], scale_log2, -base));
        sum = __fadd_rn(sum, s[j][i]);
      }
    }
    sums[r].weights = __fmaf_rn(sums[r].weights, factor[r], sum);
    sums[r].largest = largest;
  }
  return {factor[0], factor[1]};
}

// Sums of a row over the four threads that share it.
__device__ __forceinline__ float row_weights(float weights) {
  weights = __fadd_rn(weights, __shfl_xor_sync(0xffffffff, weights, 1));
  return __fadd_rn(weights, __shfl_xor_sync(0xffffffff, weights, 2));
}

// Where tile row m of a unit belongs.
struct TileRow {
  int row;   // within the item
  int head;  // query head
};
__device__ __forceinline__ TileRow tile_row(const PagedAttentionParams& params,
                                            const AttentionUnit& unit, int m) {
  const int group = params.q_heads / params.kv_heads;
  return {(unit.tile + m) / group, unit.head * group + (unit.tile + m) % group};
}
template <class C>
__device__ __forceinline__ int num_tile_rows(const PagedAttentionParams& params,
                                             const AttentionUnit& unit) {
  return min(unit.num_rows * (params.q_heads / params.kv_heads) - unit.tile, C::kTile);
}

__device__ __forceinline__ float sink_logit(const PagedAttentionParams& params, int head) {
  return params.sinks != nullptr ? __fmul_rn(params.sinks[head], kLog2E) : -INFINITY;
}

// What one part of the keys, or the sink, weighs against the whole.
__device__ __forceinline__ float part_weight(float largest, float base) {
  return exp2_approximate(__fsub_rn(largest, base));
}

// Index of a partial result in `sums` (times 2) and `values` (times head_dim).
__device__ __forceinline__ int64_t partial_index(const PagedAttentionParams& params,
                                                 const AttentionUnit& unit, int split,
                                                 const TileRow& at) {
  return (int64_t{unit.partial} + int64_t{split} * unit.num_rows + at.row) * params.q_heads +
         at.head;
}

// Columns d, d + 1 of one head; the last head also zeroes the columns up to the next k tile.
__device__ __forceinline__ void store_pair(const PagedAttentionParams& params,
                                           const AttentionUnit& unit, const TileRow& at, int d,
                                           uint32_t pair) {
  const int64_t row = unit.row_begin + at.row;
  uint16_t* out = static_cast<uint16_t*>(params.out);
  const int64_t column = int64_t{at.head} * params.head_dim + d;
  *reinterpret_cast<uint32_t*>(out + tiled_offset(row, column, params.rows)) = pair;
  if (at.head != params.q_heads - 1) return;
  const int64_t width = int64_t{params.q_heads} * params.head_dim;
#pragma unroll 1
  for (int64_t pad = width + d; pad < num_k_tiles(width) * kTileK; pad += params.head_dim)
    *reinterpret_cast<uint32_t*>(out + tiled_offset(row, pad, params.rows)) = 0;
}

// Sums of the splits so far: of a row, and of two of its columns.
struct MergedSplits {
  SoftmaxSums sums;
  float low = 0.0f, high = 0.0f;

  // Takes the next split. One in which the row sees no key leaves everything as it is.
  __device__ __forceinline__ void add(float2 part, float2 values) {
    const float largest = fmaxf(sums.largest, part.x);
    const float base = exponent_base(largest);
    const float factor = part_weight(sums.largest, base), weight = part_weight(part.x, base);
    sums.largest = largest;
    sums.weights = __fmaf_rn(weight, part.y, __fmul_rn(sums.weights, factor));
    low = __fmaf_rn(weight, values.x, __fmul_rn(low, factor));
    high = __fmaf_rn(weight, values.y, __fmul_rn(high, factor));
  }
};

// What the sums over all splits of a row are multiplied with, and then with `inverse`.
__device__ __forceinline__ float whole_factor(const PagedAttentionParams& params, int head,
                                              float largest, float weights, float& inverse) {
  const float sink = sink_logit(params, head);
  const float base = fmaxf(sink, largest);
  const float weight = part_weight(largest, base);
  inverse = __frcp_rn(__fadd_rn(__fmul_rn(weight, weights), part_weight(sink, base)));
  return weight;
}

// Stores columns d, d + 1 of a row whose splits are all there.
template <class T>
__device__ __forceinline__ void store_merged(const PagedAttentionParams& params,
                                             const AttentionUnit& unit, const TileRow& at, int d,
                                             const MergedSplits& merged) {
  float inverse;
  const float factor =
      whole_factor(params, at.head, merged.sums.largest, merged.sums.weights, inverse);
  store_pair(params, unit, at, d,
             pack2<T>(__fmul_rn(__fmul_rn(merged.low, factor), inverse),
                      __fmul_rn(__fmul_rn(merged.high, factor), inverse)));
}

// Adds up the splits of one row at columns d, d + 1, in order, and stores them.
template <class T>
__device__ __forceinline__ void merge_splits(const PagedAttentionParams& params,
                                             const AttentionUnit& unit, int m, int d) {
  constexpr int kBatch = 16;  // loads in flight; one round for one sequence on an H100
  const TileRow at = tile_row(params, unit, m);
  const int64_t stride = int64_t{unit.num_rows} * params.q_heads;
  const int64_t first = partial_index(params, unit, 0, at);
  MergedSplits merged;
  for (int begin = 0; begin < unit.num_splits; begin += kBatch) {
    float2 sums[kBatch], values[kBatch];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      sums[i] = {-INFINITY, 0.0f};
      values[i] = {0.0f, 0.0f};
      if (begin + i >= unit.num_splits) continue;
      const int64_t index = first + (begin + i) * stride;
      sums[i] = __ldcg(reinterpret_cast<const float2*>(params.sums) + index);
      values[i] =
          __ldcg(reinterpret_cast<const float2*>(params.values + index * params.head_dim + d));
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) merged.add(sums[i], values[i]);
  }
  store_merged<T>(params, unit, at, d, merged);
}

// After all computing threads have stored their partial results of a unit: the last of those that
// share its rows merges them. `flag`: a word of shared memory. All computing threads call it.
template <class C>
__device__ __forceinline__ void arrive_and_merge(const PagedAttentionParams& params,
                                                 const AttentionUnit& unit, uint32_t flag,
                                                 int thread, int barrier) {
  constexpr int kThreads = C::kWarps * 32;
  named_barrier_sync(barrier, kThreads);
  if (thread == 0) {
    // Through the barriers its fences order what the other threads have stored and will read.
    __threadfence();
    const int before = atomicAdd(params.counters + unit.counter, 1);
    __threadfence();
    const bool last = before == unit.num_units - 1;
    if (last) params.counters[unit.counter] = 0;  // for the next launch
    store_shared(flag, last ? 1 : 0);
  }
  named_barrier_sync(barrier, kThreads);
  if (load_shared(flag) == 0) return;
  const int rows = num_tile_rows<C>(params, unit);
  for (int i = thread; i < rows * (C::kDims / 2); i += kThreads) {
    const int m = i / (C::kDims / 2), d = i % (C::kDims / 2) * 2;
    if (d < params.head_dim) merge_splits<typename C::T>(params, unit, m, d);
  }
}

}  // namespace donar::ops::cuda
