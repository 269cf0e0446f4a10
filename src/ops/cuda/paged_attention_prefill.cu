// Attention of many query rows, on every device: mma.sync on fragments from shared memory. A warp
// keeps 16 query rows and goes over all keys, stage by stage, with an online softmax; the weights
// pass from one product to the next in registers.
#include <algorithm>

#include "ops/cuda/paged_attention_prefill.cuh"

namespace donar::ops::cuda {

namespace {

template <class C>
__device__ __forceinline__ void compute(const PagedAttentionParams& params,
                                        const AttentionShared<C>& shape, uint32_t shared) {
  using S = AttentionShared<C>;
  using T = typename C::T;
  constexpr int kPairs = C::kStageKeys / 8;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const float scale_log2 = params.scale * kLog2E;
  // Rows and 16-byte columns of ldmatrix, see paged_attention_decode.cu.
  const int query_row = warp * 16 + lane % 16, query_column = lane / 16 * 8;
  const int key = lane / 16 * 8 + lane % 8, key_column = lane / 8 % 2 * 8;
  const int value_key = lane / 8 % 2 * 8 + lane % 8, value_column = lane / 16 * 8;
  RingCursor stage, slot;
  AttentionUnit unit;
  while (take_unit(shape, shared, slot, unit)) {
    const uint32_t queries = shared + shape.queries() + slot.at * S::kQueryBytes;
    const WarpKeys keys = warp_keys(params, unit, warp);
    SoftmaxSums sums[2];
    float o[C::kDims / 8][4] = {};
    const int first = unit.key_begin / C::kStageKeys * C::kStageKeys;
    for (int begin = first; begin < unit.key_end; begin += C::kStageKeys) {
      const uint32_t at = shared + stage.at * S::kStageBytes;
      barrier_wait(shared + shape.full() + stage.at * 8, stage.parity);
      if (keys.sees_any(begin, C::kStageKeys)) {
        float s[kPairs][4] = {};
#pragma unroll 2
        for (int k = 0; k < C::kDims / 16; ++k) {
          uint32_t a[4];
          ldmatrix_x4(a, queries + static_cast<uint32_t>(
                                       tiled_offset(query_row, k * 16 + query_column, C::kTile)) *
                                       2);
#pragma unroll
          for (int j = 0; j < kPairs / 2; ++j) {
            uint32_t b[4];
            ldmatrix_x4(b, at + static_cast<uint32_t>(tiled_offset(
                                    j * 16 + key, k * 16 + key_column, C::kStageKeys)) *
                                    2);
            mma_m16n8k16<T>(s[2 * j], a[0], a[1], a[2], a[3], b[0], b[1]);
            mma_m16n8k16<T>(s[2 * j + 1], a[0], a[1], a[2], a[3], b[2], b[3]);
          }
        }
        if (!keys.sees_all(begin, C::kStageKeys)) hide_keys(s, keys, begin);
        const float2 factor = softmax_step(s, scale_log2, sums);
        if (__any_sync(0xffffffff, factor.x != 1.0f || factor.y != 1.0f)) scale_values(o, factor);
#pragma unroll
        for (int k = 0; k < kPairs / 2; ++k) {
          uint32_t p[4];
          pack_weights<T>(p, s, k);
#pragma unroll
          for (int j = 0; j < C::kDims / 16; ++j) {
            uint32_t b[4];
            ldmatrix_x4_transposed(
                b, at + S::kMatrixBytes +
                       static_cast<uint32_t>(
                           tiled_offset(k * 16 + value_key, j * 16 + value_column, C::kStageKeys)) *
                           2);
            mma_m16n8k16<T>(o[2 * j], p[0], p[1], p[2], p[3], b[0], b[1]);
            mma_m16n8k16<T>(o[2 * j + 1], p[0], p[1], p[2], p[3], b[2], b[3]);
          }
        }
      }
      __syncwarp();
      if (lane == 0) barrier_arrive(shared + shape.empty() + stage.at * 8);
      stage.advance(1, shape.num_stages);
    }
    finish_prefill_unit<C>(params, unit, shape, shared, slot.at, warp, sums, o);
    slot.advance(1, shape.num_slots);
  }
}

template <class C>
__global__ void __launch_bounds__(C::kThreads, 1)
    attention_prefill_kernel(const __grid_constant__ PagedAttentionParams params,
                             const __grid_constant__ AttentionShared<C> shape) {
  pdl_launch_dependents();
  extern __shared__ uint8_t unaligned[];
  const uint32_t shared = shared_address(aligned_shared<C>(unaligned));
  prepare_shared(shape, shared, params.head_dim);
  const int warp = threadIdx.x / 32;
  if (warp >= C::kWarps) {
    load_units(params, shape, shared, warp, kAttentionPrefillTile);
  } else {
    pdl_wait();
    compute(params, shape, shared);
  }
}

template <class T, int kDims, int kTile, int kStageKeys>
void launch_prefill(const PagedAttentionParams& params, int num_items, const CudaExec& exec) {
  using C = PrefillConfig<T, kDims, kTile, kStageKeys>;
  const auto shape = AttentionShared<C>::fitting(exec.shared_bytes_per_block);
  launch<attention_prefill_kernel<C>>(dim3(prefill_ctas<C>(params, num_items, exec)),
                                      dim3(C::kThreads), shape.bytes(), exec, params, shape);
}

template <class T>
void launch_prefill(const PagedAttentionParams& params, int num_items, const CudaExec& exec) {
  if (params.head_dim <= 64) return launch_prefill<T, 64, 128, 64>(params, num_items, exec);
  if (params.head_dim <= 128) return launch_prefill<T, 128, 128, 64>(params, num_items, exec);
  launch_prefill<T, 256, 64, 32>(params, num_items, exec);
}

}  // namespace

void attention_prefill(const PagedAttentionParams& params, int num_items, const CudaExec& exec) {
  if (exec.arch == 90 && (params.head_dim == 64 || params.head_dim == 128))
    return attention_prefill_wgmma(params, num_items, exec);
  if (params.is_f16) return launch_prefill<__half>(params, num_items, exec);
  launch_prefill<__nv_bfloat16>(params, num_items, exec);
}

}  // namespace donar::ops::cuda
