// y = x W^T for at most 64 rows of x: the time is that of reading W once. A work item is one n tile
// (tile_rows rows of W) and one split of K; its warps hold 16 or 32 rows each and walk K together,
// so nothing is added up between warps, and every sum is one chain of mma over K whatever the
// number of rows. Where the device has bulk copies, one lane keeps a ring of stages full that takes
// all of an SM's shared memory (a second CTA there would leave another SM idle); elsewhere warps
// load their operands themselves.
#include "ops/cuda/decode_gemm.h"

#include <algorithm>

#include "ops/cuda/common/cluster.cuh"
#include "ops/cuda/common/launch.cuh"
#include "ops/cuda/common/mbarrier.cuh"
#include "ops/cuda/common/mma16.cuh"
#include "ops/cuda/decode_store.cuh"
#include "ops/linear_plan.h"

namespace donar::ops::cuda {
namespace {

constexpr int kRowBytes = kTileK * 2;  // of x, and of 16-bit weights, in a k tile
constexpr int kMmaRows = 16;
[[maybe_unused]] constexpr int kMmaK = 16;
constexpr int kRingBytes = 212 << 10;
constexpr int kStageWeightBytes = 16 << 10;  // at least, so that a stage is worth its barrier

// A weight format is a type like this one: the bytes of 16 rows by 64 columns, which lie one after
// the other in a stage, and how a lane gets its A fragments from them. A format that unpacks loads
// in the constructor what it needs for all four.
template <class T>
struct PlainTile {
  using Value = T;
  static constexpr int kBytes = kMmaRows * kRowBytes;

  // ldmatrix wants lane l's address of row l % 16, k half l / 16.
  __device__ __forceinline__ PlainTile(uint32_t tile, int lane)
      : address_(tile + lane % 16 * kRowBytes + ((lane / 16) ^ (lane % 8)) * 16) {}
  __device__ __forceinline__ void fragment(uint32_t (&a)[4], int k16) const {
    ldmatrix_x4(a, address_ ^ (k16 * kMmaK * 2));
  }

 private:
  uint32_t address_;  // the swizzle is an exclusive or in bits 4 to 6, and so is a step along K
};

template <int kRows>
constexpr int kWarpTiles = kRows >= 32 ? 2 : 1;  // m16 tiles of a warp
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

// One k tile of a warp: `x` is the address of its rows in shared memory, rows past the last one
// give sums that nobody stores.
template <class Tile, int kRows>
__device__ __forceinline__ void multiply(float (&sums)[kWarpTiles<kRows>][kRows / 8][4],
                                         uint32_t weights, uint32_t x, int lane) {
  using T = typename Tile::Value;
  constexpr int kTiles = kWarpTiles<kRows>;
  // Of 8 rows one ldmatrix takes K of 32; of more it takes 16 rows and K of 16.
  constexpr bool kDeep = kRows == 8;
  const int row = kDeep ? lane % 8 : lane % 8 + lane / 16 * 8;
  const int slot = kDeep ? lane / 8 : lane / 8 % 2;
  const uint32_t rows = x + row * kRowBytes + (slot ^ (lane % 8)) * 16;
  const Tile first(weights, lane);
  const Tile second(weights + (kTiles - 1) * Tile::kBytes, lane);
  constexpr int kSteps = kTileK / kMmaK;
  if constexpr (kRows <= 16) {
    // All operands first: few warps and one chain of mma, so it is latency that counts.
    uint32_t a[kSteps][4], b[kSteps][4];
#pragma unroll
    for (int k16 = 0; k16 < kSteps; ++k16) {
      first.fragment(a[k16], k16);
      if (!kDeep || k16 % 2 == 0) ldmatrix_x4(b[k16], rows ^ (k16 * kMmaK * 2));
    }
#pragma unroll
    for (int k16 = 0; k16 < kSteps; ++k16) {
      const uint32_t(&ak)[4] = a[k16];
      if constexpr (kDeep) {
        const uint32_t* bk = &b[k16 / 2 * 2][k16 % 2 * 2];
        mma_m16n8k16<T>(sums[0][0], ak[0], ak[1], ak[2], ak[3], bk[0], bk[1]);
      } else {
        mma_m16n8k16<T>(sums[0][0], ak[0], ak[1], ak[2], ak[3], b[k16][0], b[k16][1]);
        mma_m16n8k16<T>(sums[0][1], ak[0], ak[1], ak[2], ak[3], b[k16][2], b[k16][3]);
      }
    }
  } else {
#pragma unroll
    for (int k16 = 0; k16 < kSteps; ++k16) {
      uint32_t a[kTiles][4], b[kRows / 16][4];
      first.fragment(a[0], k16);
      second.fragment(a[1], k16);
#pragma unroll
      for (int c = 0; c < kRows / 16; ++c)
        ldmatrix_x4(b[c], (rows ^ (k16 * kMmaK * 2)) + c * 16 * kRowBytes);
#pragma unroll
      for (int c = 0; c < kRows / 8; ++c) {
#pragma unroll
        for (int i = 0; i < kTiles; ++i)
          mma_m16n8k16<T>(sums[i][c], a[i][0], a[i][1], a[i][2], a[i][3], b[c / 2][c % 2 * 2],
                          b[c / 2][c % 2 * 2 + 1]);
      }
    }
  }
}

// The ring in shared memory: stages of [weights][x], then a barrier "full" of each, then a barrier
// "empty" of each. Addresses move along instead of being worked out from the slot: a warp with a
// full ring ahead of it is bound by the latency of its instructions.
struct Ring {
  uint32_t stage;
  uint32_t full;
  uint32_t parity = 0;
  int slot = 0;

  __device__ __forceinline__ Ring(const DecodeArgs& args, uint32_t shared)
      : stage(shared), full(shared + args.stages * args.stage_bytes) {}
  __device__ __forceinline__ uint32_t empty(const DecodeArgs& args) const {
    return full + args.stages * 8;
  }
  __device__ __forceinline__ void advance(const DecodeArgs& args) {
    stage += args.stage_bytes;
    full += 8;
    if (++slot < args.stages) return;
    slot = 0;
    parity ^= 1;
    stage -= args.stages * args.stage_bytes;
    full -= args.stages * 8;
  }
};

// The stages of a CTA's items, one after the other.
struct Walk {
  int item;
  int tile;  // first k tile of the stage
  int end;   // of the item

  __device__ __forceinline__ explicit Walk(const DecodeArgs& args) { enter(args, blockIdx.x); }
  __device__ __forceinline__ bool valid(const DecodeArgs& args) const { return item < args.items; }
  __device__ __forceinline__ int tiles(const DecodeArgs& args) const {
    return min(args.stage_tiles, end - tile);
  }
  __device__ __forceinline__ void advance(const DecodeArgs& args) {
    tile += args.stage_tiles;
    if (tile >= end) enter(args, item + gridDim.x);
  }

 private:
  __device__ __forceinline__ void enter(const DecodeArgs& args, int next) {
    item = next;
    tile = split_begin(args.k_tiles, args.splits, item % args.splits);
    end = split_begin(args.k_tiles, args.splits, item % args.splits + 1);
  }
};

// Weights are read once in a step: they must not push out what is read again.
__device__ __forceinline__ uint64_t evict_first_policy() {
  uint64_t policy;
  asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}

__device__ __forceinline__ void bulk_copy_hinted(uint32_t destination, const void* source,
                                                 uint32_t bytes, uint32_t barrier,
                                                 uint64_t policy) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1], %2, [%3], %4;" ::"r"(destination),
      "l"(source), "r"(bytes), "r"(barrier), "l"(policy)
      : "memory");
}

__device__ __forceinline__ void copy_weights(const DecodeArgs& args, const Walk& walk,
                                             const Ring& ring, uint64_t policy) {
  const int64_t k_tile = int64_t{walk.item / args.splits} * args.k_tiles + walk.tile;
  bulk_copy_hinted(ring.stage, args.weights + k_tile * args.tile_bytes,
                   walk.tiles(args) * args.tile_bytes, ring.full, policy);
}

__device__ __forceinline__ void copy_x(const DecodeArgs& args, const Walk& walk, const Ring& ring) {
  const uint32_t to = ring.stage + args.stage_tiles * args.tile_bytes;
  const uint32_t bytes = args.rows * kRowBytes;
  const int64_t step = int64_t{args.x_rows} * kRowBytes;
  const uint8_t* from = args.x + walk.tile * step;
  const int tiles = walk.tiles(args);
  if (args.x_rows == args.rows) {
    bulk_copy(to, from, tiles * bytes, ring.full);
  } else {
    for (int j = 0; j < tiles; ++j) bulk_copy(to + j * bytes, from + j * step, bytes, ring.full);
  }
}

__device__ __forceinline__ void expect(const DecodeArgs& args, const Walk& walk, const Ring& ring) {
  mbarrier_arrive_expect_tx(ring.full,
                            walk.tiles(args) * (args.tile_bytes + args.rows * kRowBytes));
}

// What one lane does before the CTA's warps meet: barriers, and as many stages of weights as fit.
__device__ __forceinline__ int begin_ring(const DecodeArgs& args, uint32_t shared, int consumers) {
  Ring ring(args, shared);
  for (int i = 0; i < args.stages; ++i, ring.advance(args)) {
    mbarrier_init(ring.full, 1);
    mbarrier_init(ring.empty(args), consumers);
  }
  cluster_fence_mbarrier_init();
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");  // this very lane copies next
  const uint64_t policy = evict_first_policy();
  int ahead = 0;
  for (Walk walk(args); walk.valid(args) && ahead < args.stages; walk.advance(args), ++ahead) {
    expect(args, walk, ring);
    copy_weights(args, walk, ring, policy);
    ring.advance(args);
  }
  return ahead;
}

// And after it: the x of those stages, once the kernels before have written it, then the rest.
__device__ __forceinline__ void feed_ring(const DecodeArgs& args, uint32_t shared, int ahead) {
  pdl_wait();
  const uint64_t policy = evict_first_policy();
  Walk walk(args);
  Ring ring(args, shared);
  for (int i = 0; i < ahead; ++i, walk.advance(args), ring.advance(args)) copy_x(args, walk, ring);
  ring.parity = 0;  // of the consumers' first time round
  for (; walk.valid(args); walk.advance(args), ring.advance(args)) {
    mbarrier_wait(ring.empty(args), ring.parity);
    expect(args, walk, ring);
    copy_weights(args, walk, ring, policy);
    copy_x(args, walk, ring);
  }
}

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
  launch(decode_gemm_kernel<Tile, kRows, kSiluMul>, grid, warps * 32, shared_bytes, exec, args);
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
