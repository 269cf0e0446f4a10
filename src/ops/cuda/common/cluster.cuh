// CTAs of one cluster (sm_90 on): barriers of each other, and copies that arrive in several at
// once.
#pragma once

#include <cstdint>

// Cluster of a kernel, where its device knows clusters.
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
#define DONAR_CLUSTER(CTAS) __cluster_dims__(CTAS, 1, 1)
#else
#define DONAR_CLUSTER(CTAS)
#endif

namespace donar::ops::cuda {

#if __CUDA_ARCH__ >= 900

__device__ __forceinline__ uint32_t cluster_rank() {
  uint32_t rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}

// All threads of all CTAs: what they did to shared memory before is seen after.
__device__ __forceinline__ void cluster_sync() {
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::
                   : "memory");
}

// The same in two halves and without ordering: what lies between them overlaps the wait for CTAs
// that have not started, whose shared memory and initialised barriers are there after.
__device__ __forceinline__ void cluster_arrive_started() {
  asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
}
__device__ __forceinline__ void cluster_wait_started() {
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// Initialised mbarriers become visible to the cluster and to copies; before the first cluster_sync.
__device__ __forceinline__ void cluster_fence_mbarrier_init() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

// Arrives at the barrier that lies at `barrier` in the shared memory of CTA `rank`. Orders nothing
// that ordinary stores have written for threads of other CTAs: a release by the whole cluster is a
// fence of device memory, which reading a buffer does not need.
__device__ __forceinline__ void cluster_arrive(uint32_t barrier, uint32_t rank) {
  asm volatile(
      "{\n.reg .b32 remote;\nmapa.shared::cluster.u32 remote, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [remote];\n}\n" ::"r"(barrier),
      "r"(rank)
      : "memory");
}

// Copies global memory to the same offset of every CTA in `mask`, and counts the bytes at the same
// barrier of each.
__device__ __forceinline__ void bulk_copy_multicast(uint32_t destination, const void* source,
                                                    uint32_t bytes, uint32_t barrier,
                                                    uint16_t mask) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster "
      "[%0], [%1], %2, [%3], %4;" ::"r"(destination),
      "l"(source), "r"(bytes), "r"(barrier), "h"(mask)
      : "memory");
}

#endif

}  // namespace donar::ops::cuda
