// Attention of many query rows on Hopper, heads of 64 and 128: two warpgroups of 64 query rows,
// products by wgmma. Queries and weights are A operands in registers, keys and values B operands as
// they lie in the ring: keys with K (head_dim) contiguous, values with N (head_dim) contiguous.
// While the tensor cores multiply the weights of one stage with its values, the warps work on the
// softmax of the next stage, whose logits were asked for first.
#include "ops/cuda/paged_attention_prefill.cuh"
#include "ops/cuda/paged_attention_wgmma.cuh"

namespace donar::ops::cuda {

namespace {

// Three warpgroups, since registers change hands by warpgroups: of the 168 a thread that the launch
// gives, the third keeps what its loading warps need.
constexpr int kThreads = 3 * 128;
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

constexpr int kLoaderRegisters = 88;
constexpr int kComputeRegisters = 208;

// Asks for the logits of a stage.
template <class C>
__device__ __forceinline__ void ask_logits(float (&s)[C::kStageKeys / 8][4],
                                           uint32_t (&q)[C::kDims / 16][4], uint32_t stage) {
  const uint64_t keys = wgmma_descriptor(stage);
#pragma unroll
  for (int k = 0; k < C::kDims / 16; ++k) {
    const uint32_t step = k / 4 * (C::kStageKeys * 128) + k % 4 * 32;
    wgmma_registers<typename C::T, 0>(s, q[k], keys + wgmma_step(step), k != 0);
  }
  wgmma_commit();
}

// Asks for o += weights x values of a stage.
template <class C>
__device__ __forceinline__ void ask_values(float (&o)[C::kDims / 8][4],
                                           uint32_t (&p)[C::kStageKeys / 16][4], uint32_t stage) {
  const uint64_t values =
      wgmma_descriptor_n(stage + AttentionShared<C>::kMatrixBytes, C::kStageKeys * 128);
#pragma unroll
  for (int k = 0; k < C::kStageKeys / 16; ++k)
    wgmma_registers<typename C::T, 1>(o, p[k], values + wgmma_step(k * 16 * 128), 1);
  wgmma_commit();
}

template <class C>
__device__ __forceinline__ void compute(const PagedAttentionParams& params,
                                        const AttentionShared<C>& shape, uint32_t shared) {
  using S = AttentionShared<C>;
  using T = typename C::T;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const float scale_log2 = params.scale * kLog2E;
  RingCursor stage, slot;
  AttentionUnit unit;
  const auto address = [&](const RingCursor& at) { return shared + at.at * S::kStageBytes; };
  const auto wait = [&](const RingCursor& at) {
    barrier_wait(shared + shape.full() + at.at * 8, at.parity);
  };
  const auto release = [&](const RingCursor& at) {
    __syncwarp();
    if (lane == 0) barrier_arrive(shared + shape.empty() + at.at * 8);
  };
  while (take_unit(shape, shared, slot, unit)) {
    const uint32_t queries = shared + shape.queries() + slot.at * S::kQueryBytes;
    uint32_t q[C::kDims / 16][4];
#pragma unroll
    for (int k = 0; k < C::kDims / 16; ++k) {
      ldmatrix_x4(q[k], queries + static_cast<uint32_t>(tiled_offset(
                                      warp * 16 + lane % 16, k * 16 + lane / 16 * 8, C::kTile)) *
                                      2);
    }
    const WarpKeys keys = warp_keys(params, unit, warp);
    // Stages that some row of the warpgroup sees: one run.
    const int group = warp / 4 * 64;
    const int seen_begin = visible_keys(params, unit, group).first;
    const int seen_end = visible_keys(params, unit, group + 63).last + 1;
    int begin = unit.key_begin / C::kStageKeys * C::kStageKeys;
    const auto skip = [&] {
      wait(stage);
      release(stage);
      stage.advance(1, shape.num_stages);
      begin += C::kStageKeys;
    };
    while (begin < unit.key_end && begin + C::kStageKeys <= seen_begin) skip();

    SoftmaxSums sums[2];
    float o[C::kDims / 8][4] = {};
    if (begin < unit.key_end && begin < seen_end) {
      float s[C::kStageKeys / 8][4] = {};
      uint32_t p[C::kStageKeys / 16][4];
      const auto weigh = [&] {  // logits to weights
        if (!keys.sees_all(begin, C::kStageKeys)) hide_keys(s, keys, begin);
        return softmax_step(s, scale_log2, sums);
      };
      const auto pack = [&] {
#pragma unroll
        for (int k = 0; k < C::kStageKeys / 16; ++k) pack_weights<T>(p[k], s, k);
      };
      wait(stage);
      hold(s);
      wgmma_fence();
      ask_logits<C>(s, q, address(stage));
      wgmma_wait<0>();
      hold(s);
      weigh();
      pack();
      RingCursor previous = stage;
      stage.advance(1, shape.num_stages);
      for (begin += C::kStageKeys; begin < unit.key_end && begin < seen_end;
           begin += C::kStageKeys) {
        wait(stage);
        hold(s), hold(o), hold(p);
        wgmma_fence();
        ask_logits<C>(s, q, address(stage));
        ask_values<C>(o, p, address(previous));
        wgmma_wait<1>();
        hold(s);
        // Always true; a block of its own keeps the softmax before the wait, to which the assembler
        // otherwise moves forward.
        float2 factor = {1.0f, 1.0f};
        if (keys.last >= 0) factor = weigh();
        wgmma_wait<0>();
        hold(o), hold(p);
        release(previous);
        if (__any_sync(0xffffffff, factor.x != 1.0f || factor.y != 1.0f)) scale_values(o, factor);
        pack();
        previous = stage;
        stage.advance(1, shape.num_stages);
      }
      hold(o), hold(p);
      wgmma_fence();
      ask_values<C>(o, p, address(previous));
      wgmma_wait<0>();
      hold(o), hold(p);
      release(previous);
    }
    while (begin < unit.key_end) skip();
    finish_prefill_unit<C>(params, unit, shape, shared, slot.at, warp, sums, o);
    slot.advance(1, shape.num_slots);
  }
}

#endif  // __CUDA_ARCH_FEAT_SM90_ALL

template <class C>
__global__ void __launch_bounds__(kThreads, 1)
    attention_prefill_wgmma_kernel(const __grid_constant__ PagedAttentionParams params,
                                   const __grid_constant__ AttentionShared<C> shape) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  pdl_launch_dependents();
  extern __shared__ uint8_t unaligned[];
  const uint32_t shared = shared_address(aligned_shared<C>(unaligned));
  prepare_shared(shape, shared, params.head_dim);
  // The same for the compiler too: wgmma needs whole warps.
  const int warp = __shfl_sync(0xffffffff, threadIdx.x / 32, 0);
  if (warp >= C::kWarps) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kLoaderRegisters));
    if (warp < C::kWarps + kLoaderWarps)
      load_units(params, shape, shared, warp, kAttentionPrefillTile);
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kComputeRegisters));
    pdl_wait();
    compute(params, shape, shared);
  }
#endif
}

template <class T, int kDims>
void launch_wgmma(const PagedAttentionParams& params, int num_items, const CudaExec& exec) {
  using C = PrefillConfig<T, kDims, /*kTile=*/128, /*kStageKeys=*/64>;
  const auto shape = AttentionShared<C>::fitting(exec.shared_bytes_per_block);
  launch<attention_prefill_wgmma_kernel<C>>(dim3(prefill_ctas<C>(params, num_items, exec)),
                                            dim3(kThreads), shape.bytes(), exec, params, shape);
}

template <class T>
void launch_wgmma(const PagedAttentionParams& params, int num_items, const CudaExec& exec) {
  if (params.head_dim == 64) return launch_wgmma<T, 64>(params, num_items, exec);
  launch_wgmma<T, 128>(params, num_items, exec);
}

}  // namespace

void attention_prefill_wgmma(const PagedAttentionParams& params, int num_items,
                             const CudaExec& exec) {
  if (params.is_f16) return launch_wgmma<__half>(params, num_items, exec);
  launch_wgmma<__nv_bfloat16>(params, num_items, exec);
}

}  // namespace donar::ops::cuda
