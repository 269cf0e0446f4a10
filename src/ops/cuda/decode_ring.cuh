// The decode kernel's ring in shared memory and the lane that keeps it full (sm_90 on).
#pragma once

#include "ops/cuda/common/cluster.cuh"
#include "ops/cuda/common/launch.cuh"
#include "ops/cuda/common/mbarrier.cuh"
#include "ops/cuda/decode_store.cuh"
#include "ops/cuda/decode_tile.cuh"
#include "ops/linear_plan.h"

namespace donar::ops::cuda {

#if __CUDA_ARCH__ >= 900

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

#endif

}  // namespace donar::ops::cuda
