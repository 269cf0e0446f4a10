// Attention of decode and verification rows: few query rows, many keys, bound by reading the cache.
// The keys of a split are dealt to 8 warps block by block (at absolute positions); each has its own
// online softmax over its blocks, and at the end of the split the warps' sums are merged in warp
// order. No warp waits for another while keys stream in. A unit that has every split of its rows
// merges those at once; others leave them to the last of the units that share the rows.
#include "ops/cuda/paged_attention_loader.cuh"
#include "ops/cuda/paged_attention_softmax.cuh"

namespace donar::ops::cuda {

namespace {

constexpr int kComputeBarrier = 1;

template <class T_, int kDims_>
struct DecodeConfig {
  using T = T_;
  static constexpr int kDims = kDims_;
  static constexpr int kTile = kAttentionDecodeTile;
  static constexpr int kStageKeys = kCacheBlockTokens;
  static constexpr int kWarps = kDims <= 128 ? 8 : 4;
  static constexpr int kStageReaders = 1;
  static constexpr bool kQueriesInRegisters = kDims <= 128;
  static constexpr int kMaxStages = kDims <= 64 ? 48 : 24;
  static constexpr int kAlignment = 128;
  // Merging warps, kMergeRows rows at a time; rows 8 floats apart in banks.
  static constexpr int kMergeRows = kDims <= 128 ? 4 : 2;
  static constexpr int kMergeStride = kDims + 8;  // floats
  static constexpr uint32_t kMergeBytes = kWarps * kMergeRows * kMergeStride * 4;
  static constexpr uint32_t kSumsBytes = kWarps * kTile * sizeof(SoftmaxSums);
  // Of the splits so far: sums, read from one half and written to the other, and values.
  static constexpr uint32_t kMergedBytes = 2 * kTile * sizeof(SoftmaxSums) + kTile * kDims * 4;
  static constexpr uint32_t kScratchBytes = kMergeBytes + kSumsBytes + kMergedBytes + 16;
  static_assert(kAttentionChunkMultiple % (kWarps * kStageKeys) == 0,
                "a block has the same warp whatever the split");
};

// The unit's query rows as A operands: in registers, or in shared memory where those do not
// suffice.
template <class C>
struct Queries {
  static constexpr bool kInRegisters = C::kQueriesInRegisters;
  uint32_t fragments[kInRegisters ? C::kDims / 16 : 1][4];
  uint32_t address;

  struct Fragment {
    uint32_t r[4];
    __device__ __forceinline__ uint32_t operator[](int i) const { return r[i]; }
  };
  __device__ __forceinline__ Fragment read(int k) const {
    // Matrices: (rows 0-7, d 0-7), (8-15, 0-7), (0-7, 8-15), (8-15, 8-15).
    const int lane = threadIdx.x % 32;
    Fragment fragment;
    ldmatrix_x4(fragment.r, address + static_cast<uint32_t>(tiled_offset(
                                          lane % 16, k * 16 + lane / 16 * 8, C::kTile)) *
                                          2);
    return fragment;
  }
  __device__ __forceinline__ explicit Queries(uint32_t queries) : address(queries) {
    if constexpr (kInRegisters) {
#pragma unroll
      for (int k = 0; k < C::kDims / 16; ++k) {
        const Fragment fragment = read(k);
#pragma unroll
        for (int i = 0; i < 4; ++i) fragments[k][i] = fragment[i];
      }
    }
  }
  __device__ __forceinline__ Fragment of(int k) const {
    if constexpr (!kInRegisters) return read(k);
    return {{fragments[k][0], fragments[k][1], fragments[k][2], fragments[k][3]}};
  }
};

// One block of keys and values: logits, softmax, weighted values.
template <class C>
__device__ __forceinline__ void attend_block(const Queries<C>& q, uint32_t stage, int first_key,
                                             const VisibleKeys (&visible)[2], float scale_log2,
                                             SoftmaxSums (&sums)[2], float (&o)[C::kDims / 8][4]) {
  using T = typename C::T;
  const int lane = threadIdx.x % 32;
  float s[2][4] = {};
  // K: matrices are (keys 0-7, d 0-7), (0-7, 8-15), (8-15, 0-7), (8-15, 8-15).
  const int key = lane / 16 * 8 + lane % 8, key_column = lane / 8 % 2 * 8;
#pragma unroll
  for (int k = 0; k < C::kDims / 16; ++k) {
    uint32_t b[4];
    ldmatrix_x4(
        b,
        stage + static_cast<uint32_t>(tiled_offset(key, k * 16 + key_column, C::kStageKeys)) * 2);
    const auto& a = q.of(k);
    mma_m16n8k16<T>(s[0], a[0], a[1], a[2], a[3], b[0], b[1]);
    mma_m16n8k16<T>(s[1], a[0], a[1], a[2], a[3], b[2], b[3]);
  }
#pragma unroll
  for (int j = 0; j < 2; ++j) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (!visible[i / 2].sees(first_key + j * 8 + lane % 4 * 2 + i % 2)) s[j][i] = -INFINITY;
    }
  }
  const float2 factor = softmax_step(s, scale_log2, sums);
#pragma unroll
  for (int j = 0; j < C::kDims / 8; ++j) {
    o[j][0] = __fmul_rn(o[j][0], factor.x), o[j][1] = __fmul_rn(o[j][1], factor.x);
    o[j][2] = __fmul_rn(o[j][2], factor.y), o[j][3] = __fmul_rn(o[j][3], factor.y);
  }
  const uint32_t p[4] = {pack2<T>(s[0][0], s[0][1]), pack2<T>(s[0][2], s[0][3]),
                         pack2<T>(s[1][0], s[1][1]), pack2<T>(s[1][2], s[1][3])};
  // V, transposed: (keys 0-7, d 0-7), (8-15, 0-7), (0-7, 8-15), (8-15, 8-15).
  const uint32_t values = stage + AttentionShared<C>::kMatrixBytes;
  const int value_key = lane / 8 % 2 * 8 + lane % 8, value_column = lane / 16 * 8;
#pragma unroll
  for (int j = 0; j < C::kDims / 16; ++j) {
    uint32_t b[4];
    ldmatrix_x4_transposed(b, values + static_cast<uint32_t>(tiled_offset(
                                           value_key, j * 16 + value_column, C::kStageKeys)) *
                                           2);
    mma_m16n8k16<T>(o[2 * j], p[0], p[1], p[2], p[3], b[0], b[1]);
    mma_m16n8k16<T>(o[2 * j + 1], p[0], p[1], p[2], p[3], b[2], b[3]);
  }
}

// Adds up the warps' sums of a split: the unit's rows if that was the last, or its part of them.
template <class C>
__device__ __forceinline__ void finish_split(const PagedAttentionParams& params,
                                             const AttentionUnit& unit, int split, bool last,
                                             uint8_t* scratch, const SoftmaxSums (&sums)[2],
                                             const float (&o)[C::kDims / 8][4]) {
  constexpr int kThreads = C::kWarps * 32;
  const int thread = threadIdx.x, warp = thread / 32, lane = thread % 32;
  float* merge = reinterpret_cast<float*>(scratch);
  auto* warp_sums = reinterpret_cast<float2*>(scratch + C::kMergeBytes);  // [warps][kTile]
  auto* merged_sums = reinterpret_cast<SoftmaxSums*>(scratch + C::kMergeBytes + C::kSumsBytes);
  auto* merged_values = reinterpret_cast<float2*>(merged_sums + 2 * C::kTile);
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const float weights = row_weights(sums[r].weights);
    if (lane % 4 == 0) warp_sums[warp * C::kTile + lane / 4 + r * 8] = {sums[r].largest, weights};
  }
  const int rows = num_tile_rows<C>(params, unit);
  for (int first = 0; first < rows; first += C::kMergeRows) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int m = lane / 4 + r * 8 - first;
      if (m < 0 || m >= C::kMergeRows) continue;
      float* to = merge + (warp * C::kMergeRows + m) * C::kMergeStride + lane % 4 * 2;
#pragma unroll
      for (int j = 0; j < C::kDims / 8; ++j)
        *reinterpret_cast<float2*>(to + j * 8) = {o[j][2 * r], o[j][2 * r + 1]};
    }
    named_barrier_sync(kComputeBarrier, kThreads);
    for (int i = thread; i < C::kMergeRows * (C::kDims / 2); i += kThreads) {
      const int m = first + i / (C::kDims / 2), d = i % (C::kDims / 2) * 2;
      if (m >= rows || d >= params.head_dim) continue;
      float largest = -INFINITY;
#pragma unroll
      for (int w = 0; w < C::kWarps; ++w) largest = fmaxf(largest, warp_sums[w * C::kTile + m].x);
      const float base = exponent_base(largest);
      float weights = 0.0f, low = 0.0f, high = 0.0f;
#pragma unroll 4
      for (int w = 0; w < C::kWarps; ++w) {
        const float2 part = warp_sums[w * C::kTile + m];
        const float2 value = *reinterpret_cast<const float2*>(
            merge + (w * C::kMergeRows + m - first) * C::kMergeStride + d);
        const float weight = part_weight(part.x, base);
        weights = __fmaf_rn(weight, part.y, weights);
        low = __fmaf_rn(weight, value.x, low);
        high = __fmaf_rn(weight, value.y, high);
      }
      const TileRow at = tile_row(params, unit, m);
      if (unit.num_units > 1) {
        const int64_t index = partial_index(params, unit, split, at);
        *reinterpret_cast<float2*>(params.values + index * params.head_dim + d) = {low, high};
        if (d == 0) reinterpret_cast<float2*>(params.sums)[index] = {largest, weights};
        continue;
      }
      const int half = split % 2 * C::kTile;
      float2& mine = merged_values[m * (C::kDims / 2) + d / 2];
      MergedSplits merged;
      if (split != unit.split) merged = {merged_sums[half + m], mine.x, mine.y};
      merged.add({largest, weights}, {low, high});
      if (last) {
        store_merged<typename C::T>(params, unit, at, d, merged);
      } else {
        mine = {merged.low, merged.high};
        if (d == 0) merged_sums[C::kTile - half + m] = merged.sums;
      }
    }
    named_barrier_sync(kComputeBarrier, kThreads);  // before anything is written again
  }
}

template <class C>
__device__ __forceinline__ void compute(const PagedAttentionParams& params,
                                        const AttentionShared<C>& shape, uint8_t* memory) {
  using S = AttentionShared<C>;
  const uint32_t shared = shared_address(memory);
  uint8_t* scratch = memory + shape.scratch();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const float scale_log2 = params.scale * kLog2E;
  RingCursor stage, slot;
  AttentionUnit unit;
  while (take_unit(shape, shared, slot, unit)) {
    const VisibleKeys visible[2] = {visible_keys(params, unit, lane / 4),
                                    visible_keys(params, unit, lane / 4 + 8)};
    int block = unit.key_begin / kCacheBlockTokens;
    int split = unit.split;
    for (bool last = false; !last; ++split) {
      const int chunk_end =
          min((block * kCacheBlockTokens / unit.chunk + 1) * unit.chunk, unit.key_end);
      last = chunk_end == unit.key_end;
      // Read again for each split: they must not take registers from the merge.
      const Queries<C> q(shared + shape.queries() + slot.at * S::kQueryBytes);
      if (last && Queries<C>::kInRegisters) {
        __syncwarp();
        if (lane == 0) barrier_arrive(shared + shape.unit_empty() + slot.at * 8);
      }
      SoftmaxSums sums[2];
      float o[C::kDims / 8][4] = {};
      const int end = (chunk_end + kCacheBlockTokens - 1) / kCacheBlockTokens;
      const int mine = block + ((warp - block) & (C::kWarps - 1));
      for (int next = mine; next < end; next += C::kWarps) {
        stage.advance(next - block, shape.num_stages);
        block = next;
        barrier_wait(shared + shape.full() + stage.at * 8, stage.parity);
        attend_block<C>(q, shared + stage.at * S::kStageBytes, block * kCacheBlockTokens, visible,
                        scale_log2, sums, o);
        __syncwarp();
        if (lane == 0) barrier_arrive(shared + shape.empty() + stage.at * 8);
      }
      stage.advance(end - block, shape.num_stages);
      block = end;
      if (last && !Queries<C>::kInRegisters) {
        __syncwarp();
        if (lane == 0) barrier_arrive(shared + shape.unit_empty() + slot.at * 8);
      }
      finish_split<C>(params, unit, split, last, scratch, sums, o);
    }
    slot.advance(1, shape.num_slots);
    if (unit.num_units > 1) {
      arrive_and_merge<C>(params, unit, shared_address(scratch + C::kScratchBytes - 16),
                          threadIdx.x, kComputeBarrier);
    }
  }
}

template <class C>
__global__ void __launch_bounds__((C::kWarps + kLoaderWarps) * 32, 1)
    attention_decode_kernel(const __grid_constant__ PagedAttentionParams params,
                            const __grid_constant__ AttentionShared<C> shape) {
  pdl_launch_dependents();
  extern __shared__ uint8_t unaligned[];
  uint8_t* memory = aligned_shared<C>(unaligned);
  prepare_shared(shape, shared_address(memory), params.head_dim);
  const int warp = threadIdx.x / 32;
  if (warp >= C::kWarps) {
    load_units(params, shape, shared_address(memory), warp, kAttentionDecodeTile);
  } else {
    pdl_wait();
    compute(params, shape, memory);
  }
}

template <class T, int kDims>
void launch_decode(const PagedAttentionParams& params, const CudaExec& exec) {
  using C = DecodeConfig<T, kDims>;
  static_assert(AttentionShared<C>::fits_every_device());
  static_assert(kDims != 128 || (AttentionShared<C>::fitting(227 << 10).num_stages == 24 &&
                                 AttentionShared<C>::fitting(227 << 10).num_slots == 2));
  const auto shape = AttentionShared<C>::fitting(exec.shared_bytes_per_block);
  launch<attention_decode_kernel<C>>(dim3(exec.num_sms), dim3((C::kWarps + kLoaderWarps) * 32),
                                     shape.bytes(), exec, params, shape);
}

template <class T>
void launch_decode(const PagedAttentionParams& params, const CudaExec& exec) {
  if (params.head_dim <= 64) return launch_decode<T, 64>(params, exec);
  if (params.head_dim <= 128) return launch_decode<T, 128>(params, exec);
  launch_decode<T, 256>(params, exec);
}

}  // namespace

void attention_decode(const PagedAttentionParams& params, const CudaExec& exec) {
  if (params.is_f16) return launch_decode<__half>(params, exec);
  launch_decode<__nv_bfloat16>(params, exec);
}

}  // namespace donar::ops::cuda
