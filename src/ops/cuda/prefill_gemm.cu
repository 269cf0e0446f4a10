// Products with more than 64 rows on Hopper: y^T = W x^T by wgmma. The weights are the
// instruction's 64 rows and the tokens its columns, since packed weights and k-tiled activations
// are both operands as they lie in memory.
//
// A CTA works on 128 weight rows by 256 (128) tokens: one warp keeps a ring of k tiles full, two
// warpgroups multiply, each 64 weight rows by all tokens. CTAs stay and take unit after unit, and
// the ring runs on into the next unit while this one's results are stored. In pairs two CTAs of
// neighbouring weight rows each fetch half of the activations for both.
#include "ops/cuda/prefill_gemm.h"

#include <algorithm>

#include "ops/cuda/common/cluster.cuh"
#include "ops/cuda/common/launch.cuh"
#include "ops/cuda/common/mbarrier.cuh"
#include "ops/cuda/common/wgmma.cuh"
#include "ops/cuda/prefill_epilogue.cuh"

namespace donar::ops::cuda {

namespace {

constexpr int kGroups = 2;                     // warpgroups that multiply
constexpr int kThreads = (kGroups + 1) * 128;  // and one whose first warp loads
constexpr int kRowBytes = kTileK * 2;
constexpr int kWeightBytes = kPrefillWeightTile * kRowBytes;
constexpr int kStagingBytes = 32 * 1024;

template <int kTokens>
struct Ring {
  static constexpr int kStages = kTokens == 256 ? 4 : 6;
  static constexpr uint32_t kStageBytes = kWeightBytes + kTokens * kRowBytes;
  static constexpr uint32_t kStaging = kStages * kStageBytes;
  static constexpr uint32_t kFull = kStaging + kStagingBytes;      // barriers: a stage has arrived
  static constexpr uint32_t kEmpty = kFull + kStages * 8;          // and has been read
  static constexpr uint32_t kBytes = kEmpty + kStages * 8 + 1024;  // and room to align
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

// 168 registers a thread at the launch; then the loader hands most of its own over.
constexpr int kLoaderRegisters = 40;
constexpr int kMultiplierRegisters = 232;

// Where loader and multipliers are in the ring.
template <int kStages>
struct Cursor {
  int stage = 0;
  uint32_t parity = 0;
  __device__ __forceinline__ void advance() {
    if (++stage == kStages) stage = 0, parity ^= 1;
  }
};

// The units of this cluster, first to last.
struct Schedule {
  int next;
  int step;
  int end;
};

template <int kCluster>
__device__ __forceinline__ Schedule schedule(const PrefillArgs& args) {
  return {static_cast<int>(blockIdx.x) / kCluster, static_cast<int>(gridDim.x) / kCluster,
          args.grid.units()};
}

// What one lane of the loading warp copies of every k tile of a unit: lanes 0-3 a run of 32 weight
// rows each (a weight tile may straddle n tiles), lane 4 the tokens. Rows past the end are left
// out: each row and each token of a product depends on nothing but itself, so what the ring holds
// there reaches only results that nobody stores.
struct LaneCopy {
  const uint8_t* source = nullptr;
  int64_t step = 0;     // bytes from one k tile to the next
  uint32_t bytes = 0;   // 0: nothing
  uint32_t offset = 0;  // in the stage
  int first = 0;        // k tiles [first, end) of the unit
  int end = 0;
  uint32_t stage_bytes = 0;  // that arrive in this CTA
};

template <int kTokens, int kCluster>
__device__ __forceinline__ LaneCopy lane_copy(const PrefillArgs& args, int index, int rank,
                                              int lane) {
  const PrefillUnit unit = prefill_unit(args.grid, index);
  LaneCopy copy;
  copy.first = prefill_split_begin(args.k_tiles, args.grid.splits, unit.split);
  copy.end = prefill_split_begin(args.k_tiles, args.grid.splits, unit.split + 1);

  const int first_row = (unit.row_tile * kCluster + rank) * kPrefillWeightTile;
  const int weight_rows = min(max(args.padded_rows - first_row, 0), kPrefillWeightTile);
  const int first_token = unit.token_tile * kTokens;
  const int tokens = min(args.rows - first_token, kTokens);
  copy.stage_bytes = static_cast<uint32_t>(weight_rows + tokens) * kRowBytes;

  if (lane < kPrefillWeightTile / kGranuleRows) {
    const int row = first_row + lane * kGranuleRows;
    copy.step = int64_t{args.tile_rows} * kRowBytes;
    copy.source = args.weights + granule_offset(row, args.k_tiles, args.tile_rows);
    copy.bytes = row < args.padded_rows ? kGranuleBytes : 0;
    copy.offset = lane * kGranuleBytes;
  } else {
    constexpr int kShare = kTokens / kCluster;  // each CTA of a pair fetches its share for both
    const int mine = min(max(tokens - rank * kShare, 0), kShare);
    copy.step = int64_t{args.rows} * kRowBytes;
    copy.source = args.x + int64_t{first_token + rank * kShare} * kRowBytes;
    copy.bytes = lane == kPrefillWeightTile / kGranuleRows ? mine * kRowBytes : 0;
    copy.offset = kWeightBytes + rank * kShare * kRowBytes;
  }
  copy.source += copy.first * copy.step;
  return copy;
}

template <int kTokens, int kCluster>
__device__ __forceinline__ void load(const PrefillArgs& args, uint32_t shared, int rank) {
  using R = Ring<kTokens>;
  const int lane = threadIdx.x % 32;
  const bool loads_weights = lane < kPrefillWeightTile / kGranuleRows;
  const auto fetch = [&](const LaneCopy& copy, const uint8_t* source, int stage) {
    if (copy.bytes == 0) return;
    const uint32_t destination = shared + stage * R::kStageBytes + copy.offset;
    const uint32_t barrier = shared + R::kFull + stage * 8;
    if (kCluster == 1 || loads_weights) {
      bulk_copy(destination, source, copy.bytes, barrier);
    } else {
      bulk_copy_multicast(destination, source, copy.bytes, barrier, (1 << kCluster) - 1);
    }
  };

  Schedule units = schedule<kCluster>(args);
  int ahead = 0;  // stages that were asked for before the loop
  if (units.next < units.end) {
    // Weights do not depend on earlier kernels: ask for them, then wait for the activations.
    const LaneCopy copy = lane_copy<kTokens, kCluster>(args, units.next, rank, lane);
    ahead = min(copy.end - copy.first, R::kStages);
    for (int stage = 0; stage < ahead; ++stage) {
      if (lane == 0) mbarrier_arrive_expect_tx(shared + R::kFull + stage * 8, copy.stage_bytes);
      if (loads_weights) fetch(copy, copy.source + stage * copy.step, stage);
    }
    pdl_wait();
    for (int stage = 0; stage < ahead; ++stage) {
      if (!loads_weights) fetch(copy, copy.source + stage * copy.step, stage);
    }
  } else {
    pdl_wait();
  }

  Cursor<R::kStages> at;
  for (; units.next < units.end; units.next += units.step) {
    const LaneCopy copy = lane_copy<kTokens, kCluster>(args, units.next, rank, lane);
    const uint8_t* source = copy.source;
    for (int k = copy.first; k < copy.end; ++k, source += copy.step, at.advance()) {
      if (ahead > 0) {
        --ahead;
        continue;
      }
      mbarrier_wait(shared + R::kEmpty + at.stage * 8, at.parity ^ 1);
      if (lane == 0) {
        mbarrier_arrive_expect_tx(shared + R::kFull + at.stage * 8, copy.stage_bytes);
      }
      fetch(copy, source, at.stage);
    }
  }
}

// One warpgroup's 64 weight rows of a unit to y.
template <class T, int kTokens>
__device__ __forceinline__ void store(const PrefillArgs& args, const PrefillUnit& unit,
                                      int first_row, int group, uint32_t staging,
                                      const float (&acc)[kTokens / 2]) {
  const int thread = threadIdx.x % 128;
  const int warp = thread / 32;
  const int first_token = unit.token_tile * kTokens;
  const int packed_row = first_row + warp * 16;
  const auto sync = [&] { named_barrier_sync(1 + group, 128); };

  if (args.output == PrefillOutput::kSiluMul) {
    const bool exists = packed_row / 2 + thread % 32 / 4 < args.columns;
    const BlockBias bias = block_bias(args, packed_row, exists);
    sync();
#pragma unroll
    for (int block = 0; block < kTokens / 16; ++block) {
      stage_silu_mul<T, 4>(staging, block * 16, warp, acc + block * 8, bias, exists);
    }
    sync();
    copy_tiled<4, kTokens, 128>(staging, args.y, first_row / 128, group * 4, first_token, args.rows,
                                thread);
  } else if (args.output == PrefillOutput::kValues) {
    const BlockBias bias = block_bias(args, packed_row, true);
#pragma unroll
    for (int token = 0; token < kTokens; token += 128) {
      sync();
#pragma unroll
      for (int block = 0; block < 8; ++block) {
        stage_values<T, 8>(staging, block * 16, warp * 2, acc + token / 2 + block * 8, bias);
      }
      sync();
      copy_rows<T, 128, 128>(staging, static_cast<T*>(args.y), first_token + token, args.rows,
                             first_row, args.columns, thread);
    }
  } else {
    const BlockBias bias = block_bias(args, packed_row, unit.split == 0);
    float* part = static_cast<float*>(args.y) + int64_t{unit.split} * args.rows * args.columns;
#pragma unroll
    for (int token = 0; token < kTokens; token += 64) {
      sync();
#pragma unroll
      for (int block = 0; block < 4; ++block) {
        stage_partials(staging, block * 16, warp * 4, acc + token / 2 + block * 8, bias);
      }
      sync();
      copy_rows<float, 64, 128>(staging, part, first_token + token, args.rows, first_row,
                                args.columns, thread);
    }
  }
}

template <class T, int kTokens, int kCluster>
__device__ __forceinline__ void multiply(const PrefillArgs& args, uint32_t shared, int rank,
                                         int group) {
  using R = Ring<kTokens>;
  const int lane = threadIdx.x % 32;
  // A warp says that it has read a stage to all that may write it.
  const auto release = [&](int stage) {
    const uint32_t barrier = shared + R::kEmpty + stage * 8;
    if constexpr (kCluster == 1) {
      if (lane == 0) mbarrier_arrive(barrier);
    } else {
      if (lane < kCluster) cluster_arrive(barrier, lane);
    }
  };
  const uint64_t weights = wgmma_descriptor(shared) + wgmma_step(group * (kWeightBytes / kGroups));
  const uint64_t tokens = wgmma_descriptor(shared) + wgmma_step(kWeightBytes);

  pdl_wait();  // y may still be read by an earlier kernel
  Cursor<R::kStages> at;
  float acc[kTokens / 2];
  Schedule units = schedule<kCluster>(args);
  for (; units.next < units.end; units.next += units.step) {
    const PrefillUnit unit = prefill_unit(args.grid, units.next);
    const int stages = prefill_split_begin(args.k_tiles, args.grid.splits, unit.split + 1) -
                       prefill_split_begin(args.k_tiles, args.grid.splits, unit.split);
    wgmma_hold(acc);
    int previous = 0;
    for (int i = 0; i < stages; ++i) {
      mbarrier_wait(shared + R::kFull + at.stage * 8, at.parity);
      wgmma_fence();
      const uint64_t step = at.stage * wgmma_step(R::kStageBytes);
#pragma unroll
      for (int j = 0; j < kTileK / 16; ++j) {
        wgmma<T>(acc, weights + step + wgmma_step(32 * j), tokens + step + wgmma_step(32 * j),
                 i + j != 0);
      }
      wgmma_commit();
      // This stage is at work; the one before has been read.
      wgmma_wait<1>();
      if (i > 0) release(previous);
      previous = at.stage;
      at.advance();
    }
    wgmma_wait<0>();
    wgmma_hold(acc);
    release(previous);

    const int first_row = (unit.row_tile * kCluster + rank) * kPrefillWeightTile;
    if (first_row >= args.packed_rows) continue;  // the pair's second half past the end
    store<T, kTokens>(args, unit, first_row + group * 64, group,
                      shared + R::kStaging + group * (kStagingBytes / kGroups), acc);
  }
}

#endif  // __CUDA_ARCH_FEAT_SM90_ALL

template <class T, int kTokens, int kCluster>
__global__ void DONAR_CLUSTER(kCluster) __launch_bounds__(kThreads, 1)
    prefill_wgmma_kernel(const __grid_constant__ PrefillArgs args) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using R = Ring<kTokens>;
  pdl_launch_dependents();
  extern __shared__ uint8_t unaligned[];
  const uint32_t shared = (shared_address(unaligned) + 1023) & ~1023u;
  const int rank = kCluster == 1 ? 0 : static_cast<int>(cluster_rank());
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < R::kStages; ++stage) {
      mbarrier_init(shared + R::kFull + stage * 8, 1);
      mbarrier_init(shared + R::kEmpty + stage * 8, kGroups * 4 * kCluster);
    }
    cluster_fence_mbarrier_init();
  }
  // Neither CTA of a pair may copy or arrive before the other's barriers are there, nor leave while
  // the other may still do so.
  if (kCluster == 1) {
    __syncthreads();
  } else {
    cluster_sync();
  }
  const int warp = __shfl_sync(0xffffffff, threadIdx.x / 32, 0);  // the same for the compiler too
  if (warp >= kGroups * 4) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kLoaderRegisters));
    if (warp == kGroups * 4) load<kTokens, kCluster>(args, shared, rank);
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kMultiplierRegisters));
    multiply<T, kTokens, kCluster>(args, shared, rank, warp / 4);
  }
  if (kCluster > 1) {
    __syncwarp();
    cluster_sync();
  }
#endif
}

template <class T, int kTokens, int kCluster>
void launch_wgmma(const PrefillGemmParams& params, const CudaExec& exec) {
  const PrefillArgs args = prefill_args(params, kTokens, kCluster);
  const int clusters = std::min(args.grid.units(), exec.num_sms / kCluster);
  launch<prefill_wgmma_kernel<T, kTokens, kCluster>>(dim3(clusters * kCluster), dim3(kThreads),
                                                     Ring<kTokens>::kBytes, exec, args);
}

template <class T>
void launch_wgmma(const PrefillGemmParams& params, bool pair, const CudaExec& exec) {
  if (params.plan.token_tile == 128) return launch_wgmma<T, 128, 1>(params, exec);
  if (pair) return launch_wgmma<T, 256, 2>(params, exec);
  launch_wgmma<T, 256, 1>(params, exec);
}

}  // namespace

PrefillArgs prefill_args(const PrefillGemmParams& params, int token_tile, int cluster) {
  const bool gated = params.output == PrefillOutput::kSiluMul;
  const int64_t columns = gated ? params.n / 2 : params.n;
  const int64_t packed_rows = gated ? (columns + 7) / 8 * 16 : params.n;
  const int64_t padded_rows =
      (packed_rows + params.tile_rows - 1) / params.tile_rows * params.tile_rows;
  return {static_cast<const uint8_t*>(params.weights),
          static_cast<const uint8_t*>(params.x),
          params.bias,
          params.y,
          static_cast<int>(packed_rows),
          static_cast<int>(columns),
          static_cast<int>(params.rows),
          static_cast<int>(num_k_tiles(params.k)),
          params.tile_rows,
          static_cast<int>(padded_rows),
          params.output,
          prefill_grid(packed_rows, params.rows, {token_tile, params.plan.splits}, cluster)};
}

bool prefill_kernel_runs(PrefillKernel kernel, const CudaExec& exec) {
  const bool wgmma = kernel == PrefillKernel::kWgmma || kernel == PrefillKernel::kWgmmaPair;
  return !wgmma || (exec.arch == 90 && exec.shared_bytes_per_block >= Ring<256>::kBytes);
}

void prefill_gemm(const PrefillGemmParams& params, const CudaExec& exec) {
  PrefillKernel kernel = params.kernel;
  if (kernel == PrefillKernel::kAuto) {
    // Of an odd number of row tiles, one CTA of the last pair works for nothing.
    const int row_tiles = prefill_args(params, params.plan.token_tile, 1).grid.row_tiles;
    const bool pairs_pay = row_tiles % 2 == 0 || row_tiles > 16;
    kernel = pairs_pay ? PrefillKernel::kWgmmaPair : PrefillKernel::kWgmma;
  }
  if (!prefill_kernel_runs(kernel, exec)) kernel = PrefillKernel::kMma;
  if (kernel == PrefillKernel::kMma) return prefill_gemm_mma(params, exec);
  const bool pair = kernel == PrefillKernel::kWgmmaPair;
  if (params.bf16) return launch_wgmma<__nv_bfloat16>(params, pair, exec);
  launch_wgmma<__half>(params, pair, exec);
}

}  // namespace donar::ops::cuda
