// What the two prefill kernels share: which keys of a stage a warp's rows see, and how finished
// rows leave. Warp w holds tile rows 16w to 16w + 15 as mma leaves them, on both paths.
#pragma once

#include "ops/cuda/paged_attention_loader.cuh"
#include "ops/cuda/paged_attention_softmax.cuh"

namespace donar::ops::cuda {

// Query rows x heads, keys of a stage and shared memory of a prefill CTA.
template <class T_, int kDims_, int kTile_, int kStageKeys_>
struct PrefillConfig {
  using T = T_;
  static constexpr int kDims = kDims_;
  static constexpr int kTile = kTile_;
  static constexpr int kStageKeys = kStageKeys_;
  static constexpr int kWarps = kTile / 16;
  static constexpr int kStageReaders = kWarps;
  static constexpr int kMaxStages = 48;
  static constexpr int kAlignment = 1024;
  static constexpr uint32_t kScratchBytes = 16;  // a flag
  static constexpr int kThreads = (kWarps + kLoaderWarps) * 32;
};

// CTAs stay and take unit after unit: one an SM, fewer where there are fewer units.
template <class C>
int prefill_ctas(const PagedAttentionParams& params, int num_items, const CudaExec& exec) {
  const int group = params.q_heads / params.kv_heads;
  const int rows = group > kAttentionPrefillTile ? group : kAttentionPrefillTile;
  const int64_t units = int64_t{num_items} * params.kv_heads * ((rows + C::kTile - 1) / C::kTile);
  return static_cast<int>(units < exec.num_sms ? units : exec.num_sms);
}

// Visible keys of a thread's two rows and of all 16 rows of its warp.
struct WarpKeys {
  VisibleKeys row[2];
  int first, last;                // seen by some row
  int common_first, common_last;  // seen by all rows (empty if common_first > common_last)

  __device__ __forceinline__ bool sees_any(int begin, int keys) const {
    return begin <= last && begin + keys > first;
  }
  __device__ __forceinline__ bool sees_all(int begin, int keys) const {
    return begin >= common_first && begin + keys - 1 <= common_last;
  }
};

__device__ __forceinline__ WarpKeys warp_keys(const PagedAttentionParams& params,
                                              const AttentionUnit& unit, int warp) {
  const int lane = threadIdx.x % 32;
  const VisibleKeys first = visible_keys(params, unit, warp * 16);
  const VisibleKeys last = visible_keys(params, unit, warp * 16 + 15);
  return {{visible_keys(params, unit, warp * 16 + lane / 4),
           visible_keys(params, unit, warp * 16 + lane / 4 + 8)},
          first.first,
          last.last,
          last.first,
          first.last};
}

// Logits of keys that a row does not see become minus infinity.
template <int kPairs>
__device__ __forceinline__ void hide_keys(float (&s)[kPairs][4], const WarpKeys& keys, int begin) {
  const int column = begin + threadIdx.x % 4 * 2;
#pragma unroll
  for (int j = 0; j < kPairs; ++j) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (!keys.row[i / 2].sees(column + j * 8 + i % 2)) s[j][i] = -INFINITY;
    }
  }
}

template <int kCount>
__device__ __forceinline__ void scale_values(float (&o)[kCount][4], float2 factor) {
#pragma unroll
  for (int j = 0; j < kCount; ++j) {
    o[j][0] *= factor.x, o[j][1] *= factor.x;
    o[j][2] *= factor.y, o[j][3] *= factor.y;
  }
}

// A operand of the product with values: weights of keys 16k to 16k + 15.
template <class T, int kPairs>
__device__ __forceinline__ void pack_weights(uint32_t (&p)[4], const float (&s)[kPairs][4], int k) {
  p[0] = pack2<T>(s[2 * k][0], s[2 * k][1]);
  p[1] = pack2<T>(s[2 * k][2], s[2 * k][3]);
  p[2] = pack2<T>(s[2 * k + 1][0], s[2 * k + 1][1]);
  p[3] = pack2<T>(s[2 * k + 1][2], s[2 * k + 1][3]);
}

// Stores a warp's finished rows (the only split of their keys): through its rows of the queries,
// which it has read, so that 16 bytes at a time leave.
template <class C>
__device__ __forceinline__ void store_rows(const PagedAttentionParams& params,
                                           const AttentionUnit& unit, uint32_t queries, int warp,
                                           const SoftmaxSums (&sums)[2],
                                           const float (&o)[C::kDims / 8][4]) {
  using T = typename C::T;
  const int lane = threadIdx.x % 32;
  const int rows = min(num_tile_rows<C>(params, unit) - warp * 16, 16);  // of this warp
  const auto staged = [&](int m, int d) {
    return queries + static_cast<uint32_t>(tiled_offset(warp * 16 + m, d, C::kTile)) * 2;
  };
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int m = lane / 4 + r * 8;
    const float weights = row_weights(sums[r].weights);
    const int head = tile_row(params, unit, warp * 16 + m).head;
    float inverse;
    const float factor = whole_factor(params, head, sums[r].largest, weights, inverse);
#pragma unroll
    for (int j = 0; j < C::kDims / 8; ++j) {
      store_shared(staged(m, j * 8 + lane % 4 * 2), pack2<T>(o[j][2 * r] * (factor * inverse),
                                                             o[j][2 * r + 1] * (factor * inverse)));
    }
  }
  __syncwarp();
  if (params.head_dim % 8 != 0) {
#pragma unroll 1
    for (int i = lane; i < rows * (C::kDims / 2); i += 32) {
      const int m = i / (C::kDims / 2), d = i % (C::kDims / 2) * 2;
      if (d >= params.head_dim) continue;
      store_pair(params, unit, tile_row(params, unit, warp * 16 + m), d, load_shared(staged(m, d)));
    }
    return;
  }
  constexpr int kPieces = C::kDims / 8;
  const int64_t width = int64_t{params.q_heads} * params.head_dim;
  uint16_t* out = static_cast<uint16_t*>(params.out);
#pragma unroll 4
  for (int i = lane; i < rows * kPieces; i += 32) {
    const int m = i / kPieces, d = i % kPieces * 8;
    if (d >= params.head_dim) continue;
    const TileRow at = tile_row(params, unit, warp * 16 + m);
    const int64_t row = unit.row_begin + at.row;
    *reinterpret_cast<uint4*>(out + tiled_offset(row, int64_t{at.head} * params.head_dim + d,
                                                 params.rows)) = load_shared16(staged(m, d));
    if (at.head != params.q_heads - 1) continue;
#pragma unroll 1
    for (int64_t pad = width + d; pad < num_k_tiles(width) * kTileK; pad += params.head_dim)
      *reinterpret_cast<uint4*>(out + tiled_offset(row, pad, params.rows)) = {0, 0, 0, 0};
  }
}

// One of several splits: what the merge needs.
template <class C>
__device__ __forceinline__ void store_partials(const PagedAttentionParams& params,
                                               const AttentionUnit& unit, int warp,
                                               const SoftmaxSums (&sums)[2],
                                               const float (&o)[C::kDims / 8][4]) {
  const int lane = threadIdx.x % 32;
  const int rows = num_tile_rows<C>(params, unit) - warp * 16;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int m = lane / 4 + r * 8;
    const float weights = row_weights(sums[r].weights);
    if (m >= rows) continue;
    const int64_t index =
        partial_index(params, unit, unit.split, tile_row(params, unit, warp * 16 + m));
    if (lane % 4 == 0) reinterpret_cast<float2*>(params.sums)[index] = {sums[r].largest, weights};
#pragma unroll
    for (int j = 0; j < C::kDims / 8; ++j) {
      const int d = j * 8 + lane % 4 * 2;
      if (d >= params.head_dim) continue;
      *reinterpret_cast<float2*>(params.values + index * params.head_dim + d) = {o[j][2 * r],
                                                                                 o[j][2 * r + 1]};
    }
  }
}

// The end of a unit; afterwards its queries may be overwritten.
template <class C>
__device__ __forceinline__ void finish_prefill_unit(const PagedAttentionParams& params,
                                                    const AttentionUnit& unit,
                                                    const AttentionShared<C>& shape,
                                                    uint32_t shared, int slot, int warp,
                                                    const SoftmaxSums (&sums)[2],
                                                    const float (&o)[C::kDims / 8][4]) {
  const uint32_t queries = shared + shape.queries() + slot * AttentionShared<C>::kQueryBytes;
  if (unit.num_splits == 1) store_rows<C>(params, unit, queries, warp, sums, o);
  __syncwarp();
  if (threadIdx.x % 32 == 0) barrier_arrive(shared + shape.unit_empty() + slot * 8);
  if (unit.num_splits == 1) return;
  store_partials<C>(params, unit, warp, sums, o);
  arrive_and_merge<C>(params, unit, shared + shape.scratch(), threadIdx.x, /*barrier=*/1);
}

}  // namespace donar::ops::cuda
