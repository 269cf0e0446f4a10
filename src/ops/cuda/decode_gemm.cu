// y = x W^T for at most 64 rows of x: the time is that of reading W once. A work item is one n tile
// (tile_rows rows of W) and one split of K; its warps hold 16 or 32 rows each and walk K together,
// so nothing is added up between warps, and every sum is one chain of mma over K whatever the
// number of rows. Where the device has bulk copies, one lane keeps a ring of stages full that takes
// all of an SM's shared memory (a second CTA there would leave another SM idle); elsewhere warps
// load their operands themselves.
#include "ops/cuda/decode_gemm.h"

#include <algorithm>

#include "ops/cuda/common/launch.cuh"
#include "ops/cuda/decode_ring.cuh"
#include "ops/cuda/decode_store.cuh"
#include "ops/cuda/decode_tile.cuh"
#include "ops/linear_plan.h"

namespace donar::ops::cuda {
namespace {

constexpr int kRingBytes = 212 << 10;
constexpr int kStageWeightBytes = 16 << 10;  // at least, so that a stage is worth its barrier

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
constexpr int kCopyWarps = 0;
#else
constexpr int kCopyWarps = 1;
#endif
template <int kRows>
constexpr int kMaxThreads = (kMaxTileRows / kMmaRows / kWarpTiles<kRows> + kCopyWarps) * 32;

template <class T, bool kSiluMul, class Sums>
__device__ __forceinline__ void store(const Sums& sums, const DecodeArgs& args, int item, int split,
                                      int first_row, int thread, int threads) {
  const int lane = thread % 32;
  if constexpr (kSiluMul) {
    sums.template store_silu_mul<T>(args, first_row, lane);
    if (item == args.items - 1) store_silu_mul_tail<T>(args, thread, threads);
  } else {
    sums.store_partials(args, first_row, split, lane);
  }
}

#if __CUDA_ARCH__ >= 900

template <class Tile, int kRows, bool kSiluMul>
__device__ __forceinline__ void run(const DecodeArgs& args) {
  extern __shared__ __align__(1024) uint8_t memory[];
  const uint32_t shared = shared_address(memory);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int consumers = blockDim.x / 32 - 1;
  int ahead = 0;
  if (warp == consumers && lane == 0) ahead = begin_ring(args, shared, consumers);
  __syncthreads();
  if (warp == consumers) {
    if (lane == 0) feed_ring(args, shared, ahead);
    return;
  }

  pdl_wait();
  constexpr int kTiles = kWarpTiles<kRows>;
  Ring ring(args, shared);
  WarpSums<kTiles, kRows / 8> sums;
  for (int item = blockIdx.x; item < args.items; item += gridDim.x) {
    const int split = item % args.splits;
    const int first_row = item / args.splits * args.tile_rows + warp * kTiles * kMmaRows;
    sums.begin(args, first_row, split == 0 && args.bias != nullptr, lane);
    const int end = split_begin(args.k_tiles, args.splits, split + 1);
    for (int tile = split_begin(args.k_tiles, args.splits, split); tile < end;
         tile += args.stage_tiles) {
      mbarrier_wait(ring.full, ring.parity);
      uint32_t weights = ring.stage + warp * kTiles * Tile::kBytes;
      uint32_t x = ring.stage + args.stage_tiles * args.tile_bytes;
#pragma unroll 1
      for (int j = min(args.stage_tiles, end - tile); j > 0; --j) {
        multiply<Tile, kRows>(sums.sums, weights, x, lane);
        weights += args.tile_bytes;
        x += args.rows * kRowBytes;
      }
      __syncwarp();
      if (lane == 0) mbarrier_arrive(ring.empty(args));
      ring.advance(args);
    }
    store<typename Tile::Value, kSiluMul>(sums, args, item, split, first_row, threadIdx.x,
                                          consumers * 32);
  }
}

#else

__device__ __forceinline__ uint4 load_once(const uint8_t* address) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(address));
  return v;
}

// Without bulk copies a lane loads 16 bytes of K at once, slots t and t + 4 of its rows, and the
// four mma of a k tile take K in that order: of A and B alike, so the sums are the same products.
template <class Tile, int kRows, bool kSiluMul>
__device__ __forceinline__ void run(const DecodeArgs& args) {
  using T = typename Tile::Value;
  constexpr int kTiles = kWarpTiles<kRows>;
  constexpr int kDepth = kRows > 32 ? 1 : 4 / kTiles;  // k tiles whose weights are in flight
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int g = lane / 4, t = lane % 4;
  pdl_wait();
  WarpSums<kTiles, kRows / 8> sums;
  for (int item = blockIdx.x; item < args.items; item += gridDim.x) {
    const int split = item % args.splits;
    const int n_tile = item / args.splits;
    const int tile_row = warp * kTiles * kMmaRows;
    sums.begin(args, n_tile * args.tile_rows + tile_row, split == 0 && args.bias != nullptr, lane);
    const int end = split_begin(args.k_tiles, args.splits, split + 1);
    for (int tile = split_begin(args.k_tiles, args.splits, split); tile < end; tile += kDepth) {
      uint4 a[kDepth][kTiles][2][2];  // slots t, t + 4 of rows g, g + 8
#pragma unroll
      for (int d = 0; d < kDepth; ++d) {
        const int64_t k_tile = int64_t{n_tile} * args.k_tiles + min(tile + d, end - 1);
        const uint8_t* from = args.weights + k_tile * args.tile_bytes + (tile_row + g) * kRowBytes;
#pragma unroll
        for (int i = 0; i < kTiles; ++i) {
#pragma unroll
          for (int s = 0; s < 2; ++s) {
            const uint8_t* slot = from + i * Tile::kBytes + ((t + 4 * s) ^ g) * 16;
            a[d][i][s][0] = load_once(slot);
            a[d][i][s][1] = load_once(slot + 8 * kRowBytes);
          }
        }
      }
#pragma unroll
      for (int d = 0; d < kDepth; ++d) {
        if (tile + d >= end) break;
#pragma unroll
        for (int c = 0; c < kRows / 8; ++c) {
          const int row = min(8 * c + g, args.rows - 1);
          const uint8_t* from = args.x + (int64_t{tile + d} * args.x_rows + row) * kRowBytes;
#pragma unroll
          for (int s = 0; s < 2; ++s) {
            const uint4 b = *reinterpret_cast<const uint4*>(from + ((t + 4 * s) ^ (row % 8)) * 16);
#pragma unroll
            for (int i = 0; i < kTiles; ++i) {
              const uint4 low = a[d][i][s][0], high = a[d][i][s][1];
              mma_m16n8k16<T>(sums.sums[i][c], low.x, high.x, low.y, high.y, b.x, b.y);
              mma_m16n8k16<T>(sums.sums[i][c], low.z, high.z, low.w, high.w, b.z, b.w);
            }
          }
        }
      }
    }
    store<T, kSiluMul>(sums, args, item, split, n_tile * args.tile_rows + tile_row, threadIdx.x,
                       blockDim.x);
  }
}

#endif

template <class Tile, int kRows, bool kSiluMul>
__global__ void __launch_bounds__(kMaxThreads<kRows>, 1)
    decode_gemm_kernel(const __grid_constant__ DecodeArgs args) {
  pdl_launch_dependents();
  run<Tile, kRows, kSiluMul>(args);
}

template <class Tile, int kRows, bool kSiluMul>
void launch_rows(DecodeArgs args, const CudaExec& exec) {
  args.tile_bytes = args.tile_rows / kMmaRows * Tile::kBytes;
  int warps = args.tile_rows / kMmaRows / kWarpTiles<kRows>;
  int grid = args.items;
  uint32_t shared_bytes = 0;
  if (exec.has_bulk_copy()) {
    args.stage_tiles = std::max(1, kStageWeightBytes / args.tile_bytes);
    args.stage_bytes = args.stage_tiles * (args.tile_bytes + kRows * kRowBytes);
    const uint64_t limit = std::min<uint64_t>(exec.shared_bytes_per_block, kRingBytes);
    args.stages = static_cast<int>(limit / (args.stage_bytes + 2 * sizeof(uint64_t)));
    shared_bytes = args.stages * (args.stage_bytes + 2 * sizeof(uint64_t));
    grid = std::min(grid, exec.num_sms);
    ++warps;
  }
  launch<decode_gemm_kernel<Tile, kRows, kSiluMul>>(grid, warps * 32, shared_bytes, exec, args);
}

template <class Tile, bool kSiluMul>
void launch_tile(const DecodeArgs& args, const CudaExec& exec) {
  if (args.rows <= 8) return launch_rows<Tile, 8, kSiluMul>(args, exec);
  if (args.rows <= 16) return launch_rows<Tile, 16, kSiluMul>(args, exec);
  if (args.rows <= 32) return launch_rows<Tile, 32, kSiluMul>(args, exec);
  if (args.rows <= 48) return launch_rows<Tile, 48, kSiluMul>(args, exec);
  launch_rows<Tile, 64, kSiluMul>(args, exec);
}

template <class Tile>
void launch_output(const DecodeArgs& args, DecodeOutput output, const CudaExec& exec) {
  if (output == DecodeOutput::kSiluMul) return launch_tile<Tile, true>(args, exec);
  launch_tile<Tile, false>(args, exec);
}

}  // namespace

void decode_gemm(const DecodeGemmParams& params, const CudaExec& exec) {
  const bool silu_mul = params.output == DecodeOutput::kSiluMul;
  DecodeArgs args{};
  args.weights = static_cast<const uint8_t*>(params.weights);
  args.x = static_cast<const uint8_t*>(params.x);
  args.bias = params.bias;
  args.y = params.y;
  args.part_stride = params.part_stride;
  args.row_stride = params.row_stride;
  args.rows = static_cast<int>(params.rows);
  args.x_rows = static_cast<int>(params.x_rows);
  args.y_rows = static_cast<int>(params.y_rows);
  args.columns = static_cast<int>(silu_mul ? params.n / 2 : params.n);
  args.packed_rows = silu_mul ? (args.columns + 7) / 8 * 16 : args.columns;
  args.k_tiles = static_cast<int>(num_k_tiles(params.k));
  args.tile_rows = params.tile_rows;
  args.splits = params.splits;
  args.items = (args.packed_rows + args.tile_rows - 1) / args.tile_rows * args.splits;
  if (params.bf16) {
    launch_output<PlainTile<__nv_bfloat16>>(args, params.output, exec);
  } else {
    launch_output<PlainTile<__half>>(args, params.output, exec);
  }
}

}  // namespace donar::ops::cuda
